"""The plan: snapshot + definitions -> steps with their SQL, and drift. Pure: no I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .catalog import LiveTable, Snapshot
from .compare import Comparison
from .definitions import Definition
from .renames import RENAMES, Rename


class Level(enum.Enum):
    """How much a difference matters."""

    MISSING = "missing"
    INCOMPATIBLE = "incompatible"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between the live schema and the models.

    MISSING is what sync adds, INCOMPATIBLE what it refuses to touch, EXTRA is for information.
    """

    level: Level
    table: str
    what: str

    def __str__(self) -> str:
        return f"{self.table}: {self.what}"


@dataclass(frozen=True, slots=True)
class Step:
    """One DDL statement: the SQL exactly as executed, and why.

    Attributes:
        rename: the rename that this step makes, to be recorded with it.
    """

    table: str
    sql: str
    reason: str
    rename: Rename | None = None


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What sync would do, in order, and how the live schema differs from the models.

    Falsy when there is nothing to do and nothing in the way; str() prints it for a person.
    """

    steps: tuple[Step, ...]
    drift: tuple[Drift, ...]
    checks: tuple[Check, ...] = ()

    @property
    def incompatible(self) -> tuple[Drift, ...]:
        """The differences that sync refuses to touch."""
        return tuple(drift for drift in self.drift if drift.level is Level.INCOMPATIBLE)

    def __bool__(self) -> bool:
        return bool(self.steps or self.incompatible)

    def __str__(self) -> str:
        lines = [f"-- {drift.level.value}: {drift}" for drift in self.drift]
        lines += [f"{step.sql};" for step in self.steps]
        return "\n".join(lines) or "-- the schema is up to date"

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values."""
        return {
            "steps": [
                {"table": step.table, "sql": step.sql, "reason": step.reason} for step in self.steps
            ],
            "drift": [
                {"level": drift.level.value, "table": drift.table, "what": drift.what}
                for drift in self.drift
            ],
        }


def make_plan(snapshot: Snapshot, wanted: Sequence[Definition]) -> Plan:
    """Compare a snapshot with the definitions and say what is to be done.

    Args:
        wanted: parents before children; steps come in that order, renames first.
    """
    steps, tables = _renamed(snapshot, wanted)
    drift: list[Drift] = []
    checks: list[Check] = []
    for definition in wanted:
        live = tables.get(definition.name)
        found = Comparison(definition, live, snapshot.occupied)
        for level, whats in (
            (Level.MISSING, found.missing),
            (Level.INCOMPATIBLE, found.incompatible),
            (Level.EXTRA, found.extra),
        ):
            drift += [Drift(level, definition.name, what) for what in whats]
        if live is None:
            steps += [
                Step(definition.name, sql, "the table is missing") for sql in definition.create_sql
            ]
        else:
            steps += _additions(definition, found)
            checks += _duplicate_checks(definition, live, found)
            checks += _orphan_checks(definition, live, found, tables)
    return Plan(tuple(steps), tuple(drift), tuple(checks))


def _renamed(
    snapshot: Snapshot, wanted: Sequence[Definition]
) -> tuple[list[Step], dict[str, LiveTable]]:
    """Return the steps of the renames that apply, and the tables as they will be after them."""
    tables, steps = dict(snapshot.tables), []
    quoted = {definition.name: definition.quoted for definition in wanted}
    for rename in RENAMES:
        live = tables.get(rename.table)
        if live is None or rename.old not in live.columns or rename.new in live.columns:
            continue
        tables[rename.table] = live.with_renamed(rename.old, rename.new)
        sql = f"ALTER TABLE {quoted[rename.table]} RENAME COLUMN {rename.old} TO {rename.new}"
        reason = f"{rename.old} is now named {rename.new}"
        steps.append(Step(rename.table, sql, reason, rename))
    return steps, tables


def _additions(definition: Definition, found: Comparison) -> list[Step]:
    """Return the steps that add what a table lacks: columns, indexes, foreign keys."""
    parts = [
        (f"ADD COLUMN {column.add_ddl}", f"column {column.name} is missing")
        for column in found.new_columns
    ]
    indexes = [
        (index.add_clause if definition.one_alter else index.create_sql, f"no index {index.name}")
        for index in found.new_indexes
    ]
    keys = [
        (key.add_clause, f"column {key.column} has no foreign key")
        for key in found.new_foreign_keys
        if definition.can_add_foreign_keys  # else it came with its column
    ]
    alter = f"ALTER TABLE {definition.quoted} "
    if definition.one_alter:
        together = parts + indexes + keys
        if not together:
            return []
        sql = alter + ", ".join(part for part, _ in together)
        return [Step(definition.name, sql, "; ".join(reason for _, reason in together))]
    return [
        *(Step(definition.name, alter + part, reason) for part, reason in parts),
        *(Step(definition.name, sql, reason) for sql, reason in indexes),
        *(Step(definition.name, alter + part, reason) for part, reason in keys),
    ]


def _duplicate_checks(definition: Definition, live: LiveTable, found: Comparison) -> list[Check]:
    """Return a check for each unique index that is to be added to rows that exist."""
    checks = []
    added = {column.name: column for column in found.new_columns}
    (key,) = definition.primary_key
    for index in found.new_indexes:
        if not index.unique:
            continue
        values = []
        for name, _ in index.columns:
            if name in live.columns:
                values.append(name)
            elif added[name].expression is not None:
                values.append(f"({added[name].expression})")
            elif not added[name].has_default:
                break  # all NULL, and NULLs are distinct
        else:
            not_null = " AND ".join(f"{value} IS NOT NULL" for value in values) or "1 = 1"
            groups = f"FROM {definition.quoted} WHERE {not_null}"
            groups += f" GROUP BY {', '.join(values)}" if values else ""
            groups += " HAVING COUNT(*) > 1"
            checks.append(
                Check(
                    definition.name,
                    "values occur more than once in "
                    + ", ".join(name for name, _ in index.columns),
                    # S608: names of the models' own columns, no one's input
                    f"SELECT COUNT(*) FROM (SELECT 1 AS one {groups}) AS duplicates",  # noqa: S608
                    f"SELECT MIN({key}) {groups} ORDER BY 1 LIMIT 5",
                )
            )
    return checks


def _orphan_checks(
    definition: Definition,
    live: LiveTable,
    found: Comparison,
    tables: Mapping[str, LiveTable],
) -> list[Check]:
    """Return a check for each foreign key that is to be added to rows that exist."""
    checks = []
    (own_key,) = definition.primary_key
    for key in found.new_foreign_keys:
        if key.column not in live.columns:
            continue
        orphans = f"FROM {definition.quoted} AS c"
        condition = f"c.{key.column} IS NOT NULL"
        if key.target in tables:
            orphans += f" LEFT JOIN {key.target} AS p ON p.{key.target_column} = c.{key.column}"
            condition += f" AND p.{key.target_column} IS NULL"
        orphans += f" WHERE {condition}"
        checks.append(
            Check(
                definition.name,
                f"rows have a {key.column} that is not in {key.target}",
                f"SELECT COUNT(*) {orphans}",
                f"SELECT c.{own_key} {orphans} ORDER BY 1 LIMIT 5",
            )
        )
    return checks
