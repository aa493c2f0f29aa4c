"""The reading half of repositories: rows by filters, by statements that are compiled once."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

import peewee
from peewee import SQL, fn

from ..backends.base import Backend
from ..database import run_query
from ..errors import NotFoundError
from ..models import Table
from .arguments import require_id, require_limit, require_reference
from .keywords import StrictKeywords
from .statements import COLLECTIONS, Form, Select, Slot, Statement, Statements

M = TypeVar("M", bound=Table)
S = TypeVar("S", bound=Statement)
T = TypeVar("T")

BATCH_ROWS = 500
"""Number of rows that `iter` reads at a time."""


class Absent(enum.Enum):
    """The type of ANY, a filter that was not passed."""

    ANY = "any"


ANY: Final = Absent.ANY
"""The default of every filter: all rows. None, by contrast, means NULL."""

Filter: TypeAlias = T | Collection[T] | Absent
"""A filter: a value means equal; a list, tuple or set means one of them; ANY means all."""


class Reading(StrictKeywords, Generic[M]):
    """Reads the rows of one table, each call in its own session.

    Attributes:
        model: the table.
        filters: the TypedDict of the filters of `list`, `iter` and `count`.
    """

    model: type[M]

    def __init__(self, database: Backend) -> None:
        self._database = database
        self._statements = Statements()

    @cached_property
    def _key(self) -> peewee.Field[Any]:
        key = self.model._meta.primary_key
        assert isinstance(key, peewee.Field)  # noqa: S101 - for type checkers: every table has one
        return key

    @property
    def _natural_key(self) -> Sequence[peewee.Field[Any]]:
        return [self.model._meta.fields[name] for name in self.model.natural_key]

    def _read(self, callback: Callable[[], T]) -> T:
        return run_query(self._database, callback)

    def _select(self, **filters: Any) -> peewee.ModelSelect[M]:
        """Return the query for the matching rows, to sum them up."""
        return self._matching(self._checked(filters))

    def _checked(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the filters that were passed, or raise InvalidValue."""
        return {
            name: self._filter(name, value) for name, value in filters.items() if value is not ANY
        }

    def _filter(self, name: str, value: Any) -> Any:  # noqa: ARG002 - for subclasses
        """Return a filter's value; refuse one that its field would take. Fields check the rest."""
        return value

    def _matching(self, filters: Mapping[str, Any]) -> peewee.ModelSelect[M]:
        """Return the query for the rows that match checked filters, or slots in their place."""
        query = self.model.select()
        conditions = [self._condition(name, value) for name, value in filters.items()]
        return query.where(*conditions) if conditions else query

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        """Return the SQL condition of one filter."""
        return condition(getattr(self.model, name), value)

    def _compiled(
        self,
        kind: Hashable,
        filters: Mapping[str, Any],
        make: Callable[..., S],
        *given: Any,
    ) -> tuple[S, list[Any]]:
        """Return a statement about the matching rows, and its parameters.

        Args:
            kind: names what `make` makes.
            make: takes the query for the matching rows, and a slot for each of `given`.
            given: further values of the statement.
        Raises:
            InvalidValue: when a value is invalid.
        """
        form = Form.of(self._checked(filters))
        values = [*form.values, *given]

        def compiled() -> S:
            slots = (Slot(position) for position in range(len(form.values), len(values)))
            return make(self._matching(form.filters()), *slots)

        if form.names is None:
            statement = compiled()
        else:
            statement = self._statements.get((kind, *form.names), compiled)
        return statement, statement.bind(values)

    def _find(self, **filters: Any) -> M | None:
        if self._key.name in filters:  # only one id: a list would return any of its rows
            require_id(self._key.name, filters[self._key.name])
        self._check_references(filters)
        return self._read(self._reading_first(filters))

    def _first(self, **filters: Any) -> M | None:
        """Return the first matching row, in this thread's session, without further checks."""
        return self._reading_first(filters)()

    def _reading_first(self, filters: Mapping[str, Any]) -> Callable[[], M | None]:
        statement, parameters = self._compiled("first", filters, _select_first)
        return partial(statement.first, self._database, parameters)

    def _get(self, **filters: Any) -> M:
        row = self._find(**filters)
        if row is None:
            raise self._not_found(**filters)
        return row

    def _list(
        self, *, after_id: int | None = None, limit: int | None = None, **filters: Any
    ) -> list[M]:
        """Return the matching rows by primary key, beginning after `after_id`."""
        return self._read(self._reading_list(after_id, limit, filters))

    def _reading_list(
        self, after_id: int | None, limit: int | None, filters: Mapping[str, Any]
    ) -> Callable[[], list[M]]:
        key = self._key
        given: list[Any] = []
        if after_id is not None:
            given.append(require_id("after_id", after_id))
        if limit is not None:
            given.append(require_limit("limit", limit))

        def make(query: peewee.ModelSelect[M], *slots: Any) -> Select[M]:
            rest = [*slots]
            query = query.order_by(key)
            if after_id is not None:
                query = query.where(key > rest.pop(0))
            return Select(query if limit is None else query.limit(rest.pop(0)))

        kind = ("list", after_id is None, limit is None)
        statement, parameters = self._compiled(kind, filters, make, *given)
        return partial(statement.rows, self._database, parameters)

    def _iter(self, **filters: Any) -> Iterator[M]:
        """Iterate over the matching rows by primary key, reading them in batches.

        No connection is held between two batches, unless the caller's session holds one. A row
        inserted or deleted meanwhile may or may not be returned; no row is returned twice.
        """
        read = self._reading_list(None, BATCH_ROWS, filters)  # refuses an invalid filter now
        return self._batches(read, filters)

    def _batches(self, read: Callable[[], list[M]], filters: Mapping[str, Any]) -> Iterator[M]:
        while True:
            rows = self._read(read)
            yield from rows
            if len(rows) < BATCH_ROWS:
                return
            read = self._reading_list(rows[-1].get_id(), BATCH_ROWS, filters)

    def _count(self, **filters: Any) -> int:
        statement, parameters = self._compiled("count", filters, _count_rows)
        return int(self._read(lambda: self._database.query(statement.sql, parameters))[0][0])

    def _not_found(self, **filters: Any) -> NotFoundError:
        table = self.model._meta.table_name
        key = next(iter(filters.values())) if len(filters) == 1 else filters
        named = ", ".join(f"{name} {value!r}" for name, value in filters.items())
        return NotFoundError(f"{table} has no row with {named}", table=table, key=key)

    def _check_references(self, values: Mapping[str, Any]) -> None:
        """Refuse a reference that is neither a row of the table referred to nor an id."""
        for field, target in self.model._meta.refs.items():
            if field.name in values and not (field.null and values[field.name] is None):
                require_reference(field.name, values[field.name], target)


def _select_first(query: peewee.ModelSelect[M]) -> Select[M]:
    return Select(query.limit(1))


def _count_rows(query: peewee.ModelSelect[Any]) -> Statement:
    return Statement(query.select(fn.COUNT(SQL("*"))))


def condition(field: peewee.Field[Any], value: Any) -> peewee.Expression:
    """Return the SQL condition of a field for a filter's value."""
    if value is None:
        return field.is_null()
    if isinstance(value, COLLECTIONS):
        database: Backend = field.model._meta.database
        one_of = database.one_of(field, [item for item in value if item is not None])
        return one_of | field.is_null() if None in value else one_of
    equal: peewee.Expression = field == value
    return equal
