"""SQLite: one file, or a private database in memory."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import peewee

from ..dsn import Dsn
from ..errors import ConnectError, SyncFailed
from .base import Backend
from .catalog import CatalogRows, ColumnRow, ForeignKeyRow, IndexRow
from .failures import Failure

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another connection's write lock."""

_PRIMARY_CODE = 0xFF  # SQLite's extended codes keep the primary one in their low byte

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
}


_AFFINITIES = (
    (("BOOL",), "boolean"),
    (("INT",), "integer"),
    (("CHAR", "CLOB", "TEXT"), "text"),
    (("BLOB",), "blob"),
    (("REAL", "FLOA", "DOUB"), "real"),
)

# A view that is broken would fail the whole query if it were asked for its columns.
_COLUMNS = """
    SELECT s.name, s.type, c.name, c.type, c."notnull" = 0 AND c.pk = 0,
        c.dflt_value IS NOT NULL, c.hidden IN (2, 3), c.pk > 0 AND upper(c.type) = 'INTEGER'
    FROM sqlite_schema AS s
    LEFT JOIN pragma_table_xinfo(CASE WHEN s.type = 'table' THEN s.name END) AS c
    WHERE s.name IN (SELECT value FROM json_each(?)) AND s.type IN ('table', 'view')
    ORDER BY s.name, c.cid"""

_INDEXES = """
    SELECT t.value, l.name, x.name, l."unique", l.origin = 'pk', x."desc", l.partial, 0, 1
    FROM json_each(?) AS t
    JOIN pragma_index_list(t.value) AS l
    JOIN pragma_index_xinfo(l.name) AS x ON x.key = 1
    UNION ALL
    SELECT tbl_name, name, NULL, 0, 0, 0, 0, 0, 1
    FROM sqlite_schema
    WHERE type = 'index' AND name IN (SELECT value FROM json_each(?))
        AND tbl_name NOT IN (SELECT value FROM json_each(?))"""

_FOREIGN_KEYS = """
    SELECT t.value, t.value || '/' || f.id, f."from", f."table", f."to", f.on_delete
    FROM json_each(?) AS t
    JOIN pragma_foreign_key_list(t.value) AS f
    ORDER BY t.value, f.id, f.seq"""


class SqliteBackend(Backend, peewee.SqliteDatabase):
    """SQLite through the standard library's driver."""

    name = "sqlite"
    driver_error = sqlite3.Error
    field_types = {  # noqa: RUF012 - Peewee's interface, read only
        **peewee.SqliteDatabase.field_types,
        "DATETIME": "TEXT",
        "BIGINT": "BIGINT",
        "BOOL": "BOOLEAN",
        "AUTOINCREMENT": "AUTOINCREMENT",  # ids of deleted rows are never given out again
        "GENERATED": "VIRTUAL",  # ALTER TABLE cannot add a STORED one
    }

    def __init__(self, database: Dsn) -> None:
        dsn = database
        self._writes = dsn.mode != "ro"  # which immutable implies
        super().__init__(
            dsn,
            _uri(dsn),
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,  # the pool lends a connection to one thread at a time
            returning_clause=True,
            # A transaction that reads first and writes later would fail instead of waiting.
            lock_type="IMMEDIATE" if self._writes else None,
        )
        self.survives_fork = not dsn.in_memory
        # A database in memory lives as long as one connection to it.
        self._anchor = self.open_connection() if dsn.in_memory else None

    def open_connection(self) -> sqlite3.Connection:
        if self.dsn.mode == "rwc":
            _create_file(Path(self.dsn.path))
        conn: sqlite3.Connection = super().open_connection()
        return conn

    def tune(self, conn: sqlite3.Connection) -> None:
        conn.execute("PRAGMA foreign_keys = on")
        if not self._writes or self.dsn.in_memory:
            # The first read, so that a file that is no database is refused here.
            conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return
        _set_wal(conn)
        conn.execute("PRAGMA synchronous = normal")

    def reset_connection(self, conn: sqlite3.Connection) -> bool:
        try:
            if conn.in_transaction:
                conn.rollback()
        except sqlite3.Error:
            return False
        return True

    def close_all(self) -> None:
        super().close_all()
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    def version_text(self) -> str:
        return sqlite3.sqlite_version

    def connect_error(self, exc: Exception) -> ConnectError:
        try:
            problem = _open_problem(self.dsn, exc)
        except OSError as denied:  # a directory above the file that may not be searched
            problem = f"{denied.strerror}: {denied.filename}"
        return ConnectError(f"cannot open {self.dsn}: {problem}", dsn=str(self.dsn))

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
        return found, name[1] if name else None

    def reason(self, error: Exception) -> str:
        return getattr(error, "sqlite_errorname", type(error).__name__)

    # -- values -------------------------------------------------------------------------------

    def time_to_db(self, at: datetime) -> str:
        return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def time_from_db(self, value: Any) -> datetime:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    # -- schema -------------------------------------------------------------------------------

    @contextmanager
    def sync_lock(self, timeout_s: float) -> Iterator[None]:
        deadline = time.monotonic() + timeout_s
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.atomic("IMMEDIATE"))
                    break
                except peewee.OperationalError as exc:
                    if self.classify(exc) is not Failure.TRANSIENT:
                        raise
                    if time.monotonic() > deadline:
                        raise SyncFailed(
                            f"sync waited {timeout_s:g} s for another connection's write "
                            f"transaction on {self.dsn}: end it (`fuser` names the processes) "
                            "and start again"
                        ) from exc
            yield

    can_add_foreign_keys = False
    also_holds = {"boolean": frozenset({"integer"})}  # noqa: RUF012 - read only

    def read_catalog(self, tables: Sequence[str], index_names: Sequence[str]) -> CatalogRows:
        ours = json.dumps(tables)
        names = json.dumps([*tables, *index_names])
        return CatalogRows(
            [ColumnRow(*row) for row in self.query(_COLUMNS, (names,))],
            [IndexRow(*row) for row in self.query(_INDEXES, (ours, json.dumps(index_names), ours))],
            [ForeignKeyRow(*row) for row in self.query(_FOREIGN_KEYS, (ours,))],
        )

    def type_family(self, column_type: str) -> str:
        """By the rules of https://sqlite.org/datatype3.html, section 3.1, with BOOLEAN apart."""
        declared = column_type.upper()
        for words, family in _AFFINITIES:
            if any(word in declared for word in words):
                return family
        return "numeric" if declared else "blob"


def _uri(dsn: Dsn) -> str:
    """Return the file: URI that SQLite opens (https://sqlite.org/uri.html)."""
    if dsn.in_memory:
        # With cache=shared a reader fails at once with "table is locked"; memdb waits.
        return f"file:/gproxy-{uuid.uuid4().hex}?vfs=memdb"
    options = {"mode": dsn.mode, **dsn.parameters}
    return f"file:{quote(dsn.path)}?" + "&".join(f"{k}={quote(v)}" for k, v in options.items())


def _create_file(path: Path) -> None:
    """Create the file readable by its owner only; SQLite gives the WAL the same mode."""
    if path.exists():
        # Never open an existing file: closing it would drop this process's SQLite locks.
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return  # created meanwhile by another process, or SQLite says why it cannot open it


def _set_wal(conn: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, which several first openers at once may race for."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            conn.execute("PRAGMA journal_mode = wal").fetchone()
        except sqlite3.OperationalError as exc:
            busy = exc.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - spreads retries, no secret
        else:
            return


def _open_problem(dsn: Dsn, exc: Exception) -> str:
    """Say why SQLite could not open the file, which its own message does not."""
    path = Path(dsn.path)
    readable = os.R_OK if dsn.mode == "ro" else os.R_OK | os.W_OK
    problems = (
        (
            getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB,
            "the file is not a SQLite database",
        ),
        (path.is_dir(), "the path is a directory; name a file in it"),
        (not path.parent.is_dir(), f"there is no directory {path.parent}; create it"),
        (
            not path.exists() and dsn.mode != "rwc",
            "there is no such file; add ?mode=rwc to create it",
        ),
        (
            not path.exists(),
            f"the directory {path.parent} cannot be written; check its owner and mode",
        ),
        (
            not os.access(path, readable),
            "the file cannot be read or written; check its owner and mode, or use ?mode=ro",
        ),
    )
    return next((problem for holds, problem in problems if holds), str(exc))
