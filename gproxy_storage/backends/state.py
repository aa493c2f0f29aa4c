"""SessionState: one thread's session and transaction."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from ..errors import WriteError


class SessionState(threading.local):
    """Replaces Peewee's own connection state, whose attributes are the first five.

    Attributes:
        unusable: the connection must not be used again: a driver call is in progress, or was
            interrupted by a signal handler's exception, so that its answer may still arrive; or
            the server is read-only and is to be replaced.
        ended: what ended the transaction before its block ended, or None.
        failed: the first error in the transaction, or since its last rollback to a savepoint,
            or None; the database may have kept the transaction.
        pinned: the connection is not from the pool, and must not be replaced by another.
        stamp: identifies the transaction; see `Backend.transaction_stamp`.
        owner: the block that the session belongs to, if any.
        borrowing: this thread may hold a connection of the pool.
    """

    def __init__(self) -> None:
        self.borrowing = False
        self.reset()

    def reset(self) -> None:
        """Forget the connection."""
        self.conn: Any = None
        self.ctx: list[Any] = []
        self.owner: weakref.ref[object] | None = None
        self.begin_anew()

    def set_connection(self, conn: Any) -> None:
        """Use a connection, after `reset` or `begin_anew`."""
        self.conn = conn
        self.closed = False

    def begin_anew(self) -> None:
        """Forget the connection's transaction: another one is to take its place."""
        self.closed = True
        self.transactions: list[Any] = []
        self.commit_callbacks: list[Any] = []
        self.unusable = False
        self.ended: BaseException | None = None
        self.failed: BaseException | None = None
        self.pinned = False
        self.stamp: object | None = None

    def replace_error(self, error: BaseException, other: BaseException) -> None:
        """Replace an error that shows a secret, wherever it is kept."""
        if self.failed is error:
            self.failed = other
        if self.ended is error:
            self.ended = other


def transaction_ended(cause: BaseException | None) -> WriteError:
    """Return the error for a statement, or the end, of a block whose transaction has ended."""
    error = WriteError(
        "the transaction of this block was ended before the block, by an error or a signal in it: "
        "nothing of it is stored; leave the block and run it again",
        committed=False,
    )
    error.__cause__ = cause
    return error
