"""The models' declarations as DDL, rendered once per process and backend."""

from __future__ import annotations

from dataclasses import dataclass

import peewee

from ..backends.base import Backend
from ..models import INDEXES, TABLES, Index, Ledger, Table


@dataclass(frozen=True, slots=True)
class Column:
    """A column as a model declares it.

    Attributes:
        quoted: its name, quoted for SQL.
        type: the backend's type, as in DDL.
        indexable: whether it can be indexed without a prefix length.
        families: the families of live types that can hold its values (`Backend.type_family`).
        add_ddl: the definition after ADD COLUMN.
    """

    name: str
    quoted: str
    type: str
    indexable: bool
    families: frozenset[str]
    nullable: bool
    has_default: bool
    primary_key: bool
    auto_increment: bool
    add_ddl: str

    @property
    def addable(self) -> bool:
        """Whether it can be added to a table that has rows."""
        return self.nullable or self.has_default


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """An index as a model declares it; a column is a name and whether it is descending."""

    name: str
    columns: tuple[tuple[str, bool], ...]
    unique: bool
    create_sql: str
    add_clause: str


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key as a model declares it."""

    name: str
    column: str
    target: str
    target_column: str
    on_delete: str
    add_clause: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A table as its model declares it, in one backend's DDL.

    Attributes:
        quoted: its name, quoted for SQL.
        create_sql: the statements that create it with its indexes.
        one_alter: whether one ALTER TABLE can do all additions, including indexes. If so, names of
            foreign keys are unique in the database and those of indexes in their table, else the
            reverse.
        can_add_foreign_keys: whether one can be added to an existing column.
        collation: the collation of text columns; None for the database's default.
    """

    name: str
    quoted: str
    columns: tuple[Column, ...]
    indexes: tuple[IndexDefinition, ...]
    foreign_keys: tuple[ForeignKey, ...]
    create_sql: tuple[str, ...]
    one_alter: bool
    can_add_foreign_keys: bool
    collation: str | None

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The names of the primary key's columns."""
        return tuple(column.name for column in self.columns if column.primary_key)


_rendered: dict[str, tuple[Definition, ...]] = {}


def definitions(database: Backend) -> tuple[Definition, ...]:
    """Return the definition of every table, GPROXY's ledger first, parents before children.

    Rendered once for each kind of backend; needs a session the first time, for only the server
    tells whether it is MySQL or MariaDB.
    """
    found = _rendered.get(database.name)
    if found is None:
        render = _Renderer(database)
        models: list[type[Table]] = [Ledger, *TABLES]
        found = _rendered[database.name] = tuple(map(render.table, models))
    return found


class _Renderer:
    def __init__(self, database: Backend) -> None:
        self._database = database

    def table(self, model: type[Table]) -> Definition:
        meta, database = model._meta, self._database
        fields = meta.sorted_fields
        indexes = tuple(self._index(meta.table_name, index) for index in INDEXES.get(model, ()))
        keys = tuple(
            self._foreign_key(field)
            for field in fields
            if isinstance(field, peewee.ForeignKeyField)
        )
        one_alter = not database.transactional_ddl
        added = [key.add_clause for key in keys]
        added += [index.add_clause for index in indexes if one_alter]
        parts = [self._ddl(field) for field in fields]
        parts += [clause.removeprefix("ADD ") for clause in added]
        separate = () if one_alter else (index.create_sql for index in indexes)
        quoted = self._name(meta.table_name)
        create = f"CREATE TABLE {quoted} ({', '.join(parts)}) {database.table_options()}"
        return Definition(
            name=meta.table_name,
            quoted=quoted,
            columns=tuple(self._column(field) for field in fields),
            indexes=indexes,
            foreign_keys=keys,
            create_sql=(create.strip(), *separate),
            one_alter=one_alter,
            can_add_foreign_keys=database.can_add_foreign_keys,
            collation=database.table_collation,
        )

    def _sql(self, node: peewee.Node) -> str:
        context = self._database.get_sql_context(scope=peewee.SCOPE_VALUES)
        text, parameters = context.sql(node).query()
        if parameters:
            raise TypeError("DDL takes no parameters")
        return str(text).strip()

    def _name(self, name: str) -> str:
        return self._sql(peewee.Entity(name))

    def _ddl(self, field: peewee.Field[object]) -> str:
        return self._sql(field.ddl(self._database.get_sql_context()))

    def _column(self, field: peewee.Field[object]) -> Column:
        column_type = self._sql(field.ddl_datatype(self._database.get_sql_context()))
        family = self._database.type_family(column_type)
        constraints = [self._sql(node) for node in field.constraints or ()]
        add_ddl = self._ddl(field)
        if isinstance(field, peewee.ForeignKeyField) and not self._database.can_add_foreign_keys:
            # The only way to add a foreign key to an existing table here is with its column.
            references = self._sql(field.foreign_key_constraint()).partition("REFERENCES")
            add_ddl += f" CONSTRAINT {self._name(field.constraint_name or '')} " + "".join(
                references[1:]
            )
        return Column(
            name=field.column_name,
            quoted=self._name(field.column_name),
            type=column_type,
            indexable=column_type not in self._database.not_indexable,
            families=self._database.also_holds.get(family, frozenset()) | {family},
            nullable=field.null,
            has_default=any(text.startswith("DEFAULT") for text in constraints),
            primary_key=field.primary_key,
            auto_increment=field.auto_increment,
            add_ddl=add_ddl,
        )

    def _index(self, table: str, index: Index) -> IndexDefinition:
        columns = ", ".join(
            self._name(column) + (" DESC" if descending else "")
            for column, descending in index.columns
        )
        name, unique = self._name(index.name), "UNIQUE " if index.unique else ""
        return IndexDefinition(
            name=index.name,
            columns=index.columns,
            unique=index.unique,
            create_sql=f"CREATE {unique}INDEX {name} ON {self._name(table)} ({columns})",
            add_clause=f"ADD {unique}KEY {name} ({columns})",
        )

    def _foreign_key(self, field: peewee.ForeignKeyField[object]) -> ForeignKey:
        return ForeignKey(
            name=field.constraint_name or "",
            column=field.column_name,
            target=field.rel_model._meta.table_name,
            target_column=field.rel_field.column_name,
            on_delete=field.on_delete,
            add_clause=f"ADD {self._sql(field.foreign_key_constraint())}",
        )
