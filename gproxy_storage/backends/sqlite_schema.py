"""SQLite's schema: its system catalog, its types, and the lock under which it is changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import peewee

from .base import Backend
from .failures import Failure, SyncLockHeldError
from .schema_rows import ColumnRow, ForeignKeyRow, IndexRow, SchemaNames, SchemaRows

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another connection's write lock."""

_AFFINITIES = (
    (("BOOL",), "boolean"),
    (("INT",), "integer"),
    (("CHAR", "CLOB", "TEXT"), "text"),
    (("BLOB",), "blob"),
    (("REAL", "FLOA", "DOUB"), "real"),
)

# Names are compared as SQLite does, ignoring case. No columns of views: a broken view would fail
# the whole query.
_COLUMNS = """
    SELECT lower(s.name), s.type, lower(c.name), c.type, c."notnull" = 0 AND c.pk = 0,
        lower(COALESCE(c.dflt_value, 'null')) <> 'null', c.hidden IN (2, 3), c.pk > 0
    FROM sqlite_schema AS s
    LEFT JOIN pragma_table_xinfo(CASE WHEN s.type = 'table' THEN s.name END) AS c
    WHERE s.type IN ('table', 'view') AND lower(s.name) IN (SELECT value FROM json_each(?))
        OR s.type = 'index' AND lower(s.name) IN (SELECT value FROM json_each(?))
    ORDER BY s.name, c.cid"""

_INDEXES = """
    SELECT t.value, lower(l.name), lower(x.name), l."unique", l.origin = 'pk', x."desc",
        l.partial, 0, 1, x.seqno
    FROM json_each(?) AS t
    JOIN pragma_index_list(t.value) AS l
    JOIN pragma_index_xinfo(l.name) AS x ON x.key = 1
    UNION ALL
    SELECT lower(tbl_name), lower(name), NULL, 0, 0, 0, 0, 0, 1, 0
    FROM sqlite_schema
    WHERE type = 'index' AND lower(name) IN (SELECT value FROM json_each(?))
        AND lower(tbl_name) NOT IN (SELECT value FROM json_each(?))
    ORDER BY 1, 2, 10"""

_FOREIGN_KEYS = """
    SELECT t.value, t.value || '/' || f.id, lower(f."from"), lower(f."table"), lower(f."to"),
        f.on_delete, f.id, f.seq
    FROM json_each(?) AS t
    JOIN pragma_foreign_key_list(t.value) AS f
    {versions}
    ORDER BY 1, 7, 8"""

_VERSIONS = "UNION ALL SELECT '', version, '', '', '', '', -1, 0 FROM {ledger}"


class SqliteSchema(Backend):
    """`SqliteBackend`'s part in sync."""

    can_add_foreign_keys = False
    also_holds = {"boolean": frozenset({"integer"})}  # noqa: RUF012 - read only

    @contextmanager
    def sync_lock(self, timeout_s: float) -> Iterator[None]:
        deadline = time.monotonic() + timeout_s
        with ExitStack() as transaction:
            while True:
                left_s = max(0.0, deadline - time.monotonic())
                try:
                    # Not all of it at once: Python handles no Ctrl-C while SQLite waits.
                    self._set_busy_timeout(min(left_s, 1.0))
                    transaction.enter_context(self.atomic("IMMEDIATE"))
                    break
                except peewee.OperationalError as exc:
                    if self.classify(exc) is not Failure.TRANSIENT:
                        raise
                    if left_s == 0:
                        raise SyncLockHeldError from exc
                finally:
                    self._set_busy_timeout(BUSY_TIMEOUT_S)
            yield

    def _set_busy_timeout(self, seconds: float) -> None:
        self.execute_sql(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def sync_lock_holder(self) -> str:
        return "a process that writes to the file: `fuser` names those that have it open"

    def lock_holders(self, tables: Sequence[str]) -> str:
        del tables  # the file is locked as a whole
        return self.sync_lock_holder()

    def read_schema(self, names: SchemaNames) -> SchemaRows:
        # Not foreign keys: their names need not be unique here.
        ours, indexes = json.dumps(names.tables), json.dumps(names.indexes)
        both = json.dumps([*names.tables, *names.indexes])
        columns = [ColumnRow(*row) for row in self.query(_COLUMNS, (both, ours))]
        rows = [IndexRow(*row[:-1]) for row in self.query(_INDEXES, (ours, indexes, ours))]
        # A primary key without an index is the rowid, which is generated.
        indexed = {row.table for row in rows if row.primary}
        rowids = [row for row in columns if row.auto_increment and row.table not in indexed]
        keys = self.query(names.with_versions(_FOREIGN_KEYS, _VERSIONS, columns), (ours,))
        return SchemaRows(
            [row._replace(auto_increment=row in rowids) for row in columns],
            [IndexRow(row.table, "rowid", row.column, True, primary=True) for row in rowids] + rows,
            [ForeignKeyRow(*row[:6]) for row in keys if row[6] >= 0],
            [row[1] for row in keys if row[6] < 0],
        )

    def type_family(self, column_type: str) -> str:
        """Return the affinity by https://sqlite.org/datatype3.html, 3.1; BOOLEAN is its own."""
        declared = column_type.upper()
        for words, family in _AFFINITIES:
            if any(word in declared for word in words):
                return family
        return "numeric" if declared else "blob"
