"""The form of spool files: a header and records, and finding the records again.

    header   one line of JSON: format, database, writer, kid of the key that seals, or null
    record   mark (4 bytes), seq (8), number of rows (4), length of the payload (4),
             checksum (16), payload

Numbers are big-endian. The checksum is BLAKE2b over what else is in the record; it finds
accidents: against intent there is the cipher. A damaged record is passed over: the next begins at
the next mark whose checksum is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError

_FORMAT = "gproxy-storage-spool-1"
_MARK = b"\xf5SPL"  # 0xf5 occurs in no UTF-8
_HEAD = struct.Struct(">4sQII16s")
HEAD_BYTES = _HEAD.size
_MAX_HEADER_BYTES = 4096


class SpoolError(ConfigError):
    """A spool file or its directory cannot be used. What it holds is left as it is.

    Attributes:
        path: the file or directory.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message, setting="spool_dir")
        self.path = path


@dataclass(frozen=True, slots=True)
class Header:
    """Whose batches a file holds.

    Attributes:
        database: the id of the database that they are for.
        writer: the name of their sequence in ``write_batches``.
        kid: the id of the key that seals them; None where they are in the clear.
    """

    database: str
    writer: str
    kid: str | None

    def to_bytes(self) -> bytes:
        """Return the file's first line."""
        fields = {"format": _FORMAT, "database": self.database, "writer": self.writer}
        return json.dumps({**fields, "kid": self.kid}).encode() + b"\n"

    @classmethod
    def read(cls, file: BinaryIO, path: Path) -> Header:
        """Read the first line and leave the file behind it.

        Raises:
            SpoolError: when it is no spool file of this format.
        """
        line = file.readline(_MAX_HEADER_BYTES)
        try:
            found = json.loads(line)
            if found.pop("format") == _FORMAT and line.endswith(b"\n"):
                return cls(**found)
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        raise SpoolError(f"{path} is no spool file of this version: move it away", path=path)


@dataclass(frozen=True, slots=True)
class Record:
    """Where a batch lies in its file."""

    seq: int
    rows: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a file that holds no record that can be read."""

    offset: int
    length: int


def to_record(seq: int, rows: int, payload: bytes) -> bytes:
    """Return a record as it is written."""
    checksum = _checksum(seq, rows, payload)
    return _HEAD.pack(_MARK, seq, rows, len(payload), checksum) + payload


def scan(file: BinaryIO, start: int) -> Iterator[Record | Damage]:
    """Yield the records from an offset on, and what lies between them."""
    end = file.seek(0, os.SEEK_END)
    offset = start
    while offset < end:
        record = _record_at(file, offset, end)
        if record is None:
            following = _next_record(file, offset + 1, end)
            yield Damage(offset, following - offset)
            offset = following
        else:
            yield record
            offset += _HEAD.size + record.length


def _record_at(file: BinaryIO, offset: int, end: int) -> Record | None:
    file.seek(offset)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, seq, rows, length, checksum = _HEAD.unpack(head)
    if mark != _MARK or offset + _HEAD.size + length > end:
        return None
    payload = read_all(file, length)
    sound = _checksum(seq, rows, payload) == checksum
    return Record(seq, rows, offset, length) if sound else None


def _next_record(file: BinaryIO, offset: int, end: int) -> int:
    """Return where the next sound record begins, or the end."""
    while offset < end:
        file.seek(offset)
        chunk = file.read(1 << 20)
        place = chunk.find(_MARK)
        if place < 0:
            offset += max(len(chunk) - len(_MARK) + 1, 1)
        elif _record_at(file, offset + place, end) is not None:
            return offset + place
        else:
            offset += place + 1
    return end


def _checksum(seq: int, rows: int, payload: bytes) -> bytes:
    head = struct.pack(">QII", seq, rows, len(payload))
    return hashlib.blake2b(head + payload, digest_size=16).digest()


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write to an unbuffered file until nothing is left."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read_all(file: BinaryIO, length: int) -> bytes:
    """Read so many bytes of an unbuffered file, or what there is."""
    parts = []
    while length:
        part = file.read(length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
