"""The base of the logs' repositories: filters, pages, iteration, retention, missing parents.

A log is a table of rows with a time `at` and a key `trace_id`, read newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar

import peewee

from ..errors import InvalidValue, MissingReference
from ..fields import BodyField
from ..models import DownstreamRequest, Provider, Table, UpstreamRequest, Usage
from .arguments import require_limit
from .base import BATCH_ROWS, Repository
from .pages import Page, Position
from .reading import ANY, Absent, condition
from .rows import new_row
from .statements import Select, Slot

L = TypeVar("L", Usage, UpstreamRequest, DownstreamRequest)
T = TypeVar("T")

_ROWS_A_BATCH = 1_000  # that `iter` reads at a time: servers plan each batch anew
_BODIES_A_BATCH = 20  # no more, for bodies may be large


class LogFilters(TypedDict, total=False):
    """The filters of every log.

    Attributes:
        since, until: bounds of `at`, both inclusive; aware datetimes.

    SQLite compares times as text. Those that this package writes have six decimals and compare
    exactly. Those that GPROXY writes there have no trailing zeros: ``12:00:00Z`` counts, in bounds
    and in order, as later than ``12:00:00.999999Z``, and ``…00.5Z`` as later than ``…00.599999Z``.
    So such a row may be outside of a bound within the same second.
    """

    since: datetime | Absent
    until: datetime | Absent


class Log(Repository[L], Generic[L]):
    """The repository of a log."""

    def _filter(self, name: str, value: Any) -> Any:
        return require_time(name, value) if name in ("since", "until") else value

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        model: Any = self.model  # a log with the filter "channel" has a provider
        match name:
            case "since":
                found: peewee.Expression = model.at >= value
            case "until":
                found = model.at <= value
            case "channel":
                providers = Provider.select(Provider.id).where(condition(Provider.channel, value))
                found = model.provider.in_(providers)
            case _:
                found = super()._condition(name, value)
        return found

    # -- reading ------------------------------------------------------------------------------

    def _fields(self, *, bodies: bool) -> Sequence[peewee.Field[Any]]:
        """Return the fields to read, first those of a page's position, which needs them as stored.

        That is the time and the key.
        """
        at: Any = self.model.at
        rest: list[peewee.Field[Any]] = [
            field
            for field in self.model._meta.sorted_fields
            if field not in {at, self._key} and (bodies or not isinstance(field, BodyField))
        ]
        return [at, self._key, *rest]

    def _page(
        self,
        filters: Mapping[str, Any],
        limit: int | None,
        cursor: str | None,
        *,
        bodies: bool = False,
    ) -> Page[L]:
        """Read one page of the matching rows, newest first."""
        after = None if cursor is None else Position.from_cursor(cursor, self._database)
        select, parameters = self._selecting(filters, limit, after, bodies=bodies)
        rows = self._read(partial(self._database.query, select.sql, parameters))
        page = Page(map(select.read, rows if limit is None else rows[:limit]))
        if page and len(rows) > len(page):
            page.next_cursor = self._position(rows[len(page) - 1]).to_cursor()
        return page

    def _selecting(
        self, filters: Mapping[str, Any], limit: int | None, after: Position | None, *, bodies: bool
    ) -> tuple[Select[L], list[Any]]:
        """Return the statement for a page and one more row, and its parameters.

        `at <= ?` is a separate condition, so that every server begins within the index; with only
        a comparison of row values, or only an OR, some of them scan.
        """
        at: Any = self.model.at
        key: Any = self._key
        given: list[Any] = []
        if after is not None:
            # The time as it is stored: SQLite's may have more digits than a datetime.
            stored_at = self._database.time_from_key(after.at)
            given += [stored_at, after.trace_id]
            until = filters.get("until", ANY)
            if until is not ANY and stored_at <= at.db_value(require_time("until", until)):
                # The cursor implies it. With both SQLite would begin at `until` for each page.
                filters = {**filters, "until": ANY}
        require_limit("limit", limit)
        if limit is not None:
            given.append(limit + 1)  # one more shows whether there is another page

        def make(query: Any, *slots: Slot) -> Select[L]:
            rest = iter(slots)
            query = query.select(*self._fields(bodies=bodies)).order_by(at.desc(), key.desc())
            if after is not None:
                stored = next(rest).unconverted()
                query = query.where(at <= stored, (at < stored) | (key < next(rest)))
            return Select(query if limit is None else query.limit(next(rest)))

        kind = ("page", bodies, after is None, limit is None)
        return self._compiled(kind, filters, make, *given)

    def _position(self, stored: Sequence[Any]) -> Position:
        """Return the position of a row as it was read by `_fields`."""
        return Position(self._database.time_to_key(stored[0]), stored[1])

    def _pages(self, filters: Mapping[str, Any], *, bodies: bool = False) -> Iterator[L]:
        """Iterate over the matching rows, newest first, as `_iter` does."""
        rows = _BODIES_A_BATCH if bodies else _ROWS_A_BATCH
        first = self._selecting(filters, rows, None, bodies=bodies)  # refuses a filter now
        return self._in_batches(first, filters, rows, bodies)

    def _in_batches(
        self,
        selecting: tuple[Select[L], list[Any]],
        filters: Mapping[str, Any],
        limit: int,
        bodies: bool,
    ) -> Iterator[L]:
        while True:
            select, parameters = selecting
            rows = self._read(partial(self._database.query, select.sql, parameters))
            yield from map(select.read, rows[:limit])  # one at a time, which takes less memory
            if len(rows) <= limit:
                return
            after = self._position(rows[limit - 1])
            selecting = self._selecting(filters, limit, after, bodies=bodies)

    # -- writing ------------------------------------------------------------------------------

    def _record(self, values: dict[str, Any], write: Callable[[dict[str, Any]], T]) -> T:
        """Write a row in a transaction; a parent that does not exist becomes NULL.

        Args:
            write: stores the values and their side effects; called again after a failure.
        """
        try:
            return self._write_row(values, partial(write, values))
        except MissingReference:
            kept = self._write(partial(_without_missing, self.model, values))
            if kept == values:
                raise
        return self._record(kept, write)  # another may have been deleted since

    def _inserted(self, values: Mapping[str, Any]) -> L:
        """Insert a row of values by column, inside a transaction; return it."""
        given = [*values.values()]
        statement = self._statements.get(
            ("insert", *values), lambda: self._inserting(values, self._database.inserting)
        )
        row_id = self._database.insert(statement.sql, statement.bind(given))
        data = dict(zip(statement.names, given, strict=True))
        data[self._key.name] = row_id
        return new_row(self.model, data)

    def delete_before(self, before: datetime) -> int:
        """Delete the rows from before a time; return how many there were.

        In batches, oldest first, each in its own transaction, so that writers wait only briefly.
        After a failure, the rows of the completed batches remain deleted.

        Raises:
            InvalidValue: when the time has no time zone.
        """
        at: Any = self.model.at
        old: Any = (
            self.model.select(self._key)
            .where(at < require_time("before", before))
            .order_by(at, self._key)
            .limit(BATCH_ROWS)
            .tuples()
        )
        deleted = 0
        while True:
            ids = [trace_id for (trace_id,) in self._read(lambda: list(old.clone()))]
            deleted += self._delete(ids)
            if len(ids) < BATCH_ROWS:
                return deleted


def require_time(argument: str, value: Any) -> datetime:
    """Return an aware datetime.

    None is refused too: in SQL no comparison with NULL is true, and the result would be empty.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidValue(
            f"{argument} must be a datetime with a time zone, for example datetime.now(UTC)",
            argument=argument,
        )
    return value


def _without_missing(model: type[Table], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with NULL for each parent that does not exist."""
    kept = dict(values)
    for parent, target in model._meta.refs.items():
        key = kept[parent.column_name]
        if key is not None and not target.select().where(parent.rel_field == key).exists():
            kept[parent.column_name] = None
    return kept
