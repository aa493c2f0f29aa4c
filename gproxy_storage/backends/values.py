"""Values that each database stores in its own way, and expressions over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import peewee
from peewee import SQL, Case, fn

from ..money import MAX_TOTAL, NANO

LEAST_MONEY, MOST_MONEY = SQL(str(-MAX_TOTAL)), SQL(str(MAX_TOTAL))

SECONDS_BEFORE_1970 = 62_167_219_200
"""From the start of year 0."""


MOST_PARAMETERS = 100
"""Up to so many values in an IN are parameters of their own."""


def bucket_shift(seconds: int) -> int:
    """Return a multiple of a bucket's length that makes every time since year 0 positive.

    Integer division rounds towards zero: times before 1970 would be rounded up.
    """
    return -(-SECONDS_BEFORE_1970 // seconds) * seconds


class Values:
    """The backends' form of times, and expressions over columns."""

    def time_to_db(self, at: datetime) -> Any:
        """Return an aware UTC time as the driver's parameter; it sorts as the times do."""
        return at

    def time_from_db(self, value: Any) -> datetime:
        """Return a stored time as an aware UTC datetime."""
        raise NotImplementedError

    def now_to_db(self) -> Any:
        """Return the current time as the driver's parameter."""
        return self.time_to_db(datetime.now(UTC))

    def time_to_key(self, stored: Any) -> str:
        """Encode a stored time, as read by the driver, as text for `time_from_key`; lossless."""
        return self.time_from_db(stored).isoformat()

    def time_from_key(self, key: str) -> Any:
        """Decode the text of `time_to_key` to a parameter equal to the stored time.

        Raises:
            ValueError: when the text is no such key.
        """
        return self.time_to_db(datetime.fromisoformat(key))

    # -- expressions --------------------------------------------------------------------------

    json_text: ClassVar[str] = "TEXT"
    """The type to which a JSON column is cast for LIKE."""

    def same_text(self, column: peewee.Field[Any], text: Any) -> peewee.Expression:
        """Return the condition that a column equals a text or another column; case counts."""
        same: peewee.Expression = column == text
        return same

    def one_of(self, column: peewee.Field[Any], values: Sequence[Any]) -> peewee.Expression:
        """Return the condition that a column has one of these values; any number of them."""
        if len(values) <= MOST_PARAMETERS:
            few: peewee.Expression = column.in_(values)
            return few
        return peewee.Expression(
            column, peewee.OP.IN, self._many([column.db_value(value) for value in values])
        )

    def _many(self, values: list[Any]) -> Any:
        """Return the list after IN as one parameter, rendered 100 times as fast as many."""
        return peewee.Value(tuple(values), converter=False, unpack=False)

    def contains(self, column: peewee.Field[Any], text: str) -> peewee.Expression:
        """Return the condition that a column contains this text; case counts."""
        raise NotImplementedError

    def time_bucket(self, column: peewee.Field[Any], seconds: int) -> peewee.ColumnBase:
        """Return the start of the bucket that contains a time, in whole Unix seconds.

        Buckets are `seconds` long and aligned to 1970-01-01, before it too.
        """
        raise NotImplementedError

    def sums_by_time(
        self,
        rows: Any,
        column: peewee.Field[Any],
        period: tuple[datetime, datetime],
        starts: range,
        sums: Sequence[Any],
    ) -> Iterable[tuple[Any, ...]]:
        """Return `time_bucket` and sums over its rows, for each bucket that has rows.

        Args:
            rows: a SELECT; its columns do not matter.
            period: the first and the last time of the rows, both inclusive.
            starts: of all of the period's buckets, in Unix seconds.
        """
        bucket = self.time_bucket(column, starts.step)
        query = rows.select(bucket, *sums).where(column.between(*period)).group_by(SQL("1"))
        found: Iterable[tuple[Any, ...]] = query.tuples()
        return found

    def month_number(self, column: peewee.Field[Any]) -> peewee.ColumnBase:
        """Return a time's month in UTC as a number: year * 12 + 0 to 11."""
        raise NotImplementedError

    # -- money: the formula of `money.nano_of` ------------------------------------------------

    int64: ClassVar[str] = "BIGINT"
    """The name of the 64-bit integer type in CAST."""

    def money_sum(self, column: Any) -> Any:
        """Return the sum of a column of money in units of 1e-9, an int; exact in any order.

        Values beyond plus or minus `MAX_TOTAL`, from another program, count as that.
        """
        nano = self._whole(column).cast(self.int64) * SQL(str(NANO)) + self._nano(column)
        least, most = SQL(str(-MAX_TOTAL * NANO)), SQL(str(MAX_TOTAL * NANO))
        within = column.between(LEAST_MONEY, MOST_MONEY)
        bounded = Case(None, [(within, nano), (column < SQL("0"), least)], most)
        return fn.SUM(bounded).converter(lambda found: int(found or 0))

    def money_added(self, stored: Any, added: Any) -> Any:
        """Return stored plus added money as the nearest double, within +/- `MAX_TOTAL`."""
        wholes = self._whole(stored) + self._whole(added)
        nano = self._nano_double(stored) + self._nano_double(added)
        return self._bounded(wholes + nano / SQL("1e9"))

    def _nano(self, column: Any) -> Any:
        return self._nano_double(column).cast(self.int64)

    def _nano_double(self, column: Any) -> Any:
        """Return the fractional part in whole units of 1e-9."""
        return self._nearest((column - self._whole(column)) * SQL("1e9"))

    def _whole(self, number: Any) -> Any:
        """Return a double truncated to a whole number."""
        return fn.TRUNC(number)

    def _nearest(self, number: Any) -> Any:
        """Round a double below 2**51 half-even to a whole number."""
        return fn.ROUND(number)

    def _bounded(self, number: Any) -> Any:
        """Clamp a double to plus and minus `MAX_TOTAL`."""
        return fn.GREATEST(LEAST_MONEY, fn.LEAST(number, MOST_MONEY))
