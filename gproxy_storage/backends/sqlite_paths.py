"""Paths of SQLite files: their URIs, creating a file, and why one cannot be opened."""

from __future__ import annotations

import os
import sqlite3
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ..dsn import Dsn
from ..interruptions import raise_interruption
from ..private_files import create_file


def inspection_dsn(dsn: Dsn) -> Dsn:
    """Return a DSN for the same data, which can be opened without changing a SQLite file.

    An empty file, or one that opening would create, becomes an empty database in memory. Call it
    before the file is open in this process.
    """
    if dsn.backend != "sqlite" or dsn.in_memory or dsn.mode == "ro":
        return dsn
    path = Path(dsn.path)
    if is_irregular(path):
        return dsn  # `open_connection` refuses it
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except FileNotFoundError:
        return Dsn.parse("sqlite::memory:") if dsn.mode == "rwc" else dsn
    except OSError as exc:
        raise_interruption(exc)
        return dsn  # SQLite says why it cannot open it
    if not header:
        return Dsn.parse("sqlite::memory:")
    # https://sqlite.org/fileformat2.html: 2 is write-ahead logging, whose -wal and -shm a read-only
    # connection would leave behind; a read-write one would switch any other journal mode to it.
    is_wal = header[18:20] == b"\2\2"
    return dsn.replace(mode="rw" if is_wal else "ro")


def is_irregular(path: Path) -> bool:
    """Tell whether the path is a device or a FIFO, on which SQLite would block."""
    with suppress(OSError):  # absent, or SQLite says why it cannot open it
        mode = path.stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def file_uri(dsn: Dsn) -> str:
    """Return the file: URI that SQLite opens (https://sqlite.org/uri.html)."""
    if dsn.in_memory:
        # With cache=shared a reader fails at once with "table is locked"; memdb waits.
        return f"file:/gproxy-{uuid.uuid4().hex}?vfs=memdb"
    # Not rwc: `create_database_file` creates it, and only for the first connection.
    options = {"mode": "rw" if dsn.mode == "rwc" else dsn.mode, **dsn.parameters}
    query = "&".join(f"{name}={quote(value)}" for name, value in options.items())
    # Without the empty authority, a path that begins with two slashes would name a host.
    return f"file://{quote(absolute(dsn.path))}?{query}"


def absolute(path: str) -> str:
    """Return the path from the root; unchanged if there is no working directory."""
    # Neither resolved nor normalised: a link's target may change, and ".." is relative to it.
    try:
        return str(Path.cwd() / path)
    except OSError as exc:  # no working directory
        raise_interruption(exc)
        return path


def create_database_file(path: Path) -> None:
    """Create the file readable by its owner only; SQLite gives the WAL the same mode."""
    try:
        # Never open an existing file: closing it would drop this process's SQLite locks.
        if not path.exists():
            os.close(create_file(path))
    except OSError as exc:  # another process created it meanwhile, or SQLite says what is wrong
        raise_interruption(exc)


def open_problem(dsn: Dsn, exc: Exception) -> str:
    """Return why SQLite could not open the file, which its own message does not say."""
    path = Path(dsn.path)
    code, directory, absent = getattr(exc, "sqlite_errorcode", None), path.parent, not path.exists()
    readable = os.R_OK if dsn.mode == "ro" else os.R_OK | os.W_OK
    problems = (
        (code == sqlite3.SQLITE_NOTADB, "the file is not a SQLite database"),
        (path.is_dir(), "the path is a directory; name a file in it"),
        (is_irregular(path), "the path is not a regular file; name one"),
        (not directory.is_dir(), f"there is no directory {directory}; create it"),
        (
            dsn.mode == "ro" and os.access(path, os.R_OK) and not os.access(directory, os.W_OK),
            "a file with write-ahead logging is read through a -shm file next to it, and the "
            f"directory {directory} cannot be written: let this user write there, or add "
            "?immutable=1 if nothing writes the file meanwhile",
        ),
        (absent and dsn.mode != "rwc", "there is no such file; add ?mode=rwc to create it"),
        (absent, f"the directory {directory} cannot be written; check its owner and mode"),
        (
            not os.access(path, readable),
            "the file cannot be read or written; check its owner and mode, or use ?mode=ro",
        ),
    )
    return next((problem for holds, problem in problems if holds), str(exc))
