"""Databases from DSNs; sessions, transactions with bounded retries, fork safety."""

from __future__ import annotations

import os
import random
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from .backends.base import Backend
from .backends.failures import Failure
from .backends.mysql import MySQLBackend
from .backends.postgres import PostgresBackend
from .backends.sqlite import SqliteBackend
from .backends.taken_ids import TakenIds
from .dsn import Dsn
from .secret import without_locals

T = TypeVar("T")

MAX_ATTEMPTS = 6
"""How often a transaction is tried in all before its error reaches the caller."""

_BACKOFF_S = 0.02
_MAX_BACKOFF_S = 1.0

_SCHEMES = {
    "sqlite": ("gproxy-sqlite+pool", SqliteBackend),
    "postgres": ("gproxy-postgres+pool", PostgresBackend),
    "mysql": ("gproxy-mysql+pool", MySQLBackend),
}
_open_databases: weakref.WeakSet[Backend] = weakref.WeakSet()


@without_locals
def db_from_dsn(dsn: Dsn | str) -> Backend:
    """Return a pooled Peewee database for a DSN; connects when first used.

    Wrap queries in `session(database)` or Peewee's `database.connection_context()`. Pair with
    `database.close_all()`.

    Args:
        dsn: as the README's table says; text is parsed strictly.
    Raises:
        DSNError: when the text is not a DSN.
        ConnectError: when it names a database in memory and that cannot be made.
    """
    # Imported here: it brings every extension of playhouse, a sixth of the package's start-up.
    from playhouse import db_url  # noqa: PLC0415 - see above

    dsn = parsed = Dsn.parse(dsn) if isinstance(dsn, str) else dsn  # its text is in no frame
    scheme, backend = _SCHEMES[parsed.backend]
    db_url.register_database(backend, scheme)
    # db_url mangles DSNs (case of hosts, %20, numbers) and quotes passwords in its errors: it
    # gets a fixed text, and the class it picks gets the parsed value.
    database: Backend = db_url.connect(f"{scheme}:///dsn", database=parsed)
    _open_databases.add(database)
    return database


class Session:
    """A block in which this thread has a connection; see `session`."""

    __slots__ = ("__weakref__", "_database", "_is_outermost")

    def __init__(self, database: Backend) -> None:
        self._database = database
        self._is_outermost = False

    def __enter__(self) -> None:
        if self._database.is_closed():
            self._is_outermost = True
            try:
                self._database.connect()
                self._database.belongs_to(self)
            except BaseException:
                self._database.abandon()
                raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_outermost:
            try:
                self._database.leave()
            except BaseException:  # a signal handler raised: by the way that needs no state
                self._database.abandon()
                raise


class TransactionBlock:
    """A block that is a transaction, or a savepoint in one; see `transaction`."""

    __slots__ = ("_block", "_boundary", "_database", "_is_inner", "_is_outermost", "_session")

    def __init__(self, database: Backend) -> None:
        self._database = database

    def __enter__(self) -> None:
        database = self._database
        self._boundary = sys.exception()
        self._is_outermost = database.is_closed()
        self._is_inner = database.in_transaction()
        self._session = Session(database)
        self._block = database.atomic()
        try:
            self._session.__enter__()
            self._block.__enter__()
        except BaseException as exc:
            self._end(exc)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            try:
                self._block.__exit__(exc_type, exc, traceback)
            finally:
                self._session.__exit__(exc_type, exc, traceback)
        except BaseException as failed:
            self._end(failed)
            raise
        if exc is not None:
            self._end(exc)

    def _end(self, exc: BaseException) -> None:
        """Clean up after an exception, and raise the package's error where it is a driver's."""
        if self._is_inner:
            self._database.end_unless_left(self._block, exc)
        else:
            unwind(self._database, self._is_outermost)
        raise_translated(self._database, exc, writing=True, boundary=self._boundary)


def session(database: Backend) -> Session:
    """Borrow one connection for the block; nested blocks share it.

    Raises:
        PoolTimeout: when none comes free in time.
        ConnectError: when one cannot be opened.
    """
    return Session(database)


def transaction(database: Backend) -> TransactionBlock:
    """Run the block in one transaction, or, inside another, in a savepoint of it.

    Commits at the end, rolls back when the block raises. A block cannot be run again: for
    retries see `run_transaction`.

    Raises:
        StorageError: the kind that the database's error means (see `Backend.translate`).
        WriteError: when the database ended the transaction before the block, whatever the block
            caught of that; with `committed` None when COMMIT failed and may have been done.
    """
    return TransactionBlock(database)


def run_transaction(
    database: Backend, callback: Callable[[], T], *, max_attempts: int = MAX_ATTEMPTS
) -> T:
    """Call `callback` in a transaction, again where the database says that may help.

    The outermost transaction is retried on a lock, a deadlock, a serialization failure, or a
    connection lost before COMMIT; inside another transaction it is a savepoint of that one. Both
    are retried where the database gave out a key that a row has. A retry runs the whole callback
    again on a clean state, so it must not act outside the database.

    Raises:
        WriteError: with `committed` None when COMMIT failed and may have been done.
        StorageError: the kind that the database's error means.
    """
    if database.in_transaction():
        with translated(database, writing=True):
            return _past_taken_ids(database, callback)
    return _attempt(
        database, lambda: _past_taken_ids(database, callback), max_attempts, writing=True
    )


def run_query(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback`, which only reads, in a session; once more if the connection was lost.

    Raises:
        StorageError: the kind that the database's error means.
    """
    if database.in_transaction():
        with translated(database, writing=False):
            return callback()
    return _attempt(database, callback, MAX_ATTEMPTS, writing=False)


@contextmanager
def translated(database: Backend, *, writing: bool) -> Iterator[None]:
    """Turn errors of Peewee and the driver into the package's."""
    boundary = sys.exception()
    try:
        yield
    except Exception as exc:
        raise_translated(database, exc, writing=writing, boundary=boundary)
        raise


def raise_translated(
    database: Backend, exc: BaseException, *, writing: bool, boundary: BaseException | None
) -> None:
    """Raise the package's error for one of Peewee or the driver; return for any other."""
    if isinstance(exc, Exception):
        error = database.translate(exc, writing=writing, boundary=boundary)
        if error is not None:
            raise error from exc


def unwind(database: Backend, is_outermost: bool) -> None:
    """Leave nothing open that an interrupted block would have ended, after its exception."""
    if is_outermost:
        database.abandon()
    elif database.in_transaction():
        database.drop_transaction()


def _past_taken_ids(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback` in a transaction or savepoint, again where it was given a taken key."""
    is_inner = database.in_transaction()

    def attempt() -> T:
        block = database.atomic()
        try:
            with block:
                return callback()
        except BaseException as exc:
            if is_inner:
                database.end_unless_left(block, exc)
            raise

    return TakenIds(database).retry(attempt)


def _attempt(
    database: Backend, callback: Callable[[], T], max_attempts: int, *, writing: bool
) -> T:
    boundary = sys.exception()
    is_outermost = database.is_closed()
    try:
        with Session(database):
            return _attempts(database, callback, max_attempts, boundary)
    except BaseException as exc:
        unwind(database, is_outermost)
        raise_translated(database, exc, writing=writing, boundary=boundary)
        raise


def _attempts(
    database: Backend,
    callback: Callable[[], T],
    max_attempts: int,
    boundary: BaseException | None,
) -> T:
    broken = only_reads = False
    for attempt in range(1, max_attempts + 1):
        try:
            if broken:
                database.replace_connection()
                broken = False
            return callback()
        except Exception as exc:
            failure = database.failure_to_retry(exc, boundary)
            if failure is None or attempt == max_attempts:
                raise
            if failure is Failure.READ_ONLY and only_reads:
                raise  # the new connection, too
            only_reads = failure is Failure.READ_ONLY
            broken = broken or failure is Failure.LOST or only_reads
        back_off(attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


def back_off(attempt: int) -> None:
    """Sleep a random while, longer each time, so that rivals do not meet again."""
    time.sleep(random.uniform(0, min(_MAX_BACKOFF_S, _BACKOFF_S * 2**attempt)))  # noqa: S311 - no secret


# -- fork: a child must not share its parent's connections, nor SQLite's locks ------------------


def _before_fork() -> None:
    for database in list(_open_databases):
        database.pool.before_fork()
        _held.append(database)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().pool.after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _held:
        _held.pop().after_fork_in_child()


_held: list[Backend] = []
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
