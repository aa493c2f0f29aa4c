"""Schemas that are equal by definition: not one DDL statement, not one lock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.key_management.gproxy import STEPS
from gproxy_storage.schema.ledger import insert_sql
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.sync import plan, sync
from tests.schema import parity
from tests.schema.offline import wanted
from tests.support import ONE_BACKEND, assert_query_count, run_script

STATE = {
    "sqlite": "CREATE TABLE storage_state (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, "
    "updated_at TEXT NOT NULL)",
    "postgres": "CREATE TABLE storage_state (name TEXT PRIMARY KEY, value TEXT NOT NULL, "
    "updated_at TIMESTAMPTZ NOT NULL)",
    "mysql": "CREATE TABLE storage_state (name VARCHAR(99) PRIMARY KEY, value TEXT NOT NULL, "
    "updated_at DATETIME NOT NULL)",
}
STATE["mariadb"] = STATE["mysql"]


def by_hand(backend: str, *, inline_unique: bool, reversed_indexes: bool) -> list[str]:
    """The whole schema as somebody else would write it: other names, other types, other order."""
    style = parity.Style(
        parity.BY_HAND[backend],
        inline_unique=inline_unique,
        reversed_indexes=reversed_indexes,
    )
    ledger = insert_sql(STEPS)
    return [*parity.statements(style), STATE[backend], *_beyond_gproxy(backend), ledger]


def _beyond_gproxy(backend: str) -> Iterator[str]:
    """Our further tables and columns as they are, our further indexes by other names."""
    for table in wanted(backend):
        if table.name not in parity.TABLES:
            if table.name != "storage_state":
                yield from table.create_sql
            continue
        columns, keys, indexes = parity.ours(table)
        for column in columns:
            yield f"ALTER TABLE {table.quoted} ADD COLUMN {column.add_ddl}"
        for key in keys if table.can_add_foreign_keys else ():  # else it came with its column
            yield f"ALTER TABLE {table.quoted} {key.add_clause}"
        for index in indexes:
            yield index.create_sql.replace(index.name, f"other_{index.name[3:]}", 1)


def assert_nothing_to_do(database: Backend) -> None:
    """Sync without DDL and lock; nothing is missing."""
    with assert_query_count(database, 3) as statements:
        assert not sync(database)
    assert not statements.ddl
    assert not statements.locks
    assert {one.level for one in plan(database).drift} <= {Level.EXTRA, Level.NARROWER}


def test_a_synced_schema_needs_no_steps(synced: Backend) -> None:
    assert_nothing_to_do(synced)
    assert not plan(synced).drift


@ONE_BACKEND
@pytest.mark.parametrize("inline_unique", [True, False], ids=["inline UNIQUE", "other names"])
@pytest.mark.parametrize("reversed_indexes", [False, True], ids=["as declared", "reversed"])
def test_a_schema_made_by_hand(
    empty: Backend, backend: str, inline_unique: bool, reversed_indexes: bool
) -> None:
    """Already the first sync has nothing to do; the only drift is the collation, and widths."""
    statements = by_hand(backend, inline_unique=inline_unique, reversed_indexes=reversed_indexes)
    run_script(empty, statements)
    assert_nothing_to_do(empty)
    drift = [one for one in plan(empty).drift if one.level is Level.EXTRA]
    assert all(" compares by utf8mb4_" in str(one) for one in drift)
    assert bool(drift) == (backend in ("mysql", "mariadb"))


EXTRA = """
    CREATE TABLE somebody_elses (id INTEGER PRIMARY KEY, user_id BIGINT NOT NULL);
    ALTER TABLE users ADD COLUMN nickname VARCHAR(50);
    ALTER TABLE users ADD COLUMN visits INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX ours_too ON usages (operation_id, model_id);
    CREATE UNIQUE INDEX nicknames ON users (nickname);
    CREATE INDEX twice ON providers (channel);
    CREATE VIEW all_users AS SELECT * FROM users
"""


def test_extra_tables_columns_and_indexes(empty: Backend, backend: str) -> None:
    sync(empty)
    run_script(empty, "ALTER TABLE usages ADD COLUMN operation_id BIGINT")
    run_script(empty, "ALTER TABLE usages ADD COLUMN model_id BIGINT")
    run_script(empty, EXTRA)
    assert_nothing_to_do(empty)
    told = {str(one) for one in plan(empty).drift}
    assert "users: unique index nicknames" in told
    assert "usages: index ours_too" in told
    assert any(one.startswith("users: column nickname (") for one in told)
    assert any(one.startswith("users: column visits (") for one in told)
    assert not any("somebody_elses" in one or "all_users" in one for one in told)
    # what serves the same purpose twice is nobody's business
    assert not any("twice" in one for one in told)
