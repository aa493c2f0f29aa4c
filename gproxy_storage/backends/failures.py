"""Failure: the classes of database errors, and the package's error for each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import NamedTuple

import peewee

from ..errors import (
    ConflictError,
    ConnectError,
    InvalidValue,
    MissingReference,
    ReadError,
    SchemaError,
    StorageError,
    WriteError,
)
from .widths import WIDEN


class Failure(enum.Enum):
    """The class of a database error: what it means for the transaction."""

    CONFLICT = "a unique value exists already"
    REFERENCE = "a foreign key points to no row"
    VALUE = "a value does not fit its column"
    NARROW = "a value does not fit its column, which is narrower than declared"
    READ_ONLY = "the database cannot be written"
    DENIED = "the user lacks a privilege"
    SCHEMA = "a table or column is missing"
    TRANSIENT = "rolled back by the server; the same transaction may succeed now"
    LOST = "the connection is gone"
    EXHAUSTED = "the server lacks resources, is damaged or is being shut down"
    OTHER = "anything else"


class SyncLockHeldError(Exception):
    """Another process held the sync lock for too long; `Backend.sync_lock_holder` tells which."""


class TakenId(NamedTuple):
    """A primary key that an insert wanted and another row has; `id` None if the server hides it."""

    table: str
    column: str
    id: int | None


class RedactedError(peewee.DatabaseError):
    """Replaces the driver's error for a statement with a secret, without the secret."""

    def __init__(
        self, failure: Failure, name: str | None, reason: str, taken: TakenId | None = None
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.name = name
        self.reason = reason
        self.taken = taken


def driver_errors(
    exc: BaseException,
    driver_error: type[Exception] | tuple[type[Exception], ...],
    boundary: BaseException | None = None,
) -> Iterator[Exception]:
    """Yield the driver's errors in an exception's chain, the latest first.

    Peewee wraps most errors but not all, and its rollback of a dead transaction hides the error
    that ended it. So the whole chain counts, up to `boundary`: what was being handled before.
    """
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and current is not boundary and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, driver_error):
            yield current
        current = current.__cause__ or current.__context__


def as_storage_error(
    failure: Failure,
    *,
    name: str | None,
    unique_key: tuple[str, tuple[str, ...]] | None,
    dsn: str,
    fallback: type[WriteError | ReadError],
    reason: str,
    only_reads: str,
) -> StorageError:
    """Return the package's error for a failure.

    Args:
        name: the index, constraint or column that the server names; never a value.
        unique_key: the table and columns of the index `name`, if it is one of our schema.
        dsn: the masked DSN.
        fallback: the class for failures that no other class covers.
        reason: the backend and the driver's code, for `fallback`.
        only_reads: why the database cannot be written, and what to do.
    """
    if failure is Failure.CONFLICT:
        table, fields = unique_key or _columns(name)
        what = f"{', '.join(fields)} in {table}" if table else name or "unique value"
        return ConflictError(f"a row with the same {what} exists", table=table, fields=fields)
    if failure is Failure.READ_ONLY:
        return WriteError(f"{dsn} cannot be written: {only_reads}")
    make = _SIMPLE.get(failure)
    if make is not None:
        return make(f" ({name})" if name else "", name, dsn)
    return fallback(f"the database refused the statement: {reason}")


_SIMPLE: dict[Failure, Callable[[str, str | None, str], StorageError]] = {
    Failure.REFERENCE: lambda where, name, _: MissingReference(
        f"a reference points to a row that does not exist{where}", argument=name
    ),
    Failure.VALUE: lambda where, name, _: InvalidValue(
        f"a value does not fit its column{where}", argument=name
    ),
    Failure.NARROW: lambda where, name, _: InvalidValue(
        f"a value does not fit its column{where}, which is narrower than this package makes it: "
        f"run {WIDEN}",
        argument=name,
    ),
    Failure.SCHEMA: lambda where, *_: SchemaError(
        f"the database lacks a table or column{where}: run `gproxy-storage sync`"
    ),
    Failure.TRANSIENT: lambda _, __, dsn: WriteError(
        f"{dsn}: rolled back because of a lock or deadlock with another transaction: run it again, "
        "or use run_transaction, which does"
    ),
    Failure.LOST: lambda _, __, dsn: ConnectError(f"the connection to {dsn} was lost", dsn=dsn),
}


def _columns(name: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Split ``table.a, table.b`` into the table and its columns."""
    parts = [part.strip().partition(".") for part in (name or "").split(",")]
    if not all(dot for _, dot, _ in parts):
        return None, ()
    return parts[0][0], tuple(column for _, _, column in parts)
