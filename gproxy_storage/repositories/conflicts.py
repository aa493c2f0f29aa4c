"""Messages of conflicts: what identifies the row that exists, and what to do next.

Values come from the call's arguments, never from a server's message. Values of secrets, and of
columns that identify them, are omitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee

from ..errors import ConflictError
from ..models import Table
from ..naming import is_secret, short

_ABSENT = object()


def explained(
    error: ConflictError, model: type[Table], values: Mapping[str, Any], *, upsert: bool
) -> ConflictError:
    """Return the error to raise for a row that a call could not write.

    Args:
        error: the translated error of the database; returned unchanged if it is about another
            table or an unknown index.
        values: the values of the call, by field or column.
        upsert: whether an upsert would have updated the row.
    """
    table, fields = model._meta.table_name, tuple(error.fields)
    if not fields and "primary key" in str(error):  # MariaDB names no column of it
        key: Any = model._meta.primary_key
        fields = (key.column_name,)
    elif error.table != table or not fields or not set(fields) <= model._meta.columns.keys():
        return error
    last = model._meta.columns[fields[-1]]
    other = f"another {'value' if is_secret(last) else last.name}"
    same = " and ".join(_described(model._meta.columns[column], values) for column in fields)
    return ConflictError(
        f"a row of {table} with {same} exists: {'use upsert, or ' if upsert else 'use '}{other}",
        table=table,
        fields=fields,
    )


def _described(field: peewee.Field[Any], values: Mapping[str, Any]) -> str:
    """Return a column of a row, with its value if that is known and not secret."""
    value = values.get(field.name, values.get(field.column_name, _ABSENT))
    if value is _ABSENT or is_secret(field):
        return f"the same {field.column_name}"
    if isinstance(value, Table):
        name = value.__data__.get("name")
        if isinstance(name, str):
            return f"{field.name} {short(name)}"
        value = value.get_id()
    return f"{field.column_name} {short(value)}"
