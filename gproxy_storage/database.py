"""Databases from DSNs; sessions, transactions with bounded retries, fork safety."""

from __future__ import annotations

import os
import random
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import TracebackType
from typing import TypeVar

from .backends.base import Backend
from .backends.failures import Failure
from .backends.taken_ids import TakenIds
from .dsn import Dsn
from .secret import without_locals

T = TypeVar("T")

MAX_ATTEMPTS = 6
"""The total number of attempts at a transaction before its error is raised."""

_BACKOFF_S = 0.02
_MAX_BACKOFF_S = 1.0

_CLASSES = {
    "sqlite": "SqliteBackend",
    "postgres": "PostgresBackend",
    "mysql": "MySQLBackend",
}
"""Each backend's class, in the module of its name. Only the one that is used is imported."""

_open_databases: weakref.WeakSet[Backend] = weakref.WeakSet()


@without_locals
def db_from_dsn(dsn: Dsn | str) -> Backend:
    """Return a pooled Peewee database for a DSN; it connects on first use.

    Wrap queries in `session(database)` or Peewee's `database.connection_context()`. Close it with
    `database.close_all()`.

    Args:
        dsn: text is parsed by `Dsn.parse`.
    Raises:
        DSNError: when the text is not a DSN.
        ConnectError: when it names a database in memory and that cannot be created.
    """
    from playhouse import db_url

    dsn = parsed = Dsn.parse(dsn) if isinstance(dsn, str) else dsn  # its text is in no frame
    module = import_module(f".backends.{parsed.backend}", __package__)
    scheme, backend = f"gproxy-{parsed.backend}+pool", getattr(module, _CLASSES[parsed.backend])
    db_url.register_database(backend, scheme)
    # db_url changes DSNs (case of hosts, %20, numbers) and shows passwords in its errors: it gets a
    # fixed text, and the class that it selects gets the parsed value.
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
        self._is_outermost = self._database.enter(self)

    def __exit__(self, *_: object) -> None:
        if self._is_outermost:
            try:
                self._database.leave()
            except BaseException:  # a signal handler raised: `abandon` relies on no state
                self._database.abandon()
                raise


class TransactionBlock:
    """A transaction, or a savepoint inside of one; see `transaction`."""

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
                self._session.__exit__()
        except BaseException as failed:
            self._end(failed)
            raise
        if exc is not None:
            self._end(exc)

    def _end(self, exc: BaseException) -> None:
        """Clean up after an exception, and translate a driver's error to the package's."""
        if self._is_inner:
            self._database.end_unless_left(self._block, exc)
        else:
            unwind(self._database, self._is_outermost)
        raise_translated(self._database, exc, writing=True, boundary=self._boundary)


def session(database: Backend) -> Session:
    """Borrow one connection for the block; nested blocks share it.

    Raises:
        PoolTimeout: when none becomes free within the pool's `pool_timeout_s`.
        ConnectError: when one cannot be opened.
    """
    return Session(database)


def transaction(database: Backend) -> TransactionBlock:
    """Run the block in a transaction or, inside another one, in a savepoint.

    Commits at the end, rolls back when the block raises. A block cannot be retried: see
    `run_transaction` for that.

    Raises:
        StorageError: of the class for the database's error (see `Backend.translate`).
        WriteError: when the database ended the transaction before the block ended, even if the
            block caught that error; with `committed` None when COMMIT failed but may have been
            done.
    """
    return TransactionBlock(database)


def run_transaction(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback` in a transaction, and retry it after errors that may be transient.

    The outermost transaction is retried after a lock time-out, a deadlock, a serialization failure,
    or a connection lost before COMMIT; inside another transaction it is a savepoint. Both are
    retried if the database generated a key that a row has already. A retry runs the whole callback
    again after a rollback, so it must have no effects outside the database.

    Args:
        callback: called without arguments, `MAX_ATTEMPTS` times at most.
    Returns:
        The callback's result.
    Raises:
        WriteError: with `committed` None when COMMIT failed but may have been done.
        StorageError: of the class for the database's error.
    """
    return _run(database, partial(_retry_taken_ids, database, callback), writing=True)


def run_query(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback`, which only reads, in a session, and retry it after transient errors.

    Raises:
        StorageError: of the class for the database's error.
    """
    return _run(database, callback, writing=False)


@contextmanager
def translated(database: Backend, *, writing: bool) -> Iterator[None]:
    """Translate errors of Peewee and the driver, raised in the block, to the package's."""
    boundary = sys.exception()
    try:
        yield
    except Exception as exc:
        raise_translated(database, exc, writing=writing, boundary=boundary)
        raise


def raise_translated(
    database: Backend, exc: BaseException, *, writing: bool, boundary: BaseException | None
) -> None:
    """Raise the package's error for one of Peewee or the driver; return for any other exception."""
    if isinstance(exc, Exception):
        error = database.translate(exc, writing=writing, boundary=boundary)
        if error is not None:
            raise error from exc


def unwind(database: Backend, is_outermost: bool) -> None:
    """Release what an interrupted block left open, after its exception."""
    if is_outermost:
        database.abandon()
    elif database.in_transaction():
        database.drop_transaction()


def _retry_taken_ids(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback` in a transaction or savepoint, again if it was given a taken key."""
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


def _run(database: Backend, callback: Callable[[], T], *, writing: bool) -> T:
    boundary = sys.exception()
    state = database.entered()
    if state.transactions:
        try:  # not `translated`: a generator takes longer than many a callback
            return callback()
        except Exception as exc:
            raise_translated(database, exc, writing=writing, boundary=boundary)
            raise
    is_outermost = state.closed
    try:
        with Session(database):
            return _attempts(database, callback, boundary)
    except BaseException as exc:
        unwind(database, is_outermost)
        raise_translated(database, exc, writing=writing, boundary=boundary)
        raise


def _attempts(database: Backend, callback: Callable[[], T], boundary: BaseException | None) -> T:
    broken = read_only = False
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            if broken:
                database.replace_connection()
                broken = False
            return callback()
        except Exception as exc:
            failure = database.failure_to_retry(exc, boundary)
            if failure is None or attempt == MAX_ATTEMPTS:
                raise
            if failure is Failure.READ_ONLY and read_only:
                raise  # the new connection is read-only, too
            read_only = failure is Failure.READ_ONLY
            broken = broken or failure is Failure.LOST or read_only
        back_off(attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


def back_off(attempt: int) -> None:
    """Sleep for a random time, longer each time, so that competing transactions are spread."""
    time.sleep(random.uniform(0, min(_MAX_BACKOFF_S, _BACKOFF_S * 2**attempt)))  # noqa: S311 - no secret


# -- fork: a child must share neither its parent's connections nor its SQLite locks -------------


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
