"""SchemaWork: a backend's part in sync: the lock, the system catalog, the abilities of its DDL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from .schema_rows import ColumnRow, SchemaNames, SchemaRows
from .widths import Shortfall


class SchemaWork:
    """A backend's part in sync; implemented in `sqlite_schema` and its siblings."""

    def table_options(self) -> str:
        """Return the table options of CREATE TABLE, after the closing parenthesis."""
        return ""

    def sync_lock(self, timeout_s: float) -> AbstractContextManager[None]:
        """Hold the lock under which one process at a time changes the schema.

        Where DDL is transactional, the block is one transaction. Inside it no statement waits
        longer than one second for a table's lock.

        Raises:
            SyncLockHeldError: when another process holds it for longer than `timeout_s`.
        """
        raise NotImplementedError

    def sync_lock_holder(self) -> str:
        """Describe the holder of the sync lock, or say where to look."""
        raise NotImplementedError

    def lock_holders(self, tables: Sequence[str]) -> str:
        """Describe the holders of locks on these tables, or say where to look."""
        raise NotImplementedError

    transactional_ddl: ClassVar[bool] = True
    """Whether DDL can be rolled back. If not, each statement does as much as possible, and the
    next sync completes whatever an interrupted one left."""

    can_add_foreign_keys: ClassVar[bool] = True
    """Whether a foreign key can be added to an existing column."""

    table_collation: str | None = None
    """The collation of text columns that CREATE TABLE declares, if any."""

    also_holds: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Family of types -> other families whose columns can hold its values."""

    def read_schema(self, names: SchemaNames) -> SchemaRows:
        """Read these tables' rows of the system catalog, in three queries for any number of them.

        Takes no lock and waits for none.
        """
        raise NotImplementedError

    def type_family(self, column_type: str) -> str:
        """Return the family of a column's type, given as in the system catalog or as in DDL."""
        raise NotImplementedError

    def shortfall(self, there: ColumnRow, wanted: str) -> Shortfall | None:  # noqa: ARG002 - see below
        """Return what an existing column cannot hold; None if it holds all declared values.

        Args:
            there: the column.
            wanted: the declared type, as in DDL, of the same family or of one it can stand for.
        """
        return None  # where types do not bound values

    not_indexable: ClassVar[frozenset[str]] = frozenset()
    """The DDL types whose columns cannot be indexed without a prefix length."""

    def widen_clause(self, column: str, wanted: str, there: ColumnRow) -> str:
        """Return the ALTER TABLE clause that changes a column's type and nothing else.

        Args:
            column: its quoted name.
            wanted: the declared type.
            there: the column as it is now.
        """
        raise NotImplementedError
