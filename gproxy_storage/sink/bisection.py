"""Bisection: find the rows that the database refuses, and insert the others."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..backends.base import Backend
from ..backends.bulk import Row
from ..backends.failures import Failure, driver_errors
from ..backends.taken_ids import TakenIds
from ..rows import GIVEN_KEYS, LOGS
from .rejects import Reject

ENDS_THE_TRANSACTION = (Failure.LOST, Failure.TRANSIENT)
CONCERNS_THE_DATABASE = (Failure.SCHEMA, Failure.READ_ONLY, Failure.DENIED, Failure.EXHAUSTED)
"""What no row is to blame for: the same batch may be stored once that is mended."""

_KILLS = 2  # once may be chance


class DatabaseAway(Exception):  # noqa: N818 - a state of the database, not an error of a call
    """The database cannot take the batch now; the reason is one line without values."""


class _Part(NamedTuple):
    """Rows of one log, from a place to before another."""

    log: int
    start: int
    stop: int

    def halves(self) -> tuple[_Part, _Part]:
        middle = (self.start + self.stop) // 2
        return self._replace(stop=middle), self._replace(start=middle)


class Bisection:
    """What is known of one batch's rows; kept while its transaction is tried again.

    Parts that fail are halved under savepoints of one transaction. A part that ends the
    transaction (a row larger than the server's packet loses the connection) is noted, and halved
    or refused the next time.
    """

    def __init__(self) -> None:
        self._to_halve: set[_Part] = set()
        self._killers: dict[_Part, str] = {}
        self._kills: Counter[_Part] = Counter()
        self._trying: _Part | None = None

    def insert(
        self, database: Backend, rows: tuple[list[Row], ...]
    ) -> tuple[tuple[list[Row], ...], list[Reject]]:
        """Insert what can be, in this thread's transaction; return it, and what is refused.

        Raises:
            DatabaseAway: when every row is refused for a reason that may be the database's own.
        """
        run = _Run(self, database, rows)
        for log, of_log in enumerate(rows):
            if of_log:
                run.insert(_Part(log, 0, len(of_log)))
        self._trying = None
        if run.refused and not any(run.accepted) and run.unexplained == len(run.refused):
            raise DatabaseAway(run.refused[0].reason)
        return run.accepted, run.refused

    def note_lost_connection(self) -> bool:
        """Blame what was being inserted; return whether that makes another attempt different."""
        part = self._trying
        if part is None:
            return False
        self._kills[part] += 1
        if self._kills[part] < _KILLS:
            return True
        if part.stop - part.start > 1:
            self._to_halve.add(part)
        else:
            self._killers[part] = "the server closed the connection at this row, twice"
        return True


class _Run:
    """One pass over the rows, inside one transaction."""

    def __init__(
        self, bisection: Bisection, database: Backend, rows: tuple[list[Row], ...]
    ) -> None:
        self.accepted: tuple[list[Row], ...] = tuple([] for _ in rows)
        self.refused: list[Reject] = []
        self.unexplained = 0
        self._known = bisection
        self._database = database
        self._rows = rows

    def insert(self, part: _Part) -> None:
        rows = self._rows[part.log][part.start : part.stop]
        if part in self._known._killers:
            self._refuse(part, self._known._killers[part])
            return
        if part not in self._known._to_halve:
            try:
                self._known._trying = part
                with self._database.atomic():
                    self._database.bulk_insert(LOGS[part.log].bulk, rows)
            except Exception as exc:
                failure = self._database.classify(exc)
                if failure in ENDS_THE_TRANSACTION or failure in CONCERNS_THE_DATABASE:
                    raise
                if TakenIds(self._database, given=GIVEN_KEYS).met(exc):
                    raise  # the next attempt gets other keys
                # MariaDB may say that a packet is too large, and close the connection after that:
                # let it be this part's fault, not that of the next.
                self._database.query("SELECT 1")
                if len(rows) == 1:
                    by_driver = next(driver_errors(exc, self._database.driver_error), None)
                    self.unexplained += failure is Failure.OTHER and by_driver is not None
                    self._refuse(part, reason(self._database, exc))
                    return
                self._known._to_halve.add(part)
            else:
                self.accepted[part.log].extend(rows)
                return
        for half in part.halves():
            self.insert(half)

    def _refuse(self, part: _Part, why: str) -> None:
        row = self._rows[part.log][part.start]
        self.refused.append(Reject(part.log, part.start, row, why))


def reason(database: Backend, exc: Exception) -> str:
    """Say why the database refused something, in one line without values."""
    error = database.translate(exc, writing=True)
    return " ".join(str(error).split()) if error is not None else type(exc).__name__
