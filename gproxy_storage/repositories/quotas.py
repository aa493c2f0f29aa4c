"""Quotas: limits on the costs of users, and the costs so far. A quota <= 0 is unlimited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict, Unpack

from ..backends.base import Backend
from ..backends.bulk import parts
from ..errors import InvalidValue, MissingReference
from ..models import Usage, User, UserQuota
from ..money import MAX_TOTAL, Amount, from_double, from_nano, take, to_double, to_nano
from .arguments import KEEP, require_cost, require_row_id
from .base import BaseRepository, Change, now
from .reading import Filter

_USERS_A_BATCH = 100  # `reconcile` locks their quotas at a time


@dataclass(frozen=True, slots=True)
class Correction:
    """A quota whose cost differed from the sum of the user's usages.

    Attributes:
        user_id: the user.
        before: `cost_used` before the correction.
        after: `cost_used` now.
    """

    user_id: int
    before: Decimal
    after: Decimal


class QuotaFilters(TypedDict, total=False):
    """The filters of quotas."""

    user_id: Filter[int]


class Quotas(BaseRepository[UserQuota]):
    """The quotas of users, a row for each user who has a quota or costs."""

    model = UserQuota
    filters = QuotaFilters

    def set(
        self,
        user: User | int,
        *,
        quota: Change[Amount] = KEEP,
        cost_used: Change[Amount] = KEEP,
    ) -> UserQuota:
        """Set a user's quota or `cost_used`; a value that is not given is kept.

        Args:
            quota: at most 9,000,000,000; <= 0 is unlimited, the default of a new row. A value > 0
                that rounds to 0 is refused.
            cost_used: 0 to 9,000,000,000; 0 begins a new period.
        Raises:
            InvalidValue: when an amount is not a number or is out of bounds.
            MissingReference: when there is no such user.
        """
        given: dict[str, Decimal] = {}
        if quota is not KEEP:
            given["quota"] = _limit(quota)
        if cost_used is not KEEP:
            given["cost_used"] = require_cost("cost_used", cost_used, most=MAX_TOTAL)
        if not given:
            raise InvalidValue("set() needs a quota or a cost_used", argument="quota")
        new = {"quota": Decimal(0), "cost_used": Decimal(0)}
        return self._create_or_update(
            {"user": user, **new, **given}, keep=new.keys() - given.keys()
        )

    def get(self, user: User | int) -> UserQuota:
        """Return a user's quota.

        Raises:
            NotFoundError: when the user has none, because neither a quota nor a cost was stored.
        """
        return self._get(user_id=require_row_id("user", user, User))

    def find(self, user: User | int) -> UserQuota | None:
        """Return a user's quota, or None."""
        return self._find(user_id=require_row_id("user", user, User))

    def add_cost(self, user: User | int, cost: Amount) -> UserQuota:
        """Add a cost to a user's quota, in one statement; safe to call concurrently.

        Args:
            cost: 0 to 1,000,000, rounded to 1e-9.
        Returns:
            The quota with this cost and all added before it; further costs do not raise its
            `cost_used` above 9,000,000,000.
        Raises:
            InvalidValue: when the cost is not a number or is out of bounds.
            MissingReference: when there is no such user.
        """
        return self._add_cost(require_row_id("user", user, User), require_cost("cost", cost))

    def remaining(self, user: User | int) -> Decimal | None:
        """Return what is left of a user's quota: negative when overdrawn, None for no limit."""
        row = self.find(user)
        if row is None or row.quota <= 0:
            return None
        return from_nano(to_nano(row.quota) - to_nano(row.cost_used))

    def iter(self, **filters: Unpack[QuotaFilters]) -> Iterator[UserQuota]:
        """Iterate over the matching quotas by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[QuotaFilters]) -> int:
        """Return the number of matching quotas."""
        return self._count(**filters)

    def reconcile(self, user: User | int | None = None) -> Sequence[Correction]:
        """Set `cost_used` of users to the sum of their usages; return the corrections.

        For all users, or one. Safe while usages are recorded: each user's quota is locked before
        the usages are summed, in transactions of a hundred users. Deleted usages no longer count,
        nor do costs from `add_cost` or `set`.

        Raises:
            MissingReference: when there is no such user.
        """
        if user is not None:
            return self._reconcile([require_row_id("user", user, User)])
        users: Any = User.select(User.id).where(
            User.id.in_(UserQuota.select(UserQuota.user))
            | User.id.in_(Usage.select(Usage.user).where(Usage.user.is_null(False)))
        )
        query = users.order_by(User.id).tuples()
        ids = [user_id for (user_id,) in self._read(lambda: list(query))]
        return [
            correction
            for part in parts(ids, _USERS_A_BATCH)
            for correction in self._reconcile(part)
        ]

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[QuotaFilters],
    ) -> Sequence[UserQuota]:
        """Return the matching quotas by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def _add_cost(self, user_id: int, cost: Decimal) -> UserQuota:
        def write() -> UserQuota:
            add_cost(self._database, user_id, cost, now())
            return self._get(user_id=user_id)

        with self._naming_reference({"user": user_id}):
            return self._write(write)

    def _reconcile(self, user_ids: Sequence[int]) -> Sequence[Correction]:
        try:
            return self._write(lambda: _correct(self._database, user_ids))
        except MissingReference:
            if len(user_ids) == 1:
                raise MissingReference(
                    "user points to a row of users that does not exist", argument="user"
                ) from None
        # Some users were deleted since they were listed: correct the others one by one.
        return [each for user_id in user_ids for each in self._reconcile_if_there(user_id)]

    def _reconcile_if_there(self, user_id: int) -> Sequence[Correction]:
        try:
            return self._reconcile([user_id])
        except MissingReference:
            return ()


def add_cost(database: Backend, user_id: int, cost: Decimal, at: datetime) -> None:
    """Add a cost to a user's quota, inside a transaction; the first cost creates the row."""
    database.add_costs([(user_id, float(cost))], database.time_to_db(at))


def _correct(database: Backend, user_ids: Sequence[int]) -> Sequence[Correction]:
    """Correct quotas, inside a transaction.

    Recording a usage inserts it and then adds its cost to the quota. So once the quota is locked
    here, usages whose cost was added are committed and in the sum; all others are added later.
    """
    at = now()
    rows = [{"user": user_id, "quota": 0, "cost_used": 0, "updated_at": at} for user_id in user_ids]
    database.upsert(UserQuota.insert_many(rows), [UserQuota.user], take=()).execute()  # locks them
    total: Any = database.money_sum(Usage.cost)
    costs: Any = Usage.select(Usage.user, total).where(Usage.user.in_(user_ids))
    sums: dict[int, int] = dict(costs.group_by(Usage.user).tuples())
    corrections = []
    for quota in UserQuota.select().where(UserQuota.user.in_(user_ids)).order_by(UserQuota.user):
        # As it will be read: above 2**23 a double is not exact.
        after = from_double(to_double(sums.get(quota.user_id, 0)))
        if after == quota.cost_used:
            continue
        corrections.append(Correction(quota.user_id, quota.cost_used, after))
        change = UserQuota.update(cost_used=after, updated_at=at)
        change.where(UserQuota.id == quota.id).execute()
    return corrections


def _limit(value: Amount) -> Decimal:
    limit = take("quota", value, least=-MAX_TOTAL, most=MAX_TOTAL)
    if not limit and Decimal(value) > 0:
        raise InvalidValue(
            "quota rounds to 0, which is unlimited: give at least 0.000000001", argument="quota"
        )
    return limit
