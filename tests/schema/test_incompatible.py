"""Differences that sync must not touch: all refused at once, in one message, before anything."""

from __future__ import annotations

import peewee
import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.errors import IncompatibleSchema
from gproxy_storage.schema.sync import plan, sync
from tests.schema.spoiled import MYSQL, POSTGRES, SQLITE, Remade, Spoiled
from tests.support import assert_query_count, run_script, wipe_schema

CASES = {"sqlite": SQLITE, "postgres": POSTGRES, "mysql": MYSQL, "mariadb": MYSQL}


def spoil(database: Backend, case: Spoiled | Remade) -> None:
    """Make one thing wrong."""
    if isinstance(case, Spoiled):
        run_script(database, case.script)
        return
    with session(database):
        rows = database.query(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL", (case.table,)
        )
        (create, *indexes) = [sql for (sql,) in rows]
        assert case.old in create
        run_script(database, [f"DROP TABLE {case.table}", create.replace(case.old, case.new)])
        run_script(database, indexes)


def refusal(database: Backend) -> IncompatibleSchema:
    """Sync, which must refuse after looking: no lock, no DDL."""
    with assert_query_count(database, 3) as statements:
        with pytest.raises(IncompatibleSchema) as caught:
            sync(database)
    assert not statements.locks
    message = str(caught.value)
    assert "\n" not in message
    assert "nothing was changed" in message
    assert f"({database.name})" in message
    assert str(database.dsn) in message
    assert "fix them by hand" in message
    return caught.value


def test_everything_is_named_in_one_message(empty: Backend, backend: str) -> None:
    sync(empty)
    for case in CASES[backend]:
        spoil(empty, case)
    before = plan(empty).drift
    error = refusal(empty)
    expected = {case.drift for case in CASES[backend]}
    assert set(error.drift) == expected
    assert len(error.drift) == len(expected)
    for drift in error.drift:
        assert drift in str(error)
    assert plan(empty).drift == before


@pytest.mark.slow
def test_each_is_refused_alone(empty: Backend, backend: str) -> None:
    for case in CASES[backend]:
        sync(empty)
        spoil(empty, case)
        assert refusal(empty).drift == (case.drift,)
        wipe_schema(empty)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_an_invalid_unique_index_is_incompatible(empty: Backend) -> None:
    """What CREATE UNIQUE INDEX CONCURRENTLY leaves behind where it meets duplicates."""
    sync(empty)
    run_script(
        empty,
        """
        DROP INDEX uq_users_name;
        INSERT INTO users (name, enabled, is_admin, created_at, updated_at)
            SELECT 'alice', true, false, now(), now() FROM generate_series(1, 2)
        """,
    )
    with pytest.raises(peewee.IntegrityError):
        run_script(empty, "CREATE UNIQUE INDEX CONCURRENTLY half_done ON users (name)")
    assert refusal(empty).drift == ("users: unique index half_done is INVALID: drop it",)
    run_script(empty, "DROP INDEX half_done; DELETE FROM users")
    assert sync(empty)
    assert not sync(empty)


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_a_foreign_key_to_another_database(empty: Backend) -> None:
    """The same table name in another database is another table."""
    sync(empty)
    other = f"{empty.database}_other"
    try:
        run_script(
            empty,
            [
                f"CREATE DATABASE {other}",
                f"CREATE TABLE {other}.providers (id BIGINT PRIMARY KEY)",
                "ALTER TABLE models DROP FOREIGN KEY fk_models_provider_id",
                "ALTER TABLE models ADD CONSTRAINT elsewhere FOREIGN KEY (provider_id) "
                f"REFERENCES {other}.providers (id) ON DELETE CASCADE",
            ],
        )
        assert refusal(empty).drift == (
            f"models: the foreign key elsewhere of provider_id points to {other}.providers (id), "
            "not to providers",
        )
    finally:
        run_script(
            empty, ["ALTER TABLE models DROP FOREIGN KEY elsewhere", f"DROP DATABASE {other}"]
        )
