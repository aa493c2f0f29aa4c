"""What the models want of a database: each table's DDL, rendered once a process and backend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import peewee

from ..backends.base import Backend
from ..models import INDEXES, TABLES, Index, Table


@dataclass(frozen=True, slots=True)
class Column:
    """A column as a model declares it.

    Attributes:
        ddl: its definition, as in CREATE TABLE and ALTER TABLE ADD COLUMN.
        type: the backend's type as the definition spells it.
    """

    name: str
    ddl: str
    type: str
    nullable: bool
    has_default: bool
    generated: bool
    primary_key: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key as a model declares it."""

    name: str
    column: str
    target: str
    target_column: str
    on_delete: str
    ddl: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A table as its model declares it, in one backend's words."""

    name: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    foreign_keys: tuple[ForeignKey, ...]
    create_sql: tuple[str, ...]


def definitions(database: Backend) -> tuple[Definition, ...]:
    """Return the definition of every table, parents before children."""
    return _definitions(_Renderer(database))


class _Renderer:
    """Render DDL; equal for databases of the same kind, so that its results are cached."""

    def __init__(self, database: Backend) -> None:
        self._database = database

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Renderer) and other._database.name == self._database.name

    def __hash__(self) -> int:
        return hash(self._database.name)

    def sql(self, node: peewee.Node) -> str:
        context = self._database.get_sql_context(scope=peewee.SCOPE_VALUES)
        text, parameters = context.sql(node).query()
        if parameters:
            raise TypeError("DDL takes no parameters")
        return str(text).strip()

    def name(self, name: str) -> str:
        return self.sql(peewee.Entity(name))

    def table(self, model: type[Table]) -> Definition:
        meta = model._meta
        columns = tuple(self._column(field) for field in meta.sorted_fields)
        foreign_keys = tuple(
            self._foreign_key(field)
            for field in meta.sorted_fields
            if isinstance(field, peewee.ForeignKeyField)
        )
        indexes = tuple(INDEXES.get(model, ()))
        parts = [column.ddl for column in columns] + [key.ddl for key in foreign_keys]
        separate: tuple[str, ...] = ()
        if self._database.inline_keys:
            parts += [self.inline_index(index) for index in indexes]
        else:
            separate = tuple(self.create_index(meta.table_name, index) for index in indexes)
        create = (
            f"CREATE TABLE {self.name(meta.table_name)} ({', '.join(parts)}) "
            f"{self._database.table_options()}"
        ).strip()
        return Definition(meta.table_name, columns, indexes, foreign_keys, (create, *separate))

    def create_index(self, table: str, index: Index) -> str:
        unique = "UNIQUE " if index.unique else ""
        return (
            f"CREATE {unique}INDEX {self.name(index.name)} ON {self.name(table)} "
            f"({self._index_columns(index)})"
        )

    def inline_index(self, index: Index) -> str:
        kind = "UNIQUE KEY" if index.unique else "KEY"
        return f"{kind} {self.name(index.name)} ({self._index_columns(index)})"

    def _index_columns(self, index: Index) -> str:
        return ", ".join(
            self.name(column) + (" DESC" if descending else "")
            for column, descending in index.columns
        )

    def _column(self, field: peewee.Field[object]) -> Column:
        constraints = [self.sql(node) for node in field.constraints or ()]
        return Column(
            name=field.column_name,
            ddl=self.sql(field.ddl(self._database.get_sql_context())),
            type=self.sql(field.ddl_datatype(self._database.get_sql_context())),
            nullable=field.null,
            has_default=any(text.startswith("DEFAULT") for text in constraints),
            generated=any(text.startswith("GENERATED") for text in constraints),
            primary_key=field.primary_key,
        )

    def _foreign_key(self, field: peewee.ForeignKeyField[object]) -> ForeignKey:
        return ForeignKey(
            name=field.constraint_name or "",
            column=field.column_name,
            target=field.rel_model._meta.table_name,
            target_column=field.rel_field.column_name,
            on_delete=field.on_delete,
            ddl=self.sql(field.foreign_key_constraint()),
        )


@cache
def _definitions(renderer: _Renderer) -> tuple[Definition, ...]:
    return tuple(renderer.table(model) for model in TABLES)
