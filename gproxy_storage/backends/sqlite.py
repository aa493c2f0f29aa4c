"""SQLite, through the standard library: one file, or a private database in memory."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import sqlite3
import stat
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import peewee
from peewee import SQL, Case, fn

from ..dsn import Dsn
from ..errors import ConnectError, WriteError
from ..forks import never_finalise
from ..interruptions import raise_interruption
from ..money import NANO
from ..private_files import create_file
from ..row_times import time_text
from .bulk import BulkTable, Row, parts
from .failures import Failure
from .sqlite_buckets import MOST_RANGES, range_sums, time_ranges
from .sqlite_files import Connection, FileId, OpenFile, files_of, known_id
from .sqlite_schema import BUSY_TIMEOUT_S, SqliteSchema
from .sqlite_session import SCRIPT
from .values import LEAST_MONEY, MOST_MONEY, bucket_shift

_log = logging.getLogger(__name__)

_FORKED_IN_USE = (
    "this process was forked while a connection to the SQLite file was in use, and must not open "
    "it: fork outside of sessions, or start a new program in the child"
)

# SQLite allows 32,766 parameters; more rows per statement are no faster.
_ROWS_A_STATEMENT = 250

_OPENINGS = 5

_PRIMARY_CODE = 0xFF  # the low byte of SQLite's extended codes is the primary code

_FAILURES = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: Failure.CONFLICT,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: Failure.CONFLICT,
    sqlite3.SQLITE_CONSTRAINT_ROWID: Failure.CONFLICT,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: Failure.REFERENCE,
    sqlite3.SQLITE_CONSTRAINT: Failure.VALUE,
    sqlite3.SQLITE_MISMATCH: Failure.VALUE,
    sqlite3.SQLITE_TOOBIG: Failure.VALUE,
    sqlite3.SQLITE_BUSY: Failure.TRANSIENT,
    sqlite3.SQLITE_LOCKED: Failure.TRANSIENT,
    sqlite3.SQLITE_READONLY: Failure.READ_ONLY,
    sqlite3.SQLITE_PERM: Failure.DENIED,
    sqlite3.SQLITE_FULL: Failure.EXHAUSTED,
    sqlite3.SQLITE_IOERR: Failure.EXHAUSTED,
    sqlite3.SQLITE_NOMEM: Failure.EXHAUSTED,
    sqlite3.SQLITE_CORRUPT: Failure.EXHAUSTED,
    sqlite3.SQLITE_NOTADB: Failure.EXHAUSTED,
    sqlite3.SQLITE_CANTOPEN: Failure.EXHAUSTED,
    sqlite3.SQLITE_INTERRUPT: Failure.EXHAUSTED,
}


# Files, by device and inode, that a connection copied by fork has open in this process. SQLite
# would take the parent's locks for its own: the process that closes last would delete the other's
# WAL.
_barred_files: set[FileId] = set()


class SqliteBackend(SqliteSchema, peewee.SqliteDatabase):
    """SQLite through the standard library's driver."""

    name = "sqlite"
    driver_error = sqlite3.Error
    only_reads = "check the DSN's mode and the file's permissions"
    replaces_read_only = False
    field_types = {  # noqa: RUF012 - Peewee's interface, read only
        **peewee.SqliteDatabase.field_types,
        "DATETIME": "TEXT",
        "BIGINT": "BIGINT",
        "BOOL": "BOOLEAN",
        "AUTOINCREMENT": "AUTOINCREMENT",  # ids of deleted rows are never given out again
    }

    def __init__(self, database: Dsn) -> None:
        dsn = database
        self.writes = dsn.mode != "ro"  # which immutable implies
        super().__init__(
            dsn,
            _uri(dsn),
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,  # the pool lends a connection to one thread at a time
            returning_clause=True,
            # Else a transaction that reads first and writes later would fail instead of waiting.
            lock_type="IMMEDIATE" if self.writes else None,
            factory=Connection,
        )
        self._warned_of_journal = False
        # Independent of later changes of the working directory.
        self._path = _absolute(dsn.path)
        self._was_opened = False
        self._replaced: set[tuple[OpenFile, ...]] = set()
        self._connections: set[Connection] = set()
        # A database in memory lives as long as one connection to it.
        self._anchor = self.open_connection() if dsn.in_memory else None

    def open_connection(self) -> Connection:
        if self.dsn.in_memory:
            return self._open()
        if _barred_files and known_id(self._path) in _barred_files:
            raise ConnectError(_FORKED_IN_USE, dsn=str(self.dsn))
        if _is_irregular(Path(self._path)):
            raise self.connect_error(sqlite3.OperationalError("not a regular file"))
        self._close_connections_without_wal()
        if self.dsn.mode == "rwc" and not self._was_opened:
            _create_file(Path(self._path))
        for _ in range(_OPENINGS):
            before = known_id(self._path)
            conn = self._open()
            conn.files = files_of(self._path)
            if conn.files[0].file_id == before:
                self._connections.add(conn)
                self._was_opened = True
                return conn
            self.close_connection(conn)  # replaced meanwhile: unknown which file is open
        raise ConnectError(
            f"cannot open {self.dsn}: the file was replaced during each of {_OPENINGS} attempts",
            dsn=str(self.dsn),
        )

    def _open(self) -> Connection:
        conn: Connection = super().open_connection()
        return conn

    def close_connection(self, conn: Connection) -> None:
        super().close_connection(conn)
        self._connections.discard(conn)

    def is_current(self, conn: Connection) -> bool:
        return conn.is_fit_to_read() or self._is_current(conn)

    def _is_current(self, conn: Connection) -> bool:
        if conn.is_current():
            return True
        if conn.files not in self._replaced:
            self._replaced.add(conn.files)
            _log.warning(
                "%s: the file, or its -wal or -shm, was replaced, moved or deleted while it was "
                "open: its connections are closed, and the file that is there now is opened",
                self.dsn,
            )
        return False

    def _close_connections_without_wal(self) -> None:
        """Prevent two connections to one file from using different -wal or -shm files.

        The last connection to close writes the content of its own -wal into the file.
        """
        if all(conn.is_current() for conn in list(self._connections)):
            return
        self.pool.close_idle()
        if any(
            conn.shares_database(self._path) and not conn.is_current()
            for conn in list(self._connections)
        ):
            raise ConnectError(
                f"cannot open {self.dsn}: its -wal or -shm was deleted while it was open; try "
                "again when the sessions in progress have ended",
                dsn=str(self.dsn),
            )

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        conn = self._state.conn  # in a long session it was lent, and checked, long ago
        if conn is not None and not self._is_current(conn):
            self.replace_connection()
        return super().begin(*args, **kwargs)

    def commit(self) -> Any:
        conn = self._state.conn
        if self.has_transaction(conn) and not self._is_current(conn):
            raise WriteError(
                f"{self.dsn}: the file was replaced, moved or deleted during the transaction: "
                "nothing was written; run it again"
            )
        return super().commit()

    def tune(self, conn: sqlite3.Connection) -> None:
        conn.executescript(SCRIPT)
        if not self.writes or self.dsn.in_memory:
            _read(conn)
            return
        mode = _set_wal(conn)
        _read(conn)
        # Without write-ahead logging, a power failure under 'normal' may corrupt the file.
        conn.execute(f"PRAGMA synchronous = {'normal' if mode == 'wal' else 'full'}")
        if mode != "wal" and not self._warned_of_journal:
            self._warned_of_journal = True
            _log.warning(
                "%s: the journal mode is %r, because the file system or VFS does not support "
                "write-ahead logging (WAL): each commit waits for the disk, and readers and "
                "writers block one another",
                self.dsn,
                mode,
            )

    def reset_connection(self, conn: sqlite3.Connection) -> bool:
        try:
            if conn.in_transaction:
                conn.rollback()
        except sqlite3.Error:
            return False
        return True

    def has_transaction(self, conn: sqlite3.Connection) -> bool:
        try:
            return conn.in_transaction
        except sqlite3.Error:  # a closed connection
            return False

    def close_all(self) -> None:
        super().close_all()
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    def _begin_in_child(self) -> None:
        self._connections = set()
        super()._begin_in_child()
        if self.dsn.in_memory:
            self.pool.close(
                "this process was forked, and a database in memory stays with the parent: close "
                "this storage in the child and open a new one"
            )

    def disown_connection(self, conn: Connection, *, in_use: bool) -> None:
        if in_use or self.dsn.in_memory:
            super().disown_connection(conn, in_use=in_use)
            return
        # Closed before the child opens its own: SQLite would take the parent's locks for the
        # child's, and the process that closes last would delete the other's WAL. The parent's
        # locks stay.
        if sys.version_info >= (3, 12):
            conn.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
        self.close_connection(conn)
        never_finalise(conn)  # so that no new connection gets its id()

    def bar_child(self) -> None:
        if not self.dsn.in_memory:
            _barred_files.add(known_id(self._path))
            self.pool.close(_FORKED_IN_USE)

    def version_text(self) -> str:
        return sqlite3.sqlite_version

    def connect_problem(self, exc: Exception) -> str:
        try:
            if self._was_opened and known_id(self._path) is None:
                return "the file was moved or deleted while it was open: put it back, or start anew"
            return _open_problem(self.dsn, exc)
        except OSError as denied:  # no permission to search a parent directory
            return f"{denied.strerror}: {denied.filename}"

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        message = str(error)
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return (Failure.LOST if "closed database" in message else Failure.OTHER), None
        found = _FAILURES.get(code) or _FAILURES.get(code & _PRIMARY_CODE) or Failure.OTHER
        name = re.search(r"constraint failed: (.+)$", message)
        missing = re.search(
            r"no such (?:table|column): ([\w.]+)|has no column named (\w+)", message
        )
        if missing:
            return Failure.SCHEMA, missing[1] or missing[2]
        return found, self.known_name(name[1] if name else None)

    def reason(self, error: Exception) -> str:
        return getattr(error, "sqlite_errorname", type(error).__name__)

    def abort(self, conn: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            conn.interrupt()

    # -- writing ------------------------------------------------------------------------------

    @contextmanager
    def bulk_transaction(self) -> Iterator[None]:
        # A statement of several rows first copies each page that it changes, to a temporary file
        # by default, which takes a third of its time. Only here: a large sort, index or VACUUM
        # would not fit into memory.
        conn = self.connection()
        try:
            conn.execute("PRAGMA temp_store = memory")
            with self.atomic():
                yield
        finally:
            with suppress(sqlite3.Error):  # the connection was closed
                conn.execute("PRAGMA temp_store = default")

    def _bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        # Not executemany: it releases the GIL at every row and waits to get it back; next to one
        # busy thread that is 8 times slower.
        cursor = self.cursor()
        for part in parts(rows, _ROWS_A_STATEMENT):
            sql = _insert_sql(table, len(part))
            with self._noted(sql):
                cursor.execute(sql, list(chain.from_iterable(part)))

    def overwrite_deleted(self) -> None:
        self.execute_sql("PRAGMA secure_delete = on")

    def scrub(self) -> bool:
        try:
            self.execute_sql("VACUUM")
            busy, _, _ = self.query("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        except peewee.OperationalError:  # the file is in use, or the disk is full
            return False
        return not busy

    # -- values -------------------------------------------------------------------------------

    def time_to_db(self, at: datetime) -> str:
        return time_text(at)

    def time_from_db(self, value: Any) -> datetime:
        at = datetime.fromisoformat(value)
        if at.tzinfo is UTC:
            return at
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    # The stored text itself: SQLx writes up to nine digits, and the comparison uses all of them.

    def time_to_key(self, stored: Any) -> str:
        return str(stored)

    def time_from_key(self, key: str) -> str:
        datetime.fromisoformat(key)
        return key

    # -- expressions --------------------------------------------------------------------------

    def _many(self, values: list[Any]) -> peewee.SQL:
        # SQLite's limit is 32,766 parameters, or another set at compile time.
        return SQL("(SELECT value FROM json_each(?))", [json.dumps(values, ensure_ascii=False)])

    def contains(self, column: peewee.Field[Any], text: str) -> peewee.Expression:
        return fn.INSTR(column, text) > 0  # unlike LIKE, it is case-sensitive

    def time_bucket(self, column: peewee.Field[Any], seconds: int) -> peewee.ColumnBase:
        shift = bucket_shift(seconds)
        # Without the fraction: STRFTIME rounds to milliseconds, .9996 up to the next second.
        unix = fn.STRFTIME("%s", fn.SUBSTR(column, 1, 19)).cast("INTEGER")
        return (unix + shift) / seconds * seconds - shift

    def sums_by_time(
        self,
        rows: Any,
        column: peewee.Field[Any],
        period: tuple[datetime, datetime],
        starts: range,
        sums: Sequence[Any],
    ) -> Iterable[tuple[Any, ...]]:
        if len(starts) > MOST_RANGES:
            return super().sums_by_time(rows, column, period, starts, sums)
        first, last = map(column.db_value, period)
        query = range_sums(rows, column, time_ranges(first, last, starts), sums)
        found = query.bind(self).tuples()
        return [
            (starts[place], *map(_read_sum, json.loads(packed)))
            for place, packed in found
            if packed
        ]

    def month_number(self, column: peewee.Field[Any]) -> peewee.ColumnBase:
        year, month = fn.SUBSTR(column, 1, 4), fn.SUBSTR(column, 6, 2)
        return year.cast("INTEGER") * 12 + month.cast("INTEGER") - 1

    int64 = "INTEGER"

    def money_sum(self, column: Any) -> Any:
        # In two parts, as text: a SUM of integers fails beyond 64 bits. Comparing, and only then
        # calling MIN and MAX, takes two thirds of the time.
        within = column.between(LEAST_MONEY, MOST_MONEY)
        whole = Case(None, [(within, self._whole(column))], self._bounded(column))
        nano = Case(None, [(within, self._nano(column))])
        return fn.PRINTF("%d %d", fn.SUM(whole), fn.SUM(nano)).converter(_joined)

    def _whole(self, number: Any) -> Any:
        return number.cast("INTEGER")

    def _nearest(self, number: Any) -> Any:
        # ROUND rounds halves away from 0. From 2**52 on doubles have no fractional digits, so the
        # addition rounds half-even, as the other databases' ROUND does.
        shift = SQL(str(3 * 2**51))
        return number + shift - shift

    def _bounded(self, number: Any) -> Any:
        return fn.MAX(LEAST_MONEY, fn.MIN(number, MOST_MONEY))


def _joined(sums: str) -> int:
    wholes, nano = sums.split()
    return int(wholes) * NANO + int(nano)


def _read_sum(found: Any) -> Any:
    return _joined(found) if isinstance(found, str) else found  # only money's is text


@lru_cache(maxsize=1024)
def _insert_sql(table: BulkTable, rows: int) -> str:
    row = f"({', '.join('?' * len(table.columns))})"
    return f"INSERT INTO {table.into} VALUES {', '.join([row] * rows)}"  # noqa: S608 - our names


def inspection_dsn(dsn: Dsn) -> Dsn:
    """Return a DSN for the same data, which can be opened without changing a SQLite file.

    An empty file, or one that opening would create, becomes an empty database in memory. Call it
    before the file is open in this process.
    """
    if dsn.backend != "sqlite" or dsn.in_memory or dsn.mode == "ro":
        return dsn
    path = Path(dsn.path)
    if _is_irregular(path):
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


def _is_irregular(path: Path) -> bool:
    """Tell whether the path is a device or a FIFO, on which SQLite would block."""
    with suppress(OSError):  # absent, or SQLite says why it cannot open it
        mode = path.stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def _uri(dsn: Dsn) -> str:
    """Return the file: URI that SQLite opens (https://sqlite.org/uri.html)."""
    if dsn.in_memory:
        # With cache=shared a reader fails at once with "table is locked"; memdb waits.
        return f"file:/gproxy-{uuid.uuid4().hex}?vfs=memdb"
    # Not rwc: `_create_file` creates it, and only for the first connection.
    options = {"mode": "rw" if dsn.mode == "rwc" else dsn.mode, **dsn.parameters}
    query = "&".join(f"{name}={quote(value)}" for name, value in options.items())
    # Without the empty authority, a path that begins with two slashes would name a host.
    return f"file://{quote(_absolute(dsn.path))}?{query}"


def _absolute(path: str) -> str:
    # Neither resolved nor normalised: a link's target may change, and ".." is relative to it.
    try:
        return str(Path.cwd() / path)
    except OSError as exc:  # no working directory
        raise_interruption(exc)
        return path


def _create_file(path: Path) -> None:
    """Create the file readable by its owner only; SQLite gives the WAL the same mode."""
    try:
        # Never open an existing file: closing it would drop this process's SQLite locks.
        if not path.exists():
            os.close(create_file(path))
    except OSError as exc:  # another process created it meanwhile, or SQLite says what is wrong
        raise_interruption(exc)


def _read(conn: sqlite3.Connection) -> None:
    """Read once: refuses a file that is no database, and creates -wal and -shm."""
    conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def _set_wal(conn: sqlite3.Connection) -> str:
    """Switch to write-ahead logging, as others may now; return the mode, another if unsupported."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = conn.execute("PRAGMA journal_mode = wal").fetchone()
        except sqlite3.OperationalError as exc:
            busy = exc.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - spreads retries, no secret
        else:
            return str(mode)


def _open_problem(dsn: Dsn, exc: Exception) -> str:
    """Return why SQLite could not open the file, which its own message does not say."""
    path = Path(dsn.path)
    code, directory, absent = getattr(exc, "sqlite_errorcode", None), path.parent, not path.exists()
    readable = os.R_OK if dsn.mode == "ro" else os.R_OK | os.W_OK
    problems = (
        (code == sqlite3.SQLITE_NOTADB, "the file is not a SQLite database"),
        (path.is_dir(), "the path is a directory; name a file in it"),
        (_is_irregular(path), "the path is not a regular file; name one"),
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
