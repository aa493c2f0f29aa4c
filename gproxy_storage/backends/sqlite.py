"""SQLite, through the standard library: one file, or a private database in memory."""

from __future__ import annotations

import logging
import random
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import peewee

from ..dsn import Dsn
from ..errors import ConnectError, WriteError
from ..forks import never_finalise
from .bulk import BulkTable, Row, parts
from .failures import Failure
from .sqlite_files import Connection, FileId, OpenFile, files_of, known_id
from .sqlite_paths import absolute, create_database_file, file_uri, is_irregular, open_problem
from .sqlite_schema import BUSY_TIMEOUT_S, SqliteSchema
from .sqlite_session import SCRIPT
from .sqlite_values import SqliteValues

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


class SqliteBackend(SqliteValues, SqliteSchema, peewee.SqliteDatabase):
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
            file_uri(dsn),
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
        self._path = absolute(dsn.path)
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
        if is_irregular(Path(self._path)):
            raise self.connect_error(sqlite3.OperationalError("not a regular file"))
        self._close_connections_without_wal()
        if self.dsn.mode == "rwc" and not self._was_opened:
            create_database_file(Path(self._path))
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
            return open_problem(self.dsn, exc)
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


@lru_cache(maxsize=1024)
def _insert_sql(table: BulkTable, rows: int) -> str:
    row = f"({', '.join('?' * len(table.columns))})"
    return f"INSERT INTO {table.into} VALUES {', '.join([row] * rows)}"  # noqa: S608 - our names


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
