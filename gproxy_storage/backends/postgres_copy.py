"""Rows as the text that COPY reads (https://www.postgresql.org/docs/current/sql-copy.html)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from .bulk import BulkTable, Kind, Row

_NULL = r"\N"
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy_text(table: BulkTable, rows: Sequence[Row]) -> io.BytesIO:
    """Return the rows as a file in COPY's text format."""
    # Column by column: each is a tight loop over one kind of values.
    columns = [
        _column(kind, column)
        for kind, column in zip(table.kinds, zip(*rows, strict=True), strict=True)
    ]
    lines = map("\t".join, zip(*columns, strict=True))
    return io.BytesIO(("\n".join(lines) + "\n").encode())


def _column(kind: Kind, column: Sequence[Any]) -> Sequence[str]:
    nulls = column.count(None)
    if nulls == len(column):
        return [_NULL] * nulls
    if not nulls:
        return _TEXTS_OF[kind](column)
    found = iter(_TEXTS_OF[kind]([value for value in column if value is not None]))
    return [_NULL if value is None else next(found) for value in column]


def _plain(column: Sequence[Any]) -> Sequence[str]:
    return list(map(repr, column))  # as `str`, and faster


def _as_they_are(column: Sequence[str]) -> Sequence[str]:
    return column


def _texts(column: Sequence[str]) -> Sequence[str]:
    # One search of all is faster than one of each, and rarely finds anything.
    return list(map(_escaped, column)) if _is_special("".join(column)) else column


def _is_special(text: str) -> bool:
    return "\\" in text or "\n" in text or "\t" in text or "\r" in text


def _escaped(text: str) -> str:
    # Four searches are faster than one translation.
    return text.translate(_ESCAPES) if _is_special(text) else text


def _bytes(column: Sequence[bytes]) -> Sequence[str]:
    return [rf"\\x{value.hex()}" for value in column]


_TEXTS_OF: dict[Kind, Callable[[Sequence[Any]], Sequence[str]]] = {
    Kind.NUMBER: _plain,  # a float's repr reads back as the same float
    Kind.BOOL: _plain,
    Kind.TEXT: _texts,
    Kind.TIME: _as_they_are,
    Kind.BYTES: _bytes,
}
