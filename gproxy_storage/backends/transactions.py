"""Peewee's `atomic` blocks, kept all-or-nothing when a transaction ends before its block.

SQLite rolls a transaction back on a full disk, MySQL and MariaDB on a deadlock, a killed server
does, and a signal handler may raise between any two steps. The rest of the block would then be
stored on its own. So it is refused, and the block raises, whatever its body caught.
"""

from __future__ import annotations

from collections.abc import Callable

import peewee

from ..errors import ConnectError, StorageError, WriteError
from ..forks import current_pid
from .failures import Failure
from .sessions import Sessions
from .state import transaction_ended

_NOT_STORED = (
    Failure.TRANSIENT,
    Failure.CONFLICT,
    Failure.REFERENCE,
    Failure.VALUE,
    Failure.NARROW,
    Failure.DENIED,
    Failure.READ_ONLY,
)
"""The server's answers to COMMIT that mean it has rolled back."""


class Transaction(peewee._transaction):
    """The outermost block; inside another block it is part of that, like Peewee's."""

    db: Sessions
    _begin: Callable[[], None]

    def __enter__(self) -> Transaction:
        database = self.db
        self._pid = current_pid()
        try:
            if database.transaction_depth() == 0:
                self._begin_reconnecting()
            database.push_transaction(self)
        except (peewee.PeeweeException, database.driver_error):
            raise  # the server refused BEGIN: there is no transaction
        except BaseException:
            if database.transaction_depth() <= 1:
                database.drop_transaction()
            raise
        return self

    def _begin_reconnecting(self) -> None:
        try:
            self._begin()
        except Exception as exc:
            # The server closed the connection while it was idle: nothing was done on it yet.
            if self.db.classify(exc) is not Failure.LOST or self.db.is_pinned():
                raise
            self.db.replace_connection()
            self._begin()

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        database = self.db
        if not database.in_transaction():
            if current_pid() == self._pid:
                raise transaction_ended(None)
            raise ConnectError(
                "this process was forked inside the transaction, which only the parent can end: "
                "fork outside of transactions"
            )
        try:
            if database.transaction_depth() == 1:
                if exc_type is None:
                    self._commit_block()
                else:
                    database.roll_back_block()
            database.pop_transaction()
        except (StorageError, peewee.PeeweeException, database.driver_error):
            database.pop_transaction()
            raise
        except BaseException:  # a signal handler raised
            if database.transaction_depth() <= 1:
                database.drop_transaction()
            raise
        if exc_type is None and not database.in_transaction():
            database._run_commit_callbacks()

    def _commit_block(self) -> None:
        database = self.db
        try:
            database.commit()
        except WriteError:
            database.roll_back_block()
            raise
        except (peewee.PeeweeException, database.driver_error) as exc:
            if database.roll_back_block() or database.classify(exc) in _NOT_STORED:
                raise
            raise WriteError(
                f"the connection to {database.dsn} was lost during COMMIT: the change may or may "
                "not be stored; check before repeating it",
                committed=None,
            ) from exc


class Savepoint(peewee._savepoint):
    """A block inside a transaction.

    Attributes:
        left: the block has ended: released, rolled back, or gone with the transaction.
    """

    db: Sessions
    left = False

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is None:
            try:
                self.commit(begin=False)
            except Exception:
                self._roll_back()
                raise
        else:
            self._roll_back()
        self.left = True

    def _roll_back(self) -> None:
        """Roll back to the savepoint; if that fails, end the whole transaction."""
        database = self.db
        if not database.is_ended():
            try:
                self.rollback(begin=False)
            except (peewee.PeeweeException, database.driver_error) as exc:
                database.end_transaction(exc)
