"""The settings of a backend hold on every connection, however it was opened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest

from gproxy_storage import Dsn, Storage
from gproxy_storage.backends.mysql import MySQLBackend
from gproxy_storage.models import User
from tests import servers
from tests.contract.support import Connections, in_threads, insert, with_options
from tests.support import PATIENCE_S

MYSQL_MODE = {
    "STRICT_ALL_TABLES",
    "ONLY_FULL_GROUP_BY",
    "NO_ZERO_IN_DATE",
    "NO_ZERO_DATE",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "NO_ENGINE_SUBSTITUTION",
    "NO_AUTO_VALUE_ON_ZERO",
}
ISOLATION = {"mysql": "@@transaction_isolation", "mariadb": "@@tx_isolation"}


def sqlite_settings(storage: Storage) -> dict[str, Any]:
    names = ("foreign_keys", "journal_mode", "synchronous", "busy_timeout")
    return {name: storage.database.query(f"PRAGMA {name}")[0][0] for name in names}


def postgres_settings(storage: Storage) -> dict[str, Any]:
    names = ("application_name", "TimeZone", "client_encoding")
    found = {name: storage.database.query(f"SHOW {name}")[0][0] for name in names}
    libpq = storage.database.connection().get_dsn_parameters()
    sent = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_count")
    return found | {name: libpq[name] for name in sent}


def mysql_settings(storage: Storage) -> dict[str, Any]:
    isolation = ISOLATION[storage.database.name]
    charsets = ("client", "connection", "results")
    columns = ["@@time_zone", isolation, *(f"@@character_set_{each}" for each in charsets)]
    ((zone, level, *sets),) = storage.database.query(f"SELECT {', '.join(columns)}")
    ((mode,),) = storage.database.query("SELECT @@sql_mode")
    connection = storage.database.connection()
    return {
        "time_zone": zone,
        "isolation": level,
        "charsets": sets,
        "sql_mode": set(mode.split(",")),
        "timeouts": (connection._read_timeout, connection._write_timeout),
    }


MYSQL = {
    "time_zone": "+00:00",
    "isolation": "READ-COMMITTED",
    "charsets": ["utf8mb4"] * 3,
    "sql_mode": MYSQL_MODE,
    "timeouts": (120, 120),
}
EXPECTED: dict[str, tuple[Callable[[Storage], dict[str, Any]], dict[str, Any]]] = {
    "sqlite": (
        sqlite_settings,
        {"foreign_keys": 1, "journal_mode": "wal", "synchronous": 1, "busy_timeout": 5000},
    ),
    "postgres": (
        postgres_settings,
        {
            "application_name": "gproxy",
            "TimeZone": "UTC",
            "client_encoding": "UTF8",
            "connect_timeout": "10",
            "keepalives": "1",
            "keepalives_idle": "60",
            "keepalives_count": "4",
        },
    ),
    "mysql": (
        mysql_settings,
        MYSQL | {"sql_mode": MYSQL_MODE | {"TIME_TRUNCATE_FRACTIONAL"}},  # MariaDB does so
    ),
    "mariadb": (mysql_settings, MYSQL),
}


def test_every_connection_is_tuned(
    storage: Storage, connections: Connections, backend: str
) -> None:
    read, expected = EXPECTED[backend]
    found = []
    together = threading.Barrier(4)

    def look() -> None:
        with storage.session():
            together.wait(PATIENCE_S)  # so that the pool has to open one for each
            found.append(read(storage))

    in_threads(*[look] * 4)
    assert len(storage.database.pool._idle) == 4
    with storage.session():
        connections.kill_own(storage)
        storage.users.list()  # replaces the connection
        found.append(read(storage))

    assert found == [expected] * 5


def test_found_rows_are_counted(storage: Storage) -> None:
    with storage.session():
        row = insert(User)
        unchanged = User.update(name=row.name).where(User.id == row.id)
        assert unchanged.execute() == 1
        assert User.update(name="x").where(User.id == 0).execute() == 0


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
def test_a_transaction_sees_what_others_commit_meanwhile(storage: Storage) -> None:
    with storage.transaction():
        assert User.select().count() == 0
        in_threads(lambda: storage.users.create("alice"))
        assert User.select().count() == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_transaction_begins_with_the_write_lock(
    storage: Storage, connections: Connections
) -> None:
    with storage.transaction(), connections.rival(storage) as rival:
        rival.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(Exception, match="database is locked"):
            rival.execute("BEGIN IMMEDIATE")
        rival.execute("SELECT * FROM users")  # readers are not kept out


def test_the_server_says_what_it_is(storage: Storage, server: servers.Server, backend: str) -> None:
    assert storage.database.name == backend
    assert server.version.startswith(storage.database.version_text())
    assert bool(getattr(storage.database, "mariadb", False)) == (backend == "mariadb")


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_the_scheme_does_not_say_what_it_is(
    shared_database_dsn: str, backend: str, scheme: str
) -> None:
    _, _, rest = shared_database_dsn.partition(":")
    with Storage.connect(f"{scheme}:{rest}") as storage:
        assert storage.database.name == backend
        assert storage.providers.upsert("p", channel="c", settings={"a": [1]}).settings_json == {
            "a": [1]
        }


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_nothing_around_changes_postgres_settings(
    shared_database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGTZ": "Asia/Tokyo",
        "PGCLIENTENCODING": "LATIN1",
        "PGAPPNAME": "other",
        "PGCONNECT_TIMEOUT": "99",
    }.items():
        monkeypatch.setenv(name, value)
    read, expected = EXPECTED["postgres"]
    dsn = with_options(shared_database_dsn, options="-c%20TimeZone%3DAsia/Tokyo")
    with Storage.connect(dsn) as storage, storage.session():
        assert read(storage) == expected


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_the_dsn_may_name_the_application(shared_database_dsn: str) -> None:
    dsn = with_options(shared_database_dsn, application_name="proxy-7", connect_timeout=3)
    with Storage.connect(dsn) as storage, storage.session():
        found = postgres_settings(storage)
        assert (found["application_name"], found["connect_timeout"]) == ("proxy-7", "3")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_read_only_file_is_not_switched_to_wal(database_dsn: str, tmp_path: Any) -> None:
    path = tmp_path / "old.db"
    with Storage.connect(f"sqlite://{path}?mode=rwc") as storage, storage.session():
        storage.database.execute_sql("PRAGMA journal_mode = delete")
    content = path.read_bytes()

    with Storage.connect(f"sqlite://{path}?mode=ro") as storage, storage.session():
        assert sqlite_settings(storage)["journal_mode"] == "delete"
        assert sqlite_settings(storage)["foreign_keys"] == 1
        assert storage.users.list() == []

    assert path.read_bytes() == content


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_file_that_cannot_have_a_write_ahead_log(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its commits wait for the disk, on each connection; that is said once."""
    with Storage.connect(f"sqlite://{tmp_path}/x.db?mode=rwc&vfs=unix-dotfile") as storage:
        for _ in range(2):
            with storage.session():
                found = sqlite_settings(storage)
                assert (found["journal_mode"], found["synchronous"]) == ("delete", 2)
            storage.database.pool.close_idle()
        assert storage.users.create("alice").id

    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "(WAL)" in text]) == 1


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("greeting", ["8.0.11", "5.5.30", "5.5.5-10.6.14-MariaDB-maxscale"])
def test_a_proxy_that_greets_as_another_server(
    shared_database_dsn: str, backend: str, greeting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection: Any = pymysql.connections.Connection
    greet = connection._get_server_information

    def greet_as_another(conn: Any) -> None:
        greet(conn)
        conn.server_version = greeting

    monkeypatch.setattr(connection, "_get_server_information", greet_as_another)
    with Storage.connect(shared_database_dsn) as storage:
        assert storage.database.name == backend
        with storage.session():
            ((version,),) = storage.database.query("SELECT VERSION()")
        assert version.startswith(storage.database.version_text())
        for _ in range(2):
            assert storage.users.upsert("alice").name == "alice"  # in MySQL's words, or MariaDB's


@pytest.mark.parametrize(
    ("answer", "mariadb"),
    [((2**26, "8.0.30"), False), ((2**26, "8.0.30", 1), True), ((2**26, "10.11.6-MariaDB"), True)],
)
def test_a_proxy_that_answers_for_its_server(answer: tuple[object, ...], mariadb: bool) -> None:
    """Whatever it calls its version, only MariaDB executes what is in MariaDB's comments."""

    class Connection:
        def cursor(self) -> Connection:
            return self

        def execute(self, sql: str) -> None:
            assert "/*M!" in sql

        def fetchone(self) -> tuple[object, ...]:
            return answer

        def close(self) -> None:
            pass

    backend = MySQLBackend(Dsn.parse("mysql://u@h/d"))
    backend._set_server_version(Connection())

    assert backend.name == ("mariadb" if mariadb else "mysql")
