"""The settings of every session on MySQL and MariaDB, whatever a server or proxy has set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pymysql
from pymysql.constants import ER

from ..dsn import Dsn
from .failures import connect_error

_NO_LIMIT = 2**64 - 1

# NO_AUTO_VALUE_ON_ZERO: an id of 0 is stored as 0, also by DDL that copies a table.
SQL_MODE: Final = (
    "STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
)

_BOTH: Final[Mapping[str, int | str]] = {
    "autocommit": 1,
    "big_tables": 0,
    "completion_type": "NO_CHAIN",
    "default_week_format": 0,
    "div_precision_increment": 4,
    "foreign_key_checks": 1,
    "group_concat_max_len": 1024 * 1024,
    "innodb_lock_wait_timeout": 50,
    "lc_messages": "en_US",  # names are parsed out of errors
    "lc_time_names": "en_US",
    "max_join_size": _NO_LIMIT,
    "max_sort_length": 1024,
    "sql_auto_is_null": 0,
    "sql_big_selects": 1,
    "sql_mode": SQL_MODE,
    "sql_safe_updates": 0,
    "sql_select_limit": _NO_LIMIT,
    "time_zone": "+00:00",
    "unique_checks": 1,
    "updatable_views_with_limit": 1,
    "wait_timeout": 28800,
}

_OF_MYSQL: Final[Mapping[str, int | str]] = {
    "collation_connection": "utf8mb4_0900_bin",
    "max_execution_time": 0,
    # In GPROXY's columns of whole seconds times are truncated, as on MariaDB, not rounded.
    "sql_mode": f"{SQL_MODE},TIME_TRUNCATE_FRACTIONAL",
    "transaction_isolation": "READ-COMMITTED",
    "transaction_read_only": 0,
    "windowing_use_high_precision": 1,
}

_OF_MARIADB: Final[Mapping[str, int | str]] = {
    "alter_algorithm": "DEFAULT",
    "check_constraint_checks": 1,
    "collation_connection": "utf8mb4_nopad_bin",
    "default_regex_flags": "",
    "idle_readonly_transaction_timeout": 0,
    "idle_transaction_timeout": 0,
    "idle_write_transaction_timeout": 0,
    "max_statement_time": 0,
    "old_mode": "",
    "sql_if_exists": 0,
    "tx_isolation": "READ-COMMITTED",
    "tx_read_only": 0,
}

_IN_MARIADB_11_1: Final = {
    "tx_isolation": "transaction_isolation",
    "tx_read_only": "transaction_read_only",
}

_REFUSED: Final = {
    ER.UNKNOWN_SYSTEM_VARIABLE,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
    ER.WRONG_VALUE_FOR_VAR,
    ER.WRONG_TYPE_FOR_VAR,
    ER.INCORRECT_GLOBAL_LOCAL_VAR,
    ER.LOCAL_VARIABLE,
    ER.GLOBAL_VARIABLE,
}


def settings(*, mariadb: bool, version: tuple[int, ...]) -> dict[str, int | str]:
    """Return every session's settings.

    All others are the operator's (binary log, memory, optimizer), or cannot be set and do no harm:
    auto_increment_increment, sql_require_primary_key.
    """
    if not mariadb:
        return {**_BOTH, **_OF_MYSQL}
    names = _IN_MARIADB_11_1 if version >= (11, 1) else {}
    return {names.get(name, name): value for name, value in {**_BOTH, **_OF_MARIADB}.items()}


def prepare(cursor: Any, wanted: dict[str, int | str], dsn: Dsn) -> dict[str, int | str]:
    """Set these on a new connection, in one statement; return those that the server knows.

    Raises:
        ConnectError: when one has another value and this user may not set it.
    """
    try:
        _set(cursor, wanted.items())
    except pymysql.MySQLError as exc:
        if exc.args[0] not in _REFUSED:
            raise
        return {name: value for name, value in wanted.items() if _set_one(cursor, name, value, dsn)}
    return wanted


def _set(cursor: Any, wanted: Iterable[tuple[str, int | str]]) -> None:
    cursor.execute(
        "SET SESSION "
        + ", ".join(
            f"{name} = {value!r}" if isinstance(value, str) else f"{name} = {value}"
            for name, value in wanted
        )
    )


def _set_one(cursor: Any, name: str, value: int | str, dsn: Dsn) -> bool:
    """Set one; False if the server does not know it, or fixes it at that value."""
    try:
        _set(cursor, [(name, value)])
    except pymysql.MySQLError as exc:
        code = exc.args[0]
        if code not in _REFUSED:
            raise
        if code == ER.UNKNOWN_SYSTEM_VARIABLE and not name.endswith("_isolation"):
            return False
        cursor.execute("SHOW SESSION VARIABLES LIKE %s", (name,))
        found = dict(cursor.fetchall()).get(name)
        if _same(found, value):
            return False
        raise connect_error(
            dsn,
            f"{name} is {found} and may not be set to {value}: set it for the server, or allow the "
            f"user to set it ({type(exc).__name__} {code})",
        ) from exc
    return True


def _same(found: str | None, value: int | str) -> bool:
    """Compare a variable, as the server shows it, with the wanted value."""
    shown = {"ON": "1", "OFF": "0"}.get(found or "", found)
    return shown == str(value)
