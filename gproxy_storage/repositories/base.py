"""What repositories share: reading one row, listing by filters, writing in a transaction."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Generic, TypeAlias, TypeVar

import peewee

from ..backends.base import Backend
from ..database import run_query, run_transaction
from ..errors import InvalidValue, NotFoundError
from ..fields import is_unicode
from ..models import Table

M = TypeVar("M", bound=Table)
T = TypeVar("T")


class Absent(enum.Enum):
    """The type of ANY: a filter that was not given."""

    ANY = "any"


ANY = Absent.ANY
"""The default of every filter: all rows. None, by contrast, means NULL."""

Filter: TypeAlias = T | Collection[T] | Absent
"""A filter: a value means equal, a list, tuple or set means one of, ANY means all."""


class Repository(Generic[M]):
    """One table's rows: reading them and writing them, each call in a session of its own."""

    model: type[M]

    def __init__(self, database: Backend) -> None:
        self._database = database

    def _read(self, callback: Callable[[], T]) -> T:
        return run_query(self._database, callback)

    def _write(self, callback: Callable[[], T]) -> T:
        return run_transaction(self._database, callback)

    def _select(self, **filters: Any) -> peewee.ModelSelect[M]:
        query = self.model.select()
        conditions = [
            condition(getattr(self.model, name), value)
            for name, value in filters.items()
            if value is not ANY
        ]
        return query.where(*conditions) if conditions else query

    def _find(self, **filters: Any) -> M | None:
        found: M | None = self._read(lambda: self._select(**filters).get_or_none())
        return found

    def _get(self, **filters: Any) -> M:
        row = self._find(**filters)
        if row is None:
            table = self.model._meta.table_name
            key = next(iter(filters.values())) if len(filters) == 1 else filters
            named = ", ".join(f"{name} {value!r}" for name, value in filters.items())
            raise NotFoundError(f"{table} has no row with {named}", table=table, key=key)
        return row

    def _list(self, **filters: Any) -> list[M]:
        primary_key = self.model._meta.primary_key
        return self._read(lambda: list(self._select(**filters).order_by(primary_key)))

    def _count(self, **filters: Any) -> int:
        return int(self._read(lambda: self._select(**filters).count()))

    def _insert(self, **values: Any) -> M:
        """Insert one row and return it with its id."""
        row = self.model(**values)
        self._write(lambda: row.save(force_insert=True))
        return row


def condition(field: peewee.Field[Any], value: Any) -> peewee.Expression:
    """Return the condition that a filter's value asks of a field."""
    if value is None:
        return field.is_null()
    if isinstance(value, list | tuple | set | frozenset):
        one_of: peewee.Expression = field.in_([item for item in value if item is not None])
        return one_of | field.is_null() if None in value else one_of
    equal: peewee.Expression = field == value
    return equal


def now() -> datetime:
    """Return the time as rows carry it: aware, UTC."""
    return datetime.now(UTC)


def require_text(argument: str, value: Any) -> str:
    """Return a name that is not empty.

    Raises:
        InvalidValue: when it is empty, blank or no str, or not valid Unicode.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(f"{argument} must be a str that is not blank", argument=argument)
    if not is_unicode(value):
        raise InvalidValue(f"{argument} is not valid Unicode", argument=argument)
    return value
