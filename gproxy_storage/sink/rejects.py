"""RejectsFile: rows that the database refused, with the reason, one JSON object per line."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..backends.bulk import Row
from ..log_rows import LOGS
from ..private_files import create_file
from .batch import encode_row
from .destination import SpoolCipher
from .records import Header
from .spool import fsync_directory, open_regular

SUFFIX = ".rejects"


class Reject(NamedTuple):
    """A row that the database refused.

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
    """The rejects of one writer; created with the first one, with access for its owner only."""

    def __init__(self, directory: Path, header: Header, cipher: SpoolCipher | None) -> None:
        self.path = directory / f"{header.writer}{SUFFIX}"
        self._header = header
        self._cipher = cipher
        self._present: set[tuple[int, str, int]] | None = None  # None: not read yet

    def keep(self, seq: int, rejects: Sequence[Reject]) -> int:
        """Write rejects of a batch to the disk, durably, without those already there.

        They are kept before the batch's COMMIT, and a batch whose COMMIT failed is stored again.

        Returns:
            The number of rejects written.
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
        self._present = None  # unknown after a failed write
        if lines:
            descriptor = create_file(self.path, os.O_APPEND | os.O_RDWR)
            with os.fdopen(descriptor, "ab") as file:
                file.write(b"".join(lines.values()))
                file.flush()
                os.fsync(descriptor)
            fsync_directory(self.path.parent)
        # Batches come in the order of their numbers: no earlier one follows.
        self._present = {place for place in present if place[0] >= seq} | lines.keys()
        return len(lines)

    def _line(self, seq: int, reject: Reject) -> bytes:
        log = LOGS[reject.log]
        found: dict[str, Any] = {
            "writer": self._header.writer,
            "seq": seq,
            "table": log.bulk.name,
            "place": reject.place,
            "reason": reject.reason,
        }
        values = dict(zip(log.bulk.columns, encode_row(log, reject.row), strict=True))
        if self._cipher is None:
            found["values"] = values
        else:
            binding = f"{self._header.place(seq)}/{log.bulk.name}/{reject.place}"
            sealed = self._cipher.seal(json.dumps(values).encode(), binding.encode())
            found |= {"kid": self._cipher.kid, "sealed": base64.b64encode(sealed).decode()}
        found["checksum"] = _checksum(found)
        # Begins with a line break, for a crash may have truncated the line before.
        return b"\n" + json.dumps(found).encode() + b"\n"


def read_rejects(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a rejects file; damaged and truncated lines are skipped."""
    try:
        with open_regular(path, "rb") as file:
            lines = file.readall().splitlines()  # type: ignore[attr-defined]  # a FileIO
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and _is_valid(entry):
            found.append(entry)
    return found


_WHERE = {"writer", "seq", "table", "place", "reason"}
_FORMER = (_WHERE | {"values"}, _WHERE | {"kid", "sealed"})
"""The members of lines without a checksum, from earlier versions."""


def _is_valid(entry: dict[str, Any]) -> bool:
    checksum = entry.pop("checksum", None)
    return checksum == _checksum(entry) if checksum is not None else entry.keys() in _FORMER


def _checksum(entry: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(entry).encode(), digest_size=16).hexdigest()
