"""What a backend must say about its database: the one place where dialects differ."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, TypeVar

import peewee

from ..dsn import Dsn
from ..errors import ConnectError, ReadError
from ..forks import ForkGuard, never_finalise
from .bulk import BulkTable, BulkWriting, Row
from .failures import RedactedError, TakenId
from .pool import ConnectionPool
from .schema import SchemaWork
from .secret_parameter import carries_secret
from .state import SessionState
from .transactions import Savepoint, Transaction, transaction_ended
from .translation import Translation
from .values import Values
from .widths import Shortfall

T = TypeVar("T")


def shut_down(descriptor: int) -> None:
    """End the socket behind a file descriptor, which stays its owner's to close."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


class Backend(BulkWriting, Translation, Values, SchemaWork, peewee.Database):
    """A Peewee database over our own pool; `sqlite`, `postgres` and `mysql` fill in the rest.

    Queries run inside a session (`database.session`): without one they raise instead of keeping
    a connection for as long as the thread lives.
    """

    name: str
    """``sqlite``, ``postgres``, ``mysql`` or ``mariadb``; the last two from the server's word."""

    # Peewee's own and not public: tests/unit/test_peewee.py notices when they change.
    _state: SessionState
    _connect: Callable[[], Any]
    _set_server_version: Callable[[Any], None]
    _clear_commit_callbacks: Callable[[], None]
    _run_commit_callbacks: Callable[[], None]

    def __init__(self, dsn: Dsn, database: str, **connect_params: Any) -> None:
        self.dsn = dsn
        self._process = ForkGuard(self._begin_in_child)
        # Our pool opens connections without holding Peewee's lock; its thread-local state stays.
        super().__init__(database, autoconnect=False, **connect_params)
        self.pool = ConnectionPool(
            self,
            max_connections=dsn.pool.max_connections,
            pool_timeout_s=dsn.pool.pool_timeout_s,
            stale_timeout_s=dsn.pool.stale_timeout_s,
        )
        self.keys: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Name of each unique index -> its table and columns, for messages about conflicts."""
        self.ids: dict[str, str] = {}
        """Name of each table whose primary key the database can give out -> that column."""
        self.narrow: Mapping[str, Shortfall] | None = None
        """Each column that holds less than ours, as ``table.column``; None before a look at it."""
        self.write_guard: Callable[[Any], None] | None = None
        """Called with each write query before it is executed; raises to refuse it."""
        self.vault: Any = None
        """The keyring's keeper, for the encrypted fields; `Storage` sets it."""

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Take the name and parameters of the database. See `Database.init`."""
        self._state = SessionState()  # Peewee's constructor has just made its own
        super().init(*args, **kwargs)

    # -- sessions: Peewee's connect and close, over the pool ----------------------------------

    def _entered(self) -> SessionState:
        """This thread's state, where it is still this process's and its block's."""
        self._process.check()
        state = self._state
        if state.owner is not None and state.owner() is None:
            self.abandon()
        return state

    def belongs_to(self, block: object) -> None:
        """Tie this thread's session to a block: where it is gone, it was left by a signal."""
        self._state.owner = weakref.ref(block)

    def is_closed(self) -> bool:
        """Whether this thread has no session. See `Database.is_closed`."""
        return self._entered().closed

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Borrow a connection for this thread. See `Database.connect`."""
        if not self.is_closed():
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        try:
            self._borrow()
        except BaseException:
            self.abandon()
            raise
        return True

    def _borrow(self) -> None:
        state = self._state
        if state.borrowing:  # an interruption came in the way of `abandon`
            self.pool.recover()
        state.borrowing = True
        state.set_connection(self.pool.acquire())

    def close(self) -> bool:
        """Give this thread's connection back. See `Database.close`."""
        if self.in_transaction():
            raise peewee.OperationalError("Attempting to close database while in a transaction.")
        if self.is_closed():
            return False
        self._give_back()
        return True

    def _give_back(self) -> None:
        state = self._state
        if state.unsettled or state.pinned:
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
        """End this thread's session: give its connection back clean, or close it."""
        if self.is_closed():
            return
        if self._state.transactions:  # interrupted before the end of its block
            self.abandon()
        else:
            self._give_back()

    def abandon(self) -> None:
        """Close whatever this thread has of the pool, however an interruption left that."""
        self._state.reset()
        self.pool.recover()
        self._state.borrowing = False

    def close_all(self) -> None:
        """Close idle connections now, borrowed ones as they come back, and lend no more."""
        self.pool.close()

    def replace_connection(self) -> None:
        """Close this thread's connection, which is broken, and borrow another."""
        state = self._state
        if not self.is_closed():
            self.pool.discard(state.conn)
            state.closed = True
        try:
            self._borrow()
        except BaseException:
            self.abandon()
            raise

    def cursor(self, named_cursor: str | None = None) -> Any:  # noqa: ARG002 - Peewee's signature
        """Return a cursor of this thread's session. See `Database.cursor`."""
        if self.is_closed():
            raise ReadError(
                "no session is open in this thread: call storage's repositories, or wrap "
                "queries of your own in `with storage.session():`"
            )
        return super().cursor()

    # -- fork: see database.py for the hooks --------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Begin anew in a child, unless a call has noticed already that it is one."""
        self._process.check()

    def _begin_in_child(self) -> None:
        """Forget the parent's connections; lend no more if one was in use."""
        self._state.reset()
        self._state.borrowing = False
        if self.pool.after_fork_in_child():
            self.bar_child()

    def bar_child(self) -> None:
        """Refuse a child that was forked while a connection was in use, and say what to do."""
        self.pool.close(
            "this process was forked while a connection of the storage was in use: close this "
            "storage in the child and open a new one"
        )

    def disown_connection(self, conn: Any, *, in_use: bool) -> None:  # noqa: ARG002 - SQLite's
        """Give up a connection that a fork copied: it is the parent's, which goes on using it."""
        never_finalise(conn)

    # -- transactions: see transactions.py ----------------------------------------------------

    def atomic(self, *args: Any, **kwargs: Any) -> Any:
        """Return a block that is a transaction, or a savepoint in one. See `Database.atomic`."""
        return super().atomic(*args, **kwargs)

    def transaction(self, *args: Any, **kwargs: Any) -> Transaction:
        """Return a block that is a transaction. See `Database.transaction`."""
        return Transaction(self, *args, **kwargs)

    def savepoint(self) -> Savepoint:
        """Return a block that is a savepoint. See `Database.savepoint`."""
        return Savepoint(self)

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        """Begin a transaction. See `Database.begin`."""
        self._settled()
        self._state.stamp = object()
        return self._call(super().begin, *args, **kwargs)

    def commit(self) -> Any:
        """Commit. See `Database.commit`."""
        self._settled()
        return self._call(super().commit)

    def rollback(self) -> Any:
        """Roll back. See `Database.rollback`."""
        self._settled()
        return self._call(super().rollback)

    def in_transaction(self) -> bool:
        """Whether this thread is in a transaction's block. See `Database.in_transaction`."""
        return bool(self._entered().transactions)

    def require_transaction(self) -> None:
        """Check that the block that ends now is still this process's and this thread's.

        Raises:
            ConnectError: in a child that was forked inside the block.
        """
        if not self.in_transaction():
            raise ConnectError(
                "this process was forked inside the transaction, which is the parent's to end: "
                "leave nothing to a child that it did not begin"
            )

    def has_transaction(self, conn: Any) -> bool:
        """Ask the driver, after an error, whether the connection's transaction is still there."""
        raise NotImplementedError

    def is_ended(self) -> bool:
        """Whether the transaction of this thread's block is gone, or nobody knows."""
        return self._state.unsettled or self._state.ended is not None

    @contextmanager
    def pinned(self, conn: Any) -> Iterator[None]:
        """Use a connection that is not the pool's for the block, and close it; never another."""
        state = self._state
        pooled = state.conn
        state.conn, state.pinned = conn, True
        try:
            yield
        finally:
            state.conn, state.pinned, state.unsettled = pooled, False, False
            self.close_connection(conn)

    def is_pinned(self) -> bool:
        """Whether this thread's connection must not be replaced by another."""
        return self._state.pinned

    def end_transaction(self, cause: BaseException) -> None:
        """Let nothing more happen in this thread's transaction."""
        if self._state.ended is None:
            self._state.ended = cause

    def end_unless_left(self, block: Any, cause: BaseException) -> None:
        """End the transaction where one of its savepoints was left before it was released."""
        savepoint = getattr(block, "_helper", None)
        if self.in_transaction() and not getattr(savepoint, "left", False):
            self.end_transaction(cause)

    def refuse_if_ended(self) -> None:
        """Refuse to go on with a transaction that is gone.

        Raises:
            WriteError: with what ended it as its cause.
        """
        if self.is_ended():
            raise transaction_ended(self._state.ended)

    def roll_back_block(self) -> bool:
        """Roll the outermost block back, without an error of its own; tell whether it was there."""
        state = self._state
        self._clear_commit_callbacks()
        was_there = not state.unsettled and (
            state.ended is None or self.has_transaction(state.conn)
        )
        state.ended = None
        if was_there:
            try:
                self.rollback()
            except (peewee.PeeweeException, self.driver_error):
                state.unsettled = True
                return False
        return was_there

    def drop_transaction(self) -> None:
        """Be in no transaction, whatever an interruption left of one; its connection is not used
        again."""
        state = self._state
        state.transactions.clear()
        state.commit_callbacks.clear()
        state.ended = None
        state.unsettled = True

    def transaction_stamp(self) -> object | None:
        """Return what this thread's transaction is known by; None outside of one.

        Another transaction has another stamp, and so has what follows a rollback to a savepoint:
        on PostgreSQL that gives up the locks which were taken after it.
        """
        return self._state.stamp if self.in_transaction() else None

    # -- statements ---------------------------------------------------------------------------

    def execute(self, query: Any, **context_options: Any) -> Any:
        """Execute a query of Peewee's. See `Database.execute`."""
        if self.write_guard is not None:
            self.write_guard(query)
        return super().execute(query, **context_options)

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
        """Execute one statement. See `Database.execute_sql`.

        Raises:
            RedactedError: in place of the driver's error where a parameter is a secret: the
                driver's would show it, and PostgreSQL's shows the row.
            WriteError: when the transaction of this thread's block is gone.
        """
        self._settled()
        if sql.startswith("ROLLBACK TO SAVEPOINT"):
            self._state.stamp = object()
        if not carries_secret(params):
            return self._call(super().execute_sql, sql, params)
        try:
            return self._call(super().execute_sql, sql, params)
        except (peewee.PeeweeException, self.driver_error) as exc:
            redacted = self._redacted(exc)
        raise redacted  # out here: with no context, which would be the driver's error

    def _settled(self) -> None:
        """Have a connection whose next answer is that to the next statement.

        Raises:
            WriteError: when the transaction of this thread's block is gone.
        """
        state = self._state
        if state.transactions:
            if state.unsettled or state.ended is not None:
                raise transaction_ended(state.ended)
        elif state.unsettled and not self.is_closed():
            if state.pinned:
                raise peewee.InterfaceError("a signal interrupted this connection: it is not used")
            self.replace_connection()

    def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the driver; its connection is settled again when that returns or the server said no.

        An exception of a signal handler leaves it unsettled: the answer may still be on its way,
        and would be taken for that of the next statement.
        """
        state = self._state
        state.unsettled = True
        try:
            result = function(*args, **kwargs)
        except (peewee.PeeweeException, self.driver_error) as exc:
            interruption = self.interruption(exc)
            if interruption is not None:
                raise interruption from None
            state.unsettled = self.must_replace(self.classify(exc))
            if (
                state.transactions
                and state.ended is None
                and (state.unsettled or not self.has_transaction(state.conn))
            ):
                state.ended = exc
            raise
        state.unsettled = False
        return result

    def interruption(self, exc: Exception) -> BaseException | None:  # noqa: ARG002 - of PyMySQL
        """Return the exception of a signal handler that the driver took for its socket's."""
        return None

    def _redacted(self, exc: Exception) -> RedactedError:
        error = next(self._driver_errors(exc), exc)
        found, name = self._failure(error)
        return RedactedError(found, name, self.reason(error), self._taken_id(error))

    def bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        """Insert rows. See `BulkWriting.bulk_insert`."""
        self._settled()
        self._call(self._bulk_insert, table, rows)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in this thread's session and return its rows."""
        return list(self.execute_sql(sql, parameters).fetchall())

    # -- the pool's driver --------------------------------------------------------------------

    def open_connection(self) -> Any:
        """Open a connection and apply the backend's tuning.

        Raises:
            ConnectError: when the server is away, refuses the login, or lacks the database.
        """
        try:
            conn = self._connect()
        except self.driver_error as exc:
            raise self.connect_error(exc) from exc
        try:
            if self.server_version is None:
                self._set_server_version(conn)
            self.tune(conn)
        except BaseException as exc:
            self.close_connection(conn)
            if isinstance(exc, self.driver_error):
                raise self.connect_error(exc) from exc
            raise
        return conn

    def close_connection(self, conn: Any) -> None:
        """Close a driver connection, broken or not."""
        with suppress(self.driver_error):  # a broken one: there is nothing left to close
            conn.close()

    def is_current(self, conn: Any) -> bool:  # noqa: ARG002 - SQLite's
        """Tell without a round trip whether what it was opened on is still in its place."""
        return True

    def is_alive(self, conn: Any) -> bool:
        """Ask the server with the cheapest query."""
        try:
            with self.raw_cursor(conn) as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
        except self.driver_error:
            return False
        return True

    @contextmanager
    def raw_cursor(self, conn: Any) -> Iterator[Any]:
        """A cursor of a driver connection, closed at the end."""
        cursor = conn.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def abort(self, conn: Any) -> None:
        """Make whoever waits for an answer on this connection get an error now; any thread may."""
        raise NotImplementedError

    def reset_connection(self, conn: Any) -> bool:
        """Roll back what a caller left open; False when the connection is broken."""
        raise NotImplementedError

    def tune(self, conn: Any) -> None:
        """Apply the session's settings to a new connection."""
        raise NotImplementedError

    # -- words of the server ------------------------------------------------------------------

    def version_text(self) -> str:
        """Return the server's version as people write it, for example ``15.3``."""
        raise NotImplementedError

    def connect_error(self, exc: Exception) -> ConnectError:
        """Return the error for a failure to connect; it names the setting of the DSN."""
        setting = f"{self.dsn.setting}: " if self.dsn.setting else ""
        problem = self.connect_problem(exc)
        return ConnectError(f"{setting}cannot open {self.dsn}: {problem}", dsn=str(self.dsn))

    def connect_problem(self, exc: Exception) -> str:
        """Say in one line why connecting failed and what to do, without the password."""
        raise NotImplementedError

    # -- writing ------------------------------------------------------------------------------

    def upsert(
        self,
        insert: peewee.ModelInsert,
        key: Sequence[peewee.Field[Any]],
        *,
        take: Sequence[peewee.Field[Any]],
        add: Sequence[peewee.Field[Any]] = (),
    ) -> peewee.ModelInsert:
        """Return an insert of one row or many, made to update those that have the same natural key.

        A row that exists is locked, whatever becomes of it. Never send an id in such an insert:
        MySQL would update the row with that id.

        Args:
            take: what becomes as in the new row; without any, a row that exists stays as it is.
            add: money that grows by the new row's.
        """
        update: dict[Any, Any] = {field: self.inserted(field) for field in take}
        update |= {
            field: self.money_added(self.stored(field), self.inserted(field)) for field in add
        }
        return self._on_conflict(insert, key, update or {key[0]: self.stored(key[0])})

    def inserted(self, field: peewee.Field[Any]) -> peewee.ColumnBase:
        """Return a column of the row that an upsert would insert, for what it updates."""
        column: peewee.ColumnBase = getattr(peewee.EXCLUDED, field.column_name)
        return column

    def stored(self, field: peewee.Field[Any]) -> peewee.ColumnBase:
        """Return a column of the row that an upsert found, for what it updates."""
        return field

    def _on_conflict(
        self,
        insert: peewee.ModelInsert,
        key: Sequence[peewee.Field[Any]],
        update: dict[Any, Any],
    ) -> peewee.ModelInsert:
        return insert.on_conflict(conflict_target=list(key), update=update)

    def will_insert_id(self, key: peewee.Field[Any], row_id: int) -> None:
        """Keep ids that the database gives out above one that a caller is about to insert.

        Call it inside the transaction, before the insert.
        """

    def pass_taken_id(self, taken: TakenId) -> None:
        """Make the database give out keys above all that its table has, from the next on.

        Inside a transaction, too, and for good, whatever becomes of that.
        """
        raise NotImplementedError

    share_lock: ClassVar[str] = ""
    exclusive_lock: ClassVar[str] = ""
    """What follows a SELECT that locks its rows until the transaction ends: against writers, or
    against those who lock at all. Nothing where a transaction locks the whole database."""

    writes: bool = True
    """False where the DSN opens the database for reading only."""

    isolation: ClassVar[str] = "'read committed'"
    """SQL for the isolation of the transaction under way; as it is where it makes no difference:
    where a transaction locks the whole database."""

    def lock_rows(self, query: Any) -> Any:
        """Return the select, made to lock its rows against other writers."""
        return query.for_update(self.exclusive_lock) if self.exclusive_lock else query

    def lock_table(self, table: str) -> None:
        """Wait for those who locked rows of the table, before those who come later."""

    def overwrite_deleted(self) -> None:
        """Let this session overwrite what it deletes or replaces, where the files are ours."""

    def scrub(self) -> bool:
        """Take what was overwritten out of the database's files; False where that failed.

        Nothing to do where the files are the server's own.
        """
        return True
