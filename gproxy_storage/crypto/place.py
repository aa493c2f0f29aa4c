"""Place: the row and column that a sealed value is bound to."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import InvalidValue
from ..storable import INT64
from .encoding import lp

_CONTEXT = b"gproxy-storage/value/v3"


class Place(NamedTuple):
    """Where a value is stored: what it is bound to, and what errors name.

    Attributes:
        table, column: labels, frozen when the first value is sealed: renaming a table or column
            must not change them, for then no value would open.
        pk: the row's primary key; None where it is not known, which neither sealing nor opening
            a v3 value can do with.
    """

    table: str
    column: str
    pk: int | None = None

    def aad(self, kid: str) -> bytes:
        """Return the associated data of a value here, sealed under the key with that kid.

        Each of context, kid, table, column and pk (in decimal) after its length, u32 big-endian.

        Raises:
            InvalidValue: when the pk is missing or not a 64-bit integer.
        """
        pk = self.pk
        if pk is None:
            raise InvalidValue(
                f"{self.table}.{self.column} is bound to its row: select the primary key, too",
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

    def evidence(self) -> dict[str, Any]:
        """Return what an error about this place carries as attributes."""
        return self._asdict()


@lru_cache(maxsize=256)
def _prefix(kid: str, table: str, column: str) -> bytes:
    return lp(_CONTEXT, kid.encode(), table.encode(), column.encode())
