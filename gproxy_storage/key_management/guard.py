"""The guard: queries may write only values that were sealed for their row into encrypted columns.

The field itself refuses a plain value. Refused here is what Peewee renders without the field:
``Value()``, functions, SQL, subqueries, conflict clauses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import peewee

from ..encrypted_fields import EncryptedField, refused
from ..models import ENCRYPTED_FIELDS

# The attributes of queries are Peewee's own and not public: tests/unit/test_peewee.py notices when
# they change, and tests/key_management/test_guard.py when a write is not refused.


def check_write(query: Any) -> None:
    """Refuse a query that writes an expression into an encrypted column.

    Raises:
        InvalidValue: when it would; nothing was written.
    """
    model = getattr(query, "model", None)
    fields = ENCRYPTED_FIELDS.get(model)  # type: ignore[arg-type]  # None has no fields
    if not fields:
        return
    if isinstance(query, peewee.Update):
        _check_row(query._update, fields)  # type: ignore[attr-defined]  # as above
    elif isinstance(query, peewee.Insert):
        _check_insert(query, fields)


def _check_insert(query: Any, fields: Iterable[EncryptedField]) -> None:
    columns = query._columns
    rows: Any = query._insert
    if isinstance(rows, peewee.Query | peewee.SQL):
        for field in fields:
            if not columns or any(_is(field, column) for column in columns):
                raise refused(field)
        return
    if isinstance(rows, Mapping):
        rows = (rows,)
    elif not isinstance(rows, list | tuple):
        rows = query._insert = list(rows)  # an iterator would be exhausted here
    for row in rows:
        _check_row(row if isinstance(row, Mapping) else _named(row, columns, query), fields)
    conflict = query._on_conflict
    if conflict is None:
        return
    if isinstance(conflict._update, Mapping):
        _check_row(conflict._update, fields)
    for field in fields:
        # The inserted value was sealed for another row than the one that is updated.
        if any(_is(field, column) for column in conflict._preserve or ()):
            raise refused(field)


def _check_row(row: Mapping[Any, Any], fields: Iterable[EncryptedField]) -> None:
    for key, value in row.items():
        if isinstance(value, peewee.Node):
            for field in fields:
                if _is(field, key):
                    raise refused(field)


def _named(row: Any, columns: Any, query: Any) -> dict[Any, Any]:
    return dict(zip(columns or query.get_default_columns(), row, strict=False))


def _is(field: EncryptedField, key: Any) -> bool:
    if isinstance(key, peewee.Field):
        return key is field
    name = key if isinstance(key, str) else getattr(key, "name", None)
    return name in (field.name, field.column_name)
