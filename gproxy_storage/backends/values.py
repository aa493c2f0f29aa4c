"""Values that databases keep each in its own way, and expressions over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import peewee
from peewee import SQL, Case, fn

from ..money import MAX_TOTAL, NANO

LEAST_MONEY, MOST_MONEY = SQL(str(-MAX_TOTAL)), SQL(str(MAX_TOTAL))

SECONDS_BEFORE_1970 = 62_167_219_200
"""From the start of year 0 on."""


_PARAMETERS = 100
"""As many values are parameters of their own."""


def bucket_shift(seconds: int) -> int:
    """Return a multiple of a bucket's length that makes every time of ours positive.

    Integer division rounds towards zero: for times before 1970 that would be upwards.
    """
    return -(-SECONDS_BEFORE_1970 // seconds) * seconds


class Values:
    """How a backend stores times, and what it computes of columns."""

    def time_to_db(self, at: datetime) -> Any:
        """Return an aware UTC time as the driver's parameter; order is kept."""
        return at

    def time_from_db(self, value: Any) -> datetime:
        """Return a stored time as an aware UTC datetime."""
        raise NotImplementedError

    def now_to_db(self) -> Any:
        """Return the present time as the driver's parameter."""
        return self.time_to_db(datetime.now(UTC))

    def time_to_key(self, stored: Any) -> str:
        """Return a time, as the driver read it, as text that `time_from_key` turns back exactly."""
        return self.time_from_db(stored).isoformat()

    def time_from_key(self, key: str) -> Any:
        """Return the driver's parameter for a time that is exactly the stored one.

        Raises:
            ValueError: when it is not a key of a time.
        """
        return self.time_to_db(datetime.fromisoformat(key))

    # -- expressions --------------------------------------------------------------------------

    json_text: ClassVar[str] = "TEXT"
    """The type to which a JSON column is cast for LIKE."""

    def same_text(self, column: peewee.Field[Any], text: Any) -> peewee.Expression:
        """Return the condition that a column's text is exactly this text, or another column's."""
        same: peewee.Expression = column == text
        return same

    def one_of(self, column: peewee.Field[Any], values: Sequence[Any]) -> peewee.Expression:
        """Return the condition that a column has one of these values, however many they are."""
        if len(values) <= _PARAMETERS:
            few: peewee.Expression = column.in_(values)
            return few
        return peewee.Expression(
            column, peewee.OP.IN, self._many([column.db_value(value) for value in values])
        )

    def _many(self, values: list[Any]) -> Any:
        """What follows IN: one parameter, which drivers write as a list in a hundredth of the time
        that as many parameters take."""
        return peewee.Value(tuple(values), converter=False, unpack=False)

    def contains(self, column: peewee.Field[Any], text: str) -> peewee.Expression:
        """Return the condition that a column's text holds this text; case counts."""
        raise NotImplementedError

    def time_bucket(self, column: peewee.Field[Any], seconds: int) -> peewee.ColumnBase:
        """Return the start of the bucket that a time lies in, in whole Unix seconds.

        Buckets are so many seconds long and counted from 1970 on, backwards too.
        """
        raise NotImplementedError

    def month_number(self, column: peewee.Field[Any]) -> peewee.ColumnBase:
        """Return the number of a time's month in UTC: twelve times the year, plus 0 to 11."""
        raise NotImplementedError

    # -- money: the formula of `money.nano_of` ------------------------------------------------

    int64: ClassVar[str] = "BIGINT"
    """The type of CAST for integers of 64 bits."""

    def money_sum(self, column: Any) -> Any:
        """Return the sum of a column of money, in 1e-9, read as an int: exact in any order.

        What lies beyond `MAX_TOTAL`, which is another program's, counts as that.
        """
        nano = self._whole(column).cast(self.int64) * SQL(str(NANO)) + self._nano(column)
        least, most = SQL(str(-MAX_TOTAL * NANO)), SQL(str(MAX_TOTAL * NANO))
        within = column.between(LEAST_MONEY, MOST_MONEY)
        bounded = Case(None, [(within, nano), (column < SQL("0"), least)], most)
        return fn.SUM(bounded).converter(lambda found: int(found or 0))

    def money_added(self, stored: Any, added: Any) -> Any:
        """Return stored money and what is added, as the nearest double, at most `MAX_TOTAL`."""
        wholes = self._whole(stored) + self._whole(added)
        nano = self._nano_double(stored) + self._nano_double(added)
        return self._bounded(wholes + nano / SQL("1e9"))

    def _nano(self, column: Any) -> Any:
        return self._nano_double(column).cast(self.int64)

    def _nano_double(self, column: Any) -> Any:
        """Return what stands after the point, in whole 1e-9."""
        return self._nearest((column - self._whole(column)) * SQL("1e9"))

    def _whole(self, number: Any) -> Any:
        """Return a double without what stands after the point."""
        return fn.TRUNC(number)

    def _nearest(self, number: Any) -> Any:
        """Return the whole number nearest to a double below 2**51, the even one of two."""
        return fn.ROUND(number)

    def _bounded(self, number: Any) -> Any:
        """Return a double within plus and minus `MAX_TOTAL`."""
        return fn.GREATEST(LEAST_MONEY, fn.LEAST(number, MOST_MONEY))
