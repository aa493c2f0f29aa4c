"""Statements compiled once: a query's text and its row reader, kept by the form of its filters.

To render a query takes Peewee hundreds of microseconds, to run most of them takes SQLite ten. So a
repository renders each form of a query once, with a `Slot` in place of each value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Generic, NamedTuple, TypeVar

import peewee

from ..backends.base import Backend
from ..backends.values import MOST_PARAMETERS
from ..fields import sound_test
from ..generated import function
from ..models import Table
from .rows import row_reader

M = TypeVar("M", bound=Table)
S = TypeVar("S", bound="Statement")

MOST_STATEMENTS = 500
"""A repository keeps at most so many: lists of different lengths make different forms."""

COLLECTIONS = (list, tuple, set, frozenset)
"""The types of filters that mean one of several values."""


class Slot(peewee.Node):
    """A value of a query that is given when its statement is executed.

    Args:
        position: among the values that are given.
        convert: its conversion; by default that of the field with which the query compares it.
    """

    def __init__(self, position: int, convert: Callable[[Any], Any] | None = None) -> None:
        self._position = position
        self._convert = convert

    def unconverted(self) -> Slot:
        """Return a slot for the same value in the driver's form."""
        return Slot(self._position, _unchanged)

    def __sql__(self, ctx: peewee.Context) -> peewee.Context:
        convert = self._convert or ctx.state.converter or _unchanged
        ctx.value(_Bound(self._position, convert), converter=False)
        return ctx


def _unchanged(value: Any) -> Any:
    return value


class _Bound(NamedTuple):
    """A parameter in the place of a slot."""

    position: int
    convert: Callable[[Any], Any]


class Statement:
    """A query's text, rendered once.

    Args:
        query: with slots. Its database has been connected, for SQL differs between MySQL and
            MariaDB.
    Attributes:
        sql: the text.
    """

    def __init__(self, query: Any) -> None:
        self.sql, self._parameters = query.sql()

    def bind(self, values: Sequence[Any]) -> list[Any]:
        """Return the parameters for values.

        Raises:
            InvalidValue: when a field refuses its value.
        """
        return [
            each.convert(values[each.position]) if type(each) is _Bound else each
            for each in self._parameters
        ]


class Insert(Statement):
    """A statement that inserts a row, whose parameters are bound by a generated function.

    For each value it has the inline test for those that the field's `db_value` returns unchanged,
    and calls that for others, as in `log_rows`.

    Args:
        fields: of the values that are given, in their order.
    """

    def __init__(self, query: Any, fields: Sequence[peewee.Field[Any]]) -> None:
        super().__init__(query)
        self.names = [field.name for field in fields]
        self._bound = _binder(self._parameters, fields)

    def bind(self, values: Sequence[Any]) -> list[Any]:
        return self._bound(values)


def _binder(
    parameters: Sequence[Any], fields: Sequence[peewee.Field[Any]]
) -> Callable[[Sequence[Any]], list[Any]]:
    names: dict[str, Any] = {}
    items = []
    for at, each in enumerate(parameters):
        if type(each) is not _Bound:
            names[f"constant{at}"] = each
            items.append(f"constant{at}")
            continue
        names[f"convert{at}"] = each.convert
        value = f"values[{each.position}]"
        test = sound_test(fields[each.position], value)
        unchanged = f"{value} if {value} is None or {test} else " if test else ""
        items.append(f"{unchanged}convert{at}({value})")
    bind: Callable[[Sequence[Any]], list[Any]] = function(
        "bind", "values", [f"return [{', '.join(items)}]"], names
    )
    return bind


class Select(Statement, Generic[M]):
    """A statement that selects rows of a model, and of others that it refers to.

    Attributes:
        read: returns the row for a tuple of columns.
    """

    read: Callable[[Sequence[Any]], M]

    def __init__(self, query: Any) -> None:
        super().__init__(query)
        self.read = row_reader(query.model, query.selected_columns)

    def rows(self, database: Backend, parameters: Sequence[Any]) -> list[M]:
        """Return the rows. Needs a session."""
        return [*map(self.read, database.query(self.sql, parameters))]

    def first(self, database: Backend, parameters: Sequence[Any]) -> M | None:
        """Return the first row, or None. Needs a session."""
        rows = database.query(self.sql, parameters)
        return self.read(rows[0]) if rows else None


class Statements:
    """The statements of a repository, by their form."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def get(self, form: Hashable, make: Callable[[], S]) -> S:
        """Return the statement of a form; it is made for the first call."""
        found: S | None = self._kept.get(form)
        if found is None:
            if len(self._kept) >= MOST_STATEMENTS:
                self._kept.clear()
            found = self._kept[form] = make()
        return found


class Form(NamedTuple):
    """The form of filters: what decides a query's text.

    Attributes:
        names: each filter's name, and where its value is no single one: what it is; None if the
            text depends on the values themselves.
        values: the filters' values in order, one for each slot.
        filters: the filters with a slot in place of each value.
    """

    names: tuple[Hashable, ...] | None
    values: list[Any]
    filters: Callable[[], Mapping[str, Any]]

    @classmethod
    def of(cls, filters: Mapping[str, Any]) -> Form:
        """Return the form of filters."""
        names: list[Hashable] = []
        values: list[Any] = []
        for name, value in filters.items():
            if value is None:
                names.append((name, None))
            elif isinstance(value, COLLECTIONS):
                given = [each for each in value if each is not None]
                names.append((name, len(given), len(given) < len(value)))
                values += given
            elif isinstance(value, range):
                return cls(None, [], lambda: filters)
            else:
                names.append(name)
                values.append(value)
        if len(values) > MOST_PARAMETERS:
            return cls(None, [], lambda: filters)
        return cls(tuple(names), values, partial(_with_slots, filters))


def _with_slots(filters: Mapping[str, Any]) -> dict[str, Any]:
    position = count()

    def slot(value: Any) -> Any:
        if isinstance(value, COLLECTIONS):
            given = [slot(each) for each in value if each is not None]
            return given + [None] * (len(given) < len(value))
        return None if value is None else Slot(next(position))

    return {name: slot(value) for name, value in filters.items()}
