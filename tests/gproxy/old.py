"""A database of the last GPROXY before its ledger; on the servers the same rows, in its tables."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from gproxy_storage.database import session
from tests import gproxy
from tests.schema import parity
from tests.support import opened, run_script

FILE = gproxy.HERE / "old.sqlite.db.gz"
NAME = "old.sqlite.rows-after-gproxys-steps.json"

_AS_BEFORE = """
    ALTER TABLE providers RENAME COLUMN routing_json TO dispatch_json;
    ALTER TABLE models ADD COLUMN alias_of BIGINT;
    ALTER TABLE global_settings DROP COLUMN update_channel
"""


def restore(dsn: str, backend: str) -> None:
    """Bring the database into an empty one."""
    if backend == "sqlite":
        gproxy.restore(dsn, backend, "old")
        return
    types = dict(parity.SEAORM[backend])
    if backend != "postgres":
        types["w"] = "datetime(6)"  # GPROXY's have no fractions there: its rows would differ
    with opened(dsn) as database, session(database):
        run_script(database, parity.statements(parity.Style(types)))
        run_script(database, _AS_BEFORE)
        for table, columns, rows in _tables():
            if not rows:
                continue
            names = ", ".join(columns)
            values = ", ".join([database.param] * len(columns))
            for row in rows:
                database.execute_sql(f"INSERT INTO {table} ({names}) VALUES ({values})", row)


def routing_texts() -> dict[int, str]:
    """Return the routing of each provider as it is stored there."""
    return {row[0]: row[5] for table, _, rows in _tables() if table == "providers" for row in rows}


def rows_after() -> gproxy.Rows:
    """Every row after a current GPROXY started on the database."""
    return gproxy.rows_of(json.loads((gproxy.HERE / NAME).read_text()))


def _tables() -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    with closing(sqlite3.connect(":memory:")) as source:
        content = bytearray(gzip.decompress(FILE.read_bytes()))
        content[18:20] = b"\1\1"  # a database in memory has no write-ahead log
        source.deserialize(bytes(content))
        for table in parity.TABLES:
            cursor = source.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            rows = [tuple(map(_value, columns, row)) for row in cursor]
            yield table, columns, rows


_BOOLEAN = ("internal", "active", "downloadable", "is_admin")


def _value(column: str, value: Any) -> Any:
    if column.startswith("enable") or column in _BOOLEAN:
        return bool(value)
    if column in ("at", "created_at", "updated_at"):
        return datetime.fromisoformat(value).replace(tzinfo=None).isoformat(" ")
    return value
