"""Credentials: the secrets by which a proxy authenticates to its providers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, Unpack

from ..models import Credential, Provider
from .arguments import KEEP, require_json_object
from .base import Change, Repository
from .reading import Filter


class CredentialFilters(TypedDict, total=False):
    """The filters of credentials."""

    id: Filter[int]
    provider_id: Filter[int]
    kind: Filter[str]
    enabled: Filter[bool]


class Credentials(Repository[Credential]):
    """The credentials of providers.

    `secret_json` can be read as an attribute of a row, but not filtered by.

    Deleting a credential deletes its statuses and files. Usages and requests are kept, without the
    credential.
    """

    model = Credential
    filters = CredentialFilters
    not_blank = ("kind",)

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
            InvalidValue: when the kind is blank, or the secret is not JSON.
        """
        return self._create(
            provider=provider,
            name=name,
            kind=kind,
            secret_json=require_json_object("secret", secret),
            enabled=enabled,
        )

    def update(
        self,
        credential_id: int,
        *,
        kind: Change[str] = KEEP,
        secret: Change[Mapping[str, Any]] = KEEP,
        name: Change[str | None] = KEEP,
        enabled: Change[bool] = KEEP,
    ) -> Credential:
        """Change the given values of a credential and return it.

        Raises:
            NotFoundError: when there is no such credential.
            InvalidValue: when the kind is blank, or the secret is not JSON.
        """
        changes = {
            "kind": kind,
            "secret_json": require_json_object("secret", secret),
            "name": name,
            "enabled": enabled,
        }
        return self._update(credential_id, changes)

    def enable(self, credential_id: int) -> Credential:
        """Enable a credential and return it.

        Raises:
            NotFoundError: when there is no such credential.
        """
        return self._update(credential_id, {"enabled": True})

    def disable(self, credential_id: int) -> Credential:
        """Disable a credential and return it.

        Raises:
            NotFoundError: when there is no such credential.
        """
        return self._update(credential_id, {"enabled": False})

    def find(self, credential_id: int) -> Credential | None:
        """Return the credential with that id, or None."""
        return self._find(id=credential_id)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[CredentialFilters],
    ) -> list[Credential]:
        """Return the matching credentials by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[CredentialFilters]) -> Iterator[Credential]:
        """Iterate over the matching credentials by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[CredentialFilters]) -> int:
        """Return the number of matching credentials."""
        return self._count(**filters)
