"""Databases that GPROXY 1.0.20 made, and every row in them as GPROXY reads it.

`plain.*` were made from an empty database and never opened by this package. In the JSON a time is
``{"time": ...}`` with nine digits, bytes are ``{"hex": ...}``, a JSON column is ``{"json": ...}``.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.fields import MoneyField
from gproxy_storage.models import TABLES
from gproxy_storage.money import from_double
from tests.support import opened

HERE = Path(__file__).parent

Rows = Mapping[str, Sequence[Mapping[str, Any]]]

MODELS: Mapping[str, Any] = {model._meta.table_name: model for model in TABLES}


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
    return rows_of(json.loads((HERE / f"{name}.{backend}.rows.json").read_text()))


def rows_of(found: Rows) -> Rows:
    """Return what GPROXY read in the form of `read_rows`."""
    return {
        table: sorted(
            (_row(table, row) for row in rows),
            key=itemgetter(MODELS[table]._meta.primary_key.column_name),
        )
        for table, rows in found.items()
        if not table.startswith("opened.")  # the same here: nothing is sealed
    }


def read_rows(database: Backend, tables: Rows) -> Rows:
    """Every row of these tables through our models, with the columns that are expected.

    Money is read as its value, and also as the double that is stored.
    """
    with session(database):
        return {table: list(_rows(MODELS[table], expected)) for table, expected in tables.items()}


def _rows(model: Any, expected: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    columns = [name for name in (expected[0] if expected else ()) if name in model._meta.columns]
    raw = [model._meta.columns[name].alias(_raw(name)).coerce(False) for name in _money(model)]
    for row in model.select(model, *raw).order_by(model._meta.primary_key):
        yield {name: getattr(row, name) for name in columns} | {
            _raw(name): getattr(row, _raw(name)) for name in _money(model)
        }


def _row(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    found = {column: _value(value) for column, value in row.items()}
    for name in _money(MODELS[table]):
        found[_raw(name)] = found[name]
        found[name] = from_double(found[name])
    return found


def _money(model: Any) -> list[str]:
    return [f.column_name for f in model._meta.sorted_fields if isinstance(f, MoneyField)]


def _raw(column: str) -> str:
    return f"{column}_as_stored"


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "time":  # to microseconds, which is what a datetime holds
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", inner))
    return bytes.fromhex(inner) if kind == "hex" else inner
