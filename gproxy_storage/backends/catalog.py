"""The rows of a backend's three catalog queries; `schema.catalog` makes a snapshot of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class ColumnRow(NamedTuple):
    """A column of a table or view; `column` None stands for a table without any.

    `kind` is ``table``, or in words what else has the name: ``view``, ``sequence``. A generated
    column is one that no statement can write. `collation` is empty where the backend has no more
    than one that matters. `default` is SQL, empty where widening a column keeps it anyway.
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
    """One column of an index; `column` None stands for an expression.

    `prefix`: the index covers only the first characters. `partial`: only some rows, or none at
    the moment that counts, or by a method that keeps no order.
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
    """One column of a foreign key; `target_column` None stands for the target's primary key.

    A target elsewhere is ``schema.table``. `on_delete` is empty where the server does not tell
    this user. `valid` is False where rows that exist may break it.
    Only the names count of a foreign key of a table that is not ours.
    """

    table: str
    name: str
    column: str
    target: str
    target_column: str | None
    on_delete: str
    valid: bool = True


class CatalogRows(NamedTuple):
    """What the three queries gave; index and foreign-key columns in their order.

    `versions` are the rows of a ledger of migrations, where there is that table; None where this
    user may not read it.
    """

    columns: list[ColumnRow]
    indexes: list[IndexRow]
    foreign_keys: list[ForeignKeyRow]
    versions: list[str] | None


def has_versions(columns: Iterable[ColumnRow], ledger: str) -> bool:
    """Whether there is a ledger whose versions can be read."""
    return any((row.table, row.column) == (ledger, "version") for row in columns)
