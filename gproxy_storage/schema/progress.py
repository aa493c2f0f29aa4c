"""How far a sync has come, and the errors that say so."""

from __future__ import annotations

from contextlib import suppress

import peewee

from ..backends.base import Backend
from ..backends.failures import Failure, driver_errors
from ..errors import IncompatibleSchema, StorageError, SyncFailed
from .checks import Check
from .plan import Plan, Step

_ADVICE = {
    Failure.READ_ONLY: "sync it once with a login, a DSN and a server that may write",
    Failure.DENIED: "grant its user CREATE, ALTER, INDEX and REFERENCES, or sync once as the "
    "owner of the tables",
    Failure.LOST: "see that the server runs, then start again: sync goes on from what is there",
    Failure.CONFLICT: "rows were written meanwhile: start again, and sync names them",
    Failure.REFERENCE: "rows were written meanwhile: start again, and sync names them",
}
_CORRECT = "correct the cause, then start again"


class Progress:
    """What a sync has done so far, its place in the plan, and what is wrong with the data.

    Attributes:
        applied: the steps that were executed and not rolled back.
    """

    def __init__(self, database: Backend) -> None:
        self._database = database
        self.applied: list[Step] = []
        self._step: Step | None = None
        self._doing = ""
        self._broken: list[str] = []

    @property
    def _where(self) -> str:
        return f"schema sync of {self._database.dsn} ({self._database.name})"

    # -- the way ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin an attempt: where DDL is transactional, the one before was rolled back."""
        if self._database.transactional_ddl:
            self.applied.clear()
        self._step, self._doing = None, "reading the catalog under the sync lock"
        self._broken.clear()

    def start(self, step: Step, number: int, total: int) -> None:
        """Begin a step of the plan, which must not have been refused."""
        self._step = step
        self._doing = f"step {number}/{total}, table {step.table}, {step.reason}"

    def finish(self) -> None:
        """Leave the last step, for the end of the transaction where there is one."""
        self._step, self._doing = None, "COMMIT"

    # -- refusals: nothing was changed --------------------------------------------------------

    def refuse(self, found: Plan) -> None:
        """Raise where the plan has differences that sync must not touch."""
        if found.incompatible:
            lines = [str(drift) for drift in found.incompatible]
            raise IncompatibleSchema(
                f"{self._where}: {len(lines)} incompatible difference(s), nothing was changed: "
                + "; ".join(lines)
                + "; mend them by hand, then start again",
                drift=lines,
            )

    def check(self, check: Check) -> None:
        """Ask the data a question; the answer counts in `refuse_broken_rules`."""
        self._doing = f"table {check.table}, looking whether {check.what}"
        ((count,),) = self._database.query(check.count_sql)
        if count:
            keys = ", ".join(str(key) for (key,) in self._database.query(check.keys_sql))
            self._broken.append(f"{check.table}: {count} {check.what} (for example rows {keys})")

    def refuse_broken_rules(self) -> None:
        """Raise where a check found rows."""
        if self._broken:
            raise IncompatibleSchema(
                f"{self._where}: the data break rules that are to be added, nothing was changed: "
                + "; ".join(self._broken)
                + "; mend these rows, then start again",
                drift=list(self._broken),
            )

    # -- failures -----------------------------------------------------------------------------

    def verify(self, rest: Plan) -> None:
        """Raise where something is left to do after all steps."""
        if rest:
            drift = "; ".join(str(drift) for drift in rest.drift)
            raise self._error(f"after all steps the schema still differs: {drift}", _CORRECT)

    def failed(self, exc: Exception, boundary: BaseException | None) -> SyncFailed:
        """Return the error for what the database refused."""
        failure = self._database.classify(exc, boundary)
        if failure is Failure.LOST:
            cause = "the connection was lost"
            if self._doing == "COMMIT" or not self._database.transactional_ddl:
                cause += ": whether this was still done is unknown"
        else:
            # The first that went wrong: a rollback that fails after it says less.
            *_, error = driver_errors(exc, self._database.driver_error, boundary)
            cause = self._database.describe(error)
        return self._error(cause, _ADVICE.get(failure, _CORRECT))

    def blocked(self, waited_s: float) -> SyncFailed:
        """Return the error for a table that stayed locked, and who holds it now."""
        tables = (self._step.table, *self._step.references) if self._step else ()
        what = ", ".join(dict.fromkeys(tables)) or "a table"
        holders = ""
        with suppress(StorageError, peewee.PeeweeException):
            holders = f" ({self._database.lock_holders(tables)})"
        return self._error(
            f"a lock on {what} was not given up for {waited_s:g} s{holders}",
            "end the transactions that hold it, then start again",
        )

    def sync_lock_held(self, waited_s: float) -> SyncFailed:
        """Return the error for a sync lock that another process keeps."""
        self._doing = "waiting for the sync lock"
        holder = self._database.sync_lock_holder()
        return self._error(
            f"another process held it for {waited_s:g} s ({holder})",
            "let it end, or end it, then start again",
        )

    def in_transaction(self) -> SyncFailed:
        """Return the error for a call inside a transaction."""
        return SyncFailed(f"{self._where} was called inside a transaction: call it outside of one")

    def _error(self, cause: str, advice: str) -> SyncFailed:
        kept = [] if self._database.transactional_ddl else [step.sql for step in self.applied]
        if kept:
            left = f"{len(kept)} step(s) are applied and stay"
        elif self._doing == "COMMIT":
            left = "either all steps are applied, or none"
        else:
            left = "nothing was changed"
        sql = self._step.sql if self._step else None
        return SyncFailed(
            f"{self._where}: {self._doing}: {cause}; {left}; {advice}"
            + (f"; the step is: {sql}" if sql else ""),
            step=sql,
            applied=kept,
        )
