"""Whatever is missing: one sync adds it, the next has nothing to do and takes no lock.

The schema is built once; each case takes one thing away in place and lets sync bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import TypeVar

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.schema.definitions import Definition, IndexDefinition, definitions
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.support import ONE_BACKEND, recorded, run_script

Case = TypeVar("Case")

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)


def assert_repaired(database: Backend, missing: Iterable[str]) -> None:
    """Sync twice: the first adds what is missing, the second does and locks nothing."""
    removed = "; ".join(sorted(missing))
    before = plan(database)
    found = {str(one) for one in before.drift if one.level is Level.MISSING}
    assert set(missing) <= found, f"without {removed}: {found}"
    assert not before.incompatible, f"without {removed}: {before.incompatible}"
    with recorded(database) as first:
        report = sync(database)
    ddl = [step for step in report.applied if not step.sql.startswith(("INSERT", "UPDATE"))]
    assert len(ddl) == len(first.ddl) > 0, f"without {removed}"
    assert first.locks, f"without {removed}: changed the schema without a lock"
    with recorded(database) as second:
        assert not sync(database), f"without {removed}, twice"
    assert not second.ddl, f"without {removed}: DDL at the second sync:\n{second}"
    assert not second.locks, f"without {removed}: a lock at the second sync:\n{second}"
    assert len(second) == 3, f"without {removed}:\n{second}"
    assert not plan(database).drift, f"without {removed}"


@pytest.fixture
def tables(synced: Backend) -> Iterator[tuple[Definition, ...]]:
    """What the synced database should have; its connection is kept for the test."""
    with session(synced):
        yield definitions(synced)


def drop_table(database: Backend, name: str, backend: str) -> None:
    """Drop a table that others refer to."""
    if backend == "postgres":
        run_script(database, [f"DROP TABLE {name} CASCADE"])
    else:
        off, on = (
            ("PRAGMA foreign_keys = off", "PRAGMA foreign_keys = on")
            if backend == "sqlite"
            else ("SET foreign_key_checks = 0", "SET foreign_key_checks = 1")
        )
        run_script(database, [off, f"DROP TABLE {name}", on])


@ONE_BACKEND
def test_each_missing_table_is_created(
    synced: Backend, tables: tuple[Definition, ...], backend: str
) -> None:
    for table in tables:
        drop_table(synced, table.name, backend)
        assert_repaired(synced, {f"{table.name}: the table"})


@pytest.fixture(
    params=[False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["one of each table", "one at a time"],
)
def one_at_a_time(request: pytest.FixtureRequest) -> bool:
    """Whether a case is alone, or goes with others that concern other tables."""
    return bool(request.param)


def rounds(
    cases: Iterable[tuple[Definition, Case]], alone: bool
) -> list[list[tuple[Definition, Case]]]:
    """Sort cases into rounds: each alone, or the first of every table, the second, ..."""
    by_table: dict[str, list[tuple[Definition, Case]]] = {}
    for table, case in cases:
        by_table.setdefault(table.name, []).append((table, case))
    if alone:
        return [[case] for cases in by_table.values() for case in cases]
    filled = zip_longest(*by_table.values())
    return [[case for case in together if case is not None] for together in filled]


@ONE_BACKEND
def test_each_missing_column_is_added(
    synced: Backend, tables: tuple[Definition, ...], backend: str, one_at_a_time: bool
) -> None:
    cases = [(table, column) for table in tables for column in table.columns if column.addable]
    assert len(cases) > 40
    for together in rounds(cases, one_at_a_time):
        for table, column in together:
            run_script(synced, drop_columns(table, [column.name], backend))
        missing = {f"{table.name}: column {column.name}" for table, column in together}
        assert_repaired(synced, missing)


def drop_columns(table: Definition, columns: list[str], backend: str) -> list[str]:
    """The SQL that drops columns, with their indexes and foreign keys."""
    if backend == "postgres":
        return [f"ALTER TABLE {table.name} DROP COLUMN {name} CASCADE" for name in columns]
    keys = [key for key in table.foreign_keys if key.column in columns]
    indexes = [
        index for index in table.indexes if {name for name, _ in index.columns} & set(columns)
    ]
    if backend == "sqlite":
        # It drops no column that a foreign key names: the table is recreated.
        kept = [column.add_ddl for column in table.columns if column.name not in columns]
        return [
            "PRAGMA foreign_keys = off",
            f"DROP TABLE {table.name}",
            f"CREATE TABLE {table.name} ({', '.join(kept)})",
            *(index.create_sql for index in table.indexes if index not in indexes),
            "PRAGMA foreign_keys = on",
        ]
    clauses = [
        *(f"DROP FOREIGN KEY {key.name}" for key in keys),
        *(f"DROP INDEX {index.name}" for index in indexes),
        *(f"DROP COLUMN {name}" for name in columns),
    ]
    return [f"ALTER TABLE {table.name} {', '.join(clauses)}"]


@ONE_BACKEND
def test_each_missing_index_is_added(
    synced: Backend, tables: tuple[Definition, ...], backend: str, one_at_a_time: bool
) -> None:
    cases = [(table, index) for table in tables for index in table.indexes]
    assert len(cases) > 20
    for together in rounds(cases, one_at_a_time):
        missing = set()
        for table, index in together:
            run_script(synced, drop_index(table, index, backend))
            kind = "unique index" if index.unique else "index"
            columns = ", ".join(name for name, _ in index.columns)
            missing.add(f"{table.name}: {kind} on {columns}")
        assert_repaired(synced, missing)


def drop_index(table: Definition, index: IndexDefinition, backend: str) -> list[str]:
    """The SQL that takes an index away; InnoDB keeps one for each foreign key."""
    if backend in ("sqlite", "postgres"):
        return [f"DROP INDEX {index.name}"]
    keys = [key for key in table.foreign_keys if key.column == index.columns[0][0]]
    without_keys = ", ".join(
        [*(f"DROP FOREIGN KEY {key.name}" for key in keys), f"DROP INDEX {index.name}"]
    )
    statements = [f"ALTER TABLE {table.name} {without_keys}"]
    if keys and index.unique and len(index.columns) > 1:
        clauses = ", ".join(key.add_clause for key in keys)
        statements.append(f"ALTER TABLE {table.name} {clauses}")
    return statements


@only_servers
def test_each_missing_foreign_key_is_added(
    synced: Backend, tables: tuple[Definition, ...], backend: str, one_at_a_time: bool
) -> None:
    """SQLite adds none to an existing column, and refuses: see test_incompatible.py."""
    word = "CONSTRAINT" if backend == "postgres" else "FOREIGN KEY"
    cases = [(table, key) for table in tables for key in table.foreign_keys]
    assert len(cases) > 20
    for together in rounds(cases, one_at_a_time):
        for table, key in together:
            run_script(synced, f"ALTER TABLE {table.name} DROP {word} {key.name}")
        missing = {
            f"{table.name}: foreign key of {key.column} to {key.target}" for table, key in together
        }
        assert_repaired(synced, missing)


def test_many_things_at_once(synced: Backend, tables: tuple[Definition, ...], backend: str) -> None:
    """Each table lacks something: its columns that can be added, or all of it."""
    removed = []
    for position, table in enumerate(tables):
        addable = [column.name for column in table.columns if column.addable]
        if position % 3 == 0 or not addable:
            drop_table(synced, table.name, backend)
            removed.append(f"{table.name}: the table")
        else:
            run_script(synced, drop_columns(table, addable, backend))
            removed += [f"{table.name}: column {column}" for column in addable]
    assert_repaired(synced, removed)
