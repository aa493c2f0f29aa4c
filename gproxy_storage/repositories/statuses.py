"""Credential statuses: how each credential fares on each channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from ..models import Credential, CredentialStatus
from .arguments import require_json, require_reference
from .base import ANY, KEEP, Change, Filter, Repository, now


class Statuses(Repository[CredentialStatus]):
    """The health of credentials: one row for each credential and channel."""

    model = CredentialStatus
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
        """Note the health of a credential on a channel that has none yet.

        Args:
            health: JSON, with what `health_kind` needs to say more; None is no value.
        Raises:
            ConflictError: when the credential has a status on that channel.
            MissingReference: when there is no such credential.
            InvalidValue: when a name is blank or too long, `health` is not JSON, or `checked_at`
                has no time zone.
        """
        return self._insert(
            **_values(
                credential,
                channel,
                health_kind=health_kind,
                health=health,
                checked_at=checked_at,
                last_error=last_error,
            )
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
        """Note the health of a credential on a channel, in place of what was noted before.

        Raises:
            MissingReference: when there is no such credential.
            InvalidValue: when a name is blank or too long, `health` is not JSON, or `checked_at`
                has no time zone.
        """
        return self._upsert(
            [CredentialStatus.credential, CredentialStatus.channel],
            _values(
                credential,
                channel,
                health_kind=health_kind,
                health=health,
                checked_at=checked_at,
                last_error=last_error,
            ),
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
        """Change what is given of a status and return it.

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

    def get(self, status_id: int) -> CredentialStatus:
        """Return the status with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=status_id)

    def find(self, credential: Credential | int, channel: str) -> CredentialStatus | None:
        """Return the status of a credential on a channel, or None."""
        owner = require_reference("credential", credential, Credential)
        return self._find(credential=owner, channel=channel)

    def list(
        self,
        *,
        credential_id: Filter[int] = ANY,
        channel: Filter[str] = ANY,
        health_kind: Filter[str] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[CredentialStatus]:
        """Return the statuses that fit, by id: the first `limit` after `after_id`."""
        return self._list(
            after_id=after_id,
            limit=limit,
            credential_id=credential_id,
            channel=channel,
            health_kind=health_kind,
        )

    def iter(
        self,
        *,
        credential_id: Filter[int] = ANY,
        channel: Filter[str] = ANY,
        health_kind: Filter[str] = ANY,
    ) -> Iterator[CredentialStatus]:
        """Return the statuses that fit, by id, read as they are asked for."""
        return self._iter(credential_id=credential_id, channel=channel, health_kind=health_kind)

    def count(
        self,
        *,
        credential_id: Filter[int] = ANY,
        channel: Filter[str] = ANY,
        health_kind: Filter[str] = ANY,
    ) -> int:
        """Return how many statuses fit."""
        return self._count(credential_id=credential_id, channel=channel, health_kind=health_kind)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete statuses; return how many. An empty list deletes nothing."""
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every status; return how many there were."""
        return self._delete_all()


def _values(
    credential: Credential | int,
    channel: str,
    *,
    health_kind: str,
    health: Any,
    checked_at: datetime | None,
    last_error: str | None,
) -> dict[str, Any]:
    return {
        "credential": require_reference("credential", credential, Credential),
        "channel": channel,
        "health_kind": health_kind,
        "health_json": _health(health),
        "checked_at": checked_at,
        "last_error": last_error,
        "updated_at": now(),
    }


def _health(health: Any) -> Any:
    if health is not None and health is not KEEP:
        require_json("health", health)
    return health
