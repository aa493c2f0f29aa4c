"""The schema of MySQL and MariaDB: system catalog, types, and the lock that guards changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from typing import Any

import peewee

from .base import Backend
from .failures import SyncLockHeldError
from .mysql_types import shortfall, type_family
from .schema_rows import ColumnRow, ForeignKeyRow, IndexRow, SchemaNames, SchemaRows

# A join of the two takes ten times as long on MariaDB, which also says 'NULL' for "no default".
# Names of columns and indexes ignore case. An engine other than InnoDB has no transactions and
# ignores foreign keys. A default is a text, or an expression: always on MariaDB, and on MySQL where
# `extra` says so, with a backslash before each quote.
_COLUMNS = """
    SELECT table_name AS t,
        CASE WHEN table_type LIKE '%%VIEW' THEN 'view'
            WHEN table_type NOT IN ('BASE TABLE', 'SYSTEM VERSIONED') THEN LOWER(table_type)
            WHEN engine <> 'InnoDB' THEN CONCAT(engine, ' table') ELSE 'table' END,
        NULL, '', 1, 0, 0, 0, '', '', 0 AS n
    FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name IN %s
    UNION ALL
    SELECT table_name, '', LOWER(column_name), column_type, is_nullable = 'YES',
        column_default IS NOT NULL AND (column_default <> 'NULL' OR is_nullable = 'NO'),
        COALESCE(generation_expression, '') <> '',
        extra LIKE '%%auto_increment%%', COALESCE(collation_name, ''),
        CASE WHEN column_default IS NULL THEN ''
            WHEN VERSION() LIKE '%%MariaDB%%' THEN IF(column_default = 'NULL', '', column_default)
            WHEN extra LIKE '%%DEFAULT_GENERATED%%'
                THEN REPLACE(column_default, CONCAT(CHAR(92), CHAR(39)), CHAR(39))
            ELSE QUOTE(column_default) END,
        ordinal_position
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name IN %s
    ORDER BY t, n"""

# MariaDB implements a unique TEXT as a unique HASH.
_INDEXES = """
    SELECT table_name, LOWER(index_name), LOWER(column_name), non_unique = 0,
        index_name = 'PRIMARY', collation = 'D', index_type <> 'BTREE' AND non_unique = 1,
        sub_part IS NOT NULL, 1
    FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name IN %s
    ORDER BY table_name, index_name, seq_in_index"""

# Again no join: first the key with its rule, which MariaDB hides from users who may only read, then
# its columns. The names of foreign keys are unique in a database.
_FOREIGN_KEYS = """
    SELECT table_name AS t, LOWER(constraint_name) AS c, '', '', '',
        CASE delete_rule WHEN 'RESTRICT' THEN 'NO ACTION' ELSE delete_rule END, 0 AS n,
        ''
    FROM information_schema.referential_constraints
    WHERE constraint_schema = DATABASE() AND (table_name IN %s OR constraint_name IN %s)
    UNION ALL
    SELECT table_name, LOWER(constraint_name), LOWER(column_name),
        CASE WHEN referenced_table_schema = table_schema THEN referenced_table_name
            ELSE CONCAT(referenced_table_schema, '.', referenced_table_name) END,
        LOWER(referenced_column_name), '', ordinal_position, ''
    FROM information_schema.key_column_usage
    WHERE table_schema = DATABASE() AND table_name IN %s AND referenced_table_name IS NOT NULL
    {versions}
    ORDER BY t, c, n"""

# In a column of its own: its collation and those of the system catalog's names cannot be mixed.
_VERSIONS = "UNION ALL SELECT '', '', '', '', '', '', -1, version FROM {ledger}"

_TABLE_HOLDERS = {
    "mysql": """
        SELECT DISTINCT t.processlist_id, t.processlist_user
        FROM performance_schema.metadata_locks AS m
        JOIN performance_schema.threads AS t ON t.thread_id = m.owner_thread_id
        WHERE m.object_schema = DATABASE() AND m.object_name IN %s
            AND m.lock_status = 'GRANTED' AND t.processlist_id <> CONNECTION_ID()""",
    # Needs the plugin metadata_lock_info.
    "mariadb": """
        SELECT DISTINCT p.id, p.user
        FROM information_schema.metadata_lock_info AS m
        JOIN information_schema.processlist AS p ON p.id = m.thread_id
        WHERE m.table_schema = DATABASE() AND m.table_name IN %s AND p.id <> CONNECTION_ID()""",
}


class MySQLSchema(Backend):
    """`MySQLBackend`'s part in sync."""

    transactional_ddl = False
    # MariaDB's JSON is a LONGTEXT with a check.
    also_holds = {"json": frozenset({"text"})}  # noqa: RUF012 - read only
    mariadb: bool

    @property
    def table_collation(self) -> str:  # type: ignore[override]  # known once a server has answered
        # 'alice' is not 'Alice', and 'a' is not 'a ' (utf8mb4_bin pads with blanks).
        return "utf8mb4_nopad_bin" if self.mariadb else "utf8mb4_0900_bin"

    def table_options(self) -> str:
        # COMPACT, the default on old servers, allows no index over 255 characters.
        return (
            "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 "
            f"COLLATE {self.table_collation}"
        )

    @property
    def _sync_lock_name(self) -> str:
        # User locks are per server, not per database, and their names have 64 characters at most.
        # Where names of databases ignore case, 'A' and 'a' must be one lock.
        database = hashlib.sha256(self.database.lower().encode()).hexdigest()
        return f"gproxy_storage.sync.{database[:32]}"

    @contextmanager
    def sync_lock(self, timeout_s: float) -> Iterator[None]:
        lock = (self._sync_lock_name,)
        conn = self.open_connection()
        conn._read_timeout = conn._write_timeout = None  # DDL may take any time
        with self.pinned(conn):
            self.execute_sql("SET SESSION lock_wait_timeout = 1")
            if self.query("SELECT GET_LOCK(%s, %s)", (*lock, round(timeout_s)))[0][0] != 1:
                raise SyncLockHeldError
            try:
                yield
            finally:
                # A lost connection has released the lock, and its own error says more.
                with suppress(peewee.PeeweeException):
                    self.query("SELECT RELEASE_LOCK(%s)", lock)

    def sync_lock_holder(self) -> str:
        ((holder,),) = self.query("SELECT IS_USED_LOCK(%s)", (self._sync_lock_name,))
        return f"connection {holder} in SHOW PROCESSLIST" if holder else "no longer there"

    def lock_holders(self, tables: Sequence[str]) -> str:
        rows: list[tuple[Any, ...]] = []
        with suppress(peewee.PeeweeException):  # not every user may query it
            rows = self.query(_TABLE_HOLDERS[self.name], (list(tables),))
        found = "; ".join(f"connection {number}, user {user}" for number, user in rows)
        return found or "the server does not say: see SHOW PROCESSLIST"

    def read_schema(self, names: SchemaNames) -> SchemaRows:
        # Not indexes: their names are unique in their table only.
        ours, keys = list(names.tables), [*names.foreign_keys, ""]  # IN () is a syntax error
        columns = [ColumnRow(*row[:-1]) for row in self.query(_COLUMNS, (ours, ours))]
        indexes = [IndexRow(*row) for row in self.query(_INDEXES, (ours,))]
        sql = names.with_versions(_FOREIGN_KEYS, _VERSIONS, columns)
        rows = self.query(sql, (ours, keys, ours))
        return SchemaRows(
            columns,
            indexes,
            list(_foreign_keys((row[:-1] for row in rows if not row[-1]), set(ours))),
            [row[-1] for row in rows if row[-1]],
        )

    type_family = staticmethod(type_family)
    shortfall = staticmethod(shortfall)

    not_indexable = frozenset({"LONGTEXT", "LONGBLOB"})

    def widen_clause(self, column: str, wanted: str, there: ColumnRow) -> str:
        # MODIFY drops every attribute that is not repeated. A text column declared as JSON stays
        # text: its values may not all be JSON.
        family = type_family(there.type)
        words = [column, wanted if type_family(wanted) == family else self.field_types["TEXT"]]
        if family == "text":
            words.append(f"CHARACTER SET utf8mb4 COLLATE {self.table_collation}")
        words.append("NULL" if there.nullable else "NOT NULL")
        if there.default:
            words.append(f"DEFAULT ({there.default})")
        return f"MODIFY COLUMN {' '.join(words)}"


def _foreign_keys(rows: Iterable[tuple[Any, ...]], ours: Set[str]) -> Iterator[ForeignKeyRow]:
    rules: dict[tuple[str, str], str] = {}
    for table, name, column, target, target_column, rule, position in rows:
        if position == 0:
            rules[table, name] = rule
        if position > 0 or table not in ours:
            on_delete = rules.get((table, name), "")
            yield ForeignKeyRow(table, name, column, target, target_column, on_delete)
