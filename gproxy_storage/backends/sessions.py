"""Sessions: a thread's connection, its transaction and its statements, safe under interruptions.

A signal handler may raise between any two steps, a fork may run no hooks, and a database may end a
transaction before its block ends. The thread's state is in `state`; the blocks are in
`transactions`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import peewee

from ..errors import ReadError
from ..forks import ForkGuard, never_finalise
from ..secret import SecretText
from .failures import RedactedError
from .pool import ConnectionPool
from .state import SessionState, transaction_ended
from .translation import Translation

T = TypeVar("T")


class Sessions(Translation, peewee.Database):
    """Peewee's connecting, transactions and statements over our own pool.

    Queries run inside a session (`database.session`). Without one they raise: Peewee's own
    behaviour is to keep a connection for as long as the thread lives.
    """

    pool: ConnectionPool

    # Peewee's own and not public: tests/unit/test_peewee.py notices when they change.
    _state: SessionState
    _clear_commit_callbacks: Callable[[], None]
    _run_commit_callbacks: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._process = ForkGuard(self._begin_in_child)
        super().__init__(*args, **kwargs)

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Set the name and parameters of the database. See `Database.init`."""
        self._state = SessionState()  # Peewee's constructor has just made its own
        super().init(*args, **kwargs)

    # -- sessions: Peewee's connect and close, over the pool ----------------------------------

    def entered(self) -> SessionState:
        """Return this thread's state, reset if a fork or the loss of its block made it stale."""
        self._process.check()
        state = self._state
        if state.owner is not None and state.owner() is None:
            self.abandon()
        return state

    def enter(self, block: object) -> bool:
        """Begin a session for a block, unless this thread has one; return whether it was begun.

        If the block is garbage before it has left the session, a signal interrupted it.
        """
        state = self.entered()
        if not state.closed:
            return False
        self._borrow()
        try:
            state.owner = weakref.ref(block)
        except BaseException:
            self.abandon()
            raise
        return True

    def is_closed(self) -> bool:
        """Whether this thread has no session. See `Database.is_closed`."""
        return self.entered().closed

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Borrow a connection for this thread. See `Database.connect`."""
        if not self.is_closed():
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        self._borrow()
        return True

    def _borrow(self) -> None:
        state = self._state
        try:
            if state.borrowing:  # `abandon` was interrupted
                self.pool.recover()
            state.borrowing = True
            state.set_connection(self.pool.acquire())
        except BaseException:
            self.abandon()
            raise

    def close(self) -> bool:
        """Return this thread's connection to the pool. See `Database.close`."""
        if self.in_transaction():
            raise peewee.OperationalError("Attempting to close database while in a transaction.")
        if self.is_closed():
            return False
        self._give_back()
        return True

    def _give_back(self) -> None:
        state = self._state
        if state.unusable or state.pinned:
            self.abandon()
            return
        try:
            self.pool.release(state.conn)
            state.reset()
            state.borrowing = False
        except BaseException:
            self.abandon()
            raise

    def leave(self) -> None:
        """End this thread's session: return its connection clean, or close it."""
        if self.is_closed():
            return
        if self._state.transactions:  # interrupted before the end of its block
            self.abandon()
        else:
            self._give_back()

    def abandon(self) -> None:
        """Close all connections this thread holds, in whatever state an interruption left them."""
        self._state.reset()
        self.pool.recover()
        self._state.borrowing = False

    def close_all(self) -> None:
        """Close idle connections now and borrowed ones when they are returned; lend no more."""
        self.pool.close()

    def replace_connection(self) -> None:
        """Close this thread's broken connection and borrow another."""
        state = self._state
        if not self.is_closed():
            self.pool.release(state.conn, reuse=False)
            state.begin_anew()
        self._borrow()

    def close_connection(self, conn: Any) -> None:
        """Close a driver connection, broken or not."""
        with suppress(self.driver_error):  # a broken connection has nothing left to close
            conn.close()

    def cursor(self, named_cursor: str | None = None) -> Any:  # noqa: ARG002 - Peewee's signature
        """Return a cursor of this thread's session. See `Database.cursor`."""
        if self.is_closed():
            raise ReadError(
                "no session is open in this thread: call storage's repositories, or wrap "
                "queries of your own in `with storage.session():`"
            )
        return self._state.conn.cursor()  # not `super`, which would check again

    # -- fork: see database.py for the hooks --------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Reset in a child process, unless a call has detected the fork already."""
        self._process.check()

    def _begin_in_child(self) -> None:
        """Forget the parent's connections; refuse to lend any if one was in use."""
        self._state.reset()
        self._state.borrowing = False
        if self.pool.after_fork_in_child():
            self.bar_child()

    def bar_child(self) -> None:
        """Refuse to lend in a child that was forked while a connection was in use."""
        self.pool.close(
            "this process was forked while a connection of the storage was in use: close this "
            "storage in the child and open a new one"
        )

    def disown_connection(self, conn: Any, *, in_use: bool) -> None:  # noqa: ARG002 - SQLite's
        """Give up a connection copied by fork without closing it: the parent goes on using it."""
        never_finalise(conn)

    # -- transactions: see transactions.py ----------------------------------------------------

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        """Begin a transaction. See `Database.begin`."""
        self._ensure_usable()
        self._state.stamp = object()
        self._state.failed = None
        return self._call(super().begin, *args, **kwargs)

    def commit(self) -> Any:
        """Commit. See `Database.commit`."""
        self._ensure_usable()
        return self._call(super().commit)

    def rollback(self) -> Any:
        """Roll back. See `Database.rollback`."""
        self._ensure_usable()
        return self._call(super().rollback)

    def in_transaction(self) -> bool:
        """Whether this thread is in a transaction block. See `Database.in_transaction`."""
        return bool(self.entered().transactions)

    def has_transaction(self, conn: Any) -> bool:
        """Ask the driver, after an error, whether the connection's transaction is still open."""
        raise NotImplementedError

    def is_ended(self) -> bool:
        """Whether the transaction of this thread's block has ended, or may have."""
        return self._state.unusable or self._state.ended is not None

    @contextmanager
    def pinned(self, conn: Any) -> Iterator[None]:
        """Use this connection, not a pooled one, for the block, then close it.

        It is never replaced by another.
        """
        state = self._state
        pooled = state.conn
        state.conn, state.pinned = conn, True
        try:
            yield
        finally:
            state.conn, state.pinned, state.unusable = pooled, False, False
            self.close_connection(conn)

    def is_pinned(self) -> bool:
        """Whether this thread's connection must not be replaced by another."""
        return self._state.pinned

    def end_transaction(self, cause: BaseException) -> None:
        """Refuse all further statements of this thread's transaction."""
        if self._state.ended is None:
            self._state.ended = cause

    def end_unless_left(self, block: Any, cause: BaseException) -> None:
        """End the transaction if a savepoint in it was neither released nor rolled back."""
        savepoint = getattr(block, "_helper", None)
        if self.in_transaction() and not getattr(savepoint, "left", False):
            self.end_transaction(cause)

    def roll_back_block(self) -> bool:
        """Roll the outermost block back without raising; return whether it was still open."""
        state = self._state
        self._clear_commit_callbacks()
        was_open = not state.unusable and (state.ended is None or self.has_transaction(state.conn))
        state.ended = None
        if was_open:
            try:
                self.rollback()
            except (peewee.PeeweeException, self.driver_error):
                state.unusable = True
                return False
        return was_open

    def drop_transaction(self) -> None:
        """Forget an interrupted transaction; its connection is not used again."""
        state = self._state
        state.transactions.clear()
        state.commit_callbacks.clear()
        state.ended = None
        state.unusable = True

    def transaction_stamp(self) -> object | None:
        """Return an object that identifies this thread's transaction; None outside of one.

        It changes with a rollback to a savepoint, too, for on PostgreSQL that releases the locks
        taken since.
        """
        return self._state.stamp if self.in_transaction() else None

    # -- statements ---------------------------------------------------------------------------

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """Execute one statement. See `Database.execute_sql`.

        Raises:
            RedactedError: in place of the driver's error when a parameter is a secret: the
                driver's would show it, and PostgreSQL's shows the row.
            WriteError: when the transaction of this thread's block has ended.
        """
        self._ensure_usable()
        if sql.startswith("ROLLBACK TO SAVEPOINT"):
            self._state.stamp = object()
            self._state.failed = None
        try:
            return self._call(super().execute_sql, sql, params)
        except (peewee.PeeweeException, self.driver_error) as exc:
            if not any(type(each) is SecretText for each in params or ()):
                raise
            error = next(self._driver_errors(exc), exc)
            failure, name = self._failure(error)
            redacted = RedactedError(failure, name, self.reason(error), self._taken_id(error))
            self._state.replace_error(exc, redacted)
        raise redacted  # outside of `except`: else its context would be the driver's error

    def _ensure_usable(self) -> None:
        """Ensure that the connection's next answer belongs to the next statement.

        Raises:
            WriteError: when the transaction of this thread's block has ended.
        """
        state = self._state
        if state.transactions:
            if state.unusable or state.ended is not None:
                raise transaction_ended(state.ended)
        elif state.unusable and not self.is_closed():
            if state.pinned:
                raise peewee.InterfaceError(
                    "a signal interrupted a call on this connection: it cannot be used again"
                )
            self.replace_connection()

    def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the driver; the connection is usable again once the server has answered.

        A signal handler's exception leaves the connection unusable: the answer may still arrive,
        and would be read as that of the next statement.
        """
        state = self._state
        state.unusable = True
        try:
            result = function(*args, **kwargs)
        except (peewee.PeeweeException, self.driver_error) as exc:
            interruption = self.interruption(exc)
            if interruption is not None:
                raise interruption from None
            must_replace = self.must_replace(self.classify(exc))
            is_gone = bool(state.transactions) and (
                must_replace or not self.has_transaction(state.conn)
            )
            if state.transactions and state.failed is None:
                state.failed = exc
            if is_gone and state.ended is None:
                state.ended = exc
            state.unusable = must_replace
            raise
        state.unusable = False
        return result

    def interruption(self, exc: Exception) -> BaseException | None:  # noqa: ARG002 - of PyMySQL
        """Return a signal handler's exception that the driver mistook for its socket's, if any."""
        return None
