"""PostgreSQL's schema: its system catalog, its types, and the lock under which it is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import peewee
from psycopg2 import extensions

from .base import Backend
from .failures import Failure, SyncLockHeldError
from .schema_rows import ColumnRow, ForeignKeyRow, IndexRow, SchemaNames, SchemaRows
from .widths import Shortfall, short_fractions, short_numbers, short_text

_SYNC_KEY = 0x6770726F78790001  # "gproxy", 1: advisory locks are per database already

_NO_END = 2**30
_INTEGER_BYTES = {"smallint": 2, "integer": 4, "bigint": 8, "bigserial": 8}
_FAMILIES = {
    **dict.fromkeys(_INTEGER_BYTES, "integer"),
    "boolean": "boolean",
    "real": "real",
    "double precision": "real",
    **dict.fromkeys(("text", "character varying", "varchar"), "text"),
    "bytea": "bytes",
    "json": "json",
    "jsonb": "json",
    **dict.fromkeys(("timestamp with time zone", "timestamptz"), "time"),
}

# Indexes share the tables' namespace: any other object with one of our names is a conflict. No
# function that deparses, such as pg_get_expr: it waits for locks of the table. A deterministic
# collation only orders; a nondeterministic one may treat different texts as equal.
_COLUMNS = """
    SELECT c.relname,
        CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
            WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' ELSE 'index' END,
        a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
        d.oid IS NOT NULL OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a',
        a.attidentity <> '' OR EXISTS (
            SELECT FROM pg_depend AS n JOIN pg_class AS s ON s.oid = n.refobjid
            WHERE n.classid = 'pg_attrdef'::regclass AND n.objid = d.oid AND s.relkind = 'S'),
        COALESCE(l.collname, '')
    FROM pg_class AS c
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation AND NOT l.collisdeterministic
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        AND c.relname = ANY (%s::name[])
        AND (c.relkind NOT IN ('i', 'I') OR c.relname = ANY (%s::name[]))
    ORDER BY c.relname, a.attnum"""

# A deferrable unique constraint cannot be a target of ON CONFLICT.
_INDEXES = """
    SELECT t.relname, i.relname, a.attname, x.indisunique, x.indisprimary,
        x.indoption[k.n - 1] & 1 = 1,
        x.indpred IS NOT NULL OR NOT x.indimmediate OR m.amname <> 'btree', false, x.indisvalid
    FROM pg_index AS x
    JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    JOIN pg_am AS m ON m.oid = i.relam
    CROSS JOIN LATERAL generate_series(1, x.indnkeyatts) AS k (n)
    LEFT JOIN pg_attribute AS a
        ON a.attrelid = t.oid AND a.attnum = x.indkey[k.n - 1] AND a.attnum > 0
    WHERE t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        AND (t.relname = ANY (%s::name[]) OR i.relname = ANY (%s::name[]))
    ORDER BY t.relname, i.relname, k.n"""

# A partitioned target adds a constraint for each partition, with the real one as its parent.
_FOREIGN_KEYS = """
    SELECT t.relname::text, k.conname::text, a.attname::text,
        CASE WHEN r.relnamespace = t.relnamespace THEN r.relname::text
            ELSE r.relnamespace::regnamespace || '.' || r.relname END,
        b.attname::text,
        CASE k.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
            WHEN 'd' THEN 'SET DEFAULT' ELSE 'NO ACTION' END,
        k.convalidated, u.n
    FROM pg_constraint AS k
    JOIN pg_class AS t ON t.oid = k.conrelid
    JOIN pg_class AS r ON r.oid = k.confrelid
    CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (source, target, n)
    JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.source
    JOIN pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = u.target
    WHERE k.contype = 'f' AND k.conparentid = 0 AND t.relname = ANY (%s::name[])
        AND t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    {versions}
    ORDER BY 1, 2, 8"""

_VERSIONS = "UNION ALL SELECT '', version, '', '', '', '', true, 0 FROM {ledger}"

# Holders of locks on these tables, or of the advisory lock with this key.
_HOLDERS = """
    SELECT DISTINCT a.pid, a.usename, a.application_name, COALESCE(a.state, 'state unknown')
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.granted AND a.pid <> pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.relation = ANY (SELECT to_regclass(quote_ident(t)) FROM unnest(%s::text[]) AS t)
            OR l.locktype = 'advisory' AND l.objsubid = 1
                AND (l.classid::bigint << 32) + l.objid::bigint = %s)
    ORDER BY a.pid"""


class PostgresSchema(Backend):
    """`PostgresBackend`'s part in sync."""

    @contextmanager
    def sync_lock(self, timeout_s: float) -> Iterator[None]:
        # Any higher isolation level would show the system catalog as it was before the wait.
        with self.atomic(extensions.ISOLATION_LEVEL_READ_COMMITTED):
            # Indexing a large table may take any time.
            self.execute_sql("SET LOCAL statement_timeout = 0")
            self.execute_sql(f"SET LOCAL lock_timeout = {max(1, int(timeout_s * 1000))}")
            try:
                self.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_SYNC_KEY,))
            except peewee.OperationalError as exc:
                if self.classify(exc) is not Failure.TRANSIENT:
                    raise
                raise SyncLockHeldError from exc
            self.execute_sql("SET LOCAL lock_timeout = 1000")
            yield

    def sync_lock_holder(self) -> str:
        return self._holders([], _SYNC_KEY)

    def lock_holders(self, tables: Sequence[str]) -> str:
        return self._holders(tables, None)

    def _holders(self, tables: Sequence[str], advisory_key: int | None) -> str:
        found = [
            f"pid {pid}, user {user}, application {application or 'unnamed'}, {state}"
            for pid, user, application, state in self.query(_HOLDERS, (list(tables), advisory_key))
        ]
        return "; ".join(found) or "no longer there: pg_stat_activity shows who else is connected"

    def read_schema(self, names: SchemaNames) -> SchemaRows:
        # Not foreign keys: their names are unique in their table only.
        ours, index_names = list(names.tables), list(names.indexes)
        columns = [ColumnRow(*row) for row in self.query(_COLUMNS, ([*ours, *index_names], ours))]
        indexes = [IndexRow(*row) for row in self.query(_INDEXES, (ours, index_names))]
        may_read = True
        try:
            rows = self.query(names.with_versions(_FOREIGN_KEYS, _VERSIONS, columns), (ours,))
        except peewee.ProgrammingError as exc:
            # A role with privileges on our tables only: it does without the ledger.
            if self.in_transaction() or self.classify(exc) is not Failure.DENIED:
                raise
            may_read = False
            rows = self.query(_FOREIGN_KEYS.format(versions=""), (ours,))
        keys = [ForeignKeyRow(*row[:-1]) for row in rows if row[-1]]
        versions = [row[1] for row in rows if not row[-1]] if may_read else None
        return SchemaRows(columns, indexes, keys, versions)

    def type_family(self, column_type: str) -> str:
        base = _base(column_type)
        return _FAMILIES.get(base, base)

    def shortfall(self, there: ColumnRow, wanted: str) -> Shortfall | None:
        live, length = _base(there.type), _length(there.type)
        match _FAMILIES.get(live):
            case "text" if length is not None and length < (_length(wanted) or _NO_END):
                return short_text(length)
            case "integer" if _INTEGER_BYTES[live] < _INTEGER_BYTES.get(_base(wanted), 0):
                return short_numbers(_INTEGER_BYTES[live])
            case "real" if live == "real":
                return Shortfall("numbers are rounded to fewer digits")
            case "time" if length is not None and length < 6:
                return Shortfall(short_fractions(length))
        return None

    def widen_clause(self, column: str, wanted: str, there: ColumnRow) -> str:  # noqa: ARG002 - it changes the type only
        return f"ALTER COLUMN {column} TYPE {wanted}"


def _base(column_type: str) -> str:
    # The length is in the middle of "timestamp(3) with time zone".
    return re.sub(r"\(.*?\)", "", column_type.lower())


def _length(column_type: str) -> int | None:
    found = re.search(r"\((\d+)\)", column_type)
    return int(found[1]) if found else None
