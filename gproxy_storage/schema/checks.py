"""Checks of the data before a constraint is added. Pure: SQL, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .compare import Comparison
from .definitions import Definition, IndexDefinition
from .snapshot import LiveTable


class Check(NamedTuple):
    """A check that is run before any step and must find no rows.

    Attributes:
        what: what is wrong with the rows that it finds, for people.
        count_sql: selects the number of violating rows or values.
        keys_sql: selects up to five of their primary keys.
    """

    table: str
    what: str
    count_sql: str
    keys_sql: str


# S608: the SQL consists of names from the models only, never of input.


def duplicate_checks(definition: Definition, live: LiveTable, found: Comparison) -> list[Check]:
    """Return a check for each unique index that is to be added to an existing table."""
    checks = []
    key = _key(definition, live)
    for index in found.new_indexes:
        values = _values(index, live, found) if index.unique else None
        if values is None:
            continue
        not_null = " AND ".join(f"{value} IS NOT NULL" for value in values) or "1 = 1"
        groups = f"FROM {definition.quoted} WHERE {not_null}"
        groups += f" GROUP BY {', '.join(values)}" if values else ""
        groups += " HAVING COUNT(*) > 1"
        columns = ", ".join(name for name, _ in index.columns)
        checks.append(
            Check(
                definition.name,
                f"values occur more than once in {columns}",
                f"SELECT COUNT(*) FROM (SELECT 1 AS one {groups}) AS duplicates",  # noqa: S608 - our names
                f"SELECT MIN({key}) {groups} ORDER BY 1 LIMIT 5",
            )
        )
    return checks


def _values(index: IndexDefinition, live: LiveTable, found: Comparison) -> list[str] | None:
    """Return the SQL of the values that must be unique; None if one of them will always be NULL.

    A column that is added with a constant default is left out: it distinguishes no rows.
    """
    added = {column.name: column for column in found.new_columns}
    values = []
    for name, _ in index.columns:
        there = live.columns.get(name)
        if there is not None:
            values.append(there.name)
        elif not added[name].has_default:
            return None  # NULLs are distinct
    return values


def orphan_checks(
    definition: Definition,
    live: LiveTable,
    found: Comparison,
    tables: Mapping[str, LiveTable],
) -> list[Check]:
    """Return a check for each foreign key that is to be added to an existing table."""
    checks = []
    for key in found.new_foreign_keys:
        there = live.columns.get(key.column)
        if there is None:
            continue  # it will be NULL in all of them
        orphans = f"FROM {definition.quoted} AS c"
        condition = f"c.{there.name} IS NOT NULL"
        if key.target in tables:
            orphans += f" LEFT JOIN {key.target} AS p ON p.{key.target_column} = c.{there.name}"
            condition += f" AND p.{key.target_column} IS NULL"
        orphans += f" WHERE {condition}"
        checks.append(
            Check(
                definition.name,
                f"rows have a {key.column} that is not in {key.target}",
                f"SELECT COUNT(*) {orphans}",
                f"SELECT c.{_key(definition, live)} {orphans} ORDER BY 1 LIMIT 5",
            )
        )
    return checks


def _key(definition: Definition, live: LiveTable) -> str:
    """Return the current name of the primary key's column in the database."""
    (name,) = definition.primary_key
    return live.columns[name].name
