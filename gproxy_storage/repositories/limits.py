"""Rate limits: limits on a user's requests to the models that a pattern matches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict, Unpack

from ..models import User, UserRateLimit
from .arguments import KEEP, require_limit
from .base import Change, Repository
from .patterns import require_pattern
from .reading import Filter


class RateLimitFilters(TypedDict, total=False):
    """The filters of rate limits.

    Attributes:
        model_pattern: the pattern as it was set, not a model that it matches.
    """

    user_id: Filter[int]
    model_pattern: Filter[str]


class RateLimits(Repository[UserRateLimit]):
    """The rate limits of users: one row for each user and pattern."""

    model = UserRateLimit
    filters = RateLimitFilters

    def upsert(
        self,
        user: User | int,
        model_pattern: str,
        *,
        rpm: int | None = None,
        rpd: int | None = None,
        total_tokens: int | None = None,
    ) -> UserRateLimit:
        """Set a user's limits on the models that a pattern matches, replacing previous ones.

        Args:
            model_pattern: a model, ``x*``, ``*x`` or ``*``; case-sensitive.
            rpm, rpd: requests per minute and per day, >= 0; None means no limit.
            total_tokens: of one request, >= 0; None means no limit.
        Raises:
            MissingReference: when there is no such user.
            InvalidValue: when the pattern is blank, too long, or has a ``*`` inside, or a limit
                is negative.
        """
        values = {
            "user": user,
            "model_pattern": require_pattern("model_pattern", model_pattern),
            **_limits(rpm=rpm, rpd=rpd, total_tokens=total_tokens),
        }
        return self._create_or_update(values)

    def update(
        self,
        limit_id: int,
        *,
        rpm: Change[int | None] = KEEP,
        rpd: Change[int | None] = KEEP,
        total_tokens: Change[int | None] = KEEP,
    ) -> UserRateLimit:
        """Change the given values of a rate limit and return it.

        Raises:
            NotFoundError: when there is no such rate limit.
            InvalidValue: when a limit is negative.
        """
        return self._update(limit_id, _limits(rpm=rpm, rpd=rpd, total_tokens=total_tokens))

    def find(self, user: User | int, model_pattern: str) -> UserRateLimit | None:
        """Return a user's rate limit with exactly that pattern, or None."""
        return self._find(user=user, model_pattern=model_pattern)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[RateLimitFilters],
    ) -> list[UserRateLimit]:
        """Return the matching rate limits by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[RateLimitFilters]) -> Iterator[UserRateLimit]:
        """Iterate over the matching rate limits by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[RateLimitFilters]) -> int:
        """Return the number of matching rate limits."""
        return self._count(**filters)


def _limits(**limits: Change[int | None]) -> dict[str, Any]:
    return {
        name: value if value is KEEP else require_limit(name, value)
        for name, value in limits.items()
    }
