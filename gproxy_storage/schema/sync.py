"""Sync: make the database's schema the one the models declare, or stop with an error.

Snapshot and plan; with nothing to do that is all: three queries, no lock. Otherwise lock, read
again, plan again, check the data, apply, verify. Where DDL is transactional a failure leaves the
database as it was; elsewhere every state in between is one that the next sync completes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..backends.base import Backend
from ..backends.failures import Failure
from ..database import session, translated
from ..errors import IncompatibleSchema, SyncFailed
from .catalog import read_snapshot
from .definitions import definitions
from .plan import Plan, Step, make_plan

LOCK_TIMEOUT_S = 30.0
"""How long a sync waits for locks in all."""

Hook = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        applied: the steps that were executed, in order; empty when nothing was missing.
        elapsed_s: how long it took, in seconds.
    """

    applied: tuple[Step, ...]
    elapsed_s: float

    def __bool__(self) -> bool:
        return bool(self.applied)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return {
            "applied": [
                {"table": step.table, "sql": step.sql, "reason": step.reason}
                for step in self.applied
            ],
            "elapsed_s": round(self.elapsed_s, 3),
        }


def plan(database: Backend) -> Plan:
    """Compare the live schema with the models; takes no lock, writes nothing."""
    with session(database), translated(database, writing=False):
        return _plan(database)


def sync(
    database: Backend, *, lock_timeout_s: float = LOCK_TIMEOUT_S, hook: Hook | None = None
) -> SyncReport:
    """Make the live schema the one that the models declare.

    Adds what is missing; never drops, retypes or rebuilds. Nothing to do: no lock, no DDL.

    Args:
        lock_timeout_s: seconds to wait for locks in all, >= 0: other processes' syncs, and
            transactions that use a table. Those behind it in a queue wait a second at most.
        hook: called with a name between any two steps; for tests.
    Raises:
        IncompatibleSchema: when a difference is not one that sync may mend, or the data break a
            rule that is to be added. Nothing was changed.
        SyncFailed: when a lock cannot be had in time, or the database refuses a step.
    """
    return _Sync(database, lock_timeout_s, hook or (lambda _: None)).run()


def _plan(database: Backend) -> Plan:
    wanted = definitions(database)
    return make_plan(read_snapshot(database, wanted), wanted)


class _Sync:
    """One run of sync."""

    def __init__(self, database: Backend, lock_timeout_s: float, hook: Hook) -> None:
        self._database = database
        self._lock_timeout_s = lock_timeout_s
        self._hook = hook
        self._started = time.monotonic()
        self._applied: list[Step] = []

    def run(self) -> SyncReport:
        database = self._database
        with session(database), translated(database, writing=True):
            first = _plan(database)
            self._refuse(first)
            if first.steps:
                self._retry_while_locked()
        return SyncReport(tuple(self._applied), time.monotonic() - self._started)

    def _retry_while_locked(self) -> None:
        """Attempt it until the tables' locks can be had, or the time is over.

        Each attempt waits a second at most for a lock, for whoever comes later queues behind it.
        """
        while True:
            try:
                self._attempt()
            except _BlockedError as blocked:
                if self._left_s() <= 0:
                    raise self._still_blocked(blocked) from blocked.__cause__
                # A pause, so that those who queued behind the attempt get through.
                time.sleep(random.uniform(0.2, 0.5))  # noqa: S311 - spreads retries, no secret
            else:
                return

    def _attempt(self) -> None:
        database = self._database
        if database.transactional_ddl:
            self._applied.clear()  # an attempt that failed was rolled back
        with database.sync_lock(max(self._left_s(), 0.001)):
            self._hook("locked")
            now = _plan(database)
            self._refuse(now)
            self._check(now)
            for step in now.steps:
                self._apply(step)
            if now.steps:
                self._record_renames(now)
                self._verify()
            self._hook("before commit")

    def _apply(self, step: Step) -> None:
        try:
            self._database.execute_sql(step.sql)
        except Exception as exc:
            if self._database.classify(exc) is Failure.TRANSIENT:
                raise _BlockedError(step) from exc
            raise self._failed(step, exc) from exc
        self._applied.append(step)
        self._hook(f"after {step.sql[:60]}")

    def _record_renames(self, done: Plan) -> None:
        """Note in `storage_state`, which exists by now, which renames this database had."""
        database = self._database
        at = datetime.now(UTC)
        for step in done.steps:
            if step.rename is not None:
                name = step.rename.state_name
                database.execute_sql(
                    f"DELETE FROM storage_state WHERE name = {database.param}",  # noqa: S608
                    (name,),
                )
                values = ", ".join([database.param] * 3)
                database.execute_sql(
                    "INSERT INTO storage_state (name, value, updated_at) "  # noqa: S608
                    f"VALUES ({values})",
                    (name, step.sql, database.time_to_db(at)),
                )

    def _verify(self) -> None:
        rest = _plan(self._database)
        if rest:
            raise SyncFailed(
                f"{self._where()}: after all steps the schema still differs: "
                + "; ".join(str(drift) for drift in rest.drift)
                + self._left_behind(),
                applied=self._applied_sql(),
            )

    # -- refusals -----------------------------------------------------------------------------

    def _refuse(self, found: Plan) -> None:
        if found.incompatible:
            lines = [str(drift) for drift in found.incompatible]
            raise IncompatibleSchema(
                f"{self._where()}: {len(lines)} incompatible difference(s), nothing was changed: "
                + "; ".join(lines)
                + "; mend them by hand, then start again",
                drift=lines,
            )

    def _check(self, found: Plan) -> None:
        lines = []
        for check in found.checks:
            count = self._database.query(check.count_sql)[0][0]
            if count:
                keys = ", ".join(str(key) for (key,) in self._database.query(check.keys_sql))
                lines.append(f"{check.table}: {count} {check.what} (for example rows {keys})")
        if lines:
            raise IncompatibleSchema(
                f"{self._where()}: the data break rules that are to be added, nothing was "
                "changed: " + "; ".join(lines) + "; mend these rows, then start again",
                drift=lines,
            )

    # -- words --------------------------------------------------------------------------------

    def _where(self) -> str:
        return f"sync of {self._database.dsn} ({self._database.name})"

    def _failed(self, step: Step, cause: Exception) -> SyncFailed:
        return self._step_error(step, self._database.describe(cause))

    def _still_blocked(self, blocked: _BlockedError) -> SyncFailed:
        """Say who holds the table: asked now that the attempt is rolled back."""
        holders = self._database.lock_holders(blocked.step.table)
        return self._step_error(
            blocked.step,
            f"the table {blocked.step.table} stayed locked for {self._lock_timeout_s:g} s"
            + (f" (by {holders})" if holders else "")
            + ": end the transactions that use it, then start again",
        )

    def _step_error(self, step: Step, cause: str) -> SyncFailed:
        return SyncFailed(
            f"{self._where()}: step {len(self._applied) + 1}, {step.reason}: {cause}"
            f"{self._left_behind()}; the step was: {step.sql}",
            step=step.sql,
            applied=self._applied_sql(),
        )

    def _left_behind(self) -> str:
        if self._database.transactional_ddl or not self._applied:
            return "; nothing was changed"
        return (
            f"; {len(self._applied)} step(s) before it are applied and stay: start again to "
            "complete them"
        )

    def _applied_sql(self) -> list[str]:
        kept = [] if self._database.transactional_ddl else self._applied
        return [step.sql for step in kept]

    def _left_s(self) -> float:
        return self._started + self._lock_timeout_s - time.monotonic()


class _BlockedError(Exception):
    """A step met a lock that was not given up in time; the attempt was rolled back."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.sql)
        self.step = step
