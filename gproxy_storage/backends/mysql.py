"""MySQL and MariaDB, through PyMySQL; the server's version tells which of the two it is."""

from __future__ import annotations

import re
import ssl
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import peewee
import pymysql
from peewee import fn
from pymysql.constants import CLIENT, CR, ER, SERVER_STATUS

from ..dsn import Dsn
from ..errors import DSNError
from ..interruptions import raise_interruption
from ..secret import SecretBytes
from . import mysql_session
from .base import shut_down
from .bulk import BulkTable, Kind, Row
from .failures import Failure, TakenId
from .mysql_schema import MySQLSchema
from .values import SECONDS_BEFORE_1970, bucket_shift

READ_TIMEOUT_S = 120
"""How long a statement may take before the server counts as lost."""

_CONNECTION_KILLED = 1927  # MariaDB only
_DISCONNECTED_IDLE = 4031  # MySQL 8.0.24
_BEYOND_COLUMN = {
    ER.WARN_DATA_OUT_OF_RANGE,
    ER.TRUNCATED_WRONG_VALUE,
    ER.TRUNCATED_WRONG_VALUE_FOR_FIELD,
    ER.WARN_DATA_TRUNCATED,
}
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
    ER.TRUNCATED_WRONG_VALUE: Failure.VALUE,
    ER.WARN_DATA_TRUNCATED: Failure.VALUE,
    ER.NET_PACKET_TOO_LARGE: Failure.VALUE,
    3140: Failure.VALUE,  # ER_INVALID_JSON_TEXT
    3151: Failure.VALUE,  # ER_JSON_KEY_TOO_BIG
    3157: Failure.VALUE,  # ER_JSON_DOCUMENT_TOO_DEEP
    **dict.fromkeys(_CHECK_FAILED, Failure.VALUE),
    167: Failure.VALUE,  # HA_ERR_AUTOINC_ERANGE: no key is left to generate
    1644: Failure.VALUE,  # ER_SIGNAL_EXCEPTION, a trigger's
    ER.LOCK_DEADLOCK: Failure.TRANSIENT,
    ER.LOCK_WAIT_TIMEOUT: Failure.TRANSIENT,
    ER.CHECKREAD: Failure.TRANSIENT,  # MariaDB: the row changed since the snapshot
    ER.OPTION_PREVENTS_STATEMENT: Failure.READ_ONLY,
    1792: Failure.READ_ONLY,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1836: Failure.READ_ONLY,  # ER_READ_ONLY_MODE
    1874: Failure.READ_ONLY,  # ER_INNODB_READ_ONLY
    ER.TABLEACCESS_DENIED_ERROR: Failure.DENIED,
    ER.DBACCESS_DENIED_ERROR: Failure.DENIED,
    ER.NO_SUCH_TABLE: Failure.SCHEMA,
    ER.BAD_FIELD_ERROR: Failure.SCHEMA,
    3: Failure.EXHAUSTED,  # EE_WRITE
    ER.DISK_FULL: Failure.EXHAUSTED,
    ER.OUTOFMEMORY: Failure.EXHAUSTED,
    ER.ERROR_ON_WRITE: Failure.EXHAUSTED,
    ER.GET_ERRNO: Failure.EXHAUSTED,  # the storage engine failed
    ER.RECORD_FILE_FULL: Failure.EXHAUSTED,
    ER.OUT_OF_SORTMEMORY: Failure.EXHAUSTED,
    ER.OUT_OF_RESOURCES: Failure.EXHAUSTED,
    1206: Failure.EXHAUSTED,  # ER_LOCK_TABLE_FULL
    1878: Failure.EXHAUSTED,  # ER_TEMP_FILE_WRITE_FAILURE
    3019: Failure.EXHAUSTED,  # ER_INNODB_UNDO_LOG_FULL
    1194: Failure.EXHAUSTED,  # ER_CRASHED_ON_USAGE
    1812: Failure.EXHAUSTED,  # ER_TABLESPACE_MISSING
    1226: Failure.EXHAUSTED,  # ER_USER_LIMIT_REACHED
    1317: Failure.EXHAUSTED,  # ER_QUERY_INTERRUPTED: KILL QUERY, or a time-out of the server's
    1969: Failure.EXHAUSTED,  # MariaDB: max_statement_time
    0: Failure.LOST,  # PyMySQL's own "connection is closed"
    ER.SERVER_SHUTDOWN: Failure.LOST,
    3032: Failure.LOST,  # ER_SERVER_OFFLINE_MODE
    _CONNECTION_KILLED: Failure.LOST,
    _DISCONNECTED_IDLE: Failure.LOST,
    CR.CR_SERVER_GONE_ERROR: Failure.LOST,
    CR.CR_SERVER_LOST: Failure.LOST,
    CR.CR_CONN_HOST_ERROR: Failure.LOST,
    CR.CR_COMMANDS_OUT_OF_SYNC: Failure.LOST,
}

# The name in a message, anchored, for a value may precede it: Incorrect integer value: 'value' for
# column 'name' at row 1. MariaDB writes `database`.`table`.`name`.
_NAMED = re.compile(
    r"(?:^Column|^Field| for column) ['`]([\w.`]+)['`]"
    r"(?: at row \d+| cannot be null| doesn't have a default value|\.)$"
    r"|^CONSTRAINT `([\w.]+)` failed"
    r"|^Table '([^']+)' doesn't exist$"
    r"|^Unknown column '([\w.]+)'"
)

_KEY = re.compile(r"'(?:\w+\.)?(\w+)'\W*$")
"""The last quoted text, if it is a name."""

_TAKEN_ID = re.compile(r"'(-?\d+)' for key '(?:(\w+)\.)?PRIMARY'")
"""What is said of a primary key that exists; MariaDB does not name the table."""

_HINTS: dict[int, str] = {
    ER.ACCESS_DENIED_ERROR: "check the user and the password",
    ER.DBACCESS_DENIED_ERROR: "grant the user access to the database, or correct its name",
    ER.BAD_DB_ERROR: "create the database, or correct its name",
    ER.CON_COUNT_ERROR: "lower max_connections in the DSN, or raise the server's",
    ER.TOO_MANY_USER_CONNECTIONS: "lower max_connections in the DSN, or raise the user's limit",
    ER.USER_LIMIT_REACHED: "lower max_connections in the DSN, or raise the user's limit",
    ER.HOST_NOT_PRIVILEGED: "give the user an account for this client's host",
    3159: "use ssl-mode=REQUIRED",  # ER_SECURE_TRANSPORT_REQUIRED
}

# Hints by text: PyMySQL has one code for all failures before the greeting. The first match counts.
_HINTS_BY_TEXT: tuple[tuple[str, str], ...] = (
    ("server doesn't support it", "it has no TLS: use ssl-mode=PREFERRED, or switch TLS on there"),
    ("certificate has expired|not yet valid", "renew the server's certificate, or check the clock"),
    (
        "[Hh]ostname mismatch|IP address mismatch|doesn't match",
        "connect to a name that the certificate has, or use ssl-mode=VERIFY_CA",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "give the CA that signed the server's certificate as ssl-ca, or use ssl-mode=REQUIRED, "
        "which checks no certificate",
    ),
    (
        "WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION",
        "the server has no version of TLS that this Python accepts: update the server, or use "
        "ssl-mode=DISABLED",
    ),
    ("Authentication plugin", "give the user another plugin, for example caching_sha2_password"),
)
_SOCKET_HINTS = (
    ("Permission denied", "check the modes of the socket and its directory"),
    ("", "check that the server runs and that its socket exists, or name a host"),
)


_SOCKET_MODULES = {"pymysql", "socket", "ssl", "_socket", "gevent", "eventlet"}


class Connection(pymysql.connections.Connection):
    """PyMySQL's, but where TLS checks no certificate, none is read.

    For ssl-mode=PREFERRED PyMySQL reads all CAs of the system for each connection, 30 ms of
    computing, and then does not use them.
    """

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        if not sslp:
            return _unchecked_tls()
        context: ssl.SSLContext = super()._create_ssl_ctx(sslp)  # type: ignore[misc]  # it is private
        return context


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
        super().__init__(database, database.database, **_connect_params(database))

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
            if isinstance(context, OSError) and _raised_outside_of_sockets(context):
                return context
        return None

    def abort(self, conn: Any) -> None:
        sock = conn._sock
        if sock is not None:
            shut_down(sock.fileno())

    def version_text(self) -> str:
        return ".".join(str(part) for part in self.server_version or ())

    def connect_problem(self, exc: Exception) -> str:
        code, message = _code(exc), str(exc.args[-1] if exc.args else exc)
        hints = _HINTS_BY_TEXT
        if code == CR.CR_CONN_HOST_ERROR and "socket" in self.dsn.parameters:
            hints = (*hints, *_SOCKET_HINTS)
        hint = _HINTS.get(code) or next(
            (hint for pattern, hint in hints if re.search(pattern, message)),
            "check that the server runs and that host and port are right",
        )
        return f"{' '.join(message.split())}; {hint}"

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        message = str(error.args[1]) if len(error.args) > 1 else ""
        found = _meaning(_code(error), message)
        name: str | None = None
        match found:
            case Failure.CONFLICT:  # Duplicate entry 'value' for key 'table.index'
                key = _KEY.search(message)
                name = key[1] if key else None
                if name == "PRIMARY":
                    return found, "primary key"
            case Failure.REFERENCE:  # ... (`db`.`table`, CONSTRAINT `name` FOREIGN KEY ...
                name = message.partition("CONSTRAINT `")[2].partition("`")[0] or None
            case Failure.VALUE | Failure.SCHEMA:
                named = _NAMED.search(message)
                name = re.split("[.`]+", named[named.lastindex or 0])[-1] if named else None
        if found is not Failure.SCHEMA:
            name = self.known_name(name)
        if found is Failure.VALUE and self._is_narrow(_code(error), name):
            found = Failure.NARROW
        return found, name

    def _is_narrow(self, code: int, column: str | None) -> bool:
        if code == ER.DATA_TOO_LONG:  # no text or body is too long for a column as declared
            return True
        columns = {name.rpartition(".")[2] for name in self.narrow or ()}
        return code in _BEYOND_COLUMN and column in columns

    def _taken_id(self, error: Exception) -> TakenId | None:
        # InnoDB raises its counter after it has inserted a row with an explicit key: an insert in
        # between gets the same key.
        found = _TAKEN_ID.search(str(error.args[-1])) if _code(error) == ER.DUP_ENTRY else None
        if found is None:
            return None
        table = found[2] or ""
        column = self.generated_ids.get(table)
        if table and column is None:
            return None
        return TakenId(table, column or "", int(found[1]))

    def reason(self, error: Exception) -> str:
        return f"{type(error).__name__} ({_code(error)})"

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


def _raised_outside_of_sockets(error: OSError) -> bool:
    """Whether code other than the driver's or a socket's raised it, such as a signal handler."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    innermost = step.tb_frame.f_globals.get("__name__", "") if step is not None else ""
    return innermost.partition(".")[0] not in _SOCKET_MODULES


def _meaning(code: int, message: str) -> Failure:
    """Return the class of an error code; some codes have several meanings."""
    if code == ER.OPTION_PREVENTS_STATEMENT and "read-only" not in message:
        return Failure.OTHER  # another of the server's options
    if code == ER.UNKNOWN_COM_ERROR and "WSREP" in message:
        return Failure.LOST  # a Galera node that is not part of the cluster now
    return _FAILURES.get(code, Failure.OTHER)


def _code(error: Exception) -> int:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else -1


def _connect_params(dsn: Dsn) -> dict[str, Any]:
    """Return PyMySQL's keyword arguments: the tuning, then the DSN's."""
    options = dsn.parameters
    params: dict[str, Any] = {
        "charset": "utf8mb4",
        # Else an UPDATE that leaves a row as it was reports no row, as if there were none.
        "client_flag": CLIENT.FOUND_ROWS,
        "connect_timeout": dsn.pool.connect_timeout_s,
        "read_timeout": dsn.pool.connect_timeout_s,  # for the login; `_connect` raises it
        "write_timeout": dsn.pool.connect_timeout_s,
        "program_name": "gproxy",
        **_tls(dsn),
    }
    if "socket" in options:
        params["unix_socket"] = options["socket"]
    for host in dsn.hosts:
        params["host"] = host.name
        params["port"] = host.port or 3306
    if dsn.user is not None:
        params["user"] = dsn.user
    return params


def _tls(dsn: Dsn) -> dict[str, Any]:
    """Translate ssl-mode and its files (https://dev.mysql.com/doc/refman/en/connection-options).

    Raises:
        DSNError: when a file cannot be used; it names the parameters.
    """
    options = dsn.parameters
    ca, cert = options.get("ssl-ca"), options.get("ssl-cert")
    mode = options.get("ssl-mode", "VERIFY_CA" if ca else "PREFERRED")
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED" and not cert:
        return {}  # PyMySQL tries TLS and falls back
    part = "ssl-ca"
    try:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = mode == "VERIFY_IDENTITY"
        if not mode.startswith("VERIFY"):
            context.verify_mode = ssl.CERT_NONE
        if cert:
            part = "ssl-cert and ssl-key"
            # With an empty password, else OpenSSL would ask for one at the terminal.
            context.load_cert_chain(cert, options.get("ssl-key"), password="")
    except OSError as exc:  # an ssl.SSLError is one
        problem = f"{exc.strerror or exc}; name files in PEM form that can be read"
        raise DSNError(
            f"{dsn.setting or 'DSN'}: {part}: {problem} (in {dsn})",
            part=part,
            dsn=str(dsn),
            setting=dsn.setting,
        ) from exc
    return {"ssl": context}


@cache
def _unchecked_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
