"""Bisection: find the rows that the database refuses, and insert the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ..backends.base import Backend
from ..backends.bulk import Row, parts
from ..backends.failures import Failure
from ..backends.taken_ids import TakenIds
from ..rows import GIVEN_KEYS, LOGS, USAGES, innocuous_row
from .rejects import Reject

ENDS_THE_TRANSACTION = (Failure.LOST, Failure.TRANSIENT)
CONCERNS_THE_DATABASE = (Failure.SCHEMA, Failure.READ_ONLY, Failure.DENIED, Failure.EXHAUSTED)
"""What no row is to blame for: the same batch may be stored once that is put right."""

QUOTAS_A_STATEMENT = 500

_KILLS = 2  # one lost connection may be coincidence
_PASSES = 3  # so often a row is tried that is refused for a reason that is not known
_MAX_PASSES = 20

_TABLE_PATIENCE = 8
"""So many attempts, some 20 s, wait for a table that refuses any row while others take theirs."""

_USAGES = LOGS.index(USAGES)
_USER = USAGES.bulk.columns.index("user_id")


class DatabaseAway(Exception):  # noqa: N818 - a state of the database, not an error of a call
    """The database cannot take the batch now; the reason is one line without values."""


class AnotherPass(Exception):  # noqa: N818 - it asks for something
    """Roll the transaction back and begin it anew: the bisection knows more by now."""


class _EndsTransaction(Exception):  # noqa: N818 - likewise
    """What was refused took the whole transaction with it, as a trigger may on SQLite."""


class _Undo(Exception):  # noqa: N818 - likewise
    """Roll a savepoint back."""


class _Part(NamedTuple):
    """Rows of one log, from a place to before another."""

    log: int
    start: int
    stop: int

    def halves(self) -> tuple[_Part, _Part]:
        middle = (self.start + self.stop) // 2
        return self._replace(stop=middle), self._replace(start=middle)


class _Uncharged(NamedTuple):
    """What a user's quota does not take; and whether that ends the transaction."""

    cost: float
    reason: str
    ends: bool


class Precedents:
    """What earlier batches of a store have shown.

    Attributes:
        refusals: the table and reason of rows that were refused while the database took others.
        tables: the logs of which there are rows.
        faults: a log -> how many attempts have found that it refuses any row.
    """

    def __init__(self) -> None:
        self.faults: Counter[int] = Counter()
        self.refusals: set[tuple[int, str]] = set()
        self.tables: set[int] = set()


class Bisection:
    """What is known of one batch's rows; kept while its transaction is tried again.

    Parts that fail are halved under savepoints of one transaction. A part that ends the
    transaction (a row larger than the server's packet loses the connection) is noted, and halved
    or refused the next time. So are usages whose costs a user's quota does not take.
    """

    def __init__(self, precedents: Precedents) -> None:
        self._precedents = precedents
        self._passes = 1
        self._to_halve: set[_Part] = set()
        self._killers: dict[_Part, str] = {}
        self._kills: Counter[_Part] = Counter()
        self._users: dict[int, _Uncharged] = {}  # whose quotas do not take their costs
        self._alone: set[int] = set()  # users who are to be charged by a statement each
        self._trying: _Part | None = None

    def insert(
        self,
        database: Backend,
        rows: tuple[list[Row], ...],
        costs: Callable[[list[Row]], Sequence[tuple[int, float]]],
    ) -> list[Reject]:
        """Insert what can be, in this thread's transaction; return what is refused.

        Args:
            costs: returns what usages add to the quotas of which users, in their order.
        Raises:
            AnotherPass: when the transaction must begin anew.
            DatabaseAway: when nothing shows that the refused rows are at fault: other rows are
                refused, too.
        """
        run = _Run(self, database, rows)
        database.check_at_once()
        for log, of_log in enumerate(rows):
            if of_log:
                run.insert(_Part(log, 0, len(of_log)))
        self._trying = None
        run.charge(costs(run.usages))
        if run.unexplained - self._precedents.refusals and self._passes < _PASSES:
            raise self._another_pass()
        if run.users:
            self._users |= run.users
            raise self._another_pass()
        if run.refused:
            run.prove(self._precedents)
            if run.takes_after_all():  # put right meanwhile, or refused by turns
                self._users.clear()
                raise self._another_pass()
            self._precedents.refusals |= run.unexplained
        return run.refused

    def _another_pass(self) -> Exception:
        self._passes += 1
        if self._passes > _MAX_PASSES + len(self._users):
            return DatabaseAway("it refuses rows and takes them by turns")
        return AnotherPass()

    def note_lost_connection(self) -> bool:
        """Blame what was being inserted; return whether that makes another attempt different."""
        part = self._trying
        if part is None:
            return False
        self._kills[part] += 1
        if self._kills[part] >= _KILLS:
            self._blame(part, "the server closed the connection at this row, twice")
        return True

    def _blame(self, part: _Part, why: str) -> None:
        """Note a part that ends the transaction."""
        if part.stop - part.start > 1:
            self._to_halve.add(part)
        else:
            self._killers[part] = why


class _Run:
    """One pass over the rows, inside one transaction.

    Attributes:
        usages: those that were inserted.
        unexplained: table and reason of refusals whose meaning is not known.
        users: whose quotas do not take their costs.
    """

    def __init__(
        self, bisection: Bisection, database: Backend, rows: tuple[list[Row], ...]
    ) -> None:
        self.usages: list[Row] = []
        self.refused: list[Reject] = []
        self.unexplained: set[tuple[int, str]] = set()
        self.users: dict[int, _Uncharged] = {}
        self._known = bisection
        self._database = database
        self._rows = rows

    def insert(self, part: _Part) -> None:
        """Insert a part's rows, by halves where that fails."""
        rows = self._rows[part.log][part.start : part.stop]
        why = self._known._killers.get(part) or self._why_not_charged(part, rows)
        if why is None and part not in self._known._to_halve:
            self._known._trying = part
            try:
                why = self._attempt(part.log, partial(self._insert_rows, part.log, rows))
            except _EndsTransaction as end:
                self._known._blame(part, str(end))
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
        """Add costs to quotas, by halves where that fails."""
        known = self._known
        together = [cost for cost in costs if cost[0] not in known._alone]
        alone = [[cost] for cost in costs if cost[0] in known._alone]
        for some in (*parts(together, QUOTAS_A_STATEMENT), *alone):
            try:
                why = self._attempt(_USAGES, partial(self._add_costs, some))
            except _EndsTransaction as end:
                if len(some) > 1:
                    known._alone.update(user for user, _ in some)
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

    def prove(self, precedents: Precedents) -> None:
        """Insert an innocuous row, to be undone: the refused ones are at fault only if that works.

        A table that refuses it, too, is at fault, and waited for; but not for ever where rows of
        other tables, which take theirs, would wait behind.
        """
        refusing = {reject.log for reject in self.refused}
        if any(map(self._takes_any, sorted(refusing))):
            return
        if any(map(self._takes_any, sorted(precedents.tables - refusing))):
            precedents.faults.update(refusing)
            if all(precedents.faults[log] > _TABLE_PATIENCE for log in refusing):
                return
        raise DatabaseAway(self.refused[0].reason)

    def takes_after_all(self) -> bool:
        """Whether the database, which took an innocuous row, takes one by now that it refused."""
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

    def _takes_any(self, log: int) -> bool:
        write = partial(self._insert_rows, log, [innocuous_row(LOGS[log])])
        try:
            return self._attempt(log, partial(self._undone, write)) is None
        except _EndsTransaction as end:
            raise DatabaseAway(self.refused[0].reason) from end

    def _attempt(self, log: int, write: Callable[[], None]) -> str | None:
        """Write under a savepoint; return why the database refuses that, or None."""
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
                raise  # the next attempt gets other keys
            if database.is_ended():
                raise _EndsTransaction(reason(database, exc)) from exc
            # MariaDB may say that a packet is too large, and close the connection after that:
            # let it be this part's fault, not that of the next.
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
    """Say why the database refused something, in one line without values."""
    error = database.translate(exc, writing=True)
    return " ".join(str(error).split()) if error is not None else type(exc).__name__
