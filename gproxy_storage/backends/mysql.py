"""MySQL and MariaDB through PyMySQL; the server's version tells which of the two it is."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import peewee
import pymysql
from pymysql.constants import CLIENT, CR, ER, SERVER_STATUS

from ..dsn import Dsn
from ..errors import ConnectError, SyncFailed
from .base import Backend
from .catalog import CatalogRows, ColumnRow, ForeignKeyRow, IndexRow
from .failures import Failure

READ_TIMEOUT_S = 120
"""How long a statement may take before the server counts as gone."""

_SQL_MODE = (
    "STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)

_CONNECTION_KILLED = 1927  # MariaDB only
_DISCONNECTED_IDLE = 4031  # MySQL 8.0.24
_CHECK_FAILED = {3819, 4025}  # MySQL, MariaDB

_FAILURES: dict[int, Failure] = {
    ER.DUP_ENTRY: Failure.CONFLICT,
    ER.NO_REFERENCED_ROW: Failure.REFERENCE,
    ER.NO_REFERENCED_ROW_2: Failure.REFERENCE,
    ER.BAD_NULL_ERROR: Failure.VALUE,
    ER.NO_DEFAULT_FOR_FIELD: Failure.VALUE,
    ER.DATA_TOO_LONG: Failure.VALUE,
    ER.WARN_DATA_OUT_OF_RANGE: Failure.VALUE,
    ER.TRUNCATED_WRONG_VALUE_FOR_FIELD: Failure.VALUE,
    ER.NET_PACKET_TOO_LARGE: Failure.VALUE,
    3140: Failure.VALUE,  # ER_INVALID_JSON_TEXT
    **dict.fromkeys(_CHECK_FAILED, Failure.VALUE),
    ER.LOCK_DEADLOCK: Failure.TRANSIENT,
    ER.LOCK_WAIT_TIMEOUT: Failure.TRANSIENT,
    ER.CHECKREAD: Failure.TRANSIENT,  # MariaDB: the row changed since the snapshot
    ER.OPTION_PREVENTS_STATEMENT: Failure.READ_ONLY,
    1792: Failure.READ_ONLY,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1836: Failure.READ_ONLY,  # ER_READ_ONLY_MODE
    ER.NO_SUCH_TABLE: Failure.SCHEMA,
    ER.BAD_FIELD_ERROR: Failure.SCHEMA,
    0: Failure.LOST,  # PyMySQL's own "connection is closed"
    ER.SERVER_SHUTDOWN: Failure.LOST,
    _CONNECTION_KILLED: Failure.LOST,
    _DISCONNECTED_IDLE: Failure.LOST,
    CR.CR_SERVER_GONE_ERROR: Failure.LOST,
    CR.CR_SERVER_LOST: Failure.LOST,
    CR.CR_CONN_HOST_ERROR: Failure.LOST,
    CR.CR_COMMANDS_OUT_OF_SYNC: Failure.LOST,
}

_HINTS = {
    ER.ACCESS_DENIED_ERROR: "check the user and the password",
    ER.DBACCESS_DENIED_ERROR: "grant the user access to the database, or correct its name",
    ER.BAD_DB_ERROR: "create the database, or correct its name",
    ER.CON_COUNT_ERROR: "lower max_connections in the DSN, or raise the server's",
}


_FAMILIES = {
    **dict.fromkeys(
        ("bool", "tinyint", "smallint", "mediumint", "int", "integer", "bigint"), "integer"
    ),
    **dict.fromkeys(("float", "double", "double precision"), "real"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), "text"),
    **dict.fromkeys(("varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "bytes"),
    **dict.fromkeys(("datetime", "timestamp"), "time"),
}

# A join of the two takes ten times as long on MariaDB. MariaDB says 'NULL' for "no default".
_COLUMNS = """
    SELECT table_name AS t, CASE WHEN table_type LIKE '%%VIEW' THEN 'view' ELSE 'table' END,
        NULL, COALESCE(table_collation, ''), 1, 0, 0, 0, 0 AS n
    FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name IN %s
    UNION ALL
    SELECT table_name, '', column_name, data_type, is_nullable = 'YES',
        column_default IS NOT NULL AND column_default <> 'NULL',
        extra LIKE '%%GENERATED' AND extra NOT LIKE '%%DEFAULT_GENERATED%%',
        extra LIKE '%%auto_increment%%', ordinal_position
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name IN %s
    ORDER BY t, n"""

_INDEXES = """
    SELECT table_name, index_name, column_name, non_unique = 0, index_name = 'PRIMARY',
        collation = 'D', 0, sub_part IS NOT NULL, 1
    FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name IN %s
    ORDER BY table_name, index_name, seq_in_index"""

_FOREIGN_KEYS = """
    SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name,
        k.referenced_column_name,
        CASE r.delete_rule WHEN 'RESTRICT' THEN 'NO ACTION' ELSE r.delete_rule END
    FROM information_schema.key_column_usage AS k
    JOIN information_schema.referential_constraints AS r
        ON r.constraint_schema = k.constraint_schema AND r.table_name = k.table_name
        AND r.constraint_name = k.constraint_name
    WHERE k.table_schema = DATABASE() AND k.table_name IN %s
        AND r.constraint_schema = DATABASE()
    ORDER BY k.table_name, k.constraint_name, k.ordinal_position"""

_LOCK_HOLDERS = """
    SELECT DISTINCT t.processlist_id, t.processlist_user,
        COALESCE(t.processlist_state, t.processlist_command)
    FROM performance_schema.metadata_locks AS m
    JOIN performance_schema.threads AS t ON t.thread_id = m.owner_thread_id
    WHERE m.object_schema = DATABASE() AND m.object_name = %s AND m.lock_status = 'GRANTED'
        AND t.processlist_id <> CONNECTION_ID()"""


class MySQLBackend(Backend, peewee.MySQLDatabase):
    """MySQL 8.0 or later, MariaDB 10.5 or later."""

    driver_error = pymysql.MySQLError
    transactional_ddl = False
    field_types = {  # noqa: RUF012 - Peewee's interface, read only
        **peewee.MySQLDatabase.field_types,
        "DATETIME": "DATETIME(6)",
        "BLOB": "LONGBLOB",  # BLOB ends at 64 KiB
        "TEXT": "LONGTEXT",  # TEXT too
        "GENERATED": "VIRTUAL",  # STORED forbids ON DELETE CASCADE on its source
    }

    def __init__(self, database: Dsn) -> None:
        super().__init__(database, database.database, **_connect_params(database))

    @property
    def name(self) -> str:  # type: ignore[override]  # known once a server has answered
        return "mariadb" if self.mariadb else "mysql"

    def tune(self, conn: Any) -> None:
        self.mariadb = "mariadb" in conn.server_version.lower()
        with self.raw_cursor(conn) as cursor:
            cursor.execute(f"SET SESSION sql_mode = '{_SQL_MODE}', time_zone = '+00:00'")
            # The variable's name differs between the two, this statement does not.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def reset_connection(self, conn: Any) -> bool:
        if not conn.open:
            return False
        if not conn.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            return True
        try:
            conn.rollback()
        except (pymysql.MySQLError, OSError):
            return False
        return True

    def is_alive(self, conn: Any) -> bool:
        try:
            conn.ping(reconnect=False)
        except (pymysql.MySQLError, OSError):
            return False
        return True

    def version_text(self) -> str:
        return ".".join(str(part) for part in self.server_version or ())

    def connect_error(self, exc: Exception) -> ConnectError:
        code, said = _code(exc), str(exc.args[-1] if exc.args else exc)
        hint = _HINTS.get(code, "check that the server runs and that host and port are right")
        return ConnectError(
            f"cannot connect to {self.dsn}: {' '.join(said.split())}; {hint}", dsn=str(self.dsn)
        )

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        found = _FAILURES.get(_code(error), Failure.OTHER)
        said = str(error.args[1]) if len(error.args) > 1 else ""
        match found:
            case Failure.CONFLICT:  # Duplicate entry 'value' for key 'table.index'
                return found, said.rpartition("for key ")[2].strip("'").rpartition(".")[2]
            case Failure.REFERENCE:  # ... (`db`.`table`, CONSTRAINT `name` FOREIGN KEY ...
                return found, said.partition("CONSTRAINT `")[2].partition("`")[0] or None
            case Failure.VALUE | Failure.SCHEMA:  # ... column 'name' ..., Table 'db.name' ...
                words = said.split("'")
                return found, _column_named(said) or (words[1] if len(words) == 3 else None)
        return found, None

    def reason(self, error: Exception) -> str:
        return f"{type(error).__name__} ({_code(error)})"

    # -- writing ------------------------------------------------------------------------------

    def on_conflict(
        self,
        insert: peewee.ModelInsert,
        key: Sequence[peewee.Field[Any]],  # noqa: ARG002 - whichever unique key is hit
        update: Mapping[str, Any],
    ) -> peewee.ModelInsert:
        return insert.on_conflict(update=dict(update))

    # -- values -------------------------------------------------------------------------------

    def time_to_db(self, at: datetime) -> datetime:
        return at.replace(tzinfo=None)

    def time_from_db(self, value: Any) -> datetime:
        at: datetime = value
        return at.replace(tzinfo=UTC)

    # -- schema -------------------------------------------------------------------------------

    @property
    def table_collation(self) -> str:  # type: ignore[override]  # known once a server has answered
        # 'alice' is not 'Alice', and 'a' is not 'a ' (utf8mb4_bin pads with blanks).
        return "utf8mb4_nopad_bin" if self.mariadb else "utf8mb4_0900_bin"

    def table_options(self) -> str:
        return f"ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {self.table_collation}"

    @contextmanager
    def sync_lock(self, timeout_s: float) -> Iterator[None]:
        # User locks are the server's, not the database's, and their names end at 64 characters.
        lock = "gproxy_storage.sync." + hashlib.sha256(self.database.encode()).hexdigest()[:32]
        with self._pinned_session():
            got = self.query("SELECT GET_LOCK(%s, %s)", (lock, timeout_s))[0][0]
            if got != 1:
                holder = self.query("SELECT IS_USED_LOCK(%s)", (lock,))[0][0]
                raise SyncFailed(
                    f"sync waited {timeout_s:g} s for another process's sync of {self.dsn} "
                    f"(connection {holder}): look into SHOW PROCESSLIST, then start again"
                )
            self.execute_sql("SET SESSION lock_wait_timeout = 1")
            try:
                yield
            finally:
                self.query("SELECT RELEASE_LOCK(%s)", (lock,))

    @contextmanager
    def _pinned_session(self) -> Iterator[None]:
        """A connection of its own, without the read time-out: DDL takes what it takes."""
        pooled = self._state.conn
        limits = {name: self.connect_params.pop(name) for name in ("read_timeout", "write_timeout")}
        try:
            conn = self.open_connection()
        finally:
            self.connect_params.update(limits)
        self._state.conn = conn
        try:
            yield
        finally:
            self._state.conn = pooled
            self.close_connection(conn)

    # MariaDB's JSON is a LONGTEXT with a check.
    also_holds = {"json": frozenset({"text"})}  # noqa: RUF012 - read only

    def read_catalog(self, tables: Sequence[str], index_names: Sequence[str]) -> CatalogRows:
        del index_names  # each table names its own indexes
        ours = list(tables)
        return CatalogRows(
            [ColumnRow(*row[:-1]) for row in self.query(_COLUMNS, (ours, ours))],
            [IndexRow(*row) for row in self.query(_INDEXES, (ours,))],
            [ForeignKeyRow(*row) for row in self.query(_FOREIGN_KEYS, (ours,))],
        )

    def type_family(self, column_type: str) -> str:
        base = column_type.lower().partition("(")[0].removesuffix(" auto_increment")
        return _FAMILIES.get(base, base)

    def lock_holders(self, table: str) -> str:
        try:
            rows = self.query(_LOCK_HOLDERS, (table,))
        except peewee.PeeweeException:
            return ""  # MariaDB has no such table, and not every user may read it on MySQL
        return "; ".join(f"connection {pid}, user {user}, {state}" for pid, user, state in rows)


def _code(error: Exception) -> int:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else -1


def _column_named(said: str) -> str | None:
    """Find ``column 'name'``, which some messages write with a capital."""
    return said.lower().partition("column '")[2].partition("'")[0] or None


def _connect_params(dsn: Dsn) -> dict[str, Any]:
    """Return PyMySQL's keyword arguments: the tuning, then what the DSN says."""
    options = dsn.parameters
    params: dict[str, Any] = {
        "charset": "utf8mb4",
        # Else an UPDATE that changes nothing counts no row, as if there were none.
        "client_flag": CLIENT.FOUND_ROWS,
        "connect_timeout": dsn.pool.connect_timeout_s,
        "read_timeout": READ_TIMEOUT_S,
        "write_timeout": READ_TIMEOUT_S,
        "program_name": "gproxy",
        **_tls(options),
    }
    if "socket" in options:
        params["unix_socket"] = options["socket"]
    for host in dsn.hosts:
        params["host"] = host.name
        params["port"] = host.port or 3306
    if dsn.user is not None:
        params["user"] = dsn.user
    if dsn.password is not None:
        # As bytes: PyMySQL would encode a str as Latin-1, and show it where that fails.
        params["password"] = dsn.password.reveal().encode()
    return params


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    """Translate ssl-mode and its files (https://dev.mysql.com/doc/refman/en/connection-options)."""
    ca, cert = options.get("ssl-ca"), options.get("ssl-cert")
    mode = options.get("ssl-mode", "VERIFY_CA" if ca else "PREFERRED")
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED" and not cert:
        return {}  # PyMySQL tries TLS and falls back
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if not mode.startswith("VERIFY"):
        context.verify_mode = ssl.CERT_NONE
    if cert:
        context.load_cert_chain(cert, options.get("ssl-key"))
    return {"ssl": context}
