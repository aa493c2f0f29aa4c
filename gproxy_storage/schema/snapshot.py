"""The snapshot: the live schema of our tables, in the same terms on every backend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..backends.base import Backend
from ..backends.schema_rows import ColumnRow, ForeignKeyRow, IndexRow, SchemaNames
from ..backends.widths import Shortfall
from ..key_management.gproxy import LEDGER
from .definitions import Column, Definition

_Row = TypeVar("_Row", ColumnRow, IndexRow, ForeignKeyRow)


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """A column as the database has it.

    Attributes:
        shortfall: what it cannot hold that the declared column can, if the families agree.
        widen_clause: if it is narrower, the ALTER TABLE clause that makes it the declared column.
    """

    name: str
    type: str
    family: str
    nullable: bool
    has_default: bool
    generated: bool
    auto_increment: bool
    collation: str
    shortfall: Shortfall | None = None
    widen_clause: str = ""


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """An index as the database has it; None stands for an expression in place of a column."""

    name: str
    columns: tuple[tuple[str | None, bool], ...]
    unique: bool
    partial: bool
    prefix: bool
    valid: bool
    primary: bool


@dataclass(frozen=True, slots=True)
class LiveForeignKey:
    """A foreign key as the database has it.

    Attributes:
        target_columns: empty for the target's primary key.
        on_delete: empty where the server hides it from this user.
    """

    name: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    on_delete: str
    valid: bool


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table, or another object with its name.

    Attributes:
        kind: ``table``, or the kind of the other object.
        columns: by their names in the models; a column's own `name` is the current one in the
            database, which differs before a rename.
    """

    name: str
    kind: str
    columns: Mapping[str, LiveColumn]
    primary_key: tuple[str, ...]
    indexes: tuple[LiveIndex, ...]
    foreign_keys: tuple[LiveForeignKey, ...]

    def with_renamed(self, old: str, new: str) -> LiveTable:
        """Return the table as it will be after a rename of a column."""

        names: dict[str | None, str] = {old: new}

        def renamed(keyed: LiveIndex) -> LiveIndex:
            columns = ((names.get(name, name), descending) for name, descending in keyed.columns)
            return replace(keyed, columns=tuple(columns))

        return replace(
            self,
            columns={names.get(name, name): column for name, column in self.columns.items()},
            primary_key=tuple(names.get(name, name) for name in self.primary_key),
            indexes=tuple(map(renamed, self.indexes)),
            foreign_keys=tuple(
                replace(key, columns=tuple(names.get(name, name) for name in key.columns))
                for key in self.foreign_keys
            ),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live schema of our tables at one moment.

    Attributes:
        tables: by name, without those that do not exist.
        occupied: each name of our indexes and foreign keys that is in use -> the tables with an
            index or foreign key of that name and, where indexes share the tables' namespace, the
            other objects.
        versions: the rows of GPROXY's ledger; None if this user may not read it.
    """

    tables: Mapping[str, LiveTable]
    occupied: Mapping[str, Sequence[str]]
    versions: frozenset[str] | None = frozenset()


def read_snapshot(database: Backend, wanted: Sequence[Definition]) -> Snapshot:
    """Read the live schema of these tables, in three queries; needs a session."""
    names = SchemaNames(
        [definition.name for definition in wanted],
        [index.name for definition in wanted for index in definition.indexes],
        [key.name for definition in wanted for key in definition.foreign_keys],
        LEDGER,
    )
    declared = {
        (definition.name, column.name): column
        for definition in wanted
        for column in definition.columns
    }

    rows = database.read_schema(names)
    # The three queries run at different moments: an index of a table that the first one did not see
    # says nothing about that table.
    indexes, keys = _by("table", rows.indexes), _by("table", rows.foreign_keys)
    tables: dict[str, LiveTable] = {}
    occupied: dict[str, list[str]] = defaultdict(list)
    named: list[IndexRow | ForeignKeyRow] = [
        *(row for row in rows.indexes if row.name in names.indexes),
        *(row for row in rows.foreign_keys if row.name in names.foreign_keys),
    ]
    for row in named:
        if row.table not in occupied[row.name]:
            occupied[row.name].append(row.table)
    for name, columns in _by("table", rows.columns).items():
        kind = next((row.kind for row in columns if row.kind), None)
        if kind is None:
            continue
        if name in names.indexes:
            occupied[name].append(f"a {kind}")
        if name in names.tables:
            tables[name] = LiveTable(
                name=name,
                kind=kind,
                columns={
                    row.column: _column(database, row, declared.get((name, row.column)))
                    for row in columns
                    if row.column is not None
                },
                primary_key=tuple(
                    row.column for row in indexes.get(name, ()) if row.primary and row.column
                ),
                indexes=tuple(map(_index, _by("name", indexes.get(name, ())).values())),
                foreign_keys=tuple(map(_foreign_key, _by("name", keys.get(name, ())).values())),
            )
    versions = None if rows.versions is None else frozenset(rows.versions)
    return Snapshot(tables, occupied, versions)


def _by(attribute: str, rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    """Return the rows by the value of an attribute, each group in the rows' order."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(getattr(row, attribute), []).append(row)
    return groups


def _column(database: Backend, row: ColumnRow, declared: Column | None) -> LiveColumn:
    family = database.type_family(row.type)
    there = LiveColumn(
        name=row.column or "",
        type=row.type,
        family=family,
        nullable=bool(row.nullable),
        has_default=bool(row.has_default),
        generated=bool(row.generated),
        auto_increment=bool(row.auto_increment),
        collation=row.collation,
    )
    if declared is None or family not in declared.families:
        return there
    shortfall = database.shortfall(row, declared.type)
    if shortfall is None:
        return there
    clause = database.widen_clause(declared.quoted, declared.type, row)
    return replace(there, shortfall=shortfall, widen_clause=clause)


def _index(parts: Sequence[IndexRow]) -> LiveIndex:
    first = parts[0]
    return LiveIndex(
        name=first.name,
        columns=tuple((part.column, bool(part.descending)) for part in parts),
        unique=bool(first.unique),
        partial=bool(first.partial),
        prefix=any(part.prefix for part in parts),
        valid=bool(first.valid),
        primary=bool(first.primary),
    )


def _foreign_key(parts: Sequence[ForeignKeyRow]) -> LiveForeignKey:
    first = parts[0]
    return LiveForeignKey(
        name=first.name,
        columns=tuple(part.column for part in parts),
        target=first.target,
        target_columns=tuple(part.target_column for part in parts if part.target_column),
        on_delete=first.on_delete,
        valid=bool(first.valid),
    )
