"""What a driver's error means for us: its class of failure, and the package's error for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

import peewee

from ..dsn import Dsn
from ..errors import ReadError, StorageError, WriteError
from .failures import Failure, RedactedError, TakenId, as_storage_error, driver_errors
from .widths import Shortfall

_WORDS = r"[^\s.,]+"  # of "table.column, table.column"


class Translation:
    """A backend's reading of its driver's errors; each says what its codes mean in `failure`."""

    name: str
    dsn: Dsn
    keys: dict[str, tuple[str, tuple[str, ...]]]
    ids: dict[str, str]
    narrow: Mapping[str, Shortfall] | None
    driver_error: ClassVar[type[Exception]]
    """The root of the driver's exceptions."""

    names: frozenset[str] = frozenset()
    """What our schema calls its tables, columns, indexes and constraints."""

    only_reads = (
        "the server at this address only reads: it is a standby, or a primary that gives way to "
        "another; name the primary, or several hosts with target_session_attrs=read-write, or try "
        "again"
    )
    """What is said of a database that would not be written."""

    replaces_read_only = True
    """Whether a connection that only reads is replaced: behind its address another may lead now."""

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        """Classify an error of the driver; with it the column, index or value's name at fault.

        A name is what the server says: ``table.column``, ``table.column, table.column``, an
        index's name, or None. Never a value.
        """
        raise NotImplementedError

    def ours(self, name: str | None) -> str | None:
        """Return a name that was read out of a message, where it is one of ours, else None.

        What stands in its place in another language, or in a trigger's message, may be a value.
        """
        known = name is not None and all(part in self.names for part in re.findall(_WORDS, name))
        return name if known else None

    def classify(self, exc: BaseException, boundary: BaseException | None = None) -> Failure:
        """Return what an exception means for its transaction; OTHER where no driver spoke.

        A lost connection, a rollback by the server or a lack of room anywhere in the chain
        decides: MySQL reports a deadlock inside a savepoint as "SAVEPOINT does not exist", SQLite
        a full disk as "no such savepoint".

        Args:
            boundary: the exception that was being handled before: its chain does not count.
        """
        found = self._deciding(exc, boundary)
        return self._failure(found)[0] if found is not None else Failure.OTHER

    def _deciding(self, exc: BaseException, boundary: BaseException | None) -> Exception | None:
        """Return the driver's error behind an exception that says what it means."""
        errors = list(self._driver_errors(exc, boundary))
        for decisive in (Failure.LOST, Failure.TRANSIENT, Failure.EXHAUSTED):
            for error in errors:
                if self._failure(error)[0] is decisive:
                    return error
        return errors[0] if errors else None

    def failure_to_retry(
        self, exc: Exception, boundary: BaseException | None = None
    ) -> Failure | None:
        """Return the failure after which the same transaction may succeed, else None.

        An exception of somebody else is never one, whatever it was raised from: a signal
        handler's reaches the caller.
        """
        if not isinstance(exc, StorageError | peewee.PeeweeException | self.driver_error):
            return None
        if isinstance(exc, WriteError) and exc.committed is None:
            return None
        failure = self.classify(exc, boundary)
        again = failure in (Failure.LOST, Failure.TRANSIENT) or self.must_replace(failure)
        return failure if again else None

    def must_replace(self, failure: Failure) -> bool:
        """Tell whether a failure leaves a connection that answers and must not be used again."""
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
        return as_storage_error(
            failure,
            name=name,
            unique_key=self.keys.get(name or ""),
            dsn=str(self.dsn),
            fallback=WriteError if writing else ReadError,
            reason=f"{self.name}: {self._reason(error)}",
            only_reads=self.only_reads,
        )

    def commit_unknown(self) -> WriteError:
        """Return the error for a connection lost while its COMMIT was under way."""
        return WriteError(
            f"the connection to {self.dsn} was lost during COMMIT: the change may be stored or "
            "not; look before repeating it",
            committed=None,
        )

    def taken_id(self, exc: Exception) -> TakenId | None:
        """Return the key of a table of `ids` that an insert met taken; None for other errors.

        Whether the database gave that key out or the caller did is not known here.
        """
        if not isinstance(exc, peewee.PeeweeException | self.driver_error):
            return None
        error = next(self._driver_errors(exc), None)
        if error is None:
            return None
        return error.taken if isinstance(error, RedactedError) else self._taken_id(error)

    def _taken_id(self, error: Exception) -> TakenId | None:  # noqa: ARG002 - see below
        return None  # where explicit keys move the counter, none that it gives out is taken

    def describe(self, exc: Exception) -> str:
        """Return the server's words for a failed DDL statement, where they show no row."""
        error = next(self._driver_errors(exc), exc)
        if self.classify(exc) in (Failure.CONFLICT, Failure.VALUE, Failure.NARROW):
            return self._reason(error)
        return " ".join(str(error).split())

    def reason(self, error: Exception) -> str:
        """The driver's own words in one line, without values."""
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
