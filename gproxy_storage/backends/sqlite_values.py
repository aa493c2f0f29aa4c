"""SQLite's forms of values, and its SQL expressions of them: see `values.Values`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import peewee
from peewee import SQL, Case, fn

from ..money import NANO
from ..row_times import time_text
from .sqlite_buckets import MOST_RANGES, range_sums, time_ranges
from .values import LEAST_MONEY, MOST_MONEY, Values, bucket_shift


class SqliteValues(Values):
    """The part of the backend that converts values and builds expressions."""

    def time_to_db(self, at: datetime) -> str:
        return time_text(at)

    def time_from_db(self, value: Any) -> datetime:
        at = datetime.fromisoformat(value)
        if at.tzinfo is UTC:
            return at
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    # The stored text itself: SQLx writes up to nine digits, and the comparison uses all of them.

    def time_to_key(self, stored: Any) -> str:
        return str(stored)

    def time_from_key(self, key: str) -> str:
        datetime.fromisoformat(key)
        return key

    # -- expressions --------------------------------------------------------------------------

    def _many(self, values: list[Any]) -> peewee.SQL:
        # SQLite's limit is 32,766 parameters, or another set at compile time.
        return SQL("(SELECT value FROM json_each(?))", [json.dumps(values, ensure_ascii=False)])

    def contains(self, column: peewee.Field[Any], text: str) -> peewee.Expression:
        return fn.INSTR(column, text) > 0  # unlike LIKE, it is case-sensitive

    def time_bucket(self, column: peewee.Field[Any], seconds: int) -> peewee.ColumnBase:
        shift = bucket_shift(seconds)
        # Without the fraction: STRFTIME rounds to milliseconds, .9996 up to the next second.
        unix = fn.STRFTIME("%s", fn.SUBSTR(column, 1, 19)).cast("INTEGER")
        return (unix + shift) / seconds * seconds - shift

    def sums_by_time(
        self,
        rows: Any,
        column: peewee.Field[Any],
        period: tuple[datetime, datetime],
        starts: range,
        sums: Sequence[Any],
    ) -> Iterable[tuple[Any, ...]]:
        if len(starts) > MOST_RANGES:
            return super().sums_by_time(rows, column, period, starts, sums)
        first, last = map(column.db_value, period)
        query = range_sums(rows, column, time_ranges(first, last, starts), sums)
        found = query.bind(column.model._meta.database).tuples()
        return [
            (starts[place], *map(_read_sum, json.loads(packed)))
            for place, packed in found
            if packed
        ]

    def month_number(self, column: peewee.Field[Any]) -> peewee.ColumnBase:
        year, month = fn.SUBSTR(column, 1, 4), fn.SUBSTR(column, 6, 2)
        return year.cast("INTEGER") * 12 + month.cast("INTEGER") - 1

    int64 = "INTEGER"

    def money_sum(self, column: Any) -> Any:
        # In two parts, as text: a SUM of integers fails beyond 64 bits. Comparing, and only then
        # calling MIN and MAX, takes two thirds of the time.
        within = column.between(LEAST_MONEY, MOST_MONEY)
        whole = Case(None, [(within, self._whole(column))], self._bounded(column))
        nano = Case(None, [(within, self._nano(column))])
        return fn.PRINTF("%d %d", fn.SUM(whole), fn.SUM(nano)).converter(_joined)

    def _whole(self, number: Any) -> Any:
        return number.cast("INTEGER")

    def _nearest(self, number: Any) -> Any:
        # ROUND rounds halves away from 0. From 2**52 on doubles have no fractional digits, so the
        # addition rounds half-even, as the other databases' ROUND does.
        shift = SQL(str(3 * 2**51))
        return number + shift - shift

    def _bounded(self, number: Any) -> Any:
        return fn.MAX(LEAST_MONEY, fn.MIN(number, MOST_MONEY))


def _joined(sums: str) -> int:
    wholes, nano = sums.split()
    return int(wholes) * NANO + int(nano)


def _read_sum(found: Any) -> Any:
    return _joined(found) if isinstance(found, str) else found  # only money's is text
