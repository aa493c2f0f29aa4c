"""Binding: the row and column that a sealed value is bound to."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..errors import InvalidValue
from ..value_limits import INT64
from .encoding import lp

_CONTEXT = b"gproxy-storage/value/v3"


class Binding(NamedTuple):
    """The row and column of a value, to which it is bound and which errors name.

    Attributes:
        table: a label. Renaming the table must not change it, for then no value would open.
        column: likewise.
        pk: the row's primary key; None if unknown, which is an error for v3 values.
    """

    table: str
    column: str
    pk: int | None = None

    def aad(self, kid: str) -> bytes:
        """Return the associated data of a value stored here and sealed under the key with this kid.

        Context, kid, table, column and pk in decimal, each prefixed by its length, u32 big-endian.

        Raises:
            InvalidValue: when the pk is missing or not a 64-bit integer.
        """
        pk = self.pk
        if pk is None:
            raise InvalidValue(
                f"{self.table}.{self.column} is bound to its row: select the primary key as well",
                argument=self.column,
            )
        if type(pk) is not int or pk not in INT64:
            raise InvalidValue(
                f"{self.table}.{self.column}: the row's primary key is not a 64-bit integer",
                argument=self.column,
            )
        digits = b"%d" % pk
        return b"%b%b%b" % (
            _prefix(kid, self.table, self.column),
            len(digits).to_bytes(4, "big"),
            digits,
        )

    def __str__(self) -> str:
        row = "" if self.pk is None else f", row {self.pk}"
        return f"{self.table}.{self.column}{row}"


@lru_cache(maxsize=256)
def _prefix(kid: str, table: str, column: str) -> bytes:
    return lp(_CONTEXT, kid.encode(), table.encode(), column.encode())
