"""MySQL's and MariaDB's types: the family of each, and how much it holds."""

from __future__ import annotations

import re
from typing import NamedTuple

from .schema_rows import ColumnRow
from .widths import Shortfall, short_fractions, short_numbers, short_text

_INTEGER_BYTES = {
    "bool": 1,
    "tinyint": 1,
    "smallint": 2,
    "mediumint": 3,
    "int": 4,
    "integer": 4,
    "bigint": 8,
}
_TEXT_BYTES = {"tinytext": 2**8, "text": 2**16, "mediumtext": 2**24, "longtext": 2**32}
_BLOB_BYTES = {"tinyblob": 2**8, "blob": 2**16, "mediumblob": 2**24, "longblob": 2**32}

_FAMILIES = {
    **dict.fromkeys(_INTEGER_BYTES, "integer"),
    **dict.fromkeys(("float", "double", "double precision"), "real"),
    **dict.fromkeys(("char", "varchar", *_TEXT_BYTES), "text"),
    **dict.fromkeys(("varbinary", *_BLOB_BYTES), "bytes"),
    **dict.fromkeys(("datetime", "timestamp"), "time"),
}

_ALL_OF_UNICODE = ("utf8mb4", "utf16", "utf16le", "utf32")
_BYTES_A_CHARACTER = 4


class _Type(NamedTuple):
    base: str
    numbers: tuple[int, ...]
    unsigned: bool

    @classmethod
    def parse(cls, text: str) -> _Type:
        words = re.sub(r"\(.*\)", "", text.lower()).split()
        kept = [word for word in words if word not in ("unsigned", "zerofill", "auto_increment")]
        numbers = tuple(map(int, re.findall(r"\d+", text.partition("(")[2].partition(")")[0])))
        return cls(" ".join(kept), numbers, "unsigned" in words)

    @property
    def length(self) -> int:
        return self.numbers[0] if self.numbers else 0

    @property
    def family(self) -> str:
        return _FAMILIES.get(self.base, self.base)


def type_family(column_type: str) -> str:
    """Return the family of a type, given as in the system catalog or as in DDL."""
    return _Type.parse(column_type).family


def shortfall(there: ColumnRow, wanted: str) -> Shortfall | None:
    """Return what an existing column cannot hold that one of the wanted type can."""
    live, declared = _Type.parse(there.type), _Type.parse(wanted)
    match live.family:
        case "text":
            return _short_text(live, there.collation, declared)
        case "bytes":
            most = live.length or _BLOB_BYTES.get(live.base, 1) - 1
            if most < _BLOB_BYTES.get(declared.base, 1) - 1:
                return Shortfall(f"more than {most:,} bytes are refused")
        case "integer":
            if _INTEGER_BYTES[live.base] < _INTEGER_BYTES.get(declared.base, 0):
                return short_numbers(_INTEGER_BYTES[live.base], unsigned=live.unsigned)
        case "real":
            if live.base == "float" or live.numbers:
                return Shortfall("numbers are rounded to fewer digits")
        case "time":
            return _short_time(live)
    return None


def _short_text(live: _Type, collation: str, declared: _Type) -> Shortfall | None:
    characters = _characters(live)
    if characters < _characters(declared):
        if live.base in _TEXT_BYTES:
            most = _TEXT_BYTES[live.base] - 1
            return Shortfall(f"text of more than {most:,} bytes is refused", most)
        return short_text(characters)
    if live.base == "char":
        return Shortfall("trailing blanks are lost")
    charset = collation.partition("_")[0]
    if charset and charset not in _ALL_OF_UNICODE:
        return Shortfall(f"characters that {charset} lacks are refused")
    return None


def _characters(of: _Type) -> int:
    """Return how many characters fit in any case. JSON holds as much as LONGTEXT."""
    in_bytes = _TEXT_BYTES.get("longtext" if of.base == "json" else of.base)
    return of.length if in_bytes is None else (in_bytes - 1) // _BYTES_A_CHARACTER


def _short_time(live: _Type) -> Shortfall | None:
    costs = []
    if live.length < 6:
        costs.append(short_fractions(live.length))
    if live.base == "timestamp":
        costs.append("times before 1970 or after January 2038 are refused")
    return Shortfall("; ".join(costs)) if costs else None
