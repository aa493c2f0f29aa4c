"""What a backend must say about its database: the one place where dialects differ."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, TypeVar

import peewee

from ..dsn import Dsn
from ..errors import ConnectError
from .bulk import BulkTable, BulkWriting, Row
from .failures import TakenId
from .pool import ConnectionPool
from .schema import SchemaWork
from .sessions import Sessions
from .transactions import Savepoint, Transaction
from .values import Values
from .widths import Shortfall

T = TypeVar("T")


def shut_down(descriptor: int) -> None:
    """End the socket behind a file descriptor, which stays its owner's to close."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


class Backend(BulkWriting, Sessions, Values, SchemaWork):
    """A Peewee database over our own pool; `sqlite`, `postgres` and `mysql` fill in the rest."""

    name: str
    """``sqlite``, ``postgres``, ``mysql`` or ``mariadb``; the last two from the server's word."""

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

    # -- transactions -------------------------------------------------------------------------

    def transaction(self, *args: Any, **kwargs: Any) -> Transaction:
        """Return a block that is a transaction. See `Database.transaction`."""
        return Transaction(self, *args, **kwargs)

    def savepoint(self) -> Savepoint:
        """Return a block that is a savepoint. See `Database.savepoint`."""
        return Savepoint(self)

    # -- statements ---------------------------------------------------------------------------

    def execute(self, query: Any, **context_options: Any) -> Any:
        """Execute a query of Peewee's. See `Database.execute`."""
        if self.write_guard is not None:
            self.write_guard(query)
        return super().execute(query, **context_options)

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
