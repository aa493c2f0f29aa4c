"""The snapshot on real servers: what it says of our tables, how it asks, and what it ignores."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.schema.definitions import definitions
from gproxy_storage.schema.snapshot import Snapshot, read_snapshot
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.support import PATIENCE_S, assert_query_count, opened, run_script

only_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)
only_mysqls = pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)


def snapshot(database: Backend) -> Snapshot:
    with session(database):
        return read_snapshot(database, definitions(database))


def drift(database: Backend) -> list[str]:
    return [str(one) for one in plan(database).drift]


def test_the_snapshot_of_our_schema_is_what_was_declared(synced: Backend) -> None:
    found = snapshot(synced)
    wanted = definitions(synced)
    assert set(found.tables) == {one.name for one in wanted}
    for one in wanted:
        live = found.tables[one.name]
        assert live.kind == "table"
        assert live.primary_key == one.primary_key
        assert set(live.columns) == {column.name for column in one.columns}
        for column in one.columns:
            there = live.columns[column.name]
            assert there.family in column.families
            assert there.nullable == column.nullable
            assert not there.generated
            assert there.auto_increment == column.auto_increment
            if column.families == {"text"}:
                assert there.collation == (one.collation or "")
            if not column.auto_increment:
                assert there.has_default == column.has_default
        indexes = {
            (index.name, index.columns, index.unique) for index in live.indexes if not index.primary
        }
        assert indexes >= {(index.name, index.columns, index.unique) for index in one.indexes}
        assert {
            (key.columns, key.target, key.target_columns, key.on_delete, key.valid)
            for key in live.foreign_keys
        } == {
            ((key.column,), key.target, (key.target_column,), key.on_delete, True)
            for key in one.foreign_keys
        }


@pytest.mark.parametrize("foreign_tables", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_a_sync_with_nothing_to_do_asks_three_queries(empty: Backend, foreign_tables: int) -> None:
    sync(empty)
    run_script(
        empty,
        [
            f"CREATE TABLE foreign_{number} (id INTEGER PRIMARY KEY, user_id BIGINT, a INTEGER, "
            "UNIQUE (a, id), FOREIGN KEY (user_id) REFERENCES users (id))"
            for number in range(foreign_tables)
        ],
    )
    with assert_query_count(empty, 3) as statements:
        report = sync(empty)
    assert not report
    assert not statements.ddl
    assert not statements.locks
    with assert_query_count(empty, 3):
        assert not plan(empty).drift


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite", "mysql", "mariadb"], indirect=True)
def test_names_are_compared_without_regard_to_case(synced: Backend, backend: str) -> None:
    """As these databases do it, so that a hand-made `Name` is no missing `name`."""
    if backend == "sqlite":
        run_script(
            synced,
            """
            DROP TABLE storage_state;
            CREATE TABLE Storage_State ("Name" VARCHAR(64) NOT NULL PRIMARY KEY,
                "VALUE" TEXT NOT NULL, Updated_At TEXT NOT NULL);
            ALTER TABLE usages RENAME COLUMN model TO "Model"
            """,
        )
    else:
        run_script(synced, "ALTER TABLE usages RENAME COLUMN model TO `Model`")
        run_script(synced, "ALTER TABLE users RENAME INDEX uq_users_name TO UQ_USERS_NAME")
    assert drift(synced) == []


@only_postgres
def test_names_are_case_sensitive_on_postgres(synced: Backend) -> None:
    run_script(synced, 'ALTER TABLE usages RENAME COLUMN model TO "Model"')
    assert drift(synced) == ["usages: column model", "usages: column Model (text)"]


@only_mysqls
def test_a_table_that_differs_in_case_is_another(synced: Backend, server: servers.Server) -> None:
    ((ignored,),) = server.execute("SELECT @@lower_case_table_names")
    if ignored:
        pytest.skip("this server ignores the case of tables")
    run_script(synced, "CREATE TABLE USERS (id INTEGER PRIMARY KEY, strange INTEGER NOT NULL)")
    assert drift(synced) == []
    run_script(synced, "DROP TABLE USERS")


@only_postgres
@pytest.mark.parametrize("schema", ["MySchema", 'a "b"', "own"])
def test_the_first_schema_of_the_search_path_is_ours(
    database_dsn: str, schema: str, server: servers.Server
) -> None:
    quoted = '"' + schema.replace('"', '""') + '"'
    with opened(database_dsn) as public:
        sync(public)  # the same tables in public are somebody else's
        run_script(public, f"CREATE SCHEMA {quoted}")
    path = quote(f"-c search_path={quoted.replace(' ', chr(92) + ' ')},public", safe="")
    with opened(f"{database_dsn}?options={path}") as database:
        assert sync(database)
        assert not sync(database)
        assert drift(database) == []
        with session(database):
            rows = database.query("SELECT schemaname FROM pg_tables WHERE tablename = 'users'")
        assert sorted(rows) == sorted([("public",), (schema,)])


# -- what it must not wait for --------------------------------------------------------------------

EXCLUSIVE = {
    "postgres": ("BEGIN", "LOCK TABLE users, usages IN ACCESS EXCLUSIVE MODE"),
    "mysql": ("LOCK TABLES users WRITE, usages WRITE",),
    "mariadb": ("LOCK TABLES users WRITE, usages WRITE",),
}


@only_servers
def test_reading_the_catalog_waits_for_no_lock(
    synced: Backend, server: servers.Server, backend: str
) -> None:
    holder = server.connect(synced.database)
    done = threading.Event()
    found: list[Any] = []

    def look() -> None:
        found.append(plan(synced))
        found.append(sync(synced))
        done.set()

    reader = threading.Thread(target=look, daemon=True)
    try:
        with holder.cursor() as cursor:
            for statement in EXCLUSIVE[backend]:
                cursor.execute(statement)
            reader.start()
            waited = not done.wait(PATIENCE_S)
    finally:
        holder.close()
    reader.join()
    assert not waited
    assert not any(found)
