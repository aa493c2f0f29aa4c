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
        _TEXT_OF[kind](column)
        for kind, column in zip(table.kinds, zip(*rows, strict=True), strict=True)
    ]
    lines = map("\t".join, zip(*columns, strict=True))
    return io.BytesIO(("\n".join(lines) + "\n").encode())


def _plain(column: Sequence[Any]) -> list[str]:
    return [_NULL if value is None else str(value) for value in column]


def _times(column: Sequence[Any]) -> list[str]:
    return [value or _NULL for value in column]


def _texts(column: Sequence[Any]) -> list[str]:
    return [_NULL if value is None else _escaped(value) for value in column]


def _escaped(text: str) -> str:
    # Four searches are faster than one translation, and rarely find anything.
    if "\\" in text or "\n" in text or "\t" in text or "\r" in text:
        return text.translate(_ESCAPES)
    return text


def _bytes(column: Sequence[Any]) -> list[str]:
    return [_NULL if value is None else rf"\\x{value.hex()}" for value in column]


_TEXT_OF: dict[Kind, Callable[[Sequence[Any]], list[str]]] = {
    Kind.NUMBER: _plain,  # a float's str reads back as the same float
    Kind.BOOL: _plain,
    Kind.TEXT: _texts,
    Kind.TIME: _times,
    Kind.BYTES: _bytes,
}
