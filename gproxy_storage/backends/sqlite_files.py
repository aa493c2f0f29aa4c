"""Which files a SQLite connection has open, and whether they are still the ones at its path.

A file that is replaced, moved or deleted while it is open stays open, and commits to it are lost to
everybody else. Files are compared by device and inode, and never opened: closing one would drop
this process's SQLite locks.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Final, NamedTuple, TypeAlias

from ..interruptions import raise_interruption

_SIDE_FILES: Final = ("-wal", "-shm")
_SIDE_FILES_CHECK_S: Final = 1.0

FileId: TypeAlias = tuple[int, int] | None


class OpenFile(NamedTuple):
    """One file, with its device and inode when it was opened."""

    path: str
    file_id: FileId

    def is_current(self) -> bool:
        """Whether the file at the path is the one that is open; True if that is unknown."""
        if self.file_id is None:
            return True
        try:
            status = os.stat(self.path)  # noqa: PTH116 - as in `file_id`, a call of which costs, too
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as exc:  # for example a network file system that does not answer
            raise_interruption(exc)
            return True
        return (status.st_dev, status.st_ino) == self.file_id


class Connection(sqlite3.Connection):
    """A connection that knows its files: the database first, then its -wal and -shm."""

    files: tuple[OpenFile, ...] = ()
    checked_at = 0.0

    def is_current(self) -> bool:
        """Whether its files are those at their paths."""
        self.checked_at = time.monotonic()
        return all(file.is_current() for file in self.files)

    def is_fit_to_read(self) -> bool:
        """Like `is_current`, but check -wal and -shm only once a second.

        Three system calls would be a fifth of a login by key; a write checks all files.
        """
        if time.monotonic() - self.checked_at > _SIDE_FILES_CHECK_S:
            return self.is_current()
        return not self.files or self.files[0].is_current()

    def shares_database(self, path: str) -> bool:
        """Whether the file at the path is its database."""
        return any(file.path == path and file.is_current() for file in self.files[:1])


def file_id(path: str) -> FileId:
    """Return a file's device and inode; None if it does not exist.

    Raises:
        OSError: when that is unknown.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def known_id(path: str) -> FileId:
    """Return a file's device and inode; None if it does not exist, or that is unknown."""
    try:
        return file_id(path)
    except OSError as exc:
        raise_interruption(exc)
        return None


def files_of(path: str) -> tuple[OpenFile, ...]:
    """Return the files of a database that was just opened: itself, -wal and -shm."""
    real = os.path.realpath(path)  # SQLite puts -wal and -shm next to the file, not next to a link
    side_files = [real + ending for ending in _SIDE_FILES]
    return OpenFile(path, known_id(path)), *(OpenFile(each, known_id(each)) for each in side_files)
