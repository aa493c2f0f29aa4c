"""Usages: what calls used and cost, and the users' quotas that they count against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, Unpack, overload

import peewee

from ..log_rows import USAGES
from ..models import Usage
from ..row_types import UsageRow
from .arguments import require_at_least_zero, require_cost
from .base import Filter, now
from .logs import Log, LogFilters, of_channel
from .pages import PAGE_ROWS, Page
from .quotas import add_cost
from .summaries import (
    TOKENS,
    GroupName,
    IdName,
    TextName,
    TimeName,
    UsageGroup,
    UsageSummary,
    grouped,
    summed,
)


class UsageFilters(LogFilters, total=False):
    """The filters of usages.

    Attributes:
        channel: that of the provider as it is now.
        downstream_trace_id: that of the request which caused the call.
    """

    user_id: Filter[int | None]
    user_key_id: Filter[int | None]
    provider_id: Filter[int | None]
    credential_id: Filter[int | None]
    channel: Filter[str]
    model: Filter[str | None]
    operation: Filter[str]
    protocol: Filter[str]
    downstream_trace_id: Filter[int | None]


class Usages(Log[Usage]):
    """What calls used and cost."""

    model = Usage
    filters = UsageFilters

    def record(self, **row: Unpack[UsageRow]) -> Usage:
        """Store a usage and add its cost to the user's quota, in one transaction.

        A user, key, provider or credential that no longer exists becomes NULL: what a call cost
        is kept whatever happens to who made it.

        Args:
            row: the fields of a `UsageRow`.
        Raises:
            InvalidValue: when a number is outside of its bounds, or `at` has no time zone.
            TypeError: when a field is unknown.
        """
        values = USAGES.values(row, now())
        values["cost"] = require_cost("cost", values["cost"])
        for field in TOKENS:
            require_at_least_zero(field.name, values[field.name])
        self._check(values)
        return self._record(values, self._store)

    def list(
        self,
        *,
        limit: int | None = PAGE_ROWS,
        cursor: str | None = None,
        **filters: Unpack[UsageFilters],
    ) -> Page[Usage]:
        """Return a page of the usages that fit, newest first.

        Pages are stable: while rows come and go, the pages that follow a cursor hold each older
        row once.

        Args:
            limit: how many at most; None for all.
            cursor: `next_cursor` of the page before.
        Raises:
            InvalidValue: when a filter, the limit or the cursor cannot be.
        """
        return self._page(self._select(**filters), limit, cursor)

    def iter(self, **filters: Unpack[UsageFilters]) -> Iterator[Usage]:
        """Return the usages that fit, newest first, read in batches as they are asked for."""
        return self._pages(self._select(**filters))

    def count(self, **filters: Unpack[UsageFilters]) -> int:
        """Return how many usages fit."""
        return self._count(**filters)

    def summarize(self, **filters: Unpack[UsageFilters]) -> UsageSummary:
        """Sum up the usages that fit, in one query."""
        return self._read(lambda: summed(self._database, self._select(**filters)))

    # What a key holds is typed for one name or two; of more it is Any.
    @overload
    def summarize_by(
        self, by: IdName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[int | None]]]: ...
    @overload
    def summarize_by(
        self, by: Literal["model"], /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[str | None]]]: ...
    @overload
    def summarize_by(
        self, by: Literal["operation", "protocol"], /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[str]]]: ...
    @overload
    def summarize_by(
        self, by: TimeName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[datetime]]]: ...
    @overload
    def summarize_by(
        self, by: IdName, then: IdName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[int | None, int | None]]]: ...
    @overload
    def summarize_by(
        self, by: IdName, then: TextName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[int | None, str | None]]]: ...
    @overload
    def summarize_by(
        self, by: IdName, then: TimeName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[int | None, datetime]]]: ...
    @overload
    def summarize_by(
        self, by: TextName, then: IdName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[str | None, int | None]]]: ...
    @overload
    def summarize_by(
        self, by: TextName, then: TextName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[str | None, str | None]]]: ...
    @overload
    def summarize_by(
        self, by: TextName, then: TimeName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[str | None, datetime]]]: ...
    @overload
    def summarize_by(
        self, by: TimeName, then: IdName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[datetime, int | None]]]: ...
    @overload
    def summarize_by(
        self, by: TimeName, then: TextName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[datetime, str | None]]]: ...
    @overload
    def summarize_by(
        self, by: TimeName, then: TimeName, /, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[tuple[datetime, datetime]]]: ...
    @overload
    def summarize_by(
        self, *by: GroupName, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[Any]]: ...
    def summarize_by(
        self, *by: GroupName, **filters: Unpack[UsageFilters]
    ) -> Sequence[UsageGroup[Any]]:
        """Sum up the usages that fit for each value of columns or times, in one query::

            for (user_id, month), total in storage.usages.summarize_by("user_id", "month"):
                print(user_id, month.date(), total.cost)

        Args:
            by: ``user_id``, ``user_key_id``, ``provider_id``, ``credential_id``, ``model``,
                ``operation``, ``protocol``, ``hour``, ``day``, ``month``; at least one.
        Returns:
            A group for each combination that occurs, in the order of its key, None first. Times
            are where an hour, day or month begins, in UTC.
        Raises:
            InvalidValue: when a name in `by` is another, or a filter cannot be.
        """
        return self._read(lambda: grouped(self._database, self._select(**filters), by))

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        if name == "channel":
            return of_channel(Usage.provider, value)
        return super()._condition(name, value)

    def _store(self, values: dict[str, Any]) -> Usage:
        usage = Usage(**values)
        usage.save(force_insert=True)
        if usage.user_id is not None:
            add_cost(self._database, usage.user_id, usage.cost, usage.created_at)
        return usage
