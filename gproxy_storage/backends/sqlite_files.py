"""Which files a SQLite connection has open, and whether they are still the ones at its path.

A file that is replaced, moved or deleted while it is open stays open: what is committed goes to
where nobody will look for it. Files are compared by device and inode, and never opened: closing one
would drop this process's SQLite locks.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Final, NamedTuple, TypeAlias

from ..interruptions import raise_interruption

_BESIDE: Final = ("-wal", "-shm")
_LOOK_BESIDE_S: Final = 1.0

FileId: TypeAlias = tuple[int, int] | None


class OpenFile(NamedTuple):
    """One file, and what it was when it was opened."""

    path: str
    file_id: FileId

    def is_current(self) -> bool:
        """Whether the file at the path is the one that is open; True where nobody can tell."""
        if self.file_id is None:
            return True
        try:
            return file_id(self.path) == self.file_id
        except OSError as exc:  # a network file system that does not answer, for one
            raise_interruption(exc)
            return True


class Connection(sqlite3.Connection):
    """A connection that knows its files: the database first, then those beside it."""

    files: tuple[OpenFile, ...] = ()
    looked_at = 0.0

    def is_current(self) -> bool:
        """Whether its files are those at their paths."""
        self.looked_at = time.monotonic()
        return all(file.is_current() for file in self.files)

    def is_fit_to_read(self) -> bool:
        """The same, but for the files beside the database only once a second.

        Three system calls would be a fifth of a login by key; a write looks at all of them.
        """
        if time.monotonic() - self.looked_at > _LOOK_BESIDE_S:
            return self.is_current()
        return not self.files or self.files[0].is_current()

    def shares_database(self, path: str) -> bool:
        """Whether the file at the path is its database."""
        return any(file.path == path and file.is_current() for file in self.files[:1])


def file_id(path: str) -> FileId:
    """Return a file's device and inode, None where there is none.

    Raises:
        OSError: when nobody can tell.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def known_id(path: str) -> FileId:
    """Return a file's device and inode, None where there is none or nobody can tell."""
    try:
        return file_id(path)
    except OSError as exc:
        raise_interruption(exc)
        return None


def files_of(path: str) -> tuple[OpenFile, ...]:
    """Return what lies at the path of a database that was just opened, and beside it."""
    real = os.path.realpath(path)  # SQLite puts the others beside the file, not beside a link
    beside = [real + ending for ending in _BESIDE]
    return OpenFile(path, known_id(path)), *(OpenFile(each, known_id(each)) for each in beside)
