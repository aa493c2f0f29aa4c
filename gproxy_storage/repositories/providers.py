"""Providers and their credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models import Credential, Provider
from .arguments import require_text
from .base import ANY, Filter, Repository, now


class Providers(Repository[Provider]):
    """The upstream providers."""

    model = Provider

    def upsert(
        self,
        name: str,
        *,
        channel: str,
        label: str | None = None,
        settings: Mapping[str, Any] | None = None,
        routing: Mapping[str, Any] | None = None,
    ) -> Provider:
        """Create the provider with that name, or give it these values; `created_at` survives.

        Raises:
            InvalidValue: when a name is blank or too long, or a value is not JSON.
        """
        at = now()
        changing = {
            "channel": require_text("channel", channel),
            "label": label,
            "settings_json": dict(settings or {}),
            "routing_json": dict(routing or {}),
            "updated_at": at,
        }
        insert = Provider.insert(name=require_text("name", name), created_at=at, **changing)

        def write() -> Provider:
            self._database.on_conflict(insert, [Provider.name], changing).execute()
            # By its natural key: after an update the drivers return no id, or a wrong one.
            return Provider.get(Provider.name == name)

        return self._write(write)

    def get(self, provider_id: int) -> Provider:
        """Return the provider with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=provider_id)

    def find(self, *, name: str) -> Provider | None:
        """Return the provider with that name, or None."""
        return self._find(name=name)

    def list(self, *, name: Filter[str] = ANY, channel: Filter[str] = ANY) -> list[Provider]:
        """Return the providers that fit, by id."""
        return self._list(name=name, channel=channel)


class Credentials(Repository[Credential]):
    """The credentials of providers."""

    model = Credential

    def create(
        self,
        provider: Provider | int,
        *,
        kind: str,
        secret: Mapping[str, Any],
        name: str | None = None,
        enabled: bool = True,
    ) -> Credential:
        """Add a credential to a provider.

        Args:
            kind: how the secret is used, for example ``api_key``.
            secret: a JSON object.
        Raises:
            MissingReference: when there is no such provider.
            InvalidValue: when the secret is not JSON.
        """
        at = now()
        return self._insert(
            provider=provider,
            name=name,
            kind=require_text("kind", kind),
            secret_json=dict(secret),
            enabled=enabled,
            created_at=at,
            updated_at=at,
        )

    def list(
        self, *, provider_id: Filter[int] = ANY, enabled: Filter[bool] = ANY
    ) -> list[Credential]:
        """Return the credentials that fit, by id."""
        return self._list(provider_id=provider_id, enabled=enabled)
