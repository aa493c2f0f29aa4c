"""MySQL and MariaDB, through PyMySQL; the server's version tells which of the two it is."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import peewee
import pymysql
from peewee import fn
from pymysql.constants import CR, ER, SERVER_STATUS

from ..dsn import Dsn
from ..interruptions import raise_interruption
from ..secret import SecretBytes
from . import mysql_session
from .base import shut_down
from .bulk import BulkTable, Kind, Row
from .failures import Failure, TakenId
from .mysql_connection import Connection, connect_params, raised_outside_of_sockets
from .mysql_errors import BEYOND_COLUMN, code_of, hint, meaning, named, primary_key_of
from .mysql_schema import MySQLSchema
from .values import SECONDS_BEFORE_1970, bucket_shift

READ_TIMEOUT_S = 120
"""How long a statement may take before the server counts as lost."""


class MySQLBackend(MySQLSchema, peewee.MySQLDatabase):
    """MySQL 8.0.19 or later, MariaDB 10.5 or later."""

    driver_error = pymysql.MySQLError
    field_types = {  # noqa: RUF012 - Peewee's interface, read only
        **peewee.MySQLDatabase.field_types,
        "DATETIME": "DATETIME(6)",
        "BLOB": "LONGBLOB",  # BLOB holds 64 KiB at most
        "TEXT": "LONGTEXT",  # so does TEXT
    }

    _max_packet_bytes: int
    _settings: dict[str, int | str]
    # Peewee's own and not public.
    _extract_server_version: Callable[[str], tuple[int, ...]]
    _set_csq_grouped: Callable[[bool], None]

    def __init__(self, database: Dsn) -> None:
        super().__init__(database, database.database, **connect_params(database))

    @property
    def name(self) -> str:  # type: ignore[override]  # known once a server has answered
        return "mariadb" if self.mariadb else "mysql"

    def _connect(self) -> Any:
        try:
            password = self.dsn.password
            conn: Any = Connection(
                database=self.database,
                autocommit=True,
                **self.connect_params,
                # As bytes: PyMySQL would encode a str as Latin-1, and show it if that fails.
                password=SecretBytes(password.reveal().encode() if password else b""),
            )
        except (LookupError, ValueError, struct.error) as exc:  # PyMySQL checks no packet
            message = "the server at this address does not speak MySQL's protocol"
            raise pymysql.OperationalError(CR.CR_SERVER_HANDSHAKE_ERR, message) from exc
        # PyMySQL's connect_timeout covers TCP only, and its one read time-out covers the login as
        # well as statements.
        conn._read_timeout = conn._write_timeout = READ_TIMEOUT_S
        return conn

    def _set_server_version(self, conn: Any) -> None:
        # The greeting may be a proxy's. Only MariaDB executes the content of such a comment.
        with self.raw_cursor(conn) as cursor:
            cursor.execute("SELECT @@max_allowed_packet, VERSION() /*M!, 1 */")
            self._max_packet_bytes, version, *only_mariadb = cursor.fetchone()
        self.mariadb = bool(only_mariadb) or "mariadb" in version.lower()
        self.server_version = self._extract_server_version(version)
        self._set_csq_grouped(self.mariadb)
        self._settings = mysql_session.settings(mariadb=self.mariadb, version=self.server_version)

    def tune(self, conn: Any) -> None:
        with self.raw_cursor(conn) as cursor:
            self._settings = mysql_session.prepare(cursor, self._settings, self.dsn)

    def last_insert_id(self, cursor: Any, query_type: Any = None) -> Any:
        """Return the id of an inserted row. See `Database.last_insert_id`."""
        row_id = super().last_insert_id(cursor, query_type)
        # PyMySQL reads it as unsigned.
        return row_id - 2**64 if isinstance(row_id, int) and row_id >= 2**63 else row_id

    def reset_connection(self, conn: Any) -> bool:
        if not conn.open:
            return False
        if not conn.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            return True
        return self._answers(conn.rollback)

    def is_alive(self, conn: Any) -> bool:
        return self._answers(partial(conn.ping, reconnect=False))

    def _answers(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except pymysql.MySQLError as exc:
            interruption = self.interruption(exc)
            if interruption is not None:
                raise interruption from None
            return False
        except OSError as exc:
            raise_interruption(exc)
            return False
        return True

    def has_transaction(self, conn: Any) -> bool:
        # After an error the cached status is that of the previous answer: ping first.
        return self.is_alive(conn) and bool(
            conn.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        )

    def interruption(self, exc: Exception) -> BaseException | None:
        # PyMySQL takes every OSError for its socket's, also a TimeoutError that a signal handler
        # raised for a time limit.
        for error in (exc, *self._driver_errors(exc)):
            context = error.__context__
            if isinstance(context, OSError) and raised_outside_of_sockets(context):
                return context
        return None

    def abort(self, conn: Any) -> None:
        sock = conn._sock
        if sock is not None:
            shut_down(sock.fileno())

    def version_text(self) -> str:
        return ".".join(str(part) for part in self.server_version or ())

    def connect_problem(self, exc: Exception) -> str:
        message = str(exc.args[-1] if exc.args else exc)
        cure = hint(code_of(exc), message, by_socket="socket" in self.dsn.parameters)
        return f"{' '.join(message.split())}; {cure}"

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        message = str(error.args[1]) if len(error.args) > 1 else ""
        code = code_of(error)
        found = meaning(code, message)
        name = named(found, message)
        if found is Failure.CONFLICT and name == "PRIMARY":
            return found, "primary key"
        if found is not Failure.SCHEMA:
            name = self.known_name(name)
        if found is Failure.VALUE and self._is_narrow(code, name):
            found = Failure.NARROW
        return found, name

    def _is_narrow(self, code: int, column: str | None) -> bool:
        if code == ER.DATA_TOO_LONG:  # no text or body is too long for a column as declared
            return True
        columns = {name.rpartition(".")[2] for name in self.narrow or ()}
        return code in BEYOND_COLUMN and column in columns

    def _taken_id(self, error: Exception) -> TakenId | None:
        # InnoDB raises its counter after it has inserted a row with an explicit key: an insert in
        # between gets the same key.
        table, row_id = primary_key_of(error) or ("", None)
        column = self.generated_ids.get(table, "")
        if row_id is None or (table and not column):
            return None
        return TakenId(table, column, row_id)

    def reason(self, error: Exception) -> str:
        return f"{type(error).__name__} ({code_of(error)})"

    # -- writing ------------------------------------------------------------------------------

    def pass_taken_id(self, taken: TakenId) -> None:
        """Do nothing: a failed insert has used its key up, and the next one gets another."""

    def _on_conflict(
        self,
        insert: peewee.ModelInsert,
        key: Sequence[peewee.Field[Any]],  # noqa: ARG002 - whichever unique key is hit
        update: dict[Any, Any],
    ) -> peewee.ModelInsert:
        upsert: Any = insert.on_conflict(update=update)
        upsert._on_conflict.names_new_row = not self.mariadb
        return upsert  # type: ignore[no-any-return]  # it is the class of `insert`

    def conflict_update(self, oc: Any, query: Any) -> Any:
        """Render the clause after VALUES: MySQL needs an alias for the new row, MariaDB none."""
        update = super().conflict_update(oc, query)
        if getattr(oc, "names_new_row", False):
            return peewee.NodeList((peewee.SQL("AS new"), update))
        return update

    def inserted(self, field: peewee.Field[Any]) -> peewee.ColumnBase:
        if self.mariadb:
            return peewee.fn.VALUE(peewee.Entity(field.column_name))
        return peewee.Entity("new", field.column_name)

    def stored(self, field: peewee.Field[Any]) -> peewee.ColumnBase:
        return peewee.Entity(field.model._meta.table_name, field.column_name)

    share_lock = "LOCK IN SHARE MODE"
    exclusive_lock = "FOR UPDATE"
    json_text = "CHAR"

    @property
    def isolation(self) -> str:  # type: ignore[override]  # known once a server has answered
        return "@@tx_isolation" if self.mariadb else "@@transaction_isolation"

    def _bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        columns, values = _filled(table, rows)
        params = ", ".join(["%s"] * len(columns))
        sql = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({params})"  # noqa: S608 - our names
        with self._noted(sql), self.raw_cursor(self.connection()) as cursor:
            # PyMySQL combines rows into statements of at most this length.
            cursor.max_stmt_length = min(cursor.max_stmt_length, self._max_packet_bytes // 2)
            cursor.executemany(sql, values)

    # Else a short table is scanned, which waits for rows that others have locked.
    _by_primary_key = " FORCE INDEX (PRIMARY)"

    @property
    def _max_characters(self) -> int:  # type: ignore[override]  # known once a server has answered
        return min(super()._max_characters, self._max_packet_bytes // 8)

    locks_parents = True

    def _incoming(self, column: str) -> str:
        return f"VALUE({column})" if self.mariadb else f"incoming.{column}"

    def _on_duplicate(self, key: str) -> str:  # noqa: ARG002 - whichever unique key is hit
        return ("" if self.mariadb else "AS incoming ") + "ON DUPLICATE KEY UPDATE"

    # -- values -------------------------------------------------------------------------------

    def time_to_db(self, at: datetime) -> datetime:
        return at.replace(tzinfo=None)

    def time_from_db(self, value: Any) -> datetime:
        at: datetime = value
        return at.replace(tzinfo=UTC)

    # -- expressions --------------------------------------------------------------------------

    def same_text(self, column: peewee.Field[Any], text: Any) -> peewee.Expression:
        # First by the column's collation, for which there is an index; then as bytes, as below.
        same: peewee.Expression = (column == text) & (column.cast("BINARY") == text)
        return same

    def contains(self, column: peewee.Field[Any], text: str) -> peewee.Expression:
        # Cast the column, for its side decides: collations of GPROXY's tables may ignore case.
        return fn.LOCATE(text, column.cast("BINARY")) > 0

    def time_bucket(self, column: peewee.Field[Any], seconds: int) -> peewee.ColumnBase:
        shift = bucket_shift(seconds)
        # Not UNIX_TIMESTAMP, which ends in 3001; TO_SECONDS counts from year 0.
        since_year_0 = fn.TO_SECONDS(column) + (shift - SECONDS_BEFORE_1970)
        # In lower case: Peewee would spell "DIV" as "/", which does not round down.
        return peewee.Expression(since_year_0, "div", seconds) * seconds - shift

    def month_number(self, column: peewee.Field[Any]) -> peewee.ColumnBase:
        return fn.YEAR(column) * 12 + fn.MONTH(column) - 1

    int64 = "SIGNED"

    def _whole(self, number: Any) -> Any:
        return fn.TRUNCATE(number, peewee.SQL("0"))


def _filled(table: BulkTable, rows: Sequence[Row]) -> tuple[list[str], list[Row]]:
    """Return the columns that are not NULL in all rows, and the rows reduced to them.

    PyMySQL takes about as long for a NULL as for a number. The Z of times, all UTC, is removed, for
    these servers refuse it.
    """
    names, columns = [], []
    for name, kind, column in zip(table.columns, table.kinds, zip(*rows, strict=True), strict=True):
        if column.count(None) == len(column):
            continue
        names.append(name)
        is_time = kind is Kind.TIME
        columns.append([at and at[:-1] for at in column] if is_time else column)
    return names, list(zip(*columns, strict=True))
