"""Databases from DSNs; sessions, transactions with bounded retries, fork safety."""

from __future__ import annotations

import os
import random
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .backends.base import Backend
from .backends.failures import Failure
from .backends.mysql import MySQLBackend
from .backends.postgres import PostgresBackend
from .backends.sqlite import SqliteBackend
from .backends.taken_ids import TakenIds
from .dsn import Dsn

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

    parsed = Dsn.parse(dsn) if isinstance(dsn, str) else dsn
    scheme, backend = _SCHEMES[parsed.backend]
    db_url.register_database(backend, scheme)
    # db_url mangles DSNs (case of hosts, %20, numbers) and quotes passwords in its errors: it
    # gets a fixed text, and the class it picks gets the parsed value.
    database: Backend = db_url.connect(f"{scheme}:///dsn", database=parsed)
    _open_databases.add(database)
    return database


@contextmanager
def session(database: Backend) -> Iterator[None]:
    """Borrow one connection for the block; nested blocks share it.

    Raises:
        PoolTimeout: when none comes free in time.
        ConnectError: when one cannot be opened.
    """
    if not database.is_closed():
        yield
        return
    database.connect()
    try:
        yield
    finally:
        database.close()


@contextmanager
def transaction(database: Backend) -> Iterator[None]:
    """Run the block in one transaction, or, inside another, in a savepoint of it.

    Commits at the end, rolls back when the block raises. A block cannot be run again: for
    retries see `run_transaction`.

    Raises:
        StorageError: the kind that the database's error means (see `Backend.translate`).
    """
    with translated(database, writing=True), session(database), database.atomic():
        yield


def run_transaction(
    database: Backend, callback: Callable[[], T], *, max_attempts: int = MAX_ATTEMPTS
) -> T:
    """Call `callback` in a transaction, again where the database says that may help.

    The outermost transaction is retried on a lock, a deadlock, a serialization failure, or a
    connection lost before COMMIT; inside another transaction it is a savepoint of that one. Both
    are retried where the database gave out a key that a row has. A retry runs the whole callback
    again on a clean state, so it must not act outside the database.

    Raises:
        WriteError: with `committed` None when the connection was lost during COMMIT.
        StorageError: the kind that the database's error means.
    """
    if database.in_transaction():
        with translated(database, writing=True):
            return _past_taken_ids(database, callback)
    return _attempt(database, callback, max_attempts, in_transaction=True)


def run_query(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback`, which only reads, in a session; once more if the connection was lost.

    Raises:
        StorageError: the kind that the database's error means.
    """
    if database.in_transaction():
        with translated(database, writing=False):
            return callback()
    return _attempt(database, callback, MAX_ATTEMPTS, in_transaction=False)


@contextmanager
def translated(database: Backend, *, writing: bool) -> Iterator[None]:
    """Turn errors of Peewee and the driver into the package's."""
    boundary = sys.exception()
    try:
        yield
    except Exception as exc:
        error = database.translate(exc, writing=writing, boundary=boundary)
        if error is None:
            raise
        raise error from exc


def _past_taken_ids(database: Backend, callback: Callable[[], T]) -> T:
    """Call `callback` in a transaction or savepoint, again where it was given a taken key."""
    taken_ids = TakenIds(database)
    while True:
        try:
            with database.atomic():
                return callback()
        except Exception as exc:
            if not taken_ids.passed(exc):
                raise


def _attempt(
    database: Backend, callback: Callable[[], T], max_attempts: int, *, in_transaction: bool
) -> T:
    boundary = sys.exception()
    broken = False
    with translated(database, writing=in_transaction), session(database):
        for attempt in range(1, max_attempts + 1):
            committing = False

            def run() -> T:
                nonlocal committing
                committing = False
                result = callback()
                committing = True
                return result

            try:
                if broken:
                    database.replace_connection()
                    broken = False
                if not in_transaction:
                    return callback()
                return _past_taken_ids(database, run)
            except Exception as exc:
                failure = database.classify(exc, boundary)
                broken = broken or failure is Failure.LOST
                if broken and committing:
                    raise database.commit_unknown() from exc
                if attempt == max_attempts or failure not in (Failure.LOST, Failure.TRANSIENT):
                    raise
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
