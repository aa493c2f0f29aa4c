"""PostgreSQL, through psycopg2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import peewee
import psycopg2
from peewee import fn
from psycopg2 import extensions, extras

from ..dsn import Dsn, is_secret
from ..secret import REDACTED, SecretText
from . import postgres_green, postgres_session
from .base import shut_down
from .bulk import BulkTable, Row, parts
from .failures import Failure, TakenId
from .postgres_copy import copy_text
from .postgres_schema import PostgresSchema
from .state import transaction_ended
from .taken_ids import TakenIds

_COPY_CHUNK_BYTES = 256 * 1024
_ROWS_A_STATEMENT = 250

_FAILURES = {  # SQLSTATE, or its class (https://www.postgresql.org/docs/current/errcodes-appendix)
    "23505": Failure.CONFLICT,
    "23503": Failure.REFERENCE,
    "23": Failure.VALUE,
    "22": Failure.VALUE,
    "54000": Failure.VALUE,
    "40": Failure.TRANSIENT,
    "55P03": Failure.TRANSIENT,  # a lock was not released within lock_timeout
    "08": Failure.LOST,
    "57P01": Failure.LOST,
    "57P02": Failure.LOST,
    "57P03": Failure.LOST,
    "25006": Failure.READ_ONLY,
    "42501": Failure.DENIED,
    "42P01": Failure.SCHEMA,
    "42703": Failure.SCHEMA,
    "P0001": Failure.VALUE,  # a trigger's RAISE
    "53": Failure.EXHAUSTED,
    "57": Failure.EXHAUSTED,
    "58": Failure.EXHAUSTED,
    "XX": Failure.EXHAUSTED,
}

_TOO_LONG = "22001"
_OUT_OF_RANGE = "22003"

_HINTS = (  # regular expressions; the first match counts
    ("server does not support SSL", "it has no TLS: use sslmode=prefer, or switch ssl on there"),
    (
        "root certificate file|root certificate store",
        "give the certificate of the CA as sslrootcert, or sslrootcert=system",
    ),
    (
        "certificate verify failed|self-signed|certificate has expired",
        "check that sslrootcert is the CA that signed the server's certificate, and the dates of "
        "both",
    ),
    (
        "does not match host name",
        "connect to a name that the certificate has, or use sslmode=verify-ca",
    ),
    (
        "private key",
        "check that sslkey is readable by its owner only and matches sslcert, and sslpassword",
    ),
    ("client certificate|certificate file", "check sslcert and sslkey"),
    (
        "protocol version|unsupported protocol|no protocols available",
        "check ssl_min_protocol_version and ssl_max_protocol_version",
    ),
    (
        "no pg_hba.conf entry .*(no encryption|SSL off)",
        "use sslmode=require, or allow this client in the server's pg_hba.conf",
    ),
    (
        "Peer authentication failed",
        "the socket admits only the operating system's user of that name: connect to a host, or "
        "change the server's pg_hba.conf",
    ),
    (
        "on socket .*No such file or directory",
        "check that the server runs and that its socket is in that directory, or name a host",
    ),
    ("on socket .*Permission denied", "check the modes of the socket and its directory"),
    ("password authentication failed", "check the user and the password"),
    ("no password supplied", "put the password into the DSN, or use a passfile"),
    ("no pg_hba.conf entry", "allow this client in the server's pg_hba.conf"),
    ("too many (clients|connections)", "lower max_connections in the DSN, or raise the server's"),
    ("does not exist", "create it, or correct the name"),
    ("certificate", "check sslmode and sslrootcert"),
    ("parameter: options", "a pooler accepts none: leave them out, or set them for the role"),
    ("permission denied to set", "allow the user to set it"),
)


_SEQUENCE_KEY = 0x6770726F78790002  # "gproxy", 2
_NEXTVAL_STEPS = 1000

# setval takes effect at once, for all sessions, and is not rolled back; the advisory lock is. So
# the lock is held no longer than this. Without it, the lower of two concurrent setvals could win.
# nextval takes no such lock, so a setval to a value that others may reach meanwhile could put the
# sequence back: up to _NEXTVAL_STEPS are done by nextval instead. The position of a restarted
# sequence is known by nextval only. A default's sequence need not be owned by its column.
_RAISE_SEQUENCE = """
    SAVEPOINT raise_sequence;
    SELECT pg_advisory_xact_lock(%s);
    SELECT CASE WHEN target - reached > %s THEN setval(s, target)
        ELSE (SELECT max(n) FROM (SELECT nextval(s) AS n
            FROM generate_series(reached + 1, target)) AS steps) END
    FROM (
        SELECT s, target, nextval(s) AS reached FROM (
            SELECT COALESCE(pg_get_serial_sequence(a.attrelid::regclass::text, a.attname)::regclass,
                n.refobjid::regclass) AS s, %s::bigint AS target
            FROM pg_attribute AS a
            LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            LEFT JOIN pg_depend AS n ON n.classid = 'pg_attrdef'::regclass AND n.objid = d.oid
                AND n.refclassid = 'pg_class'::regclass
                AND EXISTS (SELECT FROM pg_class WHERE oid = n.refobjid AND relkind = 'S')
            WHERE a.attrelid = %s::regclass AND a.attname = %s
        ) AS found
        WHERE COALESCE(pg_sequence_last_value(s), 0) < target
        OFFSET 0
    ) AS at
    WHERE reached < target;
    ROLLBACK TO SAVEPOINT raise_sequence;
    RELEASE SAVEPOINT raise_sequence"""


class PostgresBackend(PostgresSchema, peewee.PostgresqlDatabase):
    """PostgreSQL 12 or later."""

    name = "postgres"
    driver_error = psycopg2.Error
    field_types = {  # noqa: RUF012 - Peewee's interface, read only
        **peewee.PostgresqlDatabase.field_types,
        "DATETIME": "TIMESTAMPTZ",
        "JSON": "JSON",  # jsonb would turn 1e22 into an integer and drop the order of keys
    }

    def __init__(self, database: Dsn) -> None:
        super().__init__(database, database.database, **_connect_params(database))
        if postgres_session.READ_ONLY in database.parameters.get("options", ""):
            self.replaces_read_only = False
            self.only_reads = f"the DSN's options set {postgres_session.READ_ONLY}"

    def _connect(self) -> Any:
        postgres_green.warn_of_blocking()
        conn = super()._connect()
        if conn.info.parameter_status("standard_conforming_strings") == "off":
            # psycopg2 reads this only while connecting, and would quote strings for `off` after
            # `prepare` has switched it on.
            conn.close()
            self.connect_params = postgres_session.with_plain_strings(self.connect_params)
            conn = super()._connect()
        return conn

    def tune(self, conn: Any) -> None:
        postgres_session.prepare(conn, self.dsn)
        # JSON columns come as text: one reader, in fields.py, for all backends.
        extras.register_default_json(conn, loads=lambda text: text)

    def reset_connection(self, conn: Any) -> bool:
        if conn.closed:
            return False
        status = conn.get_transaction_status()
        if status == extensions.TRANSACTION_STATUS_IDLE:
            return True
        if status == extensions.TRANSACTION_STATUS_UNKNOWN:
            return False
        try:
            with self.raw_cursor(conn) as cursor:
                cursor.execute("ROLLBACK")  # conn.rollback() does nothing under autocommit
        except psycopg2.Error:
            return False
        return True

    def has_transaction(self, conn: Any) -> bool:
        if conn.closed:
            return False
        # The status shows a killed server only after the connection is used, as it just was.
        return conn.get_transaction_status() in (
            extensions.TRANSACTION_STATUS_INTRANS,
            extensions.TRANSACTION_STATUS_INERROR,
        )

    def commit(self) -> Any:
        status = None if self.is_closed() else self._state.conn.get_transaction_status()
        if status == extensions.TRANSACTION_STATUS_INERROR:
            # A statement failed, and the block caught it: COMMIT would roll back without an error.
            raise transaction_ended(self._state.failed)
        return super().commit()

    def abort(self, conn: Any) -> None:
        with suppress(psycopg2.Error):
            shut_down(conn.fileno())

    def version_text(self) -> str:
        version: int = self.server_version or 0
        return f"{version // 10000}.{version % 10000}"

    def connect_problem(self, exc: Exception) -> str:
        message = " ".join(str(exc).split())
        hint = next(
            (hint for pattern, hint in _HINTS if re.search(pattern, message)),
            "check that the server runs and that host and port are right",
        )
        return f"{message}; {hint}"

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        state: str | None = getattr(error, "pgcode", None)
        if state is None:
            # No answer from the server: the connection is lost, or the driver refused a value.
            lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
            return (Failure.LOST if lost else Failure.OTHER), None
        diag = error.diag  # type: ignore[attr-defined]  # pgcode and diag come together
        name = diag.constraint_name or diag.column_name
        found = _FAILURES.get(state) or _FAILURES.get(state[:2]) or Failure.OTHER
        if found is Failure.CONFLICT and name not in self.index_columns:
            # An index of another name: DETAIL has the columns, followed by the values.
            columns = re.search(r"\(([\w, ]+)\)=\(", diag.message_detail or "")
            if columns and diag.table_name and self.known_name(columns[1]):
                return found, ", ".join(
                    f"{diag.table_name}.{column.strip()}" for column in columns[1].split(",")
                )
        # No text is too long for a column as declared, and no number out of its range.
        if state == _TOO_LONG or (state == _OUT_OF_RANGE and self.narrow):
            return Failure.NARROW, name
        if found is Failure.SCHEMA:
            quoted = re.search(r'"([^"]+)"', diag.message_primary or "")
            name = quoted[1] if quoted else None
        return found, name

    def _taken_id(self, error: Exception) -> TakenId | None:
        if getattr(error, "pgcode", None) != "23505":
            return None
        diag = error.diag  # type: ignore[attr-defined]  # pgcode and diag come together
        column = self.generated_ids.get(diag.table_name or "")
        if column is None:
            return None
        # Another program may have named the constraint. DETAIL, if this user may see it, has the
        # columns and values in every language: Key (id)=(12) already exists.
        key = re.search(r"\((.+?)\)=\((.*)\)", diag.message_detail or "")
        if key is None:
            is_pkey = diag.constraint_name == f"{diag.table_name}_pkey"
            return TakenId(diag.table_name, column, None) if is_pkey else None
        if key[1].strip('"') != column or not re.fullmatch(r"-?\d+", key[2]):
            return None
        return TakenId(diag.table_name, column, int(key[2]))

    def reason(self, error: Exception) -> str:
        return f"{type(error).__name__} ({getattr(error, 'pgcode', None) or 'no SQLSTATE'})"

    # -- writing ------------------------------------------------------------------------------

    def execute(self, query: Any, **context_options: Any) -> Any:
        execute = partial(super().execute, query, **context_options)
        if isinstance(query, peewee.Insert) and not self.in_transaction():
            return TakenIds(self).retry(execute)
        return execute()

    def _bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        is_green = postgres_green.is_green()
        sql = f"INSERT INTO {table.into}" if is_green else f"COPY {table.into} FROM STDIN"
        with self._noted(sql), self.raw_cursor(self.connection()) as cursor:
            if not is_green:
                cursor.copy_expert(sql, copy_text(table, rows), _COPY_CHUNK_BYTES)
                return
            for part in parts(rows, _ROWS_A_STATEMENT):
                cursor.execute(*postgres_green.insert(table, part))

    _json_cast = "::json"

    def check_at_once(self) -> None:
        self.execute_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def _cost_rows(self, costs: Sequence[tuple[int, float]], at: Any) -> tuple[str, list[Any]]:
        # Two arrays as text take driver and server a third of the time of VALUES.
        users, amounts = (
            "{" + ",".join(map(str, column)) + "}" for column in zip(*costs, strict=True)
        )
        rows = (
            "SELECT user_id, cost, 0, %s FROM unnest(%s::bigint[], %s::float8[]) q (user_id, cost)"
        )
        return rows, [at, users, amounts]

    def will_insert_id(self, key: peewee.Field[Any], row_id: int) -> None:
        self._raise_sequence(key.model._meta.table_name, key.column_name, row_id)

    def _raise_sequence(self, table: str, column: str, row_id: int) -> None:
        self.execute_sql(_RAISE_SEQUENCE, (_SEQUENCE_KEY, _NEXTVAL_STEPS, row_id, table, column))

    def pass_taken_id(self, taken: TakenId) -> None:
        with self.atomic():
            # An older snapshot may not show the row that has the id: hence `taken.id`.
            query = f"SELECT max({taken.column}) FROM {taken.table}"  # noqa: S608 - our own names
            ((highest,),) = self.query(query)
            self._raise_sequence(taken.table, taken.column, max(highest or 0, taken.id or 0))

    share_lock = "FOR SHARE"
    exclusive_lock = "FOR UPDATE"
    isolation = "current_setting('transaction_isolation')"

    def lock_rows(self, query: Any) -> Any:
        # FOR UPDATE would also block inserts of rows that refer to these.
        return query.for_update("FOR NO KEY UPDATE")

    def lock_table(self, table: str) -> None:
        # FOR UPDATE would starve behind a stream of FOR SHARE; a table's lock queues fairly.
        self.execute_sql(f"LOCK TABLE {table} IN EXCLUSIVE MODE")

    # -- values -------------------------------------------------------------------------------

    def time_from_db(self, value: Any) -> datetime:
        at: datetime = value
        return at.astimezone(UTC)

    # -- expressions --------------------------------------------------------------------------

    def contains(self, column: peewee.Field[Any], text: str) -> peewee.Expression:
        return fn.STRPOS(column, text) > 0

    def time_bucket(self, column: peewee.Field[Any], seconds: int) -> peewee.ColumnBase:
        return fn.FLOOR(fn.DATE_PART("epoch", column) / seconds).cast("BIGINT") * seconds

    def month_number(self, column: peewee.Field[Any]) -> peewee.ColumnBase:
        year, month = fn.DATE_PART("year", column), fn.DATE_PART("month", column)
        return (year * 12 + month - 1).cast("BIGINT")


def _connect_params(dsn: Dsn) -> dict[str, Any]:
    """Return psycopg2's keyword arguments: the tuning, then the DSN's."""
    params: dict[str, Any] = {
        "application_name": "gproxy",
        "client_encoding": "UTF8",
        "connect_timeout": max(2, round(dsn.pool.connect_timeout_s)),  # libpq takes 1 as 2
        # A vanished peer is detected within two minutes, not two hours.
        "keepalives": 1,
        "keepalives_idle": 60,
        "keepalives_interval": 15,
        "keepalives_count": 4,
        **dsn.parameters,
    }
    if dsn.hosts:
        params["host"] = ",".join(host.name for host in dsn.hosts)
        params["port"] = ",".join(str(host.port or "") for host in dsn.hosts)
    if dsn.user is not None:
        params["user"] = dsn.user
    secrets = {name: params.pop(name) for name in list(params) if is_secret(name)}
    if dsn.password is not None:
        secrets["password"] = SecretText(dsn.password.reveal())
    params["connection_factory"] = partial(_log_in, secrets)
    return params


class _Connection(extensions.connection):
    """psycopg2 masks `password` in what a connection shows of its DSN, but not `sslpassword`."""

    dsn = REDACTED
    __repr__ = object.__repr__


def _log_in(secrets: Mapping[str, str], conninfo: str) -> _Connection:
    """Connect with the secrets; psycopg2's own functions would keep them in local variables."""
    quoted = (
        # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
        f"{name}='" + re.sub(r"([\\'])", r"\\\1", value) + "'"
        for name, value in secrets.items()
    )
    return _Connection(SecretText(" ".join([conninfo, *quoted])))
