"""The snapshot: what the database has of our tables, in the same terms on every backend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from ..backends.base import Backend
from ..backends.catalog import CatalogRows, ColumnRow, ForeignKeyRow, IndexRow
from .definitions import Definition

_Family = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """A column as the database has it."""

    name: str
    type: str
    family: str
    nullable: bool
    has_default: bool
    generated: bool
    auto_increment: bool


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """An index as the database has it; a column None is an expression."""

    name: str
    columns: tuple[tuple[str | None, bool], ...]
    unique: bool
    partial: bool
    prefix: bool
    valid: bool
    primary: bool


@dataclass(frozen=True, slots=True)
class LiveForeignKey:
    """A foreign key as the database has it; no target columns: the target's primary key."""

    name: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    on_delete: str


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table, or a view that stands in its place."""

    name: str
    kind: str
    collation: str
    columns: Mapping[str, LiveColumn]
    primary_key: tuple[str, ...]
    indexes: tuple[LiveIndex, ...]
    foreign_keys: tuple[LiveForeignKey, ...]

    def with_renamed(self, old: str, new: str) -> LiveTable:
        """Return the table as it will be once a column has another name."""
        columns = {
            (new if name == old else name): replace(column, name=new if name == old else name)
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live schema of our tables at one moment.

    Attributes:
        tables: by name; what is missing is absent.
        occupied: each name that one of our indexes would take -> the tables whose indexes have
            it, and, where indexes share the tables' names, what else has it.
    """

    tables: Mapping[str, LiveTable]
    occupied: Mapping[str, Sequence[str]]


def read_snapshot(database: Backend, wanted: Sequence[Definition]) -> Snapshot:
    """Read the live schema of these tables, in three queries; needs a session."""
    names = [definition.name for definition in wanted]
    index_names = [index.name for definition in wanted for index in definition.indexes]
    rows = database.read_catalog(names, index_names)
    return _snapshot(rows, set(names), set(index_names), database.type_family)


def _snapshot(
    rows: CatalogRows,
    names: set[str],
    index_names: set[str],
    family: _Family,
) -> Snapshot:
    indexes: dict[str, list[IndexRow]] = defaultdict(list)
    for index_row in rows.indexes:
        indexes[index_row.table].append(index_row)
    keys: dict[str, list[ForeignKeyRow]] = defaultdict(list)
    for key_row in rows.foreign_keys:
        keys[key_row.table].append(key_row)
    tables: dict[str, LiveTable] = {}
    occupied: dict[str, list[str]] = defaultdict(list)
    for row in rows.indexes:
        if row.name in index_names and row.table not in occupied[row.name]:
            occupied[row.name].append(row.table)
    for name, group in groupby(rows.columns, key=attrgetter("table")):
        columns = list(group)
        kind = next(row.kind for row in columns if row.kind)
        if name in index_names:
            occupied[name].append(f"a {kind}")
        if name in names:
            tables[name] = _table(kind, columns, indexes[name], keys[name], family)
    return Snapshot(tables, occupied)


def _table(
    kind: str,
    columns: list[ColumnRow],
    indexes: list[IndexRow],
    foreign_keys: list[ForeignKeyRow],
    family: _Family,
) -> LiveTable:
    primary = tuple(row.column for row in indexes if row.primary and row.column)
    if not primary:  # SQLite's integer keys are the rowid and have no index
        primary = tuple(row.column for row in columns if row.column and row.auto_increment)
    return LiveTable(
        name=columns[0].table,
        kind=kind,
        collation=next((row.type for row in columns if row.column is None), ""),
        columns={
            row.column: LiveColumn(
                name=row.column,
                type=row.type,
                family=family(row.type),
                nullable=bool(row.nullable),
                has_default=bool(row.has_default),
                generated=bool(row.generated),
                auto_increment=bool(row.auto_increment),
            )
            for row in columns
            if row.column is not None
        },
        primary_key=primary,
        indexes=tuple(_indexes(indexes)),
        foreign_keys=tuple(_foreign_keys(foreign_keys)),
    )


def _indexes(rows: list[IndexRow]) -> Iterable[LiveIndex]:
    for name, group in groupby(rows, key=attrgetter("name")):
        parts = list(group)
        yield LiveIndex(
            name=name,
            columns=tuple((part.column, bool(part.descending)) for part in parts),
            unique=bool(parts[0].unique),
            partial=bool(parts[0].partial),
            prefix=any(part.prefix for part in parts),
            valid=bool(parts[0].valid),
            primary=bool(parts[0].primary),
        )


def _foreign_keys(rows: list[ForeignKeyRow]) -> Iterable[LiveForeignKey]:
    for name, group in groupby(rows, key=attrgetter("name")):
        parts = list(group)
        yield LiveForeignKey(
            name=name,
            columns=tuple(part.column for part in parts),
            target=parts[0].target,
            target_columns=tuple(part.target_column for part in parts if part.target_column),
            on_delete=parts[0].on_delete,
        )
