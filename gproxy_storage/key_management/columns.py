"""Columns: the encrypted columns, and the form of the values stored in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from ..backends.base import Backend
from ..crypto.envelope import (
    Envelope,
    Form,
    form_of_json,
    form_of_text,
    parse_json,
    parse_text,
)
from ..crypto.plaintext import MARKER, PREFIX
from ..database import run_query
from ..encrypted_fields import EncryptedJSONField, SealedField
from ..models import SEALED_FIELDS, Table

ROWS_PER_QUERY = 1000


class EncryptedColumn(NamedTuple):
    """An encrypted column."""

    model: type[Table]
    field: SealedField

    @property
    def name(self) -> str:
        """``table.column``."""
        return f"{self.model._meta.table_name}.{self.field.column_name}"

    @property
    def digest(self) -> Any:
        """The field that holds the value's digest, or None."""
        return getattr(self.model, self.field.digest) if self.field.digest else None

    def form(self, stored: Any) -> Form:
        """Return the form of a stored value."""
        is_json = isinstance(self.field, EncryptedJSONField)
        return form_of_json(stored) if is_json else form_of_text(stored)

    def envelope(self, stored: Any) -> Envelope | None:
        """Return a stored value's envelope, or None for plaintext.

        Raises:
            MalformedEnvelope: when it is neither.
        """
        if not isinstance(self.field, EncryptedJSONField):
            return parse_text(stored)
        parsed = parse_json(stored)
        return parsed if isinstance(parsed, Envelope) else None

    def looks_sealed(self, database: Backend) -> Any:
        """Return a condition that is true for every sealed value, and for few others."""
        text = self.field.cast(database.json_text)
        is_json = isinstance(self.field, EncryptedJSONField)
        return text.contains(MARKER) if is_json else text.startswith(PREFIX)


COLUMNS = tuple(
    EncryptedColumn(model, field) for model, fields in SEALED_FIELDS.items() for field in fields
)
"""Every encrypted column."""


def stored_values(
    database: Backend, column: EncryptedColumn, *, marked: bool = False
) -> Iterator[tuple[int, Any, str | None]]:
    """Yield primary key, stored value and digest (if any) of each row that has a value.

    In order of primary keys, one query per batch: later batches see what was written meanwhile.

    Args:
        marked: only values that look sealed.
    """
    pk: Any = column.model._meta.primary_key
    selected = [pk, column.field, *([column.digest] if column.digest else [])]
    wanted = column.looks_sealed(database) if marked else column.field.is_null(False)
    query = column.model.select(*selected).where(wanted).order_by(pk).limit(ROWS_PER_QUERY).tuples()
    after: int | None = None  # not 0: there may be ids below 1
    while True:
        rest = query.clone() if after is None else query.where(pk > after)
        rows: list[Any] = run_query(database, partial(list, rest))
        for row_pk, sealed, *digest in rows:
            yield row_pk, sealed.stored, digest[0] if digest else None
        if len(rows) < ROWS_PER_QUERY:
            return
        after = rows[-1][0]


def sealed_values(database: Backend, column: EncryptedColumn) -> Iterator[tuple[int, Any]]:
    """Yield primary key and stored value of each row whose value is sealed, or malformed."""
    for pk, stored, _ in stored_values(database, column, marked=True):
        if column.form(stored) is not Form.PLAINTEXT:
            yield pk, stored


def count_values(database: Backend, column: EncryptedColumn) -> int:
    """Count the rows that have a value."""
    return run_query(database, column.model.select().where(column.field.is_null(False)).count)
