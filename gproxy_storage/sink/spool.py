"""SpoolFile: batches on disk while the database is away."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Self

from ..interruptions import raise_interruption
from ..private_files import create_directory, create_file
from .batch import Batch
from .destination import SpoolCipher
from .records import (
    HEAD_BYTES,
    NOTE_BYTES,
    Damage,
    Header,
    Record,
    SpoolError,
    scan,
    start_of_records,
    to_note,
    to_record,
    write_all,
)

_log = logging.getLogger(__name__)

SUFFIX = ".spool"
DAMAGED_SUFFIX = ".damaged"
DRAFT_SUFFIX = ".draft"


class SpoolFull(Exception):  # noqa: N818 - like queue.Full
    """The record would exceed the maximum size; nothing was written."""


class SpoolFile:
    """One process's spool file, locked while it is open; not thread-safe.

    Attributes:
        damages: unreadable parts that are skipped; normally only in files of other processes.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: Header,
        note_at: int | None,
        cipher: SpoolCipher | None,
    ) -> None:
        self.path = path
        self.header = header
        self.damages: list[Damage] = []
        self._file = file
        self._cipher = cipher if header.kid is not None else None
        self._records: list[Record] = []
        self._note_at = note_at
        self._start = start_of_records(file, note_at)
        self._end = self._start

    # -- opening ------------------------------------------------------------------------------

    @classmethod
    def create(cls, directory: Path, header: Header, cipher: SpoolCipher | None) -> Self:
        """Create the file, named after its writer, with access for its owner only.

        Raises:
            SpoolError: when the directory cannot be created or written.
        """
        path = directory / f"{header.writer}{SUFFIX}"
        try:
            create_directory(directory)
            file, note_at = _created(path, header)
        except OSError as exc:
            raise_interruption(exc)
            raise SpoolError(
                f"the spool directory {directory} cannot be used: {exc.strerror}; name another "
                "with data_dir or GPROXY_DATA_DIR",
                path=directory,
            ) from exc
        return cls(path, file, header, note_at, cipher)

    @classmethod
    def adopt(cls, path: Path, database: str, cipher: SpoolCipher | None) -> Self | None:
        """Open a file that another process left; None if a process uses it, or it is gone.

        Raises:
            SpoolError: when it is for another database, sealed under another key, or no spool file.
        """
        try:
            file = open_regular(path, "r+b")
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise_interruption(exc)
            raise SpoolError(f"{path} cannot be opened: {exc.strerror}", path=path) from exc
        try:
            with ExitStack() as unless_adopted:
                unless_adopted.enter_context(file)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its owner has just removed it, or has just created it.
                if not _is_at(path, file) or not os.fstat(file.fileno()).st_size:
                    return None
                header, note_at = Header.read(file, path)
                spool = cls(path, file, header, note_at, cipher)
                if os.fstat(file.fileno()).st_size > spool._end:
                    # Before the scan: a large file that is refused would be scanned repeatedly.
                    _check_header(header, database, cipher, path)
                spool._records, spool.damages = scan(file, spool._start, note_at)
                # By number: a batch that could not be stored may be spooled after later ones.
                spool._records.sort(key=lambda record: record.seq)
                spool._end = file.seek(0, os.SEEK_END)
                unless_adopted.pop_all()
                return spool
        except BlockingIOError:
            return None
        except OSError as exc:
            raise_interruption(exc)
            raise SpoolError(f"{path} cannot be read: {exc.strerror}", path=path) from exc

    def moved(self, header: Header, cipher: SpoolCipher | None) -> SpoolFile:
        """Rewrite the file under another header, with its remaining batches; closes this one.

        Atomic: a crash leaves the old file or the new one.

        Args:
            header: of the same writer, for another database or key.
            cipher: the new key's.
        Raises:
            OSError: when it cannot be written. The file is unchanged.
        """
        draft_path = self.path.with_suffix(DRAFT_SUFFIX)
        draft_path.unlink(missing_ok=True)
        with ExitStack() as unless_moved:
            unless_moved.callback(draft_path.unlink, missing_ok=True)
            file, note_at = _created(draft_path, header)
            unless_moved.enter_context(file)
            moved = SpoolFile(self.path, file, header, note_at, cipher)
            for record in self._records:
                batch = self._read(record)
                if batch is None:
                    self.damages.append(Damage(record.offset, HEAD_BYTES + record.length))
                else:
                    moved._keep(moved._write_record(batch, moved._sealed(batch)))
            os.fsync(file.fileno())
            if self.damages:  # kept, as by `remove`
                with suppress(FileExistsError):
                    self.damaged_path.hardlink_to(self.path)
            draft_path.rename(self.path)
            fsync_directory(self.path.parent)
            unless_moved.pop_all()
        self._file.close()
        return moved

    # -- reading and writing ------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of batches that wait."""
        return len(self._records)

    @property
    def damaged_path(self) -> Path:
        """The path under which a file with unreadable parts is kept."""
        return self.path.with_suffix(DAMAGED_SUFFIX)

    @property
    def rows(self) -> int:
        """The number of rows that wait."""
        return sum(record.rows for record in self._records)

    @property
    def size_bytes(self) -> int:
        """The size of the records on disk, including those that were replayed already."""
        return self._end - self._start

    def append(self, batch: Batch, max_bytes: int) -> None:
        """Write a batch to the disk, durably.

        Raises:
            SpoolFull: when the file would become longer than `max_bytes`.
            OSError: when it cannot be written. The file is unchanged.
        """
        payload = self._sealed(batch)
        if self.size_bytes + HEAD_BYTES + len(payload) > max_bytes:
            raise SpoolFull
        if not _is_at(self.path, self._file):  # else the record would be lost when it is closed
            raise OSError(errno.ENOENT, "the file was deleted while it was open")
        try:
            record = self._write_record(batch, payload)
            os.fsync(self._file.fileno())
        except BaseException:  # also Ctrl-C
            with suppress(OSError):  # a remnant is skipped because of its checksum or number
                self._file.truncate(self._end)
            raise
        self._keep(record)

    def _write_record(self, batch: Batch, payload: bytes) -> Record:
        self._file.seek(self._end)
        data, checksum = to_record(batch.seq, len(batch), payload)
        write_all(self._file, data)
        return Record(batch.seq, len(batch), self._end, len(payload), checksum)

    def _keep(self, record: Record) -> None:
        self._end += HEAD_BYTES + record.length
        self._records.append(record)
        self._records.sort(key=lambda entry: entry.seq)

    def first_seq(self) -> int | None:
        """Return the lowest number of a batch that waits; None if none does."""
        return self._records[0].seq if self._records else None

    def last_seq(self) -> int | None:
        """Return the highest number of a batch that waits; None if none does."""
        return self._records[-1].seq if self._records else None

    def first(self) -> Batch | None:
        """Return the batch with the lowest number; None if none waits.

        A batch that turns out to be unreadable is recorded in `damages` and skipped.
        """
        while self._records:
            record = self._records[0]
            batch = self._read(record)
            if batch is not None:
                return batch
            self.damages.append(Damage(record.offset, HEAD_BYTES + record.length))
            del self._records[0]
        return None

    def drop_first(self) -> None:
        """Forget the batch that `first` returned; empty the file after the last one."""
        del self._records[0]
        if not self._records and not self.damages:
            self._note(bytes(NOTE_BYTES))  # first: else the truncated part would count as missing
            self._file.truncate(self._start)
            os.fsync(self._file.fileno())
            self._end = self._start

    def _sealed(self, batch: Batch) -> bytes:
        data, place = batch.to_bytes(), self.header.place(batch.seq)
        return data if self._cipher is None else self._cipher.seal(data, place.encode())

    def _read(self, record: Record) -> Batch | None:
        data = record.payload(self._file)
        if self._cipher is not None and data is not None:
            data = self._cipher.open(data, self.header.place(record.seq).encode())
        if data is None:
            return None
        try:
            return Batch.from_bytes(record.seq, data)
        except ValueError:
            return None

    # -- closing ------------------------------------------------------------------------------

    def close(self) -> None:
        """Unlock the file and leave it for the next process."""
        self._file.close()

    def finish(self) -> None:
        """Record the file's length, so that a truncation is noticed, and close it."""
        with self._file, suppress(OSError):
            self._note(to_note(self._end))
            os.fsync(self._file.fileno())

    def _note(self, note: bytes) -> None:
        if self._note_at is not None:
            self._file.seek(self._note_at)
            write_all(self._file, note)

    def remove(self) -> None:
        """Delete the file and close it; a file with damages is logged and renamed instead.

        Raises:
            OSError: when the directory cannot be written. The file is closed.
        """
        try:
            for damage in self.damages:
                kept = self.damaged_path.name
                _log.warning("%s: %s; the file is kept as %s", self.path, damage, kept)
            if self.damages:
                self.path.rename(self.damaged_path)
            else:
                self.path.unlink(missing_ok=True)
            fsync_directory(self.path.parent)
        finally:
            self._file.close()


def _created(path: Path, header: Header) -> tuple[BinaryIO, int]:
    """Create a file with a header, durably; return it, locked, and the offset of its note."""
    file = os.fdopen(create_file(path), "r+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # a process that adopts files may hold it briefly
        first_line = header.to_bytes()
        write_all(file, first_line + bytes(NOTE_BYTES))
        os.fsync(file.fileno())
        fsync_directory(path.parent)
    except BaseException:
        file.close()
        raise
    return file, len(first_line)


def open_regular(path: Path, mode: str) -> BinaryIO:
    """Open a regular file unbuffered; opening a FIFO would block.

    Raises:
        OSError: when it cannot be opened, or is not a regular file.
    """
    found = path.stat().st_mode
    if not stat.S_ISREG(found):
        raise OSError(errno.EINVAL, "it is not a regular file: move it away")
    return path.open(mode, buffering=0)  # type: ignore[return-value]  # FileIO, which is one


def is_orphaned(path: Path) -> bool:
    """Tell whether no process uses a spool file; one that cannot be opened counts as such."""
    try:
        with open_regular(path, "rb") as file:
            return not is_locked(file)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise_interruption(exc)
        return True


def is_locked(file: BinaryIO) -> bool:
    """Tell whether a process uses an open spool file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the path still leads to the file: it may have been deleted or renamed."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _check_header(header: Header, database: str, cipher: SpoolCipher | None, path: Path) -> None:
    if header.database != database:
        raise SpoolError(
            f"{path} holds batches for another database: replay it there with `gproxy-storage "
            "spool replay`, or move it away",
            path=path,
        )
    if header.kid is not None and (cipher is None or cipher.kid != header.kid):
        raise SpoolError(
            f"{path} is sealed under the key {header.kid}, which this process does not have: set "
            "the DATABASE_SECRET_KEY under which it was written; if the database was decrypted "
            "since, only a backup of encryption_keys has that key",
            path=path,
        )


def fsync_directory(directory: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
