"""Questions to the data before a rule is added that they must keep. Pure: SQL, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .catalog import LiveTable
from .compare import Comparison
from .definitions import Definition, IndexDefinition


@dataclass(frozen=True, slots=True)
class Check:
    """A question to ask of the data before any step, whose answer must be none.

    Attributes:
        what: what is wrong with the rows it finds, for people.
        count_sql: gives the number of rows or values at fault.
        keys_sql: gives up to five primary keys of theirs.
    """

    table: str
    what: str
    count_sql: str
    keys_sql: str


# S608: all that the SQL is made of are the models' own names, no one's input.


def duplicate_checks(definition: Definition, live: LiveTable, found: Comparison) -> list[Check]:
    """Return a check for each unique index that is to be added to rows that exist."""
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
    """Return the SQL of what the index will make unique; None where all of it will be NULL.

    A column that is to be added with a constant default is left out: it tells no rows apart.
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
    """Return a check for each foreign key that is to be added to rows that exist."""
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
    """Return the primary key's column as the database calls it now."""
    (name,) = definition.primary_key
    return live.columns[name].name
