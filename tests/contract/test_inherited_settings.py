"""What a server, database, role or library sets changes no result.

Each setting of the tables in `backends/*_session.py` has a hostile value here, which a connection
inherits before it is ours: with all of them at once, and with each alone, the scenario has the
same as on a clean database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import mysql_session, postgres_session, sqlite_session
from gproxy_storage.backends.mysql import MySQLBackend
from gproxy_storage.backends.sqlite import SqliteBackend
from gproxy_storage.dsn import Dsn
from gproxy_storage.errors import ConflictError, ConnectError
from tests import servers
from tests.contract.support import with_options
from tests.contract.test_scenario import Player, played_in_memory

Value = int | float | str

POSTGRES: dict[str, Value] = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kolkata",
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "default_table_access_method": "heap",  # the only one that there is
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "escape_string_warning": "off",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "xmloption": "document",
    **dict.fromkeys(postgres_session.TIME_OUTS, "40ms"),
}
NOT_IN_THE_TABLE: dict[str, Value] = {  # of the driver, or of no effect
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "default_text_search_config": "pg_catalog.german",
    "jit": "off",
    "synchronize_seqscans": "off",
}
MYSQL: dict[str, Value] = {
    "autocommit": 0,
    "big_tables": 1,
    "completion_type": "CHAIN",
    "default_week_format": 3,
    "div_precision_increment": 0,
    "foreign_key_checks": 0,
    "group_concat_max_len": 4,
    "innodb_lock_wait_timeout": 1,
    "lc_messages": "de_DE",
    "lc_time_names": "ja_JP",
    "max_join_size": 1,
    "max_sort_length": 4,
    "sql_auto_is_null": 1,
    "sql_big_selects": 0,
    "sql_mode": "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,NO_UNSIGNED_SUBTRACTION",
    "sql_safe_updates": 1,
    "sql_select_limit": 1,
    "time_zone": "+05:30",
    "unique_checks": 0,
    "updatable_views_with_limit": 0,
    "wait_timeout": 5,
}
HOSTILE: dict[str, Mapping[str, Value]] = {
    "sqlite": {
        "case_sensitive_like": "on",
        "count_changes": "on",
        "defer_foreign_keys": "on",
        "empty_result_callbacks": "on",
        "foreign_keys": "off",
        "full_column_names": "on",
        "ignore_check_constraints": "on",
        "legacy_alter_table": "on",
        "locking_mode": "exclusive",
        "query_only": "on",
        "read_uncommitted": "on",
        "recursive_triggers": "on",
        "reverse_unordered_selects": "on",
        "short_column_names": "off",
        "writable_schema": "on",
    },
    "postgres": POSTGRES | NOT_IN_THE_TABLE,
    "mysql": MYSQL
    | {
        "collation_connection": "utf8mb4_0900_ai_ci",
        "max_execution_time": 1,
        "transaction_isolation": "SERIALIZABLE",
        "transaction_read_only": 1,
        "windowing_use_high_precision": 0,
    },
    "mariadb": MYSQL
    | {
        "alter_algorithm": "INSTANT",
        "check_constraint_checks": 0,
        "collation_connection": "utf8mb4_general_ci",
        "default_regex_flags": "EXTENDED",
        "idle_readonly_transaction_timeout": 1,
        "idle_transaction_timeout": 1,
        "idle_write_transaction_timeout": 1,
        "max_statement_time": 0.000001,
        "old_mode": "ZERO_DATE_TIME_CAST",
        "sql_if_exists": 1,
        "tx_isolation": "SERIALIZABLE",
        "tx_read_only": 1,
    },
}
TABLES: dict[str, Iterable[str]] = {
    "sqlite": sqlite_session.PRAGMAS,
    "postgres": [*postgres_session.SETTINGS, *postgres_session.TIME_OUTS],
    "mysql": mysql_session.settings(mariadb=False, version=(9, 7)),
    "mariadb": mysql_session.settings(mariadb=True, version=(10, 11)),
}
EACH = [(backend, name) for backend, settings in HOSTILE.items() for name in settings]


@pytest.mark.parametrize("name", servers.BACKENDS)
def test_every_setting_of_the_table_is_tested(name: str) -> None:
    assert set(HOSTILE[name]) - set(NOT_IN_THE_TABLE) == set(TABLES[name])


@contextmanager
def inherited(server: servers.Server, dsn: str, settings: Mapping[str, Value]) -> Iterator[None]:
    """In the block every new connection to the database begins with these settings."""
    with ExitStack() as undo:
        patch = undo.enter_context(pytest.MonkeyPatch.context())
        if server.backend == "postgres":
            database = Dsn.parse(dsn).database
            known = server.execute("SELECT name FROM pg_settings")
            for name, value in settings.items():
                if (name,) in known:
                    change = f'ALTER DATABASE "{database}"'
                    server.execute(f"{change} SET {name} = {_quoted(value)}")
                    undo.callback(server.execute, f"{change} RESET {name}")
        elif server.backend == "sqlite":
            _after_connecting(
                patch, SqliteBackend, [f"PRAGMA {name} = {settings[name]}" for name in settings]
            )
        else:
            _after_connecting(
                patch,
                MySQLBackend,
                [f"SET SESSION {name} = {_quoted(settings[name])}" for name in settings],
            )
        yield


def _quoted(value: Value) -> str:
    # Not with repr: under ANSI_QUOTES only these are strings.
    return f"'{value}'" if isinstance(value, str) else str(value)


def _after_connecting(patch: pytest.MonkeyPatch, backend: Any, statements: list[str]) -> None:
    connect = backend._connect

    def connecting(self: Any) -> Any:
        conn = connect(self)
        with self.raw_cursor(conn) as cursor:
            for statement in statements:
                cursor.execute(statement)
                cursor.fetchall()
        return conn

    patch.setattr(backend, "_connect", connecting)


def assert_nothing_differs(dsn: str) -> None:
    with Storage.connect(dsn) as played:
        found = Player(played).play()
        names = ["same" + "x" * 8 + end for end in ("b", "a", "\\", "'")]
        for name in names:
            played.users.create(name)
        with pytest.raises(ConflictError) as refused:
            played.users.create(names[0])
        with played.sink() as sink:
            sink.submit_usage(user_id=10**9, model="\\n%s'", cost=0.1)
            assert sink.flush(60)
            assert (sink.stats().written, sink.stats().spooled) == (1, 0)
        (usage,) = played.usages.list(model="\\n%s'")
        stored = [user.name for user in played.users.list() if user.name in names]

    assert found == played_in_memory()
    assert stored == names
    assert (refused.value.table, refused.value.fields) == ("users", ("name",))
    assert (usage.cost, usage.user_id) == (Decimal("0.1"), None)


def test_all_inherited_settings_together_change_no_result(
    server: servers.Server, database_dsn: str, backend: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # for the sink's directory
    played_in_memory()
    with inherited(server, database_dsn, HOSTILE[backend]):
        assert_nothing_differs(database_dsn)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "name"), EACH, indirect=["backend"])
def test_no_inherited_setting_changes_a_result(
    server: servers.Server,
    database_dsn: str,
    backend: str,
    name: str,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    played_in_memory()
    with inherited(server, database_dsn, {name: HOSTILE[backend][name]}):
        assert_nothing_differs(database_dsn)


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_ids_that_count_in_steps(server: servers.Server, database_dsn: str, tmp_path: Path) -> None:
    with Storage.connect(database_dsn, data_dir=tmp_path) as storage, storage.session():
        for name in ("auto_increment_increment", "auto_increment_offset"):
            try:
                storage.database.execute_sql(f"SET SESSION {name} = 2")
            except Exception as refused:  # MySQL keeps it from ordinary users
                pytest.skip(str(refused))
        assert Player(storage).play() == played_in_memory()


# -- what may not be set ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_role_that_keeps_rows_without_foreign_keys_is_refused(
    server: servers.Server, database_dsn: str
) -> None:
    with inherited(server, database_dsn, {"session_replication_role": "replica"}):
        with pytest.raises(ConnectError, match=r"session_replication_role is replica.* RESET"):
            Storage.connect(database_dsn)
        Storage.connect(server.access.dsn("postgres", "host"), sync=False).close()  # may set it


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_messages_are_in_english_where_the_user_may_choose(
    server: servers.Server, database_dsn: str
) -> None:
    """An ordinary user may not: no name is read out of a message in another language."""
    own = Dsn.parse(database_dsn)
    owner = Dsn.parse(server.access.dsn("postgres", "host")).replace(database=own.database)
    with inherited(server, database_dsn, {"lc_messages": "POSIX"}):
        for dsn, expected in ((own, "POSIX"), (owner, "C")):
            with Storage.connect(dsn, sync=False) as storage, storage.session():
                assert storage.database.query("SHOW lc_messages") == [(expected,)]


class _Cursor:
    """A cursor of a server that refuses to set one variable."""

    def __init__(self, code: int, refused: str, value: str) -> None:
        self.answer = (code, refused, value)
        self.sent: list[str] = []

    def execute(self, sql: str, _params: object = None) -> None:
        code, refused, _ = self.answer
        self.sent.append(sql)
        if sql.startswith("SET") and f"{refused} =" in sql:
            raise pymysql.OperationalError(code, "no")

    def fetchall(self) -> list[tuple[str, str]]:
        return [self.answer[1:]]


WANTED: dict[str, int | str] = {"foreign_key_checks": 1, "sql_mode": "A", "wait_timeout": 5}
MYSQL_DSN = Dsn.parse("mysql://u:p@h/d")


def test_a_variable_that_may_not_be_set_is_named() -> None:
    cursor = _Cursor(1227, "foreign_key_checks", "OFF")

    with pytest.raises(ConnectError, match="foreign_key_checks is OFF and may not be set to 1"):
        mysql_session.prepare(cursor, WANTED, MYSQL_DSN)


def test_a_variable_that_has_its_value_already_need_not_be_set() -> None:
    cursor = _Cursor(1227, "foreign_key_checks", "ON")

    left = mysql_session.prepare(cursor, WANTED, MYSQL_DSN)

    assert left == {"sql_mode": "A", "wait_timeout": 5}
    cursor.sent.clear()
    mysql_session.prepare(cursor, left, MYSQL_DSN)
    assert len(cursor.sent) == 1


def test_a_variable_that_the_server_does_not_know_is_left_out() -> None:
    left = mysql_session.prepare(_Cursor(1193, "wait_timeout", ""), WANTED, MYSQL_DSN)

    assert left == {"foreign_key_checks": 1, "sql_mode": "A"}


def test_later_versions_of_mariadb_name_the_isolation_as_mysql_does() -> None:
    assert "transaction_isolation" in mysql_session.settings(mariadb=True, version=(11, 4))


def test_an_isolation_that_cannot_be_set_is_refused() -> None:
    wanted: dict[str, int | str] = {"transaction_isolation": "READ-COMMITTED"}

    with pytest.raises(ConnectError, match="transaction_isolation is OFF"):
        mysql_session.prepare(_Cursor(1193, "transaction_isolation", "OFF"), wanted, MYSQL_DSN)


# -- the DSN's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_time_out_in_the_dsn_is_kept(database_dsn: str) -> None:
    dsn = with_options(database_dsn, options="-cstatement_timeout%3D54321")
    with Storage.connect(dsn, sync=False) as storage, storage.session():
        assert storage.database.query("SHOW statement_timeout") == [("54321ms",)]
        assert storage.database.query("SHOW lock_timeout") == [("0",)]


# -- databases that cannot keep every text ------------------------------------------------------


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused(
    server: servers.Server, database_dsn: str, encoding: str
) -> None:
    name = servers.database_name()
    server.execute(
        f"CREATE DATABASE \"{name}\" ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    )
    try:
        dsn = Dsn.parse(database_dsn).replace(database=name)
        with pytest.raises(ConnectError, match=f"encoding is {encoding}.*ENCODING 'UTF8'"):
            Storage.connect(dsn)
    finally:
        server.drop_database(name)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_search_path_without_a_schema_is_refused(database_dsn: str) -> None:
    with pytest.raises(ConnectError, match="search_path names no schema"):
        Storage.connect(with_options(database_dsn, options="-csearch_path%3Dnowhere"))


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_sqlite_file_in_utf16(tmp_path: Path, encoding: str) -> None:
    played_in_memory()
    path = tmp_path / "wide.db"
    conn = sqlite3.connect(path)
    conn.executescript(f"PRAGMA encoding = '{encoding}'; CREATE TABLE other (a)")
    conn.close()

    with Storage.connect(f"sqlite://{path}") as storage:
        assert Player(storage).play() == played_in_memory()


def test_the_driver_reads_how_strings_are_written_when_it_connects() -> None:
    """Why `with_plain_strings` exists: what is set later, psycopg2 does not hear of."""
    given = postgres_session.with_plain_strings({"options": "-c a=b", "host": "h"})

    assert given == {"options": f"-c a=b {postgres_session.STRINGS}", "host": "h"}
    assert postgres_session.with_plain_strings(given) == given
