"""Keys that the database gives out and that rows have already.

On PostgreSQL a key that a caller chose leaves the sequence behind: GPROXY writes its rows so, and
so do many dumps. The insert that meets such a row fails, and works once the sequence was raised.
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
    """The taken keys that one transaction has met in its attempts.

    Args:
        given: tables whose keys this transaction chooses itself.
    """

    def __init__(self, database: Backend, *, given: Collection[str] = ()) -> None:
        self._database = database
        self._given = given
        self._met: set[TakenId] = set()

    def retry(self, attempt: Callable[[], T]) -> T:
        """Call what is atomic by itself, again where it failed on such a key."""
        while True:
            try:
                return attempt()
            except Exception as exc:
                if not self.passed(exc):
                    raise

    def met(self, exc: Exception) -> bool:
        """Whether a transaction failed on a key that the database may have given out."""
        return self._taken_id(exc) is not None

    def _taken_id(self, exc: Exception) -> TakenId | None:
        taken = self._database.taken_id(exc)
        return None if taken is None or taken.table in self._given else taken

    def passed(self, exc: Exception) -> bool:
        """Whether another attempt, to be made after a rollback, gets beyond the taken key.

        Given out keys do not come twice: one that does was chosen by the caller, and is the
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
            return False  # then the conflict is what there is to say
        return True
