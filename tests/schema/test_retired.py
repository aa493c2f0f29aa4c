"""The unique index that earlier releases put on permissions: dropped, and nothing else is."""

from __future__ import annotations

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.models import INDEXES, TABLES
from gproxy_storage.schema.definitions import definitions
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.retired import RETIRED, RetiredIndex
from gproxy_storage.schema.snapshot import read_snapshot
from gproxy_storage.schema.sync import plan, sync
from tests.schema import parity
from tests.schema.test_kill import kill_at_every_boundary
from tests.schema.test_models import GPROXYS_UNIQUE
from tests.schema.test_together import rounds
from tests.support import ONE_BACKEND, assert_query_count, run_script

TABLE = "user_model_permissions"
OLD = "uq_user_model_permissions_user_id_provider_key_model_pattern"
COLUMNS = "user_id, provider_key, model_pattern"
OURS = "uq_user_model_permissions_user_id_provider_id_model_pattern"
ROWS = """
    INSERT INTO users (id, name, enabled, is_admin, created_at, updated_at)
        VALUES (1, 'alice', TRUE, FALSE, '2026-05-04 12:00:00', '2026-05-04 12:00:00');
    INSERT INTO user_model_permissions (user_id, model_pattern, created_at)
        VALUES (1, 'gpt-*', '2026-05-04 12:00:00')
"""


def drop_index(database: Backend, name: str) -> str:
    on = f" ON {TABLE}" if database.name in ("mysql", "mariadb") else ""
    return f"DROP INDEX {name}{on}"


def as_before(database: Backend, columns: str = COLUMNS) -> None:
    """The table as the release before made it."""
    sync(database)
    kind = "STORED" if database.name == "postgres" else "VIRTUAL"
    run_script(
        database,
        [
            f"ALTER TABLE {TABLE} ADD COLUMN provider_key BIGINT "
            f"GENERATED ALWAYS AS (COALESCE(provider_id, 0)) {kind}",
            f"CREATE UNIQUE INDEX {OLD} ON {TABLE} ({columns})",
            drop_index(database, OURS),
        ],
    )


def index_names(database: Backend) -> set[str]:
    with session(database):
        table = read_snapshot(database, definitions(database)).tables[TABLE]
    return {index.name for index in table.indexes}


def test_a_retired_index_is_dropped_and_its_columns_are_kept(empty: Backend) -> None:
    as_before(empty)
    run_script(empty, ROWS)
    found = plan(empty)
    assert f"{TABLE}: unique index {OLD}, which sync drops" in map(str, found.drift)
    assert not found.incompatible
    dropping = [step for step in found.steps if f"DROP INDEX {OLD}" in step.sql]
    assert [step.table for step in dropping] == [TABLE]
    assert "GPROXY does not start" in dropping[0].reason
    assert dropping[0].sql in str(found)

    assert [step.sql for step in sync(empty).applied] == [step.sql for step in found.steps]

    names = index_names(empty)
    assert OLD not in names
    assert OURS in names
    with assert_query_count(empty, 3) as statements:
        assert not sync(empty)
    assert not statements.locks
    (left,) = (one for one in plan(empty).drift if "provider_key" in one.what)
    assert left.level is Level.EXTRA
    with session(empty):  # the duplicates that GPROXY writes can be stored
        run_script(empty, ROWS.partition(";")[2])
        assert empty.query(f"SELECT COUNT(*), MIN(provider_key) FROM {TABLE}") == [(2, 0)]


def test_it_is_dropped_where_a_foreign_key_needs_it(empty: Backend) -> None:
    """InnoDB refuses to drop the last index that a foreign key can use."""
    as_before(empty)
    run_script(empty, drop_index(empty, "ix_user_model_permissions_user_id"))
    assert sync(empty)
    assert OLD not in index_names(empty)
    assert not sync(empty)


@pytest.mark.parametrize(
    ("columns", "unique"),
    [
        ("user_id, model_pattern, provider_key", "UNIQUE "),
        ("user_id, provider_key", "UNIQUE "),
        (COLUMNS, ""),
    ],
)
def test_another_index_of_that_name_is_kept(empty: Backend, columns: str, unique: str) -> None:
    as_before(empty)
    run_script(
        empty,
        [
            drop_index(empty, OLD),
            f"CREATE {unique}INDEX {OLD} ON {TABLE} ({columns})",
        ],
    )
    sync(empty)
    assert OLD in index_names(empty)
    assert not sync(empty)


def test_the_same_index_of_another_name_is_kept(empty: Backend) -> None:
    as_before(empty)
    run_script(
        empty,
        [
            drop_index(empty, OLD),
            f"CREATE UNIQUE INDEX somebody_elses ON {TABLE} ({COLUMNS})",
        ],
    )
    sync(empty)
    assert "somebody_elses" in index_names(empty)


@ONE_BACKEND
def test_twelve_processes_drop_it_once(database_dsn: str) -> None:
    rounds(database_dsn, as_before, 1)


@ONE_BACKEND
def test_killed_while_it_is_dropped(database_dsn: str) -> None:
    def prepare(database: Backend) -> None:
        run_script(database, f"DROP TABLE IF EXISTS {TABLE}")
        as_before(database)

    kill_at_every_boundary(database_dsn, prepare)


def test_a_new_database_has_gproxys_unique_indexes_and_no_other(synced: Backend) -> None:
    with session(synced):
        found = read_snapshot(synced, definitions(synced)).tables
    unique = [
        (name, ", ".join(column or "" for column, _ in index.columns))
        for name, table in found.items()
        for index in table.indexes
        if index.unique and not index.primary and name in parity.TABLES
    ]
    assert sorted(unique) == sorted(GPROXYS_UNIQUE.items())


def test_what_is_retired_is_no_longer_declared() -> None:
    declared = {index.name for indexes in INDEXES.values() for index in indexes}
    tables = {model._meta.table_name for model in TABLES}
    assert not declared & {index.name for index in RETIRED}
    assert {index.table for index in RETIRED} <= tables
    # released, and so it stays as it is
    assert RETIRED[0] == RetiredIndex(
        TABLE,
        OLD,
        ("user_id", "provider_key", "model_pattern"),
        unique=True,
        why="GPROXY does not start with a unique index that is not its own",
    )
