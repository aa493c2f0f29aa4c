"""The harness on real servers: what it promises to every other test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
import pymysql
import pytest

from tests import servers
from tests.servers import mysql, postgres

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
DRIVER_ERRORS = (psycopg2.Error, pymysql.err.MySQLError)


@contextlib.contextmanager
def connected(dsn: str) -> Iterator[Any]:
    """Connect as a DSN says, by hand: the test role, its password, its database."""
    parts = urlsplit(dsn)
    login: dict[str, Any] = {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path[1:],
    }
    host, port = parts.hostname or "", parts.port or 0
    connection: Any
    if parts.scheme == "postgres":
        connection = psycopg2.connect(host=host, port=port, **login)
    else:
        password = login.pop("password").encode()
        connection = pymysql.connect(host=host, port=port, password=password, **login)
    try:
        yield connection
    finally:
        with contextlib.suppress(*DRIVER_ERRORS):  # the server may have closed it
            connection.close()


def run(connection: Any, *statements: str) -> list[Any]:
    """Run statements, and return the rows of the last one."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        rows = list(cursor.fetchall()) if cursor.description else []
    connection.commit()
    return rows


@only_servers
def test_the_role_of_a_dsn_owns_its_empty_database(database_dsn: str) -> None:
    with connected(database_dsn) as connection:
        rows = run(
            connection,
            "CREATE TABLE t (id int PRIMARY KEY)",
            "ALTER TABLE t ADD COLUMN a int",
            "INSERT INTO t VALUES (1, 2)",
            "SELECT * FROM t",
        )
    assert rows == [(1, 2)]


def test_the_server_is_the_one_that_was_asked_for(server: servers.Server, backend: str) -> None:
    assert server.backend == backend
    assert server.version
    if backend in ("mysql", "mariadb"):
        ((version,),) = server.execute("SELECT VERSION()")
        assert ("MariaDB" in version) == (backend == "mariadb")


def test_a_dsn_is_shared_by_a_session(shared_database_dsn: str, backend: str) -> None:
    scheme = {"mariadb": "mysql"}.get(backend, backend)
    assert shared_database_dsn.startswith(f"{scheme}:")


@only_servers
def test_the_role_is_unprivileged(database_dsn: str) -> None:
    with connected(database_dsn) as connection, pytest.raises(DRIVER_ERRORS, match=r"denied"):
        run(connection, "CREATE USER somebody")


@only_servers
def test_parameters_of_statements(server: servers.Server) -> None:
    assert server.execute("SELECT %s, %s", ("a'b%", 1)) == [("a'b%", 1)]
    assert server.execute("SELECT 'a%b'") == [("a%b",)]


@only_servers
def test_dropping_forces_out_who_is_connected(server: servers.Server) -> None:
    name = servers.database_name()
    dsn = server.create_database(name)
    with connected(dsn) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
            connection.commit()
            cursor.execute("SELECT * FROM t")  # in a transaction now, which holds a lock
        server.drop_database(name)
        with pytest.raises(DRIVER_ERRORS):
            run(connection, "SELECT * FROM t")
    assert name not in server.databases()
    server.drop_database(name)  # again: nothing happens


@only_servers
def test_databases_of_killed_runs_are_dropped(server: servers.Server) -> None:
    new = servers.database_name()
    old = f"gproxy_test_1000000000_999999999_main_{new[-6:]}"
    server.create_database(new)
    server.create_database(old)
    try:
        server.drop_leftovers()
        assert old not in server.databases()
        assert new in server.databases()
    finally:
        server.drop_database(new)


@only_servers
def test_the_administrators_dsn_works(server: servers.Server, backend: str) -> None:
    module = postgres if backend == "postgres" else mysql
    if backend == "mariadb":
        with pytest.raises(servers.NoServerError, match="is MariaDB"):
            module.from_dsn(server.admin_dsn, "the same")
    else:
        assert module.from_dsn(server.admin_dsn, "the same").version == server.version


@only_servers
def test_an_administrator_without_rights_is_a_clear_reason(
    server: servers.Server, backend: str, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_found", {})
    monkeypatch.setenv(f"GPROXY_TEST_{backend.upper()}_DSN", database_dsn)
    found = servers.available(backend)
    assert isinstance(found, servers.Unavailable)
    assert f"the user '{servers.TEST_USER}' may not" in found.reason


_CONTENT = (
    """
    SELECT nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace
    WHERE nspname NOT LIKE 'pg\\_temp%%' AND nspname NOT LIKE 'pg\\_toast\\_temp%%' ORDER BY 1
    """,
    "SELECT relname FROM pg_class WHERE oid >= 16384 AND relkind <> 'i' ORDER BY 1",
    "SELECT proname FROM pg_proc WHERE oid >= 16384 ORDER BY 1",
    "SELECT typname FROM pg_type WHERE oid >= 16384 ORDER BY 1",
)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_an_emptied_database_is_as_a_new_one(server: servers.Server) -> None:
    if int(server.version.split(".")[0]) < 15:
        pytest.skip("databases of PostgreSQL before 15 are dropped, not emptied")
    name = servers.database_name()
    dsn = server.create_database(name)
    try:
        new = [server.execute(sql, database=name) for sql in _CONTENT]
        with connected(dsn) as connection:
            run(
                connection,
                "CREATE TABLE t (id serial PRIMARY KEY, n int REFERENCES t)",
                "CREATE TYPE mood AS ENUM ('sad')",
                "GRANT SELECT ON t TO PUBLIC",
            )
            server.execute(
                "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", database=name
            )
            run(connection, "REVOKE USAGE ON SCHEMA public FROM PUBLIC", "SELECT 1")
            assert [server.execute(sql, database=name) for sql in _CONTENT] != new
            assert server.empty_database(name)
            with pytest.raises(DRIVER_ERRORS):
                run(connection, "SELECT 1")
        assert [server.execute(sql, database=name) for sql in _CONTENT] == new
        for change in (
            f'ALTER DATABASE "{name}" SET work_mem = 1000',
            "CREATE SCHEMA somebody_elses",
            f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC',
        ):
            assert server.empty_database(name)
            server.execute(change, database=name)
            assert not server.empty_database(name), change
            server.execute(f'ALTER DATABASE "{name}" RESET ALL', database=name)
            server.execute("DROP SCHEMA IF EXISTS somebody_elses", database=name)
    finally:
        server.drop_database(name)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_postgres_orders_like_a_language_where_it_can(
    server: servers.Server, database_dsn: str
) -> None:
    icu = server.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-US-x-icu'")
    with connected(database_dsn) as connection:
        ((a_before_b,),) = run(connection, "SELECT 'a' < 'B'")
    if icu and int(server.version.split(".")[0]) >= 15:
        assert a_before_b
