"""The rows of a backend's three queries; `schema.snapshot` builds a snapshot of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class SchemaNames(NamedTuple):
    """The names that are looked up in the system catalog.

    Attributes:
        tables: our tables.
        indexes: our indexes; where names are unique beyond a table, whatever has one of them is
            reported too.
        foreign_keys: likewise, of our foreign keys.
        ledger: one of the tables, whose versions the third query reads if the table exists.
    """

    tables: Sequence[str]
    indexes: Sequence[str]
    foreign_keys: Sequence[str]
    ledger: str

    def with_versions(self, sql: str, versions: str, columns: Iterable[ColumnRow]) -> str:
        """Return the third query, with the part that reads the versions if there are any."""
        there = any((row.table, row.column) == (self.ledger, "version") for row in columns)
        return sql.format(versions=versions.format(ledger=self.ledger) if there else "")


class ColumnRow(NamedTuple):
    """A column of a table; `column` is None for a table without columns, or another object.

    Attributes:
        kind: ``table``, or which other object has the name: ``view``, ``sequence``.
        generated: no statement can write the column.
        collation: empty where the backend needs none.
        default: SQL; empty where widening a column keeps its default anyway.
    """

    table: str
    kind: str
    column: str | None = None
    type: str = ""
    nullable: bool = True
    has_default: bool = False
    generated: bool = False
    auto_increment: bool = False
    collation: str = ""
    default: str = ""


class IndexRow(NamedTuple):
    """One column of an index; `column` is None for an expression.

    Attributes:
        partial: it covers only some rows, is checked only at COMMIT, or is not ordered.
        prefix: it covers only the first characters of the column.
    """

    table: str
    name: str
    column: str | None
    unique: bool
    primary: bool = False
    descending: bool = False
    partial: bool = False
    prefix: bool = False
    valid: bool = True


class ForeignKeyRow(NamedTuple):
    """One column of a foreign key; only the names matter for a table outside of our schema.

    Attributes:
        target: the table referred to, or ``schema.table`` in another schema.
        target_column: None for the target's primary key.
        on_delete: empty where the server hides it from this user.
        valid: False if existing rows may violate it.
    """

    table: str
    name: str
    column: str
    target: str
    target_column: str | None
    on_delete: str
    valid: bool = True


class SchemaRows(NamedTuple):
    """The results of the three queries; columns of indexes and foreign keys in their order.

    Attributes:
        versions: the ledger's rows, empty without that table; None if this user may not read it.
    """

    columns: list[ColumnRow]
    indexes: list[IndexRow]
    foreign_keys: list[ForeignKeyRow]
    versions: list[str] | None
