"""What a backend says about its schema: the sync lock, the catalog, what its DDL can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from .catalog import CatalogRows
from .widths import Shortfall


class SchemaWork:
    """A backend's part in sync; `sqlite_schema` and its sisters fill it in."""

    def table_options(self) -> str:
        """What follows the closing bracket of CREATE TABLE."""
        return ""

    def sync_lock(self, timeout_s: float) -> AbstractContextManager[None]:
        """Hold the lock under which one process at a time changes the schema.

        Where DDL is transactional it spans one transaction: all or nothing. Inside it no
        statement waits longer than a second for a lock of a table.

        Raises:
            SyncLockHeldError: when another process holds it for longer than `timeout_s`.
        """
        raise NotImplementedError

    def sync_lock_holder(self) -> str:
        """Say who holds the sync lock, or where to look."""
        raise NotImplementedError

    def lock_holders(self, tables: Sequence[str]) -> str:
        """Say who holds locks on these tables, or where to look."""
        raise NotImplementedError

    transactional_ddl: ClassVar[bool] = True
    """Whether DDL rolls back. Where not, one statement carries as much as it can, and every
    state in between is one that the next sync completes."""

    can_add_foreign_keys: ClassVar[bool] = True
    """Whether a foreign key can be added to a column that exists."""

    table_collation: str | None = None
    """The collation of our texts, where a table declares one."""

    also_holds: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Family of types -> other families whose columns hold its values too."""

    def read_catalog(
        self,
        tables: Sequence[str],
        index_names: Sequence[str],
        key_names: Sequence[str],
        ledger: str,
    ) -> CatalogRows:
        """Read what the database has of these tables, in three queries however many there are.

        Takes no lock and waits for none.

        Args:
            ledger: one of the tables, whose versions are read with the third query where the first
                has found it.
            index_names, key_names: names that we would give to indexes and foreign keys; where
                they must be unique beyond a table, whatever has one is reported too.
        """
        raise NotImplementedError

    def type_family(self, column_type: str) -> str:
        """Return the family of a column's type, as the catalog or as DDL spells it."""
        raise NotImplementedError

    def shortfall(self, there: str, collation: str, wanted: str) -> Shortfall | None:  # noqa: ARG002 - see below
        """Return what a column that is there cannot hold; None where it holds what ours would.

        Args:
            there, collation: the column's, as the catalog says them.
            wanted: our type, as DDL spells it, of the same family or one that holds it.
        """
        return None  # where types do not bound values

    not_indexable: ClassVar[frozenset[str]] = frozenset()
    """Our types of which no column can be in an index as a whole."""

    def widen_clause(
        self, column: str, wanted: str, *, there: str, nullable: bool, default: str
    ) -> str:
        """Return what follows ALTER TABLE to change a column to our type, and no more.

        Args:
            column: its quoted name.
            there: its type now.
            default: SQL; see `ColumnRow`.
        """
        raise NotImplementedError
