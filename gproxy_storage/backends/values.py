"""Values that databases keep each in its own way, and expressions over them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import peewee

SECONDS_BEFORE_1970 = 62_167_219_200
"""From the start of year 0 on."""


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
