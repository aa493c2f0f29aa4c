"""The settings of every PostgreSQL session, whatever a server, database, role or pooler has set."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg2
from psycopg2 import extensions

from ..dsn import Dsn
from .failures import connect_error

SETTINGS: Final = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "bytea_output": "hex",
    "default_table_access_method": "heap",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "escape_string_warning": "on",
    "exit_on_error": "off",
    "extra_float_digits": "1",  # doubles are read back exactly
    "quote_all_identifiers": "off",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "xmloption": "content",
}
"""Every session's settings. All others are the operator's: synchronous_commit, role, tablespaces,
and search_path, which determines the schema of the tables."""

TIME_OUTS: Final = (
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
)
"""All set to 0, else long operations would be cut off."""

READ_ONLY: Final = "default_transaction_read_only"

_OF_THE_DSN: Final = {*TIME_OUTS, READ_ONLY}
"""Left as they are if the DSN's `options` name them."""

_REPLICATION_ROLE: Final = "origin"
"""Needed as well, but not every role may set it."""

STRINGS: Final = "-c standard_conforming_strings=on"

_SUPERUSERS_ONLY: Final = {"lc_messages": "C"}

_LOOK = """
    SELECT pg_backend_pid(), current_schema(), pg_is_in_recovery(),
        current_setting('session_replication_role'), ({set_all})"""

_TRANSACTION: Final = re.compile(r"BEGIN( TRANSACTION)?( ISOLATION LEVEL [A-Z ]+)?$")


def prepare(conn: Any, dsn: Dsn) -> None:
    """Apply the settings above to a new connection, in one round trip.

    Behind a pooler in transaction mode session settings are lost: there every transaction, and
    every statement outside of one, sends them along.

    Raises:
        ConnectError: when the encoding cannot store every text, foreign keys are off and cannot be
            switched on, no schema is usable, or a pooler refuses transactions.
    """
    _check_encoding(conn, dsn)
    wanted = _wanted(conn, dsn)
    with conn.cursor() as cursor:
        cursor.execute(_LOOK.format(set_all=_set_all(wanted, local=False)))
        pid, schema, standby, role, _ = cursor.fetchone()
        if role != _REPLICATION_ROLE:
            _set_replication_role(cursor, role, dsn)
        if schema is None:
            raise connect_error(
                dsn,
                "search_path names no schema that exists and may be used: create it, or name "
                "another by ALTER ROLE ... SET search_path or options=-csearch_path%3D...",
            )
        if pid == conn.info.backend_pid:
            return
        _try_transaction(cursor, dsn)
    read_write = "" if standby else ", READ WRITE"
    conn.cursor_factory = _pooled_cursor(_set_all(wanted, local=True), read_write)


def with_plain_strings(params: dict[str, Any]) -> dict[str, Any]:
    """Return libpq's parameters with the setting that psycopg2 reads only while connecting."""
    given = params.get("options", "").removesuffix(STRINGS).strip()
    return {**params, "options": f"{given} {STRINGS}".strip()}


def _check_encoding(conn: Any, dsn: Dsn) -> None:
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise connect_error(
            dsn,
            f"the database's encoding is {encoding}, which cannot keep every text: create a "
            "database WITH ENCODING 'UTF8' TEMPLATE template0, and move the data by pg_dump and "
            "pg_restore",
        )


def _wanted(conn: Any, dsn: Dsn) -> dict[str, str]:
    given = dsn.parameters.get("options", "")
    wanted = {
        name: value
        for name, value in (SETTINGS | dict.fromkeys(TIME_OUTS, "0")).items()
        if name not in _OF_THE_DSN or name not in given
    }
    if conn.info.parameter_status("is_superuser") == "on":
        wanted |= _SUPERUSERS_ONLY
    return wanted


def _set_all(wanted: dict[str, str], *, local: bool) -> str:
    """Return a SELECT that sets those that this server's version knows."""
    values = ", ".join(f"('{name}', '{value}')" for name, value in wanted.items())
    return (
        f"SELECT count(set_config(n, v, {str(local).lower()})) "  # noqa: S608 - our constants
        f"FROM (VALUES {values}) AS q (n, v) WHERE current_setting(n, true) IS NOT NULL"
    )


def _set_replication_role(cursor: Any, role: str, dsn: Dsn) -> None:
    name = "session_replication_role"
    try:
        cursor.execute(f"SET {name} = {_REPLICATION_ROLE}")
    except psycopg2.Error as exc:
        raise connect_error(
            dsn,
            f"{name} is {role}, under which foreign keys are not enforced; it must be "
            f"{_REPLICATION_ROLE}: ALTER ROLE ... RESET {name}, ALTER DATABASE ... RESET {name}",
        ) from exc


def _try_transaction(cursor: Any, dsn: Dsn) -> None:
    """Check now whether a pooler allows transactions."""
    try:
        cursor.execute("BEGIN")
        cursor.execute("ROLLBACK")
    except psycopg2.Error as exc:
        message = " ".join(str(exc).split())
        raise connect_error(
            dsn,
            "the pooler in front of the server ends a connection that begins a transaction: set "
            f"its pool_mode to transaction or session ({message})",
        ) from exc


def _pooled_cursor(local: str, read_write: str) -> type[extensions.cursor]:
    """Return a cursor class that sends the settings with each transaction or single statement."""

    class PooledCursor(extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            if self.connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE:
                begin = _TRANSACTION.match(query)
                level = (begin and begin[2]) or " ISOLATION LEVEL READ COMMITTED"
                if begin is not None:
                    query = f"BEGIN{level}{read_write}; {local}"
                else:  # statements that are sent together are one transaction
                    query = f"SET TRANSACTION{level}{read_write}; {local}; {query}"
            super().execute(query, vars)

    return PooledCursor
