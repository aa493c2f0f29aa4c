"""SyncState: the state of a sync that is in progress, and the errors that report it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import peewee

from ..backends.base import Backend
from ..backends.failures import Failure, driver_errors
from ..errors import IncompatibleSchema, StorageError, SyncFailed
from .checks import Check
from .plan import Plan, Step

_ADVICE = {
    Failure.READ_ONLY: "sync it once with a user, a DSN and a server that can write",
    Failure.DENIED: "grant its user CREATE, ALTER, INDEX and REFERENCES, or sync once as the "
    "owner of the tables",
    Failure.LOST: "check that the server runs, then start again: sync continues where it stopped",
    Failure.CONFLICT: "rows were written meanwhile: start again, and sync lists them",
    Failure.REFERENCE: "rows were written meanwhile: start again, and sync lists them",
}
_CORRECT = "correct the cause, then start again"


class SyncState:
    """A sync's executed steps and its current step.

    Attributes:
        applied: the steps that were executed and not rolled back.
    """

    def __init__(self, database: Backend) -> None:
        self._database = database
        self.applied: list[Step] = []
        self._step: Step | None = None
        self._doing = ""

    @property
    def where(self) -> str:
        """What is done, for messages."""
        return f"schema sync of {self._database.dsn} ({self._database.name})"

    # -- phases -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin an attempt; with transactional DDL the previous one was rolled back."""
        if self._database.transactional_ddl:
            self.applied.clear()
        self._step, self._doing = None, "reading the schema under the sync lock"

    def start(self, step: Step, number: int, total: int) -> None:
        """Begin a step of the plan."""
        self._step = step
        self._doing = f"step {number}/{total}, table {step.table}, {step.reason}"

    def finish(self) -> None:
        """Leave the last step; the COMMIT follows, if there is a transaction."""
        self._step, self._doing = None, "COMMIT"

    # -- refusals: nothing was changed --------------------------------------------------------

    def refuse(self, found: Plan) -> None:
        """Raise IncompatibleSchema if the plan has differences that sync must not change."""
        if found.incompatible:
            lines = [str(drift) for drift in found.incompatible]
            raise IncompatibleSchema(
                f"{self.where}: {len(lines)} incompatible difference(s), nothing was changed: "
                + "; ".join(lines)
                + "; fix them by hand, then start again",
                drift=lines,
            )

    def check(self, checks: Iterable[Check]) -> None:
        """Run all checks of the data; raise IncompatibleSchema if they find rows."""
        violations = []
        for check in checks:
            self._doing = f"table {check.table}, checking whether {check.what}"
            ((count,),) = self._database.query(check.count_sql)
            if count:
                keys = ", ".join(str(key) for (key,) in self._database.query(check.keys_sql))
                violations.append(f"{check.table}: {count} {check.what} (for example rows {keys})")
        if violations:
            raise IncompatibleSchema(
                f"{self.where}: the data violate constraints that are to be added, nothing was "
                "changed: " + "; ".join(violations) + "; fix these rows, then start again",
                drift=violations,
            )

    # -- failures -----------------------------------------------------------------------------

    def verify(self, rest: Plan) -> None:
        """Raise SyncFailed if the plan made after all steps is not empty."""
        if rest:
            drift = "; ".join(str(drift) for drift in rest.drift)
            raise self._error(f"after all steps the schema still differs: {drift}", _CORRECT)

    def failed(self, exc: Exception, boundary: BaseException | None) -> SyncFailed:
        """Return the error for a step that the database refused."""
        failure = self._database.classify(exc, boundary)
        if failure is Failure.LOST:
            cause = "the connection was lost"
            if self._doing == "COMMIT" or not self._database.transactional_ddl:
                cause += ": whether this step was done is unknown"
        else:
            # The first error: that of a failed rollback after it says less.
            *_, error = driver_errors(exc, self._database.driver_error, boundary)
            cause = self._database.describe(error)
        return self._error(cause, _ADVICE.get(failure, _CORRECT))

    def blocked(self, waited_s: float) -> SyncFailed:
        """Return the error for a table that stayed locked, with the holders of its locks."""
        tables = (self._step.table, *self._step.references) if self._step else ()
        what = ", ".join(dict.fromkeys(tables)) or "a table"
        holders = ""
        with suppress(StorageError, peewee.PeeweeException):
            holders = f" ({self._database.lock_holders(tables)})"
        return self._error(
            f"a lock on {what} was not released within {waited_s:g} s{holders}",
            "end the transactions that hold it, then start again",
        )

    def sync_lock_held(self, waited_s: float) -> SyncFailed:
        """Return the error for a sync lock that another process holds."""
        self._doing = "waiting for the sync lock"
        holder = self._database.sync_lock_holder()
        return self._error(
            f"another process held it for {waited_s:g} s ({holder})",
            "wait for it to end, or end it, then start again",
        )

    def _error(self, cause: str, advice: str) -> SyncFailed:
        kept = [] if self._database.transactional_ddl else [step.sql for step in self.applied]
        if kept:
            left = f"{len(kept)} step(s) remain applied"
        elif self._doing == "COMMIT":
            left = "either all steps are applied, or none"
        else:
            left = "nothing was changed"
        sql = self._step.sql if self._step else None
        return SyncFailed(
            f"{self.where}: {self._doing}: {cause}; {left}; {advice}"
            + (f"; the step is: {sql}" if sql else ""),
            step=sql,
            applied=kept,
        )
