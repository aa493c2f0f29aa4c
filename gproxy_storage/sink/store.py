"""BatchStore: one batch, one transaction, exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from ..backends.base import Backend
from ..backends.bulk import Row, parts
from ..backends.failures import Failure
from ..backends.taken_ids import TakenIds
from ..database import MAX_ATTEMPTS, back_off, session
from ..errors import ConnectError, PoolTimeout
from ..log_rows import DOWNSTREAM_REQUESTS, GIVEN_KEYS, LOGS, USAGES
from ..models import DownstreamRequest
from ..money import nano_of, to_double
from .batch import Batch
from .bisection import (
    CONCERNS_THE_DATABASE,
    QUOTAS_A_STATEMENT,
    AnotherPass,
    Bisection,
    DatabaseAway,
    History,
    reason,
)
from .rejects import RejectsFile
from .settings import SinkSettings

T = TypeVar("T")

_USER = USAGES.bulk.columns.index("user_id")
_USER_AND_COST = itemgetter(_USER, USAGES.bulk.columns.index("cost"))
_REQUESTS_USER = DOWNSTREAM_REQUESTS.bulk.columns.index("user_id")
_TRACE_ID: Any = DownstreamRequest.trace_id
_IDS_A_QUERY = 1000

# After one missing parent, expect more: this many batches check their references first.
_BATCHES_TO_CHECK = 64
_MAX_MISSING_REFERENCES = 3


class StoreResult(NamedTuple):
    """The result of storing a batch.

    Attributes:
        written: number of rows that were stored.
        rejected: number of rows that the database refused.
        repeated: the batch had been stored before; nothing was written now.
    """

    written: int
    rejected: int
    repeated: bool = False


class _Attempts:
    """The attempts at storing one batch so far."""

    def __init__(self, database: Backend) -> None:
        self.taken_ids = TakenIds(database, given=GIVEN_KEYS)
        self.failed = 0
        self.began_at = time.monotonic()
        self.answered = False
        self.kills = 0
        self.missing_references = 0
        self.bisection: Bisection | None = None


class Watchdog:
    """Aborts the connection of a transaction that takes too long, so that its thread continues.

    Drivers wait without a time-out: a server or network that hangs would block the writer forever.
    """

    def __init__(self, database: Backend, timeout_s: float) -> None:
        self._database = database
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._conn: Any = None
        self._deadline = 0.0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start watching, in a thread of its own."""
        threading.Thread(target=self._run, name="gproxy-sink-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    @contextmanager
    def watching(self, conn: Any) -> Iterator[None]:
        """Watch the block's use of a connection."""
        self._deadline = time.monotonic() + self._timeout_s
        self._conn = conn
        try:
            yield
        finally:
            with self._lock:  # never abort a connection that another thread has borrowed since
                self._conn = None

    def abort(self) -> None:
        """Abort the connection that is being watched now, if any."""
        with self._lock:
            if self._conn is not None:
                self._database.abort(self._conn)

    def _run(self) -> None:
        while not self._stopped.wait(min(self._timeout_s / 4, 5.0)):
            if self._conn is not None and time.monotonic() > self._deadline:
                self.abort()


class BatchStore:
    """Stores batches of any writer; not thread-safe.

    Attributes:
        retry_s: as in the settings; may be lowered.
        retried: number of attempts at batches after the first of each.
        watchdog: the caller starts and stops it.
    """

    def __init__(self, database: Backend, settings: SinkSettings) -> None:
        self.retry_s = settings.retry_s
        self.retried = 0
        self.watchdog = Watchdog(database, settings.stall_timeout_s)
        self._database = database
        self._registered: set[str] = set()
        self._batches_to_check = 0
        self._history = History()
        param = database.param
        self._raise_sql = (
            f"UPDATE write_batches SET seq = {param}, at = {param} "  # noqa: S608 - a placeholder
            f"WHERE writer = {param} AND seq < {param}"
        )

    def store(self, writer: str, batch: Batch, rejects: RejectsFile) -> StoreResult:
        """Store a batch and raise its writer's sequence number, in one transaction.

        Transient errors are retried, even a COMMIT with an unknown outcome: the sequence number
        tells. Rows that the database refuses are kept in the rejects file; references to deleted
        rows become NULL.

        Raises:
            DatabaseAway: when the batch is not stored, or perhaps not; try it again later.
        """
        attempts = _Attempts(self._database)
        self.expect(batch)
        while True:
            try:
                return self._attempt(writer, batch, rejects, attempts)
            except (ConnectError, PoolTimeout) as exc:
                raise DatabaseAway(str(exc)) from exc
            except DatabaseAway:
                raise
            except AnotherPass:
                back_off(1)
            except Exception as exc:
                self._prepare_retry(exc, attempts)
            self.retried += 1

    @contextmanager
    def _watched_session(self) -> Iterator[None]:
        with session(self._database), self.watchdog.watching(self._database.connection()):
            yield

    def expect(self, batch: Batch) -> None:
        """Record the tables of a batch that is to be stored, now or later."""
        self._history.tables.update(log for log, rows in enumerate(batch.rows) if rows)

    def run_watched(self, callback: Callable[[], T]) -> T:
        """Call a function that queries the database, in a session under the watchdog.

        Raises:
            DatabaseAway: when it fails.
        """
        try:
            with self._watched_session():
                return callback()
        except Exception as exc:
            raise DatabaseAway(reason(self._database, exc)) from exc

    def forget(self, writer: str) -> None:
        """Delete a writer's row, when no file has batches of it any more.

        Raises:
            DatabaseAway: when it cannot be deleted now.
        """
        sql = f"DELETE FROM write_batches WHERE writer = {self._database.param}"  # noqa: S608 - a placeholder
        self.run_watched(partial(self._database.execute_sql, sql, (writer,)))
        self._registered.discard(writer)

    # -- one attempt --------------------------------------------------------------------------

    def _attempt(
        self, writer: str, batch: Batch, rejects: RejectsFile, attempts: _Attempts
    ) -> StoreResult:
        database = self._database
        attempts.answered = False
        with self._watched_session():
            if writer not in self._registered:
                self._register(writer)
            with database.bulk_transaction():
                if not self._raise_seq(writer, batch.seq):
                    return StoreResult(len(batch), 0, repeated=True)
                attempts.answered = True
                return self._insert(batch, rejects, attempts)

    def _insert(self, batch: Batch, rejects: RejectsFile, attempts: _Attempts) -> StoreResult:
        rows = batch.rows
        if attempts.missing_references or self._batches_to_check:
            self._batches_to_check = max(0, self._batches_to_check - 1)
            rows = self._without_deleted(rows)
        if of_downstream := rows[LOGS.index(DOWNSTREAM_REQUESTS)]:
            # Their first column is the key, which the caller chooses.
            self._database.will_insert_id(_TRACE_ID, max(row[0] for row in of_downstream))
        if attempts.bisection is None:
            self._insert_all(rows)
            self._history.faults.clear()
            return StoreResult(len(batch), 0)
        self._lock_users(rows)
        refused = attempts.bisection.insert(self._database, rows, _costs)
        if refused:
            try:
                rejects.keep(batch.seq, refused)  # before COMMIT: nothing is lost between the two
            except OSError as exc:
                raise DatabaseAway(f"{rejects.path} cannot be written: {exc.strerror}") from exc
        return StoreResult(len(batch) - len(refused), len(refused))

    def _prepare_retry(self, exc: Exception, attempts: _Attempts) -> None:
        """Decide how the next attempt differs, or raise DatabaseAway if there is none now."""
        failure = self._database.classify(exc)
        if failure in CONCERNS_THE_DATABASE or isinstance(exc, MemoryError):
            raise DatabaseAway(reason(self._database, exc)) from exc
        if failure in (Failure.LOST, Failure.TRANSIENT):
            if failure is Failure.LOST and attempts.answered and self._suspects_rows(attempts):
                return
            self._pause(exc, attempts)
        elif attempts.taken_ids.met(exc) and self.run_watched(
            partial(attempts.taken_ids.passed, exc)
        ):
            return
        elif failure is Failure.REFERENCE and attempts.missing_references < _MAX_MISSING_REFERENCES:
            attempts.missing_references += 1
            self._batches_to_check = _BATCHES_TO_CHECK
        elif attempts.bisection is None:
            attempts.bisection = Bisection(self._history)
        else:
            self._pause(exc, attempts)

    def _suspects_rows(self, attempts: _Attempts) -> bool:
        """Whether a connection that had answered may have been lost because of the rows sent."""
        attempts.kills += 1
        if attempts.bisection is not None:
            return attempts.bisection.note_lost_connection()
        if attempts.kills > 1:
            attempts.bisection = Bisection(self._history)
            return True
        return False

    def _pause(self, exc: Exception, attempts: _Attempts) -> None:
        attempts.failed += 1
        is_late = time.monotonic() - attempts.began_at > self.retry_s
        if attempts.failed >= MAX_ATTEMPTS or is_late:
            raise DatabaseAway(reason(self._database, exc)) from exc
        back_off(attempts.failed)

    # -- statements ---------------------------------------------------------------------------

    def _register(self, writer: str) -> None:
        """Create the writer's row outside of the batch's transaction, which only updates it."""
        if self._read_seq(writer) is None:
            param = self._database.param
            sql = f"INSERT INTO write_batches (writer, seq, at) VALUES ({param}, 0, {param})"  # noqa: S608 - a placeholder
            self._database.execute_sql(sql, (writer, self._database.now_to_db()))
        self._registered.add(writer)

    def _read_seq(self, writer: str) -> int | None:
        sql = f"SELECT seq FROM write_batches WHERE writer = {self._database.param}"  # noqa: S608 - a placeholder
        found = self._database.query(sql, (writer,))
        return int(found[0][0]) if found else None

    def _raise_seq(self, writer: str, seq: int) -> bool:
        """Raise the sequence number; False if the batch is stored already."""
        cursor = self._database.execute_sql(
            self._raise_sql, (seq, self._database.now_to_db(), writer, seq)
        )
        if cursor.rowcount == 1:
            return True
        if self._read_seq(writer) is None:
            self._registered.discard(writer)
            raise DatabaseAway("the writer's row in write_batches was deleted")
        return False

    def _insert_all(self, rows: tuple[list[Row], ...]) -> None:
        database = self._database
        usages, _, downstream = rows
        ordered: list[Row] = usages
        if database.locks_parents:
            ordered = sorted(usages, key=lambda usage: usage[_USER] or 0)
            if ordered and any(request[_REQUESTS_USER] is not None for request in downstream):
                self._lock_users(rows)
        for log, of_log in zip(LOGS, (ordered, *rows[1:]), strict=True):
            if of_log:
                database.bulk_insert(log.bulk, of_log)
        now = database.now_to_db()
        for part in parts(_costs(usages), QUOTAS_A_STATEMENT):
            database.add_costs(part, now)

    def _lock_users(self, rows: tuple[list[Row], ...]) -> None:
        """Lock the users that rows refer to, in the order of their ids, if inserting locks them.

        Permissions are granted under locks of users in that order; any other order may deadlock.
        """
        if not self._database.locks_parents:
            return
        usages, _, downstream = rows
        users = {usage[_USER] for usage in usages} | {row[_REQUESTS_USER] for row in downstream}
        self._existing("users", users - {None}, self._database.share_lock)

    def _without_deleted(self, rows: tuple[list[Row], ...]) -> tuple[list[Row], ...]:
        """Return the rows with NULL in place of references to missing rows."""
        wanted: dict[str, set[int]] = {}
        for log, of_log in zip(LOGS, rows, strict=True):
            for position, table in log.parents.items():
                wanted.setdefault(table, set()).update(row[position] for row in of_log)
        missing = {
            table: ids - self._existing(table, ids - {None}) - {None}
            for table, ids in wanted.items()
        }
        return tuple(
            [_with_nulls(row, log.parents, missing) for row in of_log]
            for log, of_log in zip(LOGS, rows, strict=True)
        )

    def _existing(self, table: str, ids: set[int], lock: str = "") -> set[int]:
        """Return those of the ids that a table has, read in their order."""
        found: set[int] = set()
        for part in parts(sorted(ids), _IDS_A_QUERY):
            params = ", ".join([self._database.param] * len(part))
            sql = f"SELECT id FROM {table} WHERE id IN ({params}) ORDER BY id {lock}"  # noqa: S608 - our own name
            found.update(row[0] for row in self._database.query(sql, part))
        return found


class _NanoOf(dict[float, int]):
    """`nano_of` by cost: many calls cost the same."""

    def __missing__(self, cost: float) -> int:
        nano = self[cost] = nano_of(cost)
        return nano


def _costs(usages: list[Row]) -> list[tuple[int, float]]:
    """Return the cost of usages per user, in the order of users, so that sinks do not deadlock."""
    nano: dict[int, int] = {}
    known = _NanoOf()
    for user, cost in map(_USER_AND_COST, usages):
        if user is not None:
            nano[user] = nano.get(user, 0) + known[cost]
    return [(user, to_double(total)) for user, total in sorted(nano.items())]


def _with_nulls(row: Row, parents: dict[int, str], missing: dict[str, set[int]]) -> Row:
    gone = [position for position, table in parents.items() if row[position] in missing[table]]
    if not gone:
        return row
    return tuple(None if position in gone else value for position, value in enumerate(row))
