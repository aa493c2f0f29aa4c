"""Credentials: the secrets by which a proxy is known to its providers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..models import Credential, Provider
from .arguments import require_json_object, require_reference
from .base import ANY, KEEP, Change, Filter, Repository, now


class Credentials(Repository[Credential]):
    """The credentials of providers.

    `secret_json` is read only as an attribute of a row: no filter sees it.
    """

    model = Credential
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
        at = now()
        return self._insert(
            provider=require_reference("provider", provider, Provider),
            name=name,
            kind=kind,
            secret_json=require_json_object("secret", secret),
            enabled=enabled,
            created_at=at,
            updated_at=at,
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
        """Change what is given of a credential and return it.

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
        """Let a credential be used, and return it.

        Raises:
            NotFoundError: when there is no such credential.
        """
        return self._update(credential_id, {"enabled": True})

    def disable(self, credential_id: int) -> Credential:
        """Keep a credential from being used, and return it.

        Raises:
            NotFoundError: when there is no such credential.
        """
        return self._update(credential_id, {"enabled": False})

    def get(self, credential_id: int) -> Credential:
        """Return the credential with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=credential_id)

    def find(self, credential_id: int) -> Credential | None:
        """Return the credential with that id, or None."""
        return self._find(id=credential_id)

    def list(
        self,
        *,
        id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        kind: Filter[str] = ANY,
        enabled: Filter[bool] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[Credential]:
        """Return the credentials that fit, by id: the first `limit` after `after_id`."""
        return self._list(
            after_id=after_id,
            limit=limit,
            id=id,
            provider_id=provider_id,
            kind=kind,
            enabled=enabled,
        )

    def iter(
        self,
        *,
        id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        kind: Filter[str] = ANY,
        enabled: Filter[bool] = ANY,
    ) -> Iterator[Credential]:
        """Return the credentials that fit, by id, read as they are asked for."""
        return self._iter(id=id, provider_id=provider_id, kind=kind, enabled=enabled)

    def count(
        self,
        *,
        id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        kind: Filter[str] = ANY,
        enabled: Filter[bool] = ANY,
    ) -> int:
        """Return how many credentials fit."""
        return self._count(id=id, provider_id=provider_id, kind=kind, enabled=enabled)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete credentials with their statuses and files; return how many.

        Usages and requests stay, without the credential. An empty list deletes nothing.
        """
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every credential, as `delete` does; return how many there were."""
        return self._delete_all()
