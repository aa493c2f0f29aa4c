"""Usages: the tokens and costs of calls, which count against the users' quotas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, Unpack, overload

from ..log_rows import USAGES
from ..models import Usage
from ..row_types import UsageRow
from .arguments import require_cost
from .base import now
from .logs import Log, LogFilters
from .pages import PAGE_ROWS, Page
from .quotas import add_cost
from .reading import Filter
from .summaries import (
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
        channel: the current channel of the provider.
        downstream_trace_id: the trace id of the request that caused the call.
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
    """The tokens and costs of calls."""

    model = Usage
    filters = UsageFilters

    def record(self, **row: Unpack[UsageRow]) -> Usage:
        """Store a usage and add its cost to the user's quota, in one transaction.

        A user, key, provider or credential that does not exist is stored as NULL, so that the cost
        of a call is kept even if its user was deleted.

        Args:
            row: the fields of a `UsageRow`.
        Raises:
            InvalidValue: when a number is outside of its bounds, or `at` has no time zone.
            TypeError: when a field is unknown.
        """
        values = USAGES.values(row, now())
        values["cost"] = require_cost("cost", values["cost"])
        self._check(values)
        return self._record(values, self._store)

    def list(
        self,
        *,
        limit: int | None = PAGE_ROWS,
        cursor: str | None = None,
        **filters: Unpack[UsageFilters],
    ) -> Page[Usage]:
        """Return a page of the matching usages, newest first.

        Pages are stable: while rows are added and deleted, the pages after a cursor contain each
        older row once.

        Args:
            limit: maximum number of rows; None for all.
            cursor: `next_cursor` of the previous page.
        Raises:
            InvalidValue: when a filter, the limit or the cursor is invalid.
        """
        return self._page(filters, limit, cursor)

    def iter(self, **filters: Unpack[UsageFilters]) -> Iterator[Usage]:
        """Iterate over the matching usages, newest first, reading them in batches."""
        return self._pages(filters)

    def count(self, **filters: Unpack[UsageFilters]) -> int:
        """Return the number of matching usages."""
        return self._count(**filters)

    def summarize(self, **filters: Unpack[UsageFilters]) -> UsageSummary:
        """Sum up the matching usages, in one query."""
        return self._read(lambda: summed(self._database, self._select(**filters)))

    # The keys of one name or two are typed; those of more are Any.
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
        """Sum up the matching usages for each value of columns or times, in one query::

            for (user_id, month), total in storage.usages.summarize_by("user_id", "month"):
                print(user_id, month.date(), total.cost)

        Args:
            by: ``user_id``, ``user_key_id``, ``provider_id``, ``credential_id``, ``model``,
                ``operation``, ``protocol``, ``hour``, ``day``, ``month``; at least one.
        Returns:
            A group for each combination that occurs, in the order of its key, None first. Times
            are the starts of hours, days or months, in UTC.
        Raises:
            InvalidValue: when a name in `by` is unknown, or a filter is invalid.
        """
        return self._read(lambda: grouped(self._database, self._select(**filters), by))

    def _store(self, values: dict[str, Any]) -> Usage:
        usage = self._inserted(values)
        if usage.user_id is not None:
            add_cost(self._database, usage.user_id, usage.cost, usage.created_at)
        return usage
