"""PostgreSQL through psycopg2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import peewee
import psycopg2
from psycopg2 import extensions, extras

from ..dsn import Dsn
from ..errors import ConnectError, SyncFailed
from .base import Backend
from .catalog import CatalogRows, ColumnRow, ForeignKeyRow, IndexRow
from .failures import Failure

_SYNC_KEY = 0x6770726F78790001  # "gproxy", 1: advisory locks are per database already

_FAILURES = {  # SQLSTATE, or its class (https://www.postgresql.org/docs/current/errcodes-appendix)
    "23505": Failure.CONFLICT,
    "23503": Failure.REFERENCE,
    "23": Failure.VALUE,
    "22": Failure.VALUE,
    "54000": Failure.VALUE,
    "40": Failure.TRANSIENT,
    "55P03": Failure.TRANSIENT,  # a lock was not given up within lock_timeout
    "08": Failure.LOST,
    "57P01": Failure.LOST,
    "57P02": Failure.LOST,
    "57P03": Failure.LOST,
    "25006": Failure.READ_ONLY,
    "42P01": Failure.SCHEMA,
    "42703": Failure.SCHEMA,
}

_HINTS = (
    ("password authentication failed", "check the user and the password"),
    ("no password supplied", "put the password into the DSN, or use a passfile"),
    ("no pg_hba.conf entry", "allow this client in the server's pg_hba.conf"),
    ("too many clients", "lower max_connections in the DSN, or raise the server's"),
    ("does not exist", "create it, or correct the name"),
    ("certificate", "check sslmode and sslrootcert"),
)


_FAMILIES = {
    **dict.fromkeys(("smallint", "integer", "bigint", "bigserial"), "integer"),
    "boolean": "boolean",
    "real": "real",
    "double precision": "real",
    **dict.fromkeys(("text", "character varying", "varchar"), "text"),
    "bytea": "bytes",
    "json": "json",
    "jsonb": "json",
    **dict.fromkeys(("timestamp with time zone", "timestamptz"), "time"),
}

# Indexes share the tables' name space: whatever else holds one of our names is in the way.
_COLUMNS = """
    SELECT c.relname,
        CASE WHEN c.relkind IN ('r', 'p') THEN 'table'
             WHEN c.relkind IN ('v', 'm', 'f') THEN 'view' ELSE 'other' END,
        a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
        d.oid IS NOT NULL OR a.attidentity <> '', a.attgenerated <> '',
        a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%'
    FROM pg_class AS c
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = current_schema()::regnamespace
        AND c.relname = ANY (%s::name[]) AND c.relkind NOT IN ('i', 'I')
    ORDER BY c.relname, a.attnum"""

_INDEXES = """
    SELECT t.relname, i.relname, a.attname, x.indisunique, x.indisprimary,
        x.indoption[k.n - 1] & 1 = 1, x.indpred IS NOT NULL, false, x.indisvalid
    FROM pg_index AS x
    JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    CROSS JOIN LATERAL generate_series(1, x.indnkeyatts) AS k (n)
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = t.oid AND a.attnum = x.indkey[k.n - 1] AND a.attnum > 0
    WHERE t.relnamespace = current_schema()::regnamespace
        AND (t.relname = ANY (%s::name[]) OR i.relname = ANY (%s::name[]))
    ORDER BY t.relname, i.relname, k.n"""

_FOREIGN_KEYS = """
    SELECT t.relname, k.conname, a.attname, r.relname, b.attname,
        CASE k.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
            WHEN 'd' THEN 'SET DEFAULT' ELSE 'NO ACTION' END
    FROM pg_constraint AS k
    JOIN pg_class AS t ON t.oid = k.conrelid
    JOIN pg_class AS r ON r.oid = k.confrelid
    CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (source, target, n)
    JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.source
    JOIN pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = u.target
    WHERE k.contype = 'f' AND t.relnamespace = current_schema()::regnamespace
        AND t.relname = ANY (%s::name[])
    ORDER BY t.relname, k.conname, u.n"""


class PostgresBackend(Backend, peewee.PostgresqlDatabase):
    """PostgreSQL 12 or later."""

    name = "postgres"
    driver_error = psycopg2.Error
    field_types = {  # noqa: RUF012 - Peewee's interface, read only
        **peewee.PostgresqlDatabase.field_types,
        "DATETIME": "TIMESTAMPTZ",
        "JSON": "JSON",  # jsonb would turn 1e22 into an integer and drop the order of keys
        "GENERATED": "STORED",  # VIRTUAL needs PostgreSQL 18
    }

    def __init__(self, database: Dsn) -> None:
        super().__init__(database, database.database, **_connect_params(database))

    def tune(self, conn: Any) -> None:
        with self.raw_cursor(conn) as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")
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

    def version_text(self) -> str:
        version: int = self.server_version or 0
        return f"{version // 10000}.{version % 10000}"

    def connect_error(self, exc: Exception) -> ConnectError:
        said = " ".join(str(exc).split())
        hint = next(
            (hint for words, hint in _HINTS if words in said),
            "check that the server runs and that host and port are right",
        )
        return ConnectError(f"cannot connect to {self.dsn}: {said}; {hint}", dsn=str(self.dsn))

    def failure(self, error: Exception) -> tuple[Failure, str | None]:
        state: str | None = getattr(error, "pgcode", None)
        if state is None:
            # The server said nothing: the connection is gone, or the driver refused a value.
            lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
            return (Failure.LOST if lost else Failure.OTHER), None
        diag = error.diag  # type: ignore[attr-defined]  # pgcode and diag come together
        name = diag.constraint_name or diag.column_name
        found = _FAILURES.get(state) or _FAILURES.get(state[:2]) or Failure.OTHER
        if found is Failure.CONFLICT and name not in self.keys:
            # An index by another name: DETAIL names the columns, before it shows the values.
            columns = re.match(r"\w+ \((.+?)\)=\(", diag.message_detail or "")
            if columns and diag.table_name:
                return found, ", ".join(
                    f"{diag.table_name}.{column.strip()}" for column in columns[1].split(",")
                )
        if found is Failure.SCHEMA:
            quoted = re.search(r'"([^"]+)"', diag.message_primary or "")
            name = quoted[1] if quoted else None
        return found, name

    def reason(self, error: Exception) -> str:
        return f"{type(error).__name__} ({getattr(error, 'pgcode', None) or 'no SQLSTATE'})"

    # -- values -------------------------------------------------------------------------------

    def time_from_db(self, value: Any) -> datetime:
        at: datetime = value
        return at.astimezone(UTC)

    # -- schema -------------------------------------------------------------------------------

    @contextmanager
    def sync_lock(self, timeout_s: float) -> Iterator[None]:
        with self.atomic():
            self.execute_sql(f"SET LOCAL lock_timeout = '{int(timeout_s * 1000)}ms'")
            try:
                self.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_SYNC_KEY,))
            except peewee.OperationalError as exc:
                raise SyncFailed(
                    f"sync waited {timeout_s:g} s for another process's sync of {self.dsn}: "
                    "look into pg_locks (locktype 'advisory') for its pid, then start again"
                ) from exc
            self.execute_sql("SET LOCAL lock_timeout = '1s'")
            yield

    def read_catalog(self, tables: Sequence[str], index_names: Sequence[str]) -> CatalogRows:
        ours, names = list(tables), list(index_names)
        return CatalogRows(
            [ColumnRow(*row) for row in self.query(_COLUMNS, ([*ours, *names],))],
            [IndexRow(*row) for row in self.query(_INDEXES, (ours, names))],
            [ForeignKeyRow(*row) for row in self.query(_FOREIGN_KEYS, (ours,))],
        )

    def type_family(self, column_type: str) -> str:
        base = column_type.lower().partition("(")[0]
        return _FAMILIES.get(base, base)

    def lock_holders(self, table: str) -> str:
        rows = self.query(
            "SELECT DISTINCT pid, usename, application_name, state FROM pg_locks "
            "JOIN pg_stat_activity USING (pid) "
            "WHERE relation = to_regclass(quote_ident(%s)) AND granted "
            "AND pid <> pg_backend_pid()",
            (table,),
        )
        return "; ".join(
            f"pid {pid}, user {user}, application {application or 'unnamed'}, {state}"
            for pid, user, application, state in rows
        )


def _connect_params(dsn: Dsn) -> dict[str, Any]:
    """Return psycopg2's keyword arguments: the tuning, then what the DSN says."""
    params: dict[str, Any] = {
        "application_name": "gproxy",
        "client_encoding": "UTF8",
        "connect_timeout": max(2, round(dsn.pool.connect_timeout_s)),  # libpq takes 1 as 2
        # A peer that vanished is noticed within two minutes, not two hours.
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
    if dsn.password is not None:
        params["password"] = dsn.password.reveal()
    return params
