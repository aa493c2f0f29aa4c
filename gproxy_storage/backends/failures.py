"""What a driver's error means, and the package's error that says so."""

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
    """What a driver's error means for the transaction it ended."""

    CONFLICT = "a unique value exists already"
    REFERENCE = "a foreign key points to no row"
    VALUE = "a value does not fit its column"
    NARROW = "a value does not fit its column, which is narrower than ours"
    READ_ONLY = "the database cannot be written"
    DENIED = "the user lacks a privilege"
    SCHEMA = "a table or column is missing"
    TRANSIENT = "rolled back by the server; the same transaction may succeed now"
    LOST = "the connection is gone"
    EXHAUSTED = "the server lacks room, is damaged or is being shut down"
    OTHER = "anything else"


class SyncLockHeldError(Exception):
    """Another process held the sync lock for too long; `Backend.sync_lock_holder` says which."""


class TakenId(NamedTuple):
    """A generated key that a row was to get and another row has; `id` None where not told."""

    table: str
    column: str
    id: int | None


class RedactedError(peewee.DatabaseError):
    """What the driver's error said, of a statement that carried a secret, without the secret."""

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
    """Yield the driver's errors behind an exception, the latest first.

    Peewee wraps most errors but not all, and its rollback of a dead transaction hides what
    killed it, so the whole chain counts, up to `boundary`: what was being handled before.
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
        name: what the server names: an index, a constraint, a column; never a value.
        unique_key: the table and columns of the index that `name` is, where it is ours.
        dsn: the masked DSN.
        fallback: the class for what no other covers.
        reason: the backend and the driver's code, for `fallback`.
        only_reads: why the database would not be written, and what to do.
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
        f"{dsn}: rolled back for another transaction's sake (a lock, a deadlock): run it again, or "
        "through run_transaction, which does"
    ),
    Failure.LOST: lambda _, __, dsn: ConnectError(f"the connection to {dsn} was lost", dsn=dsn),
}


def _columns(name: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Split ``table.a, table.b`` into the table and its columns."""
    parts = [part.strip().partition(".") for part in (name or "").split(",")]
    if not all(dot for _, dot, _ in parts):
        return None, ()
    return parts[0][0], tuple(column for _, _, column in parts)
