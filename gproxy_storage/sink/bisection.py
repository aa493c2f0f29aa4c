"""Bisection: finds the rows that the database refuses, and inserts the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from ..backends.base import Backend
from ..backends.bulk import Row, parts
from ..backends.failures import Failure
from ..backends.taken_ids import TakenIds
from ..log_rows import GIVEN_KEYS, LOGS, USAGES, probe_row
from .rejects import Reject

ENDS_THE_TRANSACTION = (Failure.LOST, Failure.TRANSIENT)
CONCERNS_THE_DATABASE = (Failure.SCHEMA, Failure.READ_ONLY, Failure.DENIED, Failure.EXHAUSTED)
"""Failures not caused by row data: the batch can be stored once the cause is fixed."""

QUOTAS_A_STATEMENT = 500

_KILLS = 2  # one lost connection may be coincidence
_PASSES = 3  # attempts at a row that is refused for an unknown reason
_MAX_PASSES = 20

_TABLE_PATIENCE = 8
"""Attempts, some 20 s, at a table that refuses all rows while other tables accept theirs."""

_USAGES = LOGS.index(USAGES)
_USER = USAGES.bulk.columns.index("user_id")


class DatabaseAway(Exception):  # noqa: N818 - a state of the database, not an error of a call
    """The database cannot take the batch now; the reason is one line without values."""


class AnotherPass(Exception):  # noqa: N818 - it asks for something
    """Roll the transaction back and repeat it with what the bisection has learnt."""


class _EndsTransaction(Exception):  # noqa: N818 - likewise
    """A refusal ended the whole transaction, as a trigger may on SQLite."""


class _Undo(Exception):  # noqa: N818 - likewise
    """Roll a savepoint back."""


class _Part(NamedTuple):
    """Rows of one log, from position `start` to before `stop`."""

    log: int
    start: int
    stop: int

    def halves(self) -> tuple[_Part, _Part]:
        middle = (self.start + self.stop) // 2
        return self._replace(stop=middle), self._replace(start=middle)


class _Uncharged(NamedTuple):
    """A cost that cannot be added to a user's quota, and whether that ends the transaction."""

    cost: float
    reason: str
    ends: bool


@dataclass
class History:
    """The findings of a store's earlier batches.

    Attributes:
        refusals: the log and reason of rows that were refused while the database accepted others.
        tables: the logs of which there were rows.
        faults: a log -> the number of attempts in which it refused all rows.
    """

    refusals: set[tuple[int, str]] = field(default_factory=set)
    tables: set[int] = field(default_factory=set)
    faults: Counter[int] = field(default_factory=Counter)


class Bisection:
    """The findings about one batch's rows, kept while its transaction is repeated.

    Parts that fail are halved under savepoints of one transaction. A part that ends the transaction
    (a row larger than the server's packet loses the connection) is recorded, and halved or refused
    in the next pass. So are usages whose costs cannot be added to the user's quota.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._passes = 1
        self._to_halve: set[_Part] = set()
        self._fatal: dict[_Part, str] = {}  # single rows that end the transaction -> the reason
        self._kills: Counter[_Part] = Counter()
        self._users: dict[int, _Uncharged] = {}  # users whose quotas cannot be charged
        self._charge_singly: set[int] = set()  # users to charge by a statement each
        self._trying: _Part | None = None

    def insert(
        self,
        database: Backend,
        rows: tuple[list[Row], ...],
        costs: Callable[[list[Row]], Sequence[tuple[int, float]]],
    ) -> list[Reject]:
        """Insert the rows that the database accepts, in this thread's transaction.

        Args:
            costs: returns the users' costs of usages, in the order of users.
        Returns:
            The refused rows.
        Raises:
            AnotherPass: when the transaction must be repeated.
            DatabaseAway: when other rows would be refused, too: the rows are not at fault.
        """
        run = _Run(self, database, rows)
        database.check_at_once()
        for log, of_log in enumerate(rows):
            if of_log:
                run.insert(_Part(log, 0, len(of_log)))
        self._trying = None
        run.charge(costs(run.usages))
        if run.unexplained - self._history.refusals and self._passes < _PASSES:
            raise self._another_pass()
        if run.users:
            self._users |= run.users
            raise self._another_pass()
        if run.refused:
            run.check_database(self._history)
            if run.accepts_now():  # fixed meanwhile, or refused only sometimes
                self._users.clear()
                raise self._another_pass()
            self._history.refusals |= run.unexplained
        return run.refused

    def _another_pass(self) -> Exception:
        self._passes += 1
        if self._passes > _MAX_PASSES + len(self._users):
            return DatabaseAway("it refuses rows that it accepts in other attempts")
        return AnotherPass()

    def note_lost_connection(self) -> bool:
        """Suspect the rows being inserted; return whether another attempt would differ."""
        part = self._trying
        if part is None:
            return False
        self._kills[part] += 1
        if self._kills[part] >= _KILLS:
            self._record_fatal(part, "the server closed the connection at this row, twice")
        return True

    def _record_fatal(self, part: _Part, why: str) -> None:
        if part.stop - part.start > 1:
            self._to_halve.add(part)
        else:
            self._fatal[part] = why


@dataclass(eq=False, repr=False)
class _Run:
    """One pass over the rows, in one transaction.

    Attributes:
        usages: those that were inserted.
        unexplained: log and reason of refusals whose meaning is unknown.
        users: users whose quotas cannot be charged.
    """

    _known: Bisection
    _database: Backend
    _rows: tuple[list[Row], ...]
    usages: list[Row] = field(default_factory=list)
    refused: list[Reject] = field(default_factory=list)
    unexplained: set[tuple[int, str]] = field(default_factory=set)
    users: dict[int, _Uncharged] = field(default_factory=dict)

    def insert(self, part: _Part) -> None:
        """Insert a part's rows, in halves if that fails."""
        rows = self._rows[part.log][part.start : part.stop]
        why = self._known._fatal.get(part) or self._why_not_charged(part, rows)
        if why is None and part not in self._known._to_halve:
            self._known._trying = part
            try:
                why = self._attempt(part.log, partial(self._insert_rows, part.log, rows))
            except _EndsTransaction as end:
                self._known._record_fatal(part, str(end))
                raise AnotherPass from end
            if why is None:
                if part.log == _USAGES:
                    self.usages.extend(rows)
                return
        if why is not None and len(rows) == 1:
            self.refused.append(Reject(part.log, part.start, rows[0], why))
            return
        self._known._to_halve.add(part)
        for half in part.halves():
            self.insert(half)

    def charge(self, costs: Sequence[tuple[int, float]]) -> None:
        """Add costs to quotas, in halves if that fails."""
        known = self._known
        together = [cost for cost in costs if cost[0] not in known._charge_singly]
        single = [[cost] for cost in costs if cost[0] in known._charge_singly]
        for some in (*parts(together, QUOTAS_A_STATEMENT), *single):
            try:
                why = self._attempt(_USAGES, partial(self._add_costs, some))
            except _EndsTransaction as end:
                if len(some) > 1:
                    known._charge_singly.update(user for user, _ in some)
                else:
                    known._users |= _uncharged(some[0], str(end), ends=True)
                raise AnotherPass from end
            if why is None:
                continue
            if len(some) == 1:
                self.users |= _uncharged(some[0], why)
                continue
            self.charge(some[: len(some) // 2])
            self.charge(some[len(some) // 2 :])

    def check_database(self, history: History) -> None:
        """Insert a probe row and roll it back: only if that works, the refused rows are at fault.

        If a table refuses the probe, too, the table is at fault, and the batch waits; but only for
        a limited time if other tables accept rows, which would have to wait as well.

        Raises:
            DatabaseAway: when the batch has to wait.
        """
        refusing = {reject.log for reject in self.refused}
        if any(map(self._accepts_probe, sorted(refusing))):
            return
        if any(map(self._accepts_probe, sorted(history.tables - refusing))):
            history.faults.update(refusing)
            if all(history.faults[log] > _TABLE_PATIENCE for log in refusing):
                return
        raise DatabaseAway(self.refused[0].reason)

    def accepts_now(self) -> bool:
        """Whether the database now accepts a row or cost that it refused for an unknown reason."""
        unexplained = self.unexplained
        rows = [kept for kept in self.refused if (kept.log, kept.reason) in unexplained]
        users = [found for found in self._known._users.items() if not found[1].ends]
        return any(
            self._attempt(log, partial(self._undone, write)) is None
            for log, write in (
                *((kept.log, partial(self._insert_rows, kept.log, [kept.row])) for kept in rows),
                *((_USAGES, partial(self._add_costs, [(id_, user.cost)])) for id_, user in users),
            )
        )

    def _accepts_probe(self, log: int) -> bool:
        write = partial(self._insert_rows, log, [probe_row(LOGS[log])])
        try:
            return self._attempt(log, partial(self._undone, write)) is None
        except _EndsTransaction as end:
            raise DatabaseAway(self.refused[0].reason) from end

    def _attempt(self, log: int, write: Callable[[], None]) -> str | None:
        """Write under a savepoint; return why the database refused that, or None."""
        database = self._database
        try:
            with database.atomic():
                write()
        except _Undo:
            return None
        except MemoryError:
            raise
        except Exception as exc:
            failure = database.classify(exc)
            if failure in ENDS_THE_TRANSACTION or failure in CONCERNS_THE_DATABASE:
                raise
            if TakenIds(database, given=GIVEN_KEYS).met(exc):
                raise  # the next attempt gets new keys
            if database.is_ended():
                raise _EndsTransaction(reason(database, exc)) from exc
            # MariaDB may report a packet that is too large and then close the connection: detect
            # that now, so that this part is suspected and not the next one.
            database.query("SELECT 1")
            why = reason(database, exc)
            if failure is Failure.OTHER:
                self.unexplained.add((log, why))
            return why
        return None

    def _undone(self, write: Callable[[], None]) -> None:
        write()
        raise _Undo

    def _insert_rows(self, log: int, rows: list[Row]) -> None:
        self._database.bulk_insert(LOGS[log].bulk, rows)

    def _add_costs(self, costs: Sequence[tuple[int, float]]) -> None:
        self._database.add_costs(costs, self._database.now_to_db())

    def _why_not_charged(self, part: _Part, rows: list[Row]) -> str | None:
        users = self._known._users
        if part.log != _USAGES or not users:
            return None
        return next((users[row[_USER]].reason for row in rows if row[_USER] in users), None)


def _uncharged(cost: tuple[int, float], why: str, *, ends: bool = False) -> dict[int, _Uncharged]:
    why = f"its cost cannot be added to the user's quota: {why}"
    return {cost[0]: _Uncharged(cost[1], why, ends)}


def reason(database: Backend, exc: Exception) -> str:
    """Return why the database refused something, in one line without values."""
    error = database.translate(exc, writing=True)
    return " ".join(str(error).split()) if error is not None else type(exc).__name__
