"""Generated primary keys that existing rows have already.

On PostgreSQL an explicit key does not advance the sequence: GPROXY writes its rows so, and so do
many dumps. An insert that gets such a key fails, and succeeds once the sequence is raised. On MySQL
and MariaDB the counter advances a moment after the row is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import peewee

from .base import Backend
from .failures import Failure, TakenId

T = TypeVar("T")

_MAX_TAKEN = 100


class TakenIds:
    """The taken keys that the attempts of one transaction have run into.

    Args:
        given: tables whose keys this transaction sets explicitly.
    """

    def __init__(self, database: Backend, *, given: Collection[str] = ()) -> None:
        self._database = database
        self._given = given
        self._met: set[TakenId] = set()

    def retry(self, attempt: Callable[[], T]) -> T:
        """Call an atomic operation, and again as long as it fails on a taken key."""
        while True:
            try:
                return attempt()
            except Exception as exc:
                if not self.passed(exc):
                    raise

    def met(self, exc: Exception) -> bool:
        """Whether a transaction failed on a key that the database may have generated."""
        return self._taken_id(exc) is not None

    def _taken_id(self, exc: Exception) -> TakenId | None:
        taken = self._database.taken_id(exc)
        if taken is None or taken.table in self._given or (self._given and not taken.table):
            return None
        return taken

    def passed(self, exc: Exception) -> bool:
        """Raise the sequence; return whether another attempt, after a rollback, gets a free key.

        A sequence never repeats a key: one that is met twice was set by the caller, and is the
        caller's conflict.
        """
        taken = self._taken_id(exc)
        if taken is None or taken in self._met or len(self._met) == _MAX_TAKEN:
            return False
        self._met.add(taken)
        try:
            self._database.pass_taken_id(taken)
        except (peewee.PeeweeException, self._database.driver_error) as error:
            if self._database.classify(error, exc) is not Failure.DENIED:
                raise
            return False  # without the privilege, report the conflict
        return True
