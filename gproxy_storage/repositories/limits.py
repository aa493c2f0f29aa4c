"""Rate limits: how much a user may ask of the models that a pattern fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import InvalidValue
from ..models import User, UserRateLimit
from .arguments import require_id, require_reference
from .base import ANY, KEEP, Change, Filter, Repository, now
from .patterns import require_pattern


class RateLimits(Repository[UserRateLimit]):
    """The rate limits of users: one row for each user and pattern."""

    model = UserRateLimit

    def upsert(
        self,
        user: User | int,
        model_pattern: str,
        *,
        rpm: int | None = None,
        rpd: int | None = None,
        total_tokens: int | None = None,
    ) -> UserRateLimit:
        """Limit what a user may ask of the models that a pattern fits, in place of what was set.

        Args:
            model_pattern: a model, ``x*``, ``*x`` or ``*``; case counts.
            rpm, rpd: requests a minute and a day, >= 0; None is no limit.
            total_tokens: of one request, >= 0; None is no limit.
        Raises:
            MissingReference: when there is no such user.
            InvalidValue: when the pattern is blank, too long, or has a ``*`` inside, or a limit
                is negative.
        """
        at = now()
        values = {
            "user": require_reference("user", user, User),
            "model_pattern": require_pattern("model_pattern", model_pattern),
            "rpm": _limit("rpm", rpm),
            "rpd": _limit("rpd", rpd),
            "total_tokens": _limit("total_tokens", total_tokens),
            "created_at": at,
            "updated_at": at,
        }
        return self._upsert([UserRateLimit.user, UserRateLimit.model_pattern], values)

    def update(
        self,
        limit_id: int,
        *,
        rpm: Change[int | None] = KEEP,
        rpd: Change[int | None] = KEEP,
        total_tokens: Change[int | None] = KEEP,
    ) -> UserRateLimit:
        """Change what is given of a rate limit and return it.

        Raises:
            NotFoundError: when there is no such rate limit.
            InvalidValue: when a limit is negative.
        """
        changes = {
            "rpm": _limit("rpm", rpm),
            "rpd": _limit("rpd", rpd),
            "total_tokens": _limit("total_tokens", total_tokens),
        }
        return self._update(limit_id, changes)

    def get(self, limit_id: int) -> UserRateLimit:
        """Return the rate limit with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=limit_id)

    def find(self, user: User | int, model_pattern: str) -> UserRateLimit | None:
        """Return a user's rate limit with exactly that pattern, or None."""
        owner = require_reference("user", user, User)
        return self._find(user=owner, model_pattern=model_pattern)

    def list(
        self,
        *,
        user_id: Filter[int] = ANY,
        model_pattern: Filter[str] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[UserRateLimit]:
        """Return the rate limits that fit, by id: the first `limit` after `after_id`.

        Args:
            model_pattern: the pattern as it was set, not a model that it fits.
        """
        return self._list(
            after_id=after_id, limit=limit, user_id=user_id, model_pattern=model_pattern
        )

    def iter(
        self, *, user_id: Filter[int] = ANY, model_pattern: Filter[str] = ANY
    ) -> Iterator[UserRateLimit]:
        """Return the rate limits that fit, by id, read as they are asked for."""
        return self._iter(user_id=user_id, model_pattern=model_pattern)

    def count(self, *, user_id: Filter[int] = ANY, model_pattern: Filter[str] = ANY) -> int:
        """Return how many rate limits fit."""
        return self._count(user_id=user_id, model_pattern=model_pattern)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete rate limits; return how many. An empty list deletes nothing."""
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every rate limit; return how many there were."""
        return self._delete_all()


def _limit(argument: str, value: Any) -> Any:
    if value is None or value is KEEP:
        return value
    if require_id(argument, value) < 0:
        raise InvalidValue(f"{argument} must be >= 0, or None for no limit", argument=argument)
    return value
