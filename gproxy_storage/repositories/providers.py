"""Providers: the upstreams that a proxy sends requests to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, Unpack

from ..models import Provider
from .arguments import KEEP, require_json_object
from .base import Change, Repository
from .reading import Filter


class ProviderFilters(TypedDict, total=False):
    """The filters of providers."""

    id: Filter[int]
    name: Filter[str]
    channel: Filter[str]


class Providers(Repository[Provider]):
    """The upstream providers.

    Deleting a provider deletes its credentials, models, files and permissions. Usages and requests
    are kept, without the provider.
    """

    model = Provider
    filters = ProviderFilters
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
            name: unique, case-sensitive.
            settings, routing: JSON objects; None means an empty one.
        Raises:
            ConflictError: when a provider with that name exists.
            InvalidValue: when a name is blank or too long, or a value is not JSON.
        """
        return self._create(**_values(name, channel, label, settings, routing))

    def upsert(
        self,
        name: str,
        *,
        channel: str,
        label: str | None = None,
        settings: Mapping[str, Any] | None = None,
        routing: Mapping[str, Any] | None = None,
    ) -> Provider:
        """Create the provider with that name, or replace its values; `created_at` is kept.

        Raises:
            InvalidValue: when a name is blank or too long, or a value is not JSON.
        """
        return self._create_or_update(_values(name, channel, label, settings, routing))

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
        """Change the given values of a provider and return it.

        Raises:
            NotFoundError: when there is no such provider.
            ConflictError: when another provider has that name.
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

    def find(self, *, name: str) -> Provider | None:
        """Return the provider with that name, or None."""
        return self._find(name=name)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[ProviderFilters],
    ) -> list[Provider]:
        """Return the matching providers by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[ProviderFilters]) -> Iterator[Provider]:
        """Iterate over the matching providers by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[ProviderFilters]) -> int:
        """Return the number of matching providers."""
        return self._count(**filters)


def _values(
    name: str,
    channel: str,
    label: str | None,
    settings: Mapping[str, Any] | None,
    routing: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "channel": channel,
        "label": label,
        "settings_json": {} if settings is None else require_json_object("settings", settings),
        "routing_json": {} if routing is None else require_json_object("routing", routing),
    }
