"""Credential statuses: the health of each credential on each channel."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypedDict, Unpack

from ..models import Credential, CredentialStatus
from .arguments import KEEP, require_json
from .base import Change, Repository
from .reading import Filter


class StatusFilters(TypedDict, total=False):
    """The filters of credential statuses."""

    credential_id: Filter[int]
    channel: Filter[str]
    health_kind: Filter[str]


class Statuses(Repository[CredentialStatus]):
    """The health of credentials: one row for each credential and channel."""

    model = CredentialStatus
    filters = StatusFilters
    not_blank = ("channel", "health_kind")

    def create(
        self,
        credential: Credential | int,
        channel: str,
        *,
        health_kind: str,
        health: Any = None,
        checked_at: datetime | None = None,
        last_error: str | None = None,
    ) -> CredentialStatus:
        """Record the health of a credential on a channel that has no status yet.

        Args:
            health: details of `health_kind` as JSON; None means none.
        Raises:
            ConflictError: when the credential has a status on that channel.
            MissingReference: when there is no such credential.
            InvalidValue: when a name is blank or too long, `health` is not JSON, or `checked_at`
                has no time zone.
        """
        return self._create(
            **_values(credential, channel, health_kind, health, checked_at, last_error)
        )

    def upsert(
        self,
        credential: Credential | int,
        channel: str,
        *,
        health_kind: str,
        health: Any = None,
        checked_at: datetime | None = None,
        last_error: str | None = None,
    ) -> CredentialStatus:
        """Record the health of a credential on a channel, replacing the previous status.

        Raises:
            MissingReference: when there is no such credential.
            InvalidValue: when a name is blank or too long, `health` is not JSON, or `checked_at`
                has no time zone.
        """
        return self._create_or_update(
            _values(credential, channel, health_kind, health, checked_at, last_error)
        )

    def update(
        self,
        status_id: int,
        *,
        health_kind: Change[str] = KEEP,
        health: Any = KEEP,
        checked_at: Change[datetime | None] = KEEP,
        last_error: Change[str | None] = KEEP,
    ) -> CredentialStatus:
        """Change the given values of a status and return it.

        Raises:
            NotFoundError: when there is no such status.
            InvalidValue: when `health` is not JSON, or `checked_at` has no time zone.
        """
        changes = {
            "health_kind": health_kind,
            "health_json": _health(health),
            "checked_at": checked_at,
            "last_error": last_error,
        }
        return self._update(status_id, changes)

    def find(self, credential: Credential | int, channel: str) -> CredentialStatus | None:
        """Return the status of a credential on a channel, or None."""
        return self._find(credential=credential, channel=channel)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[StatusFilters],
    ) -> list[CredentialStatus]:
        """Return the matching statuses by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[StatusFilters]) -> Iterator[CredentialStatus]:
        """Iterate over the matching statuses by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[StatusFilters]) -> int:
        """Return the number of matching statuses."""
        return self._count(**filters)


def _values(  # noqa: PLR0917 - in the order of `create`
    credential: Credential | int,
    channel: str,
    health_kind: str,
    health: Any,
    checked_at: datetime | None,
    last_error: str | None,
) -> dict[str, Any]:
    return {
        "credential": credential,
        "channel": channel,
        "health_kind": health_kind,
        "health_json": _health(health),
        "checked_at": checked_at,
        "last_error": last_error,
    }


def _health(health: Any) -> Any:
    if health is not None and health is not KEEP:
        require_json("health", health)
    return health
