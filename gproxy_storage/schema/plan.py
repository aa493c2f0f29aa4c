"""The plan: snapshot + definitions -> steps with their SQL, and drift. Pure: no I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Backend
from ..backends.widths import Shortfall
from ..key_management.gproxy import LEDGER, STRIP_RULES
from .checks import Check, duplicate_checks, orphan_checks
from .compare import Comparison
from .definitions import Definition
from .ledger import STRIP_SQL, insert_sql, missing_steps, strip_realtime_rules
from .renames import RENAMES, Rename
from .snapshot import LiveTable, Snapshot

_NEW_TABLE = "the table is missing"


class Level(enum.Enum):
    """How much a difference matters."""

    MISSING = "missing"
    INCOMPATIBLE = "incompatible"
    NARROWER = "narrower"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between the live schema and the models.

    MISSING: sync adds it. INCOMPATIBLE: sync refuses to run. NARROWER: a column refuses or changes
    some values; sync widens it on request. EXTRA: for information; sync leaves it, except for the
    indexes in `retired.py`.

    Attributes:
        level: how much it matters.
        table: the table's name.
        what: the difference, for people.
    """

    level: Level
    table: str
    what: str

    def __str__(self) -> str:
        return f"{self.table}: {self.what}"


@dataclass(frozen=True, slots=True)
class Step:
    """One statement: the SQL exactly as executed, and why.

    Attributes:
        table: the table that it changes.
        sql: the statement.
        reason: why it is needed, for people.
        references: other tables that it locks, because of foreign keys to them.
        rename: the rename that this step does, which is recorded with it.
        action: executes the SQL for each row that it selects, with parameters for ``?``; None if
            the SQL is executed once, as it is.
    """

    table: str
    sql: str
    reason: str
    references: tuple[str, ...] = ()
    rename: Rename | None = None
    action: Callable[[Backend], None] | None = None

    def to_dict(self) -> dict[str, str]:
        """Return the step as JSON-able values."""
        return {"table": self.table, "sql": self.sql, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a sync, in order, and the differences between live schema and models.

    Falsy when there is nothing to do and nothing incompatible; str() prints it for people.

    Attributes:
        steps: what sync executes, in order.
        drift: the differences.
        checks: the queries about the data that come before any step.
        narrow: ``table.column`` of each column that is narrower than declared.
    """

    steps: tuple[Step, ...]
    drift: tuple[Drift, ...]
    checks: tuple[Check, ...] = ()
    narrow: Mapping[str, Shortfall] = field(default_factory=dict)

    @property
    def incompatible(self) -> tuple[Drift, ...]:
        """The differences for which sync refuses to run."""
        return tuple(drift for drift in self.drift if drift.level is Level.INCOMPATIBLE)

    @property
    def new_tables(self) -> frozenset[str]:
        """The tables that it creates."""
        return frozenset(step.table for step in self.steps if step.reason == _NEW_TABLE)

    @property
    def narrower(self) -> tuple[Drift, ...]:
        """The columns that are narrower than declared."""
        return tuple(drift for drift in self.drift if drift.level is Level.NARROWER)

    def __bool__(self) -> bool:
        return bool(self.steps or self.incompatible)

    def __str__(self) -> str:
        lines = [f"-- {drift.level.value}: {drift}" for drift in self.drift]
        lines += [f"{step.sql};" for step in self.steps]
        return "\n".join(lines) or "-- the schema is up to date"

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values."""
        return {
            "steps": [step.to_dict() for step in self.steps],
            "drift": [
                {"level": drift.level.value, "table": drift.table, "what": drift.what}
                for drift in self.drift
            ],
        }


def make_plan(snapshot: Snapshot, wanted: Sequence[Definition], *, widen: bool = False) -> Plan:
    """Compare a snapshot with the definitions and return the steps to take.

    Args:
        wanted: parents before children; steps come in that order, renames first.
        widen: also change columns that are narrower than declared.
    """
    steps, tables = _renamed(snapshot, wanted)
    is_new = "providers" not in tables
    ledger = _ledger(snapshot, is_new=is_new)
    drift: list[Drift] = []
    checks: list[Check] = []
    narrow: dict[str, Shortfall] = {}
    for definition in wanted:
        live = tables.get(definition.name)
        found = Comparison(definition, live, snapshot.occupied)
        for level in Level:  # whose values are the names of the lists
            whats: list[str] = getattr(found, level.value)
            drift += [Drift(level, definition.name, what) for what in whats]
        if live is None:
            references = tuple(key.target for key in definition.foreign_keys)
            steps += [
                Step(definition.name, sql, _NEW_TABLE, references) for sql in definition.create_sql
            ]
        else:
            steps += _changes(definition, found)
            narrow |= {f"{definition.name}.{name}": lack for name, lack in found.narrow.items()}
            if widen and found.widen_clauses:
                steps.append(_widening(definition, found))
            if not found.incompatible:
                checks += duplicate_checks(definition, live, found)
                checks += orphan_checks(definition, live, found, tables)
        if definition.name == LEDGER and is_new:
            steps += ledger  # now: once there are tables, there may be rows to change
    if not is_new:
        steps += ledger
    if ledger and LEDGER in tables:
        lacking = ", ".join(missing_steps(snapshot.versions))
        drift.append(Drift(Level.MISSING, LEDGER, f"the rows {lacking}"))
    return Plan(tuple(steps), tuple(drift), tuple(checks), narrow)


def _renamed(
    snapshot: Snapshot, wanted: Sequence[Definition]
) -> tuple[list[Step], dict[str, LiveTable]]:
    """Return the steps of the renames that apply, and the tables as they will be afterwards."""
    tables, steps = dict(snapshot.tables), []
    quoted = {definition.name: definition.quoted for definition in wanted}
    for rename in RENAMES:
        live = tables.get(rename.table)
        if live is None or rename.old not in live.columns or rename.new in live.columns:
            continue
        tables[rename.table] = live.with_renamed(rename.old, rename.new)
        sql = f"ALTER TABLE {quoted[rename.table]} RENAME COLUMN {rename.old} TO {rename.new}"
        reason = f"{rename.old} is now named {rename.new}"
        steps.append(Step(rename.table, sql, reason, rename=rename))
    return steps, tables


def _widening(definition: Definition, found: Comparison) -> Step:
    sql = f"ALTER TABLE {definition.quoted} {', '.join(found.widen_clauses.values())}"
    return Step(definition.name, sql, f"{', '.join(found.widen_clauses)} narrower than declared")


def _ledger(snapshot: Snapshot, *, is_new: bool) -> list[Step]:
    """Return the steps that do, and record, the migrations that GPROXY's ledger lacks."""
    missing = missing_steps(snapshot.versions)
    if not missing:
        return []
    steps = [Step(LEDGER, insert_sql(missing), "GPROXY would run these migrations at its start")]
    if STRIP_RULES in missing and not is_new:
        reason = "GPROXY no longer has the realtime operations of some routing rules"
        steps.insert(0, Step("providers", STRIP_SQL, reason, action=strip_realtime_rules))
    return steps


def _changes(definition: Definition, found: Comparison) -> list[Step]:
    """Return the steps that add what a table lacks, and drop its retired indexes."""
    alter = f"ALTER TABLE {definition.quoted} "
    columns = [
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
        if definition.can_add_foreign_keys  # else it is part of ADD COLUMN
    ]
    # Last, and in one ALTER TABLE with the new ones: InnoDB needs an index for each foreign key.
    retired = [(f"DROP INDEX {index.name}", index.why) for index in found.retired]
    references = tuple(key.target for key in found.new_foreign_keys)
    if definition.one_alter:
        together = columns + indexes + keys + retired
        if not together:
            return []
        sql = alter + ", ".join(clause for clause, _ in together)
        reason = "; ".join(reason for _, reason in together)
        return [Step(definition.name, sql, reason, references)]
    statements = [
        *((alter + clause, reason) for clause, reason in columns),
        *indexes,
        *((alter + clause, reason) for clause, reason in keys),
        *retired,
    ]
    return [Step(definition.name, sql, reason, references) for sql, reason in statements]
