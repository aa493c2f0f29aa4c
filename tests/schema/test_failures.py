"""A sync that the database refuses or loses: one line with all that an operator needs."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session, transaction
from gproxy_storage.errors import ConnectError, SyncFailed
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.support import opened, recorded, run_script

only_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)
only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
only_mysqls = pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)

REMOVE_PASSWORD = "ALTER TABLE users DROP COLUMN password"


def failure(database: Backend) -> SyncFailed:
    """Sync, which must fail; return the error, whose message says where and what to do."""
    with pytest.raises(SyncFailed) as caught:
        sync(database, lock_timeout_s=2)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"schema sync of {database.dsn} ({database.name}): ")
    assert not database.in_transaction()
    return caught.value


@contextmanager
def as_reader(
    server: servers.Server, database: str, rights: str = "SELECT, INSERT, UPDATE, DELETE"
) -> Iterator[str]:
    """The DSN of a user who may read and write the tables of a database, and no more."""
    name, password = f"gproxy_test_{secrets.token_hex(4)}", secrets.token_hex(8)
    access = replace(server.access, user=name, password=password, database=database, socket="")
    access = replace(access, host=server.host, port=server.port)
    if server.backend == "postgres":
        grant = [
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}'",
            f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}",
            f"GRANT USAGE ON SCHEMA public TO {name}",
        ]
        revoke = [f"DROP OWNED BY {name}", f"DROP ROLE {name}"]
    else:
        grant = [
            f"CREATE USER {name}@'%' IDENTIFIED BY '{password}'",
            f"GRANT {rights} ON {database}.* TO {name}@'%'",
        ]
        revoke = [f"DROP USER {name}@'%'"]
    for statement in grant:
        server.execute(statement, database=database)
    try:
        yield access.dsn(server.scheme, server.socket_option)
    finally:
        for statement in revoke:
            server.execute(statement, database=database)


# -- rights ---------------------------------------------------------------------------------------


@only_servers
def test_a_user_who_may_not_change_the_schema(synced: Backend, server: servers.Server) -> None:
    with as_reader(server, synced.database) as dsn:
        with opened(dsn) as reader:
            assert not sync(reader)  # with nothing to do, no rights are needed
        run_script(synced, REMOVE_PASSWORD)
        with opened(dsn) as reader:
            error = failure(reader)
    assert "step 1/1, table users, column password is missing: " in str(error)
    assert re.search(r"must be owner of table users|command denied to user", str(error))
    assert "nothing was changed" in str(error)
    assert "grant its user CREATE, ALTER, INDEX and REFERENCES, or sync once as" in str(error)
    assert error.step is not None
    assert error.step.startswith("ALTER TABLE")
    assert error.applied == ()


@only_servers
def test_a_user_who_may_only_look(synced: Backend, server: servers.Server) -> None:
    """MariaDB does not tell such a user what happens ON DELETE: that is no difference."""
    with as_reader(server, synced.database, rights="SELECT") as dsn, opened(dsn) as reader:
        assert not plan(reader).drift


@only_servers
def test_a_user_who_may_not_create_tables(empty: Backend, server: servers.Server) -> None:
    with as_reader(server, empty.database) as dsn, opened(dsn) as reader:
        error = failure(reader)
    steps = plan(empty).steps
    assert f"step 1/{len(steps)}, table {steps[0].table}" in str(error)
    assert "grant its user CREATE" in str(error)


def read_only(dsn: str, backend: str) -> str:
    """The DSN of the same database, which cannot be written through it."""
    if backend == "sqlite":
        return dsn.replace("mode=rwc", "mode=ro")
    return f"{dsn}?options={quote('-c default_transaction_read_only=on', safe='')}"


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
def test_a_database_that_cannot_be_written(synced: Backend, backend: str) -> None:
    with opened(read_only(synced.dsn.reveal(), backend)) as reader:
        assert not sync(reader)
    run_script(synced, REMOVE_PASSWORD)
    with opened(read_only(synced.dsn.reveal(), backend)) as reader:
        assert plan(reader)  # a look needs no more
        error = failure(reader)
    assert "nothing was changed" in str(error)
    assert "sync it once with a user, a DSN and a server that can write" in str(error)
    assert re.search(r"read-?only", str(error))


@pytest.mark.slow
@only_mysqls
def test_a_server_that_cannot_be_written(private_server: servers.PrivateServer) -> None:
    server = private_server.server
    dsn = server.create_database(servers.database_name())
    server.execute("SET GLOBAL read_only = 1")
    with opened(dsn) as database:
        error = failure(database)
    assert "step 1/" in str(error)
    assert "read-only" in str(error)
    assert "sync it once with a user, a DSN and a server that can write" in str(error)


@only_postgres
def test_no_schema_to_create_in(empty: Backend, database_dsn: str) -> None:
    options = quote("-c search_path=nowhere", safe="")
    with (
        opened(f"{database_dsn}?options={options}") as database,
        pytest.raises(ConnectError, match="search_path names no schema that exists"),
    ):
        sync(database)
    assert plan(empty).steps


# -- settings of the server -----------------------------------------------------------------------


@only_postgres
def test_settings_that_would_spoil_it(empty: Backend, database_dsn: str) -> None:
    """Isolation that would see the schema as it was before waiting, and a statement time-out."""
    options = quote(
        "-c default_transaction_isolation=serializable -c statement_timeout=1000", safe=""
    )
    seen: list[str] = []
    with opened(f"{database_dsn}?options={options}") as database:

        def hook(name: str) -> None:
            seen[:] = seen or [
                database.query(f"SHOW {setting}")[0][0]
                for setting in ("transaction_isolation", "statement_timeout", "lock_timeout")
            ]

        assert sync(database, hook=hook)
        assert not sync(database)
        with session(database):
            assert database.query("SHOW statement_timeout") == [("1s",)]
            assert database.query("SHOW lock_timeout") == [("0",)]
    assert seen == ["read committed", "0", "1s"]


@only_mysqls
def test_the_connections_settings_are_left_alone(empty: Backend) -> None:
    with session(empty):
        before = empty.query("SELECT CONNECTION_ID(), @@lock_wait_timeout")
        sync(empty)
        assert empty.query("SELECT CONNECTION_ID(), @@lock_wait_timeout") == before


# -- a connection that goes -----------------------------------------------------------------------


def kill_connections(server: servers.Server, database: str) -> None:
    """End every connection to a database."""
    if server.backend == "postgres":
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (database,),
        )
        return
    assert isinstance(server, servers.MySQLServer)
    rows = server.execute(f"SELECT id FROM {server.processlist} WHERE db = %s", (database,))
    for (number,) in rows:
        server.execute(f"KILL {number}")


@only_servers
@pytest.mark.parametrize("after", [0, 2])
def test_the_connection_is_lost_between_steps(
    empty: Backend, server: servers.Server, after: int
) -> None:
    """PostgreSQL is as before, the others go on with the next sync."""
    count = len(plan(empty).steps)
    left = after

    def hook(name: str) -> None:
        nonlocal left
        if left == 0:
            kill_connections(server, empty.database)
        left -= 1

    with pytest.raises(SyncFailed) as caught:
        sync(empty, hook=hook)
    message = str(caught.value)
    assert "\n" not in message
    assert "the connection was lost" in message
    assert "check that the server runs, then start again" in message
    if after:
        assert f"step {after + 1}/{count}, table " in message
    if empty.transactional_ddl or not after:
        assert "nothing was changed" in message
        assert caught.value.applied == ()
        assert len(plan(empty).steps) == count
    else:
        assert f"{after} step(s) remain applied" in message
        assert "whether this step was done is unknown" in message
        assert len(caught.value.applied) == after
        assert len(plan(empty).steps) == count - after
    assert sync(empty)
    assert not plan(empty).drift


@only_postgres
def test_the_connection_is_lost_at_the_end(empty: Backend, server: servers.Server) -> None:
    def hook(name: str) -> None:
        if name == "before commit":
            kill_connections(server, empty.database)

    with pytest.raises(SyncFailed, match="COMMIT: the connection was lost: whether") as caught:
        sync(empty, hook=hook)
    assert "either all steps are applied, or none" in str(caught.value)
    assert sync(empty)


# -- what is wrong with the call, and what a server says of a step --------------------------------


def test_inside_a_transaction_it_is_refused(empty: Backend) -> None:
    with transaction(empty):
        with pytest.raises(SyncFailed, match="called inside a transaction: call it outside"):
            sync(empty)
    assert sync(empty)


def test_concurrent_syncs_of_threads_all_finish(empty: Backend) -> None:
    """The time-outs of the connection that one of them pins are not the other's."""
    reports: list[bool] = []
    threads = [threading.Thread(target=lambda: reports.append(bool(sync(empty)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reports) == [False, False, False, True]


@only_mysqls
def test_a_step_that_fails_says_what_is_applied(empty: Backend) -> None:
    """A key of the right family, and of a width that a foreign key cannot point to."""
    users = next(step.sql for step in plan(empty).steps if step.table == "users")
    run_script(empty, users.replace("`id` BIGINT", "`id` INTEGER"))
    steps = plan(empty).steps
    with recorded(empty) as statements:
        error = failure(empty)
    done = [step.table for step in steps].index("user_keys")
    assert error.applied == tuple(step.sql for step in steps[:done])
    ddl = [sql for sql in error.applied if not sql.startswith("INSERT")]
    assert statements.ddl == [*ddl, error.step]
    assert f"step {done + 1}/{len(steps)}, table user_keys, the table is missing: " in str(error)
    assert f"{done} step(s) remain applied; correct the cause, then start again" in str(error)
    assert str(error).endswith(f"the step is: {error.step}")


@only_postgres
def test_a_duplicate_that_comes_between_is_not_shown(empty: Backend, database_dsn: str) -> None:
    """Written after the check, before the index: the server's message would show the value."""
    sync(empty)
    run_script(empty, "ALTER TABLE providers DROP COLUMN label;\nDROP INDEX uq_users_name")
    row = "('a-value', TRUE, FALSE, now(), now())"

    def hook(name: str) -> None:
        if name.startswith("after ALTER"):
            with opened(database_dsn) as other:
                run_script(
                    other,
                    "INSERT INTO users (name, enabled, is_admin, created_at, updated_at) "
                    f"VALUES {row}, {row}",
                )

    with pytest.raises(SyncFailed) as caught:
        sync(empty, hook=hook)
    assert "a-value" not in str(caught.value)
    assert "UniqueViolation (23505)" in str(caught.value)
    assert "rows were written meanwhile: start again, and sync lists them" in str(caught.value)


def test_a_server_that_is_gone_is_no_failed_step(empty: Backend, backend: str) -> None:
    if backend == "sqlite":
        dsn = "sqlite:///nowhere/at/all.db"
    else:
        dsn = f"{'postgres' if backend == 'postgres' else 'mysql'}://nobody@127.0.0.1:1/db"
    with opened(dsn) as database, pytest.raises(ConnectError):
        sync(database)
