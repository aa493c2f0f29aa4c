"""Definitions, and snapshots made of them, without a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from gproxy_storage.database import db_from_dsn
from gproxy_storage.key_management.gproxy import STEPS
from gproxy_storage.schema.definitions import Column, Definition, definitions
from gproxy_storage.schema.plan import Plan, make_plan
from gproxy_storage.schema.snapshot import (
    LiveColumn,
    LiveForeignKey,
    LiveIndex,
    LiveTable,
    Snapshot,
)

DSNS = {
    "sqlite": "sqlite://nowhere.db",
    "postgres": "postgres://nobody@nowhere/db",
    "mysql": "mysql://nobody@nowhere/db",
    "mariadb": "mysql://nobody@nowhere/db",
}


@cache
def wanted(backend: str) -> tuple[Definition, ...]:
    """What the models want of a backend; nothing is connected to."""
    database = db_from_dsn(DSNS[backend])
    if backend == "mariadb":
        database.mariadb = True  # type: ignore[attr-defined]  # else the server says so
    return definitions(database)


def definition(backend: str, table: str) -> Definition:
    """What the models want of one table."""
    return next(one for one in wanted(backend) if one.name == table)


def live(definition: Definition) -> LiveTable:
    """The table exactly as it is declared."""
    indexes = [
        LiveIndex(index.name, tuple(index.columns), index.unique, False, False, True, False)
        for index in definition.indexes
    ]
    key = tuple((name, False) for name in definition.primary_key)
    return LiveTable(
        name=definition.name,
        kind="table",
        columns={
            column.name: _live_column(column, definition.collation or "")
            for column in definition.columns
        },
        primary_key=definition.primary_key,
        indexes=(*indexes, LiveIndex("primary", key, True, False, False, True, True)),
        foreign_keys=tuple(
            LiveForeignKey(
                key.name, (key.column,), key.target, (key.target_column,), key.on_delete, True
            )
            for key in definition.foreign_keys
        ),
    )


def _live_column(column: Column, collation: str) -> LiveColumn:
    return LiveColumn(
        name=column.name,
        type=column.type,
        family=min(column.families),
        nullable=column.nullable,
        has_default=column.has_default,
        generated=False,
        auto_increment=column.auto_increment,
        collation=collation,
    )


def perfect(backend: str) -> Snapshot:
    """A database that is exactly as declared."""
    return Snapshot({one.name: live(one) for one in wanted(backend)}, {}, frozenset(STEPS))


def everything(backend: str) -> Plan:
    """The plan for an empty database."""
    return make_plan(Snapshot({}, {}), wanted(backend))


def plan_with(backend: str, table: str, change: Callable[[LiveTable], LiveTable] | None) -> Plan:
    """The plan for a database as declared, but for one table: changed, or, with None, missing."""
    tables = dict(perfect(backend).tables)
    if change is None:
        del tables[table]
    else:
        tables[table] = change(tables[table])
    return make_plan(replace(perfect(backend), tables=tables), wanted(backend))


def with_index(index: LiveIndex) -> Callable[[LiveTable], LiveTable]:
    """A change that puts an index in the place of those with the same columns."""

    def change(table: LiveTable) -> LiveTable:
        left = without_index(table, *(name or "" for name, _ in index.columns))
        return replace(left, indexes=(*left.indexes, index))

    return change


def without_index(table: LiveTable, *columns: str) -> LiveTable:
    """The table without its indexes over these columns."""
    left = (one for one in table.indexes if tuple(name for name, _ in one.columns) != columns)
    return replace(table, indexes=tuple(left))
