"""Providers: the upstreams that a proxy sends requests to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..models import Provider
from .arguments import require_json_object
from .base import ANY, KEEP, Change, Filter, Repository, now


class Providers(Repository[Provider]):
    """The upstream providers."""

    model = Provider
    not_blank = ("name", "channel")

    def create(
        self,
        name: str,
        *,
        channel: str,
        label: str | None = None,
        settings: Mapping[str, Any] | None = None,
        routing: Mapping[str, Any] | None = None,
    ) -> Provider:
        """Create a provider.

        Args:
            name: unique, case counts.
            settings, routing: JSON objects; None is the empty one.
        Raises:
            ConflictError: when a provider with that name exists.
            InvalidValue: when a name is blank or too long, or a value is not JSON.
        """
        return self._insert(**_values(name, channel, label, settings, routing))

    def upsert(
        self,
        name: str,
        *,
        channel: str,
        label: str | None = None,
        settings: Mapping[str, Any] | None = None,
        routing: Mapping[str, Any] | None = None,
    ) -> Provider:
        """Create the provider with that name, or give it all these values; `created_at` survives.

        Raises:
            InvalidValue: when a name is blank or too long, or a value is not JSON.
        """
        return self._upsert([Provider.name], _values(name, channel, label, settings, routing))

    def update(
        self,
        provider_id: int,
        *,
        name: Change[str] = KEEP,
        channel: Change[str] = KEEP,
        label: Change[str | None] = KEEP,
        settings: Change[Mapping[str, Any]] = KEEP,
        routing: Change[Mapping[str, Any]] = KEEP,
    ) -> Provider:
        """Change what is given of a provider and return it.

        Raises:
            NotFoundError: when there is no such provider.
            ConflictError: when another has that name.
            InvalidValue: when a name is blank or too long, or a value is not JSON.
        """
        changes = {
            "name": name,
            "channel": channel,
            "label": label,
            "settings_json": require_json_object("settings", settings),
            "routing_json": require_json_object("routing", routing),
        }
        return self._update(provider_id, changes)

    def get(self, provider_id: int) -> Provider:
        """Return the provider with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=provider_id)

    def find(self, *, name: str) -> Provider | None:
        """Return the provider with that name, or None."""
        return self._find(name=name)

    def list(
        self,
        *,
        id: Filter[int] = ANY,
        name: Filter[str] = ANY,
        channel: Filter[str] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[Provider]:
        """Return the providers that fit, by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, id=id, name=name, channel=channel)

    def iter(
        self, *, id: Filter[int] = ANY, name: Filter[str] = ANY, channel: Filter[str] = ANY
    ) -> Iterator[Provider]:
        """Return the providers that fit, by id, read as they are asked for."""
        return self._iter(id=id, name=name, channel=channel)

    def count(
        self, *, id: Filter[int] = ANY, name: Filter[str] = ANY, channel: Filter[str] = ANY
    ) -> int:
        """Return how many providers fit."""
        return self._count(id=id, name=name, channel=channel)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete providers with their credentials, models, files and permissions; return how many.

        Usages and requests stay, without the provider. An empty list deletes nothing.
        """
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every provider, as `delete` does; return how many there were."""
        return self._delete_all()


def _values(
    name: str,
    channel: str,
    label: str | None,
    settings: Mapping[str, Any] | None,
    routing: Mapping[str, Any] | None,
) -> dict[str, Any]:
    at = now()
    return {
        "name": name,
        "channel": channel,
        "label": label,
        "settings_json": {} if settings is None else require_json_object("settings", settings),
        "routing_json": {} if routing is None else require_json_object("routing", routing),
        "created_at": at,
        "updated_at": at,
    }
