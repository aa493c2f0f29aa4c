"""The format of spool files, a header and records, and the search for records.

    header   one line of JSON: format, database, writer, kid of the key that seals, or null,
             checksum
    note     mark (4 bytes), length of the whole file (8), checksum (16): written when its process
             closes it; before, zeros
    record   mark (4 bytes), seq (8), number of rows (4), length of the payload (4),
             checksum (16), payload

Numbers are big-endian. Checksums are BLAKE2b over the rest of their part; they detect accidental
damage, the cipher detects tampering. A damaged record is skipped: the next one begins at the next
mark whose checksum is right. A file with a damaged header is refused: with another writer's name
rows would be stored twice. The first version had neither a note nor a checksum in the header; there
the file's name repeats the writer.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import ConfigError

_FORMAT = "gproxy-storage-spool-2"
_FORMER_FORMAT = "gproxy-storage-spool-1"
_FORMATS = "gproxy-storage-spool-"
_NOTE = struct.Struct(">4sQ16s")
_NOTE_MARK = b"\xf5END"
NOTE_BYTES = _NOTE.size
_MARK = b"\xf5SPL"  # 0xf5 occurs in no UTF-8
_HEAD = struct.Struct(">4sQII16s")
HEAD_BYTES = _HEAD.size
_MAX_HEADER_BYTES = 4096


class SpoolError(ConfigError):
    """A spool file or its directory cannot be used. Its content is left as it is.

    Attributes:
        path: the file or directory.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message, setting="data_dir")
        self.path = path


class Header(NamedTuple):
    """The database, writer and key of a file's batches.

    Attributes:
        database: the id of the database in which to store them.
        writer: the name of their sequence in ``write_batches``.
        kid: the id of the key that seals them; None if they are in the clear.
    """

    database: str
    writer: str
    kid: str | None

    def place(self, seq: int) -> str:
        """Return what identifies a batch; its sealed rows are bound to it."""
        return f"{self.database}/{self.writer}/{seq}"

    def to_bytes(self) -> bytes:
        """Return the file's first line."""
        text = self._text(_FORMAT)
        checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return f'{text[:-1]}, "checksum": "{checksum}"}}\n'.encode()

    @classmethod
    def read(cls, file: BinaryIO, path: Path) -> tuple[Header, int | None]:
        """Read the first line; return the header and the note's offset, None in the first version.

        Raises:
            SpoolError: when it is not a spool file, or the line is damaged.
        """
        line = file.readline(_MAX_HEADER_BYTES)
        with suppress(KeyError, TypeError, ValueError):
            found = json.loads(line)
            header = cls(found["database"], found["writer"], found["kid"])
            if line == header.to_bytes():
                return header, len(line)
            former = f"{header._text(_FORMER_FORMAT)}\n".encode()
            if line == former and header.writer == path.stem:
                return header, None
        if _FORMATS.encode() in line or _MARK in line:
            raise SpoolError(
                f"{path} is not a spool file of this version, or its first line is damaged: its "
                "database and writer are unknown, so it is left as it is; move it away",
                path=path,
            )
        raise SpoolError(
            f"{path} is not a spool file of this version or an earlier one: it is left as it is; "
            "move it away",
            path=path,
        )

    def _text(self, form: str) -> str:
        fields = {"format": form, "database": self.database, "writer": self.writer}
        return json.dumps({**fields, "kid": self.kid})


class Record(NamedTuple):
    """The position of a batch in its file."""

    seq: int
    rows: int
    offset: int
    length: int
    checksum: bytes

    def payload(self, file: BinaryIO) -> bytes | None:
        """Read the payload; None if its checksum is wrong."""
        file.seek(self.offset + HEAD_BYTES)
        payload = read_all(file, self.length)
        return payload if _checksum(self.seq, self.rows, payload) == self.checksum else None


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a file without a readable record.

    Attributes:
        offset: where it begins, in bytes.
        length: in bytes.
        missing: the file was truncated there after its process had closed it.
    """

    offset: int
    length: int
    missing: bool = False

    def __str__(self) -> str:
        what = "are missing" if self.missing else "are not a valid record and were skipped"
        return f"{self.length} bytes at offset {self.offset} {what}"


def to_record(seq: int, rows: int, payload: bytes) -> tuple[bytes, bytes]:
    """Return a record's bytes, and its checksum."""
    checksum = _checksum(seq, rows, payload)
    return _HEAD.pack(_MARK, seq, rows, len(payload), checksum) + payload, checksum


def to_note(length: int) -> bytes:
    """Return the note of a file that is closed at this length in bytes."""
    return _NOTE.pack(_NOTE_MARK, length, _note_checksum(length))


def start_of_records(file: BinaryIO, note_at: int | None) -> int:
    """Return the offset of the first record, given the note's offset from `Header.read`."""
    return file.tell() if note_at is None else note_at + NOTE_BYTES


def scan(file: BinaryIO, start: int, note_at: int | None) -> tuple[list[Record], list[Damage]]:
    """Return the records of a file, and its damaged and missing parts."""
    end = file.seek(0, os.SEEK_END)
    noted = None if note_at is None else _noted(file, note_at)
    records, damages = [], [noted] if isinstance(noted, Damage) else []
    offset = start
    while offset < end:
        record = _record_at(file, offset, end)
        if record is None:
            following = _next_record(file, offset + 1, end)
            damages.append(Damage(offset, following - offset))
            offset = following
        else:
            records.append(record)
            offset += _HEAD.size + record.length
    if isinstance(noted, int) and end < noted:
        damages.append(Damage(end, noted - end, missing=True))
    return records, damages


def _noted(file: BinaryIO, offset: int) -> int | Damage | None:
    """Return the file's length when it was closed; None if it was not closed."""
    file.seek(offset)
    found = read_all(file, NOTE_BYTES)
    if not any(found) and len(found) == NOTE_BYTES:
        return None
    if len(found) == NOTE_BYTES:
        mark, length, checksum = _NOTE.unpack(found)
        if mark == _NOTE_MARK and checksum == _note_checksum(length):
            return int(length)
    return Damage(offset, len(found))


def _record_at(file: BinaryIO, offset: int, end: int) -> Record | None:
    file.seek(offset)
    head = read_all(file, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, seq, rows, length, checksum = _HEAD.unpack(head)
    if mark != _MARK or offset + _HEAD.size + length > end:
        return None
    record = Record(seq, rows, offset, length, checksum)
    return None if record.payload(file) is None else record


def _next_record(file: BinaryIO, offset: int, end: int) -> int:
    """Return the offset of the next valid record, or the end."""
    while offset < end:
        file.seek(offset)
        chunk = file.read(1 << 20)
        position = chunk.find(_MARK)
        if position < 0:
            offset += max(len(chunk) - len(_MARK) + 1, 1)
        elif _record_at(file, offset + position, end) is not None:
            return offset + position
        else:
            offset += position + 1
    return end


def _checksum(seq: int, rows: int, payload: bytes) -> bytes:
    head = struct.pack(">QII", seq, rows, len(payload))
    return hashlib.blake2b(head + payload, digest_size=16).digest()


def _note_checksum(length: int) -> bytes:
    return hashlib.blake2b(struct.pack(">Q", length), digest_size=16, person=b"note").digest()


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all data to an unbuffered file."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def read_all(file: BinaryIO, length: int) -> bytes:
    """Read this many bytes from an unbuffered file, or up to its end."""
    parts = []
    while length:
        part = file.read(length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
