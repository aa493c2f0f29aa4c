"""Batch: rows that are written in one transaction, and their form in spool files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..backends.bulk import Kind, Row
from ..log_rows import LOGS, LogTable


@dataclass(slots=True)
class Batch:
    """Rows of all logs under one number of their writer's sequence.

    Attributes:
        seq: >= 1, greater than that of every earlier batch of the writer.
        rows: the rows of each log, in the order of `LOGS`.
        size_bytes: their approximate size in memory; 0 if it was not counted.
    """

    seq: int
    rows: tuple[list[Row], ...] = field(default_factory=lambda: tuple([] for _ in LOGS))
    size_bytes: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def to_bytes(self) -> bytes:
        """Return the rows as JSON with column names, so that later versions can read it."""
        found = [
            {
                "table": log.bulk.name,
                "columns": log.bulk.columns,
                "rows": [encode_row(log, row) for row in rows],
            }
            for log, rows in zip(LOGS, self.rows, strict=True)
            if rows
        ]
        return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, seq: int, data: bytes) -> Batch:
        """Parse the result of `to_bytes`, of this version or an earlier one.

        Raises:
            ValueError: when it is anything else.
        """
        batch = cls(seq)
        try:
            for part in json.loads(data):
                position = _POSITIONS[part["table"]]
                log = LOGS[position]
                for values in part["rows"]:
                    named = dict(zip(part["columns"], values, strict=True))
                    batch.rows[position].append(_decode_row(log, named))
        except (KeyError, TypeError, ValueError) as exc:
            # `from None`: the decoder's error holds the text.
            raise ValueError(f"a batch cannot be read ({type(exc).__name__})") from None
        return batch


_POSITIONS = {log.bulk.name: position for position, log in enumerate(LOGS)}
_BYTES = {log.bulk.name: frozenset(log.bulk.of_kind(Kind.BYTES)) for log in LOGS}


def encode_row(log: LogTable, row: Row) -> list[Any]:
    """Return a row's values for JSON, with bytes in base64."""
    return _converted(log, row, lambda value: base64.b64encode(value).decode())


def _decode_row(log: LogTable, named: dict[str, Any]) -> Row:
    unknown = named.keys() - set(log.bulk.columns)
    if unknown:
        raise KeyError("a column that this version lacks")
    # A column that the batch lacks was added later, so it is nullable.
    values = map(named.get, log.bulk.columns)
    return tuple(_converted(log, values, partial(base64.b64decode, validate=True)))


def _converted(log: LogTable, values: Iterable[Any], of_bytes: Callable[[Any], Any]) -> list[Any]:
    positions = _BYTES[log.bulk.name]
    return [
        of_bytes(value) if position in positions and value is not None else value
        for position, value in enumerate(values)
    ]
