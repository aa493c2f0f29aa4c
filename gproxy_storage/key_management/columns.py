"""Columns: the encrypted columns, and the form of the values stored in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from peewee import fn

from ..backends.base import Backend
from ..crypto.envelope import Envelope, Form, examined, form_of
from ..crypto.plaintext import MARKER, PREFIX
from ..database import run_query
from ..encrypted_fields import EncryptedField, EncryptedJSONField
from ..models import ENCRYPTED_FIELDS, Table

ROWS_PER_QUERY = 1000

StoredRow: TypeAlias = tuple[int, Any, str | None]
"""Primary key, stored value, and digest where the column has one."""


class EncryptedColumn(NamedTuple):
    """An encrypted column."""

    model: type[Table]
    field: EncryptedField

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
        return form_of(self.field.parse, stored)

    def examined(self, stored: Any) -> tuple[Form, Envelope | None]:
        """Return the form of a stored value, and its envelope if it is sealed."""
        return examined(self.field.parse, stored)

    def envelope(self, stored: Any) -> Envelope | None:
        """Return a stored value's envelope, or None for plaintext.

        Raises:
            MalformedEnvelope: when it is neither.
        """
        parsed = self.field.parse(stored)
        return parsed if isinstance(parsed, Envelope) else None

    def select(self, wanted: Any, after: int | None, limit: int) -> Any:
        """Return the query for the first rows after a primary key; None, not 0, for all rows."""
        pk: Any = self.model._meta.primary_key
        selected = [pk, self.field, *([self.digest] if self.digest else [])]
        query = self.model.select(*selected).where(wanted).order_by(pk).limit(limit)
        return query if after is None else query.where(pk > after)  # ids may be < 1

    @staticmethod
    def read(query: Any) -> list[StoredRow]:
        """Return the rows of a query of `select`'s."""
        # As the driver has them: Peewee's fields would wrap each value, to be unwrapped here.
        rows = query.model._meta.database.query(*query.sql())
        return [(pk, stored, digest[0] if digest else None) for pk, stored, *digest in rows]

    def looks_sealed(self, database: Backend) -> Any:
        """Return a condition that is true for every sealed value, and for few others."""
        text = self.field.cast(database.json_text)
        is_json = isinstance(self.field, EncryptedJSONField)
        return text.contains(MARKER) if is_json else text.startswith(PREFIX)

    def is_other(self, database: Backend, kid: str) -> Any:
        """Return a condition that is true for every value that is not sealed under a data key.

        It is true as well for values under the key whose JSON the database has rewritten, and false
        for damaged ones that begin as those under the key do.
        """
        start = self.field.start("v3", kid)
        # Not LIKE, which ignores case on some databases.
        begins: Any = fn.SUBSTR(self.field.cast(database.json_text), 1, len(start))
        return self.field.is_null(False) & ~database.contains(begins, start)


COLUMNS = tuple(
    EncryptedColumn(model, field) for model, fields in ENCRYPTED_FIELDS.items() for field in fields
)
"""Every encrypted column."""


def stored_values(
    database: Backend, column: EncryptedColumn, wanted: Any = None
) -> Iterator[StoredRow]:
    """Yield each row that has a value.

    In order of primary keys, one query per batch: later batches see what was written meanwhile.

    Args:
        wanted: a condition; without one, all values.
    """
    wanted = column.field.is_null(False) if wanted is None else wanted
    after: int | None = None
    while True:
        query = column.select(wanted, after, ROWS_PER_QUERY)
        rows = run_query(database, partial(column.read, query))
        yield from rows
        if len(rows) < ROWS_PER_QUERY:
            return
        after = rows[-1][0]


def sealed_values(database: Backend, column: EncryptedColumn) -> Iterator[tuple[int, Any]]:
    """Yield primary key and stored value of each row whose value is sealed, or malformed."""
    for pk, stored, _ in stored_values(database, column, column.looks_sealed(database)):
        if column.form(stored) is not Form.PLAINTEXT:
            yield pk, stored


def count_values(database: Backend, column: EncryptedColumn) -> int:
    """Count the rows that have a value."""
    return run_query(database, column.model.select().where(column.field.is_null(False)).count)
