"""Sync: bring the database's schema to the one the models declare, or stop with an error.

Take a snapshot and make a plan; if it is empty, that is all: three queries, no lock. Otherwise
lock, read and plan again, check the data, apply, verify. Where DDL is transactional a failure
leaves the database as it was; elsewhere the next sync completes an interrupted one.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backends.base import Backend
from ..backends.failures import Failure, SyncLockHeldError
from ..database import run_query, session, translated, unwind
from ..errors import SyncFailed, WriteError
from . import LOCK_TIMEOUT_S
from .definitions import definitions
from .plan import Drift, Plan, Step, make_plan
from .snapshot import read_snapshot
from .sync_state import SyncState

Hook = Callable[[str], None]
Refuse = Callable[[Plan], None]


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of a sync.

    Attributes:
        applied: the steps that were executed, in order; empty when nothing was missing.
        elapsed_s: how long it took, in seconds.
        narrower: the columns that are narrower than declared, and what each loses.
    """

    applied: tuple[Step, ...]
    elapsed_s: float
    narrower: tuple[Drift, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.applied)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return {
            "applied": [step.to_dict() for step in self.applied],
            "elapsed_s": round(self.elapsed_s, 3),
            "narrower": [{"table": drift.table, "what": drift.what} for drift in self.narrower],
        }


def plan(database: Backend, *, widen: bool = False) -> Plan:
    """Compare the live schema with the models, as `sync` does; takes no lock, writes nothing."""
    return run_query(database, lambda: _plan(database, widen=widen))


def sync(
    database: Backend,
    *,
    widen: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    progress: Callable[[], None] = _ignore,
    refuse: Refuse = _ignore,
    hook: Hook = _ignore,
) -> SyncReport:
    """Bring the live schema to the one that the models declare.

    Adds what is missing and drops the indexes in `retired.py`. Changes no types except with
    `widen`, and drops nothing else. With nothing to do it takes no lock and executes no DDL.

    Args:
        widen: change the columns that are narrower than declared to their declared types, with one
            ALTER per table. The database copies such a table, and its writers wait meanwhile.
        lock_timeout_s: seconds to wait for locks in total, >= 0: other processes' syncs, and
            transactions that use a table. Others that queue behind it wait a second at most.
        progress: called after each step.
        refuse: called with each plan before anything is done; raises to do nothing.
        hook: called with a name between any two steps; for tests.
    Raises:
        IncompatibleSchema: when sync may not fix a difference, or the data violate a constraint
            that is to be added. Nothing was changed.
        SyncFailed: when a lock cannot be acquired in time, or the database refuses a step.
    """
    return _Sync(database, widen, lock_timeout_s, progress, refuse, hook).run()


def _plan(database: Backend, *, widen: bool) -> Plan:
    wanted = definitions(database)
    found = make_plan(read_snapshot(database, wanted), wanted, widen=widen)
    database.narrow = found.narrow  # for the errors of values that are too long
    return found


@dataclass(eq=False, repr=False)
class _Sync:
    """One run of sync, with its arguments."""

    _database: Backend
    _widen: bool
    _lock_timeout_s: float
    _progress: Callable[[], None]
    _refuse: Refuse
    _hook: Hook

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._state = SyncState(self._database)

    def run(self) -> SyncReport:
        database = self._database
        if database.in_transaction():
            where = self._state.where
            raise SyncFailed(f"{where} was called inside a transaction: call it outside of one")
        is_outermost = database.is_closed()
        try:
            with session(database), translated(database, writing=True):
                found = plan(database, widen=self._widen)
                self._state.refuse(found)
                self._refuse(found)
                if found.steps:
                    found = self._until_unblocked()
        except BaseException:  # a signal handler may have raised while a lock was being left
            unwind(database, is_outermost)
            raise
        elapsed_s = time.monotonic() - self._started
        return SyncReport(tuple(self._state.applied), elapsed_s, found.narrower)

    def _until_unblocked(self) -> Plan:
        """Try until the tables' locks can be acquired, or the time is over.

        Each attempt waits a second at most for a lock, since later transactions queue behind it.
        """
        boundary = sys.exception()
        while True:
            try:
                return self._attempt()
            except SyncLockHeldError as exc:
                raise self._state.sync_lock_held(self._lock_timeout_s) from exc
            except Exception as exc:
                if isinstance(exc, WriteError) and exc.committed is None:  # of COMMIT
                    raise self._state.failed(exc, boundary) from exc
                if self._database.translate(exc, writing=True, boundary=boundary) is None:
                    raise  # not a database error
                if self._database.classify(exc, boundary) is not Failure.TRANSIENT:
                    raise self._state.failed(exc, boundary) from exc
                if self._left_s() <= 0:
                    raise self._state.blocked(self._lock_timeout_s) from exc
                # A pause, so that transactions that queued behind the attempt proceed.
                time.sleep(min(random.uniform(0.2, 0.5), self._left_s()))  # noqa: S311 - no secret

    def _attempt(self) -> Plan:
        database, state = self._database, self._state
        state.begin()
        with database.sync_lock(max(self._left_s(), 0)):
            self._hook("locked")
            now = _plan(database, widen=self._widen)
            state.refuse(now)
            self._refuse(now)
            state.check(now.checks)
            for number, step in enumerate(now.steps, 1):
                state.start(step, number, len(now.steps))
                if step.action is None:
                    database.execute_sql(step.sql)
                else:
                    step.action(database)
                state.applied.append(step)
                self._progress()
                self._hook(f"after {step.sql[:60]}")
            left = now
            if now.steps:
                self._record_renames(now)
                left = _plan(database, widen=self._widen)
                state.verify(left)
            self._hook("before commit")
            state.finish()
        return left

    def _record_renames(self, done: Plan) -> None:
        """Record the renames in `storage_state`, which exists by now."""
        database = self._database
        at = database.now_to_db()
        for step in done.steps:
            if step.rename is not None:
                name, param = f"schema.rename.{step.rename.number}", database.param
                database.execute_sql(
                    f"DELETE FROM storage_state WHERE name = {param}",  # noqa: S608 - placeholders
                    (name,),
                )
                database.execute_sql(
                    "INSERT INTO storage_state (name, value, updated_at) "  # noqa: S608 - placeholders
                    f"VALUES ({param}, {param}, {param})",
                    (name, step.sql, at),
                )

    def _left_s(self) -> float:
        return self._started + self._lock_timeout_s - time.monotonic()
