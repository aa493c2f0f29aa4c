"""Databases that GPROXY 1.0.20 made, and every row in them as GPROXY reads it.

`plain.*` were made from an empty database and never opened by this package. In the JSON a time is
``{"time": ...}`` with nine digits, bytes are ``{"hex": ...}``, a JSON column is ``{"json": ...}``.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from tests.support import opened

HERE = Path(__file__).parent

Rows = Mapping[str, Sequence[Mapping[str, Any]]]

_KEYS = {"usages": "trace_id", "upstream_requests": "trace_id", "downstream_requests": "trace_id"}


def restore(dsn: str, backend: str, name: str = "plain") -> None:
    """Bring a database of GPROXY's into an empty one."""
    if backend == "sqlite":
        path = Path(unquote(urlsplit(dsn).path))
        path.write_bytes(gzip.decompress((HERE / f"{name}.sqlite.db.gz").read_bytes()))
        return
    script = (HERE / f"{name}.{backend}.sql").read_text()
    # psycopg2 takes it as a whole; the others escape the ends of lines inside of values.
    statements = (
        [script] if backend == "postgres" else re.split(r";\s*$", script, flags=re.MULTILINE)
    )
    with opened(dsn) as database, session(database):
        with database.raw_cursor(database.connection()) as cursor:
            for statement in filter(str.strip, statements):
                cursor.execute(statement)  # without parameters: the values hold percent signs


def expected_rows(backend: str, name: str = "plain") -> Rows:
    """Every row by its table, in the order of primary keys, in the form of `read_rows`."""
    found = json.loads((HERE / f"{name}.{backend}.rows.json").read_text())
    return {
        table: sorted(
            ({column: _value(value) for column, value in row.items()} for row in rows),
            key=itemgetter(_KEYS.get(table, "id")),
        )
        for table, rows in found.items()
        if not table.startswith("opened.")  # the same here: nothing is sealed
    }


def read_rows(database: Backend, tables: Rows) -> Rows:
    """Every row of these tables through our models, with the columns that are expected."""
    from gproxy_storage.models import TABLES

    models = {model._meta.table_name: model for model in TABLES}
    with session(database):
        return {
            table: [
                {column: _plain(getattr(row, column)) for column in (rows[0] if rows else ())}
                for row in models[table].select().order_by(models[table]._meta.primary_key)
            ]
            for table, rows in tables.items()
        }


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "time":  # to microseconds, which is what a datetime holds
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", inner))
    return bytes.fromhex(inner) if kind == "hex" else inner


def _plain(value: Any) -> Any:
    return float(value) if type(value).__name__ == "Decimal" else value
