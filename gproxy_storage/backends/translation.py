"""Translation: a driver's error -> its class of failure, and the package's error for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

import peewee

from ..dsn import Dsn
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
from .failures import Failure, RedactedError, TakenId, driver_errors
from .widths import WIDEN, Shortfall

_WORDS = r"[^\s.,]+"  # of "table.column, table.column"


class Translation:
    """Classifies a driver's errors; each backend implements `failure` for its error codes."""

    name: str
    dsn: Dsn
    index_columns: Mapping[str, tuple[str, tuple[str, ...]]]
    generated_ids: Mapping[str, str]
    narrow: Mapping[str, Shortfall] | None
    driver_error: ClassVar[type[Exception]]
    """The base class of the driver's exceptions."""

    names: frozenset[str] = frozenset()
    """All names of tables, columns, indexes and constraints in our schema."""

    only_reads = (
        "the server at this address is read-only: it is a standby, or a primary being demoted; "
        "name the primary, or several hosts with target_session_attrs=read-write, or try again"
    )
    """The message for a database that cannot be written."""

    replaces_read_only = True
    """Whether a read-only connection is replaced: the address may lead to a new primary by now."""

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        """Classify a driver's error, and name the column, index or constraint at fault.

        The name is the server's: ``table.column``, ``table.column, table.column``, an index's
        name, or None. Never a value.
        """
        raise NotImplementedError

    def known_name(self, name: str | None) -> str | None:
        """Return a name parsed from a server's message if our schema has it, else None.

        In another language, or in a trigger's message, a value may stand in its place.
        """
        known = name is not None and all(part in self.names for part in re.findall(_WORDS, name))
        return name if known else None

    def classify(self, exc: BaseException, boundary: BaseException | None = None) -> Failure:
        """Return what an exception means for its transaction; OTHER if no driver raised it.

        A lost connection, a rollback by the server or a lack of resources anywhere in the chain
        takes precedence: MySQL reports a deadlock inside a savepoint as "SAVEPOINT does not
        exist", SQLite a full disk as "no such savepoint".

        Args:
            boundary: the exception that was being handled before; its chain is ignored.
        """
        found = self._deciding(exc, boundary)
        return self._failure(found)[0] if found is not None else Failure.OTHER

    def _deciding(self, exc: BaseException, boundary: BaseException | None) -> Exception | None:
        """Return the driver's error in an exception's chain that determines its meaning."""
        errors = list(self._driver_errors(exc, boundary))
        for decisive in (Failure.LOST, Failure.TRANSIENT, Failure.EXHAUSTED):
            for error in errors:
                if self._failure(error)[0] is decisive:
                    return error
        return errors[0] if errors else None

    def failure_to_retry(
        self, exc: Exception, boundary: BaseException | None = None
    ) -> Failure | None:
        """Return the failure if the same transaction may succeed when run again, else None.

        Other code's exceptions are never retried, whatever their cause: a signal handler's must
        reach the caller.
        """
        if not isinstance(exc, StorageError | peewee.PeeweeException | self.driver_error):
            return None
        if isinstance(exc, WriteError) and exc.committed is None:
            return None
        failure = self.classify(exc, boundary)
        again = failure in (Failure.LOST, Failure.TRANSIENT) or self.must_replace(failure)
        return failure if again else None

    def must_replace(self, failure: Failure) -> bool:
        """Tell whether a failure leaves a live connection that must not be used again."""
        return failure is Failure.READ_ONLY and self.replaces_read_only

    def translate(
        self, exc: Exception, *, writing: bool, boundary: BaseException | None = None
    ) -> StorageError | None:
        """Return the package's error for an exception of Peewee or the driver, else None."""
        if not isinstance(exc, peewee.PeeweeException | self.driver_error):
            return None
        error = self._deciding(exc, boundary)
        if error is None:
            return None
        failure, name = self._failure(error)
        where, dsn = f" ({name})" if name else "", str(self.dsn)
        found: StorageError
        match failure:
            case Failure.CONFLICT:
                table, fields = self.index_columns.get(name or "") or _columns(name)
                what = f"{', '.join(fields)} in {table}" if table else name or "unique value"
                what = f"a row with the same {what} exists"
                found = ConflictError(what, table=table, fields=fields)
            case Failure.REFERENCE:
                what = f"a reference points to a row that does not exist{where}"
                found = MissingReference(what, argument=name)
            case Failure.VALUE:
                what = f"a value does not fit its column{where}"
                found = InvalidValue(what, argument=name)
            case Failure.NARROW:
                what = (
                    f"a value does not fit its column{where}, which is narrower than this package "
                    f"makes it: run {WIDEN}"
                )
                found = InvalidValue(what, argument=name)
            case Failure.SCHEMA:
                what = f"the database lacks a table or column{where}: run `gproxy-storage sync`"
                found = SchemaError(what)
            case Failure.READ_ONLY:
                found = WriteError(f"{dsn} cannot be written: {self.only_reads}")
            case Failure.TRANSIENT:
                found = WriteError(
                    f"{dsn}: rolled back because of a lock or deadlock with another transaction: "
                    "run it again, or use run_transaction, which does"
                )
            case Failure.LOST:
                found = ConnectError(f"the connection to {dsn} was lost", dsn=dsn)
            case _:
                what = f"the database refused the statement: {self.name}: {self._reason(error)}"
                found = WriteError(what) if writing else ReadError(what)
        return found

    def taken_id(self, exc: Exception) -> TakenId | None:
        """Return the primary key for which an insert failed because a row has it; else None.

        Only for tables in `ids`. Whether the database generated the key or the caller gave it is
        not known here.
        """
        if not isinstance(exc, peewee.PeeweeException | self.driver_error):
            return None
        error = next(self._driver_errors(exc), None)
        if error is None:
            return None
        return error.taken if isinstance(error, RedactedError) else self._taken_id(error)

    def _taken_id(self, error: Exception) -> TakenId | None:  # noqa: ARG002 - see below
        return None  # where the next key is computed under the lock of writers, none is ever taken

    def describe(self, exc: Exception) -> str:
        """Return the server's message for a failed DDL statement, without values of rows."""
        error = next(self._driver_errors(exc), exc)
        if self.classify(exc) in (Failure.CONFLICT, Failure.VALUE, Failure.NARROW):
            return self._reason(error)
        return " ".join(str(error).split())

    def reason(self, error: Exception) -> str:
        """Return the driver's class and code of an error, without values."""
        return type(error).__name__

    def _driver_errors(
        self, exc: BaseException, boundary: BaseException | None = None
    ) -> Iterator[Exception]:
        return driver_errors(exc, (self.driver_error, RedactedError), boundary)

    def _failure(self, error: Exception) -> tuple[Failure, str | None]:
        if isinstance(error, RedactedError):
            return error.failure, error.name
        return self.failure(error)

    def _reason(self, error: Exception) -> str:
        return error.reason if isinstance(error, RedactedError) else self.reason(error)


def _columns(name: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Split ``table.a, table.b`` into the table and its columns."""
    parts = [part.strip().partition(".") for part in (name or "").split(",")]
    if not all(dot for _, dot, _ in parts):
        return None, ()
    return parts[0][0], tuple(column for _, _, column in parts)
