"""Backend: the interface that each database implements; dialects differ here and nowhere else."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Protocol, TypeVar

import peewee

from ..crypto.keyring import Keyring
from ..dsn import Dsn
from ..errors import ConnectError
from .bulk import BulkWriting
from .failures import TakenId, connect_error
from .pool import ConnectionPool
from .schema import SchemaWork
from .transactions import Savepoint, Transaction
from .widths import Shortfall

T = TypeVar("T")


def shut_down(descriptor: int) -> None:
    """Shut down the socket of a file descriptor; closing the descriptor is left to its owner."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


class Keyrings(Protocol):
    """What encrypted fields need of the `KeyringManager`."""

    @property
    def keyring(self) -> Keyring: ...

    def lock_shared(self) -> Keyring: ...

    def refresh(self) -> bool: ...

    def retrying(self, keyring: Keyring, attempt: Callable[[Keyring], T]) -> T: ...


class Backend(BulkWriting, SchemaWork):
    """A Peewee database over our own pool; subclassed in `sqlite`, `postgres` and `mysql`."""

    name: str
    """``sqlite``, ``postgres``, ``mysql`` or ``mariadb``; the server says which of the last two."""

    keyring_manager: Keyrings
    """Set by `declare`."""

    # Peewee's own and not public: tests/unit/test_peewee.py notices when they change.
    _connect: Callable[[], Any]
    _set_server_version: Callable[[Any], None]

    def __init__(self, dsn: Dsn, database: str, **connect_params: Any) -> None:
        self.dsn = dsn
        # Our pool opens connections without holding Peewee's lock; its thread-local state stays.
        super().__init__(database, autoconnect=False, **connect_params)
        self.pool = ConnectionPool(
            self,
            max_connections=dsn.pool.max_connections,
            pool_timeout_s=dsn.pool.pool_timeout_s,
            stale_timeout_s=dsn.pool.stale_timeout_s,
        )
        self.narrow: Mapping[str, Shortfall] | None = None
        """``table.column`` of each column narrower than declared; None before the first check."""
        self.index_columns: Mapping[str, tuple[str, tuple[str, ...]]] = {}
        self.generated_ids: Mapping[str, str] = {}
        self._check_write: Callable[[Any], None] | None = None

    def declare(
        self,
        *,
        index_columns: Mapping[str, tuple[str, tuple[str, ...]]],
        generated_ids: Mapping[str, str],
        names: frozenset[str],
        check_write: Callable[[Any], None],
        keyring_manager: Keyrings,
    ) -> None:
        """Say what the models declare, which this module cannot import.

        Args:
            index_columns: name of each index -> its table and columns, for messages of conflicts.
            generated_ids: table whose primary key the database can generate -> that column.
            names: of tables, columns and indexes: a message that has them holds no value.
            check_write: called with each write query before it is executed; raises to refuse it.
            keyring_manager: for the encrypted fields.
        """
        self.index_columns = index_columns
        self.generated_ids = generated_ids
        self.names = names
        self._check_write = check_write
        self.keyring_manager = keyring_manager

    # -- transactions -------------------------------------------------------------------------

    def transaction(self, *args: Any, **kwargs: Any) -> Transaction:
        """Return a context manager for a transaction. See `Database.transaction`."""
        return Transaction(self, *args, **kwargs)

    def savepoint(self) -> Savepoint:
        """Return a context manager for a savepoint. See `Database.savepoint`."""
        return Savepoint(self)

    # -- statements ---------------------------------------------------------------------------

    def execute(self, query: Any, **context_options: Any) -> Any:
        """Execute a Peewee query. See `Database.execute`."""
        if self._check_write is not None:
            self._check_write(query)
        return super().execute(query, **context_options)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in this thread's session and return its rows."""
        return list(self.execute_sql(sql, parameters).fetchall())

    # -- the pool's driver --------------------------------------------------------------------

    def open_connection(self) -> Any:
        """Open a connection and apply the backend's tuning.

        Raises:
            ConnectError: when the server is unreachable, refuses the login or has no such database.
        """
        conn = None
        try:
            conn = self._connect()
            if self.server_version is None:
                self._set_server_version(conn)
            self.tune(conn)
        except BaseException as exc:
            if conn is not None:
                self.close_connection(conn)
            if not isinstance(exc, self.driver_error):
                raise
            interruption = self.interruption(exc)
            if interruption is not None:
                raise interruption from None
            raise self.connect_error(exc) from exc
        return conn

    def is_current(self, conn: Any) -> bool:  # noqa: ARG002 - SQLite's
        """Tell without a round trip whether the connection's file is still the one at its path."""
        return True

    def is_alive(self, conn: Any) -> bool:
        """Check with the cheapest query whether the server answers."""
        try:
            with self.raw_cursor(conn) as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
        except self.driver_error:
            return False
        return True

    @contextmanager
    def raw_cursor(self, conn: Any) -> Iterator[Any]:
        """Open a cursor on a driver connection; it is closed at the end of the block."""
        cursor = conn.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def abort(self, conn: Any) -> None:
        """Fail the call that is in progress on this connection; callable from any thread."""
        raise NotImplementedError

    def reset_connection(self, conn: Any) -> bool:
        """Roll back a transaction that was left open; False when the connection is broken."""
        raise NotImplementedError

    def tune(self, conn: Any) -> None:
        """Apply the session's settings to a new connection."""
        raise NotImplementedError

    # -- version, connection problems ---------------------------------------------------------

    def version_text(self) -> str:
        """Return the server's version as text, for example ``15.3``."""
        raise NotImplementedError

    def connect_error(self, exc: Exception) -> ConnectError:
        """Return the error for a failure to connect."""
        return connect_error(self.dsn, self.connect_problem(exc), "open")

    def connect_problem(self, exc: Exception) -> str:
        """Return in one line why connecting failed and what to do, without the password."""
        raise NotImplementedError

    # -- writing ------------------------------------------------------------------------------

    def inserting(self, insert: Any) -> Any:
        """Return an insert of one row as the query for `insert` to execute."""
        return insert.returning(insert.model._meta.primary_key) if self.returning_clause else insert

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """Execute the text of a query of `inserting`'s; return the row's id."""
        cursor = self.execute_sql(sql, parameters)
        row_id = cursor.fetchone()[0] if self.returning_clause else self.last_insert_id(cursor)
        return int(row_id)

    def upsert(
        self,
        insert: peewee.ModelInsert,
        key: Sequence[peewee.Field[Any]],
        *,
        take: Sequence[peewee.Field[Any]],
        add: Sequence[peewee.Field[Any]] = (),
    ) -> peewee.ModelInsert:
        """Turn an insert of one or more rows into an upsert by a natural key.

        An existing row is locked, even if it does not change. The rows must have no ids: MySQL
        would update the row with that id.

        Args:
            key: the fields of the natural key.
            take: fields that get the new row's values; if empty, an existing row is left as it is.
            add: money fields to which the new row's values are added.
        """
        update: dict[Any, Any] = {field: self.inserted(field) for field in take}
        update |= {
            field: self.money_added(self.stored(field), self.inserted(field)) for field in add
        }
        # Not DO NOTHING: MySQL's, INSERT IGNORE, would swallow other errors.
        return self._on_conflict(insert, key, update or {key[0]: self.stored(key[0])})

    def inserted(self, field: peewee.Field[Any]) -> peewee.ColumnBase:
        """Return the new row's value of a column, for the update part of an upsert."""
        column: peewee.ColumnBase = getattr(peewee.EXCLUDED, field.column_name)
        return column

    def stored(self, field: peewee.Field[Any]) -> peewee.ColumnBase:
        """Return the existing row's value of a column, for the update part of an upsert."""
        return field

    def _on_conflict(
        self,
        insert: peewee.ModelInsert,
        key: Sequence[peewee.Field[Any]],
        update: dict[Any, Any],
    ) -> peewee.ModelInsert:
        return insert.on_conflict(conflict_target=list(key), update=update)

    def will_insert_id(self, key: peewee.Field[Any], row_id: int) -> None:
        """Make later generated ids larger than one that is about to be inserted explicitly.

        Call it inside the transaction, before the insert.
        """

    def pass_taken_id(self, taken: TakenId) -> None:
        """Make the next generated key larger than all keys in its table.

        Inside a transaction this is not undone by a rollback.
        """
        raise NotImplementedError

    share_lock: ClassVar[str] = ""
    exclusive_lock: ClassVar[str] = ""
    """The clauses that make a SELECT lock its rows until the transaction ends. Empty where a
    transaction locks the whole database."""

    writes: bool = True
    """False if the DSN opens the database read-only."""

    isolation: ClassVar[str] = "'read committed'"
    """SQL for the isolation level of the current transaction. A constant where a transaction locks
    the whole database, for the level makes no difference there."""

    def lock_rows(self, query: Any) -> Any:
        """Return the SELECT with a clause that locks its rows against other writers."""
        return query.for_update(self.exclusive_lock) if self.exclusive_lock else query

    def lock_table(self, table: str) -> None:
        """Lock the table against transactions that lock rows of it, in the order of requests."""

    def overwrite_deleted(self) -> None:
        """Overwrite deleted and replaced content with zeros in this session; SQLite only."""

    def scrub(self) -> bool:
        """Remove deleted content from the database's files; False where that failed.

        A no-op for a server, whose files are out of reach.
        """
        return True
