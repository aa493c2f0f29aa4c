"""The names of rows in reprs and messages; never with a secret."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import peewee

from .encrypted_fields import EncryptedField

MAX_SHOWN = 80
"""The maximum number of characters of a value that are shown."""


def give_repr(model: type[peewee.Model], columns: Collection[str]) -> None:
    """Make the repr of a table's rows show their id and these columns, as far as they were read.

    Secret columns are left out. Set for each class: Peewee's metaclass gives each one its own repr,
    so none is inherited.
    """
    key: Any = model._meta.primary_key
    named = [
        field
        for field in model._meta.sorted_fields
        if field.column_name in columns and field is not key and not is_secret(field)
    ]

    def show(row: peewee.Model) -> str:
        read = [field for field in named if field.name in row.__data__]
        shown = [f"{each.column_name}={short(row.__data__[each.name])}" for each in read]
        return f"<{' '.join([model.__name__, f'{key.name}={row.get_id()!r}', *shown])}>"

    model.__repr__ = show  # type: ignore[assignment]  # assigned as the metaclass does


def is_secret(field: peewee.Field[Any]) -> bool:
    """Tell whether a column holds a secret or the digest of one."""
    return isinstance(field, EncryptedField) or any(
        isinstance(each, EncryptedField) and each.digest == field.name
        for each in field.model._meta.sorted_fields
    )


def short(value: Any) -> str:
    """Return the repr of a value, shortened to `MAX_SHOWN` characters."""
    shown = repr(str.__str__(value)) if isinstance(value, str) else repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 3]}...{shown[-1]}"
