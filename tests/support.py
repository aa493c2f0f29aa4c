"""What tests of several subjects share: counted statements, schemas made by hand, children."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peewee
import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.backends.bulk import Row
from gproxy_storage.database import db_from_dsn, session
from gproxy_storage.fields import (
    BooleanField,
    BytesField,
    CharField,
    HeadersField,
    TextField,
    UtcDateTimeField,
)
from gproxy_storage.log_rows import LogTable, keyword
from gproxy_storage.models import TABLES, EncryptionKeys
from tests import servers


def _quick_on(*names: str) -> pytest.MarkDecorator:
    rest = [name for name in servers.BACKENDS if name not in names]
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in rest]
    return pytest.mark.parametrize("backend", [*names, *slow], indirect=True)


ONE_BACKEND = _quick_on("sqlite")
SOME_BACKENDS = _quick_on("sqlite", "postgres")
"""Marks a costly test that `make test` runs on one backend, or two; `make soak` runs the others."""

SQLITE_ALONE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""Marks a test of code that is the same on all backends: refusals for which none is asked."""

_TESTS = Path(__file__).parent
_DDL = re.compile(r"\s*(CREATE|ALTER|DROP|RENAME|TRUNCATE|COMMENT|REINDEX)\b", re.IGNORECASE)
_LOCK = re.compile(
    r"pg_(try_)?advisory|GET_LOCK|LOCK TABLE|BEGIN|lock_timeout|lock_wait_timeout|busy_timeout"
    r"|FOR (UPDATE|SHARE)|LOCK IN SHARE",
    re.IGNORECASE,
)


PATIENCE_S = 600.0
"""How long a thread, a child or a condition may take before a test gives it up: for faults only."""


@dataclass
class Statements:
    """The SQL that a database was sent, in order; BEGIN too, which Peewee's hooks pass by."""

    sent: list[str] = field(default_factory=list)

    @property
    def ddl(self) -> list[str]:
        """Those that change the schema."""
        return [sql for sql in self.sent if _DDL.match(sql)]

    @property
    def locks(self) -> list[str]:
        """Those that take a lock, or say how long to wait for one; a transaction counts as one."""
        return [sql for sql in self.sent if _LOCK.search(sql)]

    def __len__(self) -> int:
        return len(self.sent)

    def __str__(self) -> str:
        return "\n".join(f"  {' '.join(sql.split())[:160]}" for sql in self.sent) or "  none"


@contextmanager
def recorded(database: Backend) -> Iterator[Statements]:
    """Record the statements that any thread sends through this database in the block."""
    statements = Statements()
    begin = database.begin

    def hook(event: peewee.QueryEvent) -> None:
        statements.sent.append(event.sql)

    def recording_begin(*args: Any, **kwargs: Any) -> None:
        statements.sent.append("BEGIN")
        begin(*args, **kwargs)

    database.query_hooks.append(hook)
    database.begin = recording_begin  # type: ignore[method-assign]  # recorded, then as before
    try:
        yield statements
    finally:
        database.query_hooks.remove(hook)
        del database.begin


@contextmanager
def assert_query_count(database: Backend, count: int) -> Iterator[Statements]:
    """Fail unless the block sends exactly `count` statements.

    with assert_query_count(storage.database, 2) as statements:
        storage.users.get(1)
    assert not statements.locks
    """
    with recorded(database) as statements:
        yield statements
    if len(statements) != count:
        raise AssertionError(f"{len(statements)} statements instead of {count}:\n{statements}")


def run_script(database: Backend, script: str | Iterable[str]) -> None:
    """Execute raw SQL on any backend: one text with a ``;`` at the ends of lines, or statements."""
    statements = (
        re.split(r";\s*$", script, flags=re.MULTILINE) if isinstance(script, str) else script
    )
    with session(database):
        for statement in statements:
            if statement.strip():
                database.execute_sql(statement)


def log_row(log: LogTable, **values: Any) -> Row:
    """Return a row of a log as a sink queues it, by the names of columns; NULL is the rest."""
    unknown = values.keys() - {*log.bulk.columns}
    assert not unknown, f"{log.bulk.name} have no {unknown}"
    return tuple(map(values.get, log.bulk.columns))


def sample_row(log: LogTable, **given: Any) -> dict[str, Any]:
    """Return a value for each keyword of a log's row, each another; those given as they are."""
    row: dict[str, Any] = {}
    for number, name in enumerate(log.arguments, 1):
        match log.model._meta.columns[name]:
            case TextField() | CharField():
                value: Any = f"text {number}"
            case BytesField():
                value = f"bytes {number}".encode()
            case BooleanField():
                value = True
            case HeadersField():
                value = {"number": str(number)}
            case UtcDateTimeField():
                value = datetime(2026, 3, 4, number % 24, tzinfo=UTC)
            case _:
                value = number
        row[keyword(name)] = value
    return row | given


def wipe_rows(database: Backend) -> None:
    """Delete all rows but the keyring's, children first, in one transaction."""
    tables = [model._meta.table_name for model in reversed(TABLES) if model is not EncryptionKeys]
    asked = " UNION ALL ".join(f"SELECT '{name}', EXISTS (SELECT 1 FROM {name})" for name in tables)
    with session(database), database.atomic():
        filled = {name for name, has_rows in database.query(asked) if has_rows}
        for name in tables:
            if name in filled:
                database.execute_sql(f"DELETE FROM {name}")


def wipe_schema(database: Backend) -> None:
    """Drop all tables and views of a database, of any owner."""
    with session(database):
        if database.name == "postgres":
            run_script(database, "DROP SCHEMA public CASCADE;\nCREATE SCHEMA public")
            return
        views = {view.name for view in database.get_views()}
        tables = {name for name in database.get_tables() if not name.startswith("sqlite_")}
        keys = "PRAGMA foreign_keys =" if database.name == "sqlite" else "SET foreign_key_checks ="
        quote = "".join(database.quote)
        run_script(
            database,
            [
                f"{keys} 0",
                *(f"DROP VIEW {name.join(quote)}" for name in views),
                *(f"DROP TABLE {name.join(quote)}" for name in tables - views),
                f"{keys} 1",
            ],
        )


@contextmanager
def opened(dsn: str) -> Iterator[Backend]:
    """A database for the block, closed at its end; models are not bound to it."""
    database = db_from_dsn(dsn)
    try:
        yield database
    finally:
        if not database.is_closed():
            database.close()
        database.close_all()


class Child:
    """A forked child that runs a callback, and what it said.

    It ends with `os._exit`: neither pytest's teardown nor exit handlers run in it.

    Args:
        hooks: False forks as C code does, uWSGI's for one, which runs no hooks of Python's.
    """

    def __init__(self, callback: Callable[[], str], *, hooks: bool = True) -> None:
        self._read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads, whose locks the child would inherit: it uses none.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork() if hooks else _fork_without_hooks()
        if self.pid:
            os.close(write)
            return
        status = 1
        try:
            os.close(self._read)
            os.write(write, callback().encode())
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def result(self) -> str:
        """Wait for the end and return what the callback returned, or its traceback."""
        with os.fdopen(self._read) as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        self.exit_code = os.waitstatus_to_exitcode(status)
        return said

    def check(self) -> str:
        """Wait for the end and return what the callback returned; fail where it raised."""
        said = self.result()
        assert self.exit_code == 0, said
        return said


def _fork_without_hooks() -> int:
    # Once no thread waits for the interpreter's lock, which such a child could not repair.
    before: object = None
    while before != (now := _switches()):
        before = now
        time.sleep(0.05)
    return int(ctypes.PyDLL(None).fork())


def _switches() -> dict[str, str]:
    """How often each other thread of this process gave up a processor."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
            found[task.name] = _voluntary_switches(task / "status")
    found.pop(str(os.getpid()), None)
    return found


def _voluntary_switches(status: Path) -> str:
    return next(
        line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt")
    )


def everything_said(error: BaseException | None) -> str:
    """Return all that a log or a traceback could show of an error and of its chain."""
    if error is None:
        return ""
    own = f"{error} {error!r} {error.args!r} {vars(error)!r}"
    return own + everything_said(error.__cause__) + everything_said(error.__context__)


def everything_in_frames(error: BaseException | None) -> str:
    """Return what a report with local variables could show: of each frame that is not a test's.

    That is the repr of every local variable, and of the attributes of what it is a method of.
    """
    if error is None:
        return ""
    shown = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).is_relative_to(_TESTS):
            continue
        own = frame.f_locals.get("self")
        slots = [name for kind in type(own).__mro__ for name in getattr(kind, "__slots__", ())]
        attributes = [getattr(own, name, None) for name in slots] + [getattr(own, "__dict__", None)]
        shown.append(f"{frame.f_code.co_name}: {frame.f_locals!r} {attributes!r}")
    rest = everything_in_frames(error.__cause__) + everything_in_frames(error.__context__)
    return "\n".join(shown) + rest
