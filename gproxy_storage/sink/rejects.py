"""RejectsFile: rows that the database refuses, kept with the reason, one JSON object a line."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends.bulk import Row
from ..rows import LOGS
from .batch import encode_row
from .cipher import SpoolCipher
from .spool import fsync_directory

SUFFIX = ".rejects"


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that the database refuses.

    Attributes:
        log: the position of its table in `LOGS`.
        place: its position among the batch's rows of that table.
        reason: why, without values.
    """

    log: int
    place: int
    row: Row
    reason: str


class RejectsFile:
    """The rejects of one writer; made with the first of them, for its owner only."""

    def __init__(self, directory: Path, database: str, writer: str, cipher: SpoolCipher | None):
        self.path = directory / f"{writer}{SUFFIX}"
        self._database = database
        self._writer = writer
        self._cipher = cipher
        self._present: set[tuple[int, str, int]] | None = None  # None: to be read

    def keep(self, seq: int, rejects: Sequence[Reject]) -> int:
        """Write rejects of a batch to the disk, but for those that are there; return how many.

        A batch is written again when its COMMIT failed, and its rejects are kept before it.

        Raises:
            OSError: when they cannot be written.
        """
        present = self._present
        if present is None:
            present = {
                (kept["seq"], kept["table"], kept["place"]) for kept in read_rejects(self.path)
            }
        lines = {
            place: self._line(seq, reject)
            for reject in rejects
            if (place := (seq, LOGS[reject.log].bulk.name, reject.place)) not in present
        }
        self._present = None  # what a write that fails has left is not known
        if lines:
            self._append(b"".join(lines.values()))
        # Batches come in the order of their numbers: no earlier one comes again.
        self._present = {place for place in present if place[0] >= seq} | lines.keys()
        return len(lines)

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        fsync_directory(self.path.parent)

    def _line(self, seq: int, reject: Reject) -> bytes:
        log = LOGS[reject.log]
        found: dict[str, Any] = {
            "writer": self._writer,
            "seq": seq,
            "table": log.bulk.name,
            "place": reject.place,
            "reason": reject.reason,
        }
        values = dict(zip(log.bulk.columns, encode_row(log, reject.row), strict=True))
        if self._cipher is None:
            found["values"] = values
        else:
            where = f"{self._database}/{self._writer}/{seq}/{log.bulk.name}/{reject.place}"
            sealed = self._cipher.seal(json.dumps(values).encode(), where.encode())
            found |= {"kid": self._cipher.kid, "sealed": base64.b64encode(sealed).decode()}
        # A line that a crash cut off must not swallow this one.
        return b"\n" + json.dumps(found).encode() + b"\n"


def read_rejects(path: Path) -> list[dict[str, Any]]:
    """Return what a rejects file holds; lines that a crash cut off are passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"seq", "table", "place"} <= entry.keys():
            found.append(entry)
    return found
