"""Columns: what lies in the encrypted columns, by the form of the stored values."""

from __future__ import annotations

from collections import Counter
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
from ..models import SEALED_FIELDS, Table
from ..sealed_fields import EncryptedJSONField, SealedField

BATCH_ROWS = 1000


class Column(NamedTuple):
    """An encrypted column."""

    model: type[Table]
    field: SealedField

    @property
    def name(self) -> str:
        """``table.column``."""
        return f"{self.model._meta.table_name}.{self.field.column_name}"

    @property
    def digest(self) -> Any:
        """The field of the value's digest, or None."""
        return getattr(self.model, self.field.digest) if self.field.digest else None

    def form(self, stored: Any) -> Form:
        """Tell what a stored value is."""
        is_json = isinstance(self.field, EncryptedJSONField)
        return form_of_json(stored) if is_json else form_of_text(stored)

    def envelope(self, stored: Any) -> Envelope | None:
        """Return a stored value's envelope, None for plaintext; raises MalformedEnvelope."""
        if not isinstance(self.field, EncryptedJSONField):
            return parse_text(stored)
        parsed = parse_json(stored)
        return parsed if isinstance(parsed, Envelope) else None

    def looks_sealed(self, database: Backend) -> Any:
        """Return the condition that holds for every sealed value, and for few others."""
        text = self.field.cast(database.json_text)
        is_json = isinstance(self.field, EncryptedJSONField)
        return text.contains(MARKER) if is_json else text.startswith(PREFIX)


COLUMNS = tuple(Column(model, field) for model, fields in SEALED_FIELDS.items() for field in fields)
"""Every encrypted column."""


def stored_values(database: Backend, column: Column) -> Iterator[tuple[int, Any, str | None]]:
    """Yield primary key, stored value and digest (if any) of each row that has a value.

    In pk order, a batch a query: a later batch sees what was written meanwhile.
    """
    pk: Any = column.model._meta.primary_key
    selected = [pk, column.field, *([column.digest] if column.digest else [])]
    after = 0
    while True:
        query = (
            column.model.select(*selected)
            .where((pk > after) & column.field.is_null(False))
            .order_by(pk)
            .limit(BATCH_ROWS)
            .tuples()
        )
        rows: list[Any] = run_query(database, partial(list, query))
        for row_pk, sealed, *digest in rows:
            yield row_pk, sealed.stored, digest[0] if digest else None
        if len(rows) < BATCH_ROWS:
            return
        after = rows[-1][0]


def count_forms(database: Backend, column: Column) -> Counter[Form]:
    """Count the column's values by form."""
    return Counter(column.form(stored) for _, stored, _ in stored_values(database, column))


def first_sealed(database: Backend, column: Column, limit: int = 1) -> list[tuple[int, Any]]:
    """Return a few rows whose value is marked as sealed, or malformed: pk and stored value."""
    pk: Any = column.model._meta.primary_key
    query: Any = (
        column.model.select(pk, column.field)
        .where(column.looks_sealed(database))
        .order_by(pk)
        .limit(limit)
        .tuples()
    )
    found = [(row_pk, sealed.stored) for row_pk, sealed in query]
    return [row for row in found if column.form(row[1]) is not Form.PLAINTEXT]
