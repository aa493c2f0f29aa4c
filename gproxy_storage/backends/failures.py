"""Failure: the classes of database errors, and what is found out about them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

import peewee

from ..dsn import Dsn
from ..errors import ConnectError


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
    """A primary key that an insert wanted and another row has.

    Attributes:
        table, column: empty if the server does not say.
        id: None if the server hides it.
    """

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


def connect_error(dsn: Dsn, problem: str, doing: str = "use") -> ConnectError:
    """Return the error for a database that cannot be opened or used; it names the DSN's setting."""
    setting = f"{dsn.setting}: " if dsn.setting else ""
    return ConnectError(f"{setting}cannot {doing} {dsn}: {problem}", dsn=str(dsn))


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
