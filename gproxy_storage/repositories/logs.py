"""The base of the logs' repositories: filters, pages, iteration, retention, missing parents.

A log is a table of rows with a time `at` and a key `trace_id`, read newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar

import peewee
from peewee import Value

from ..errors import InvalidValue, MissingReference
from ..models import DownstreamRequest, Provider, Table, UpstreamRequest, Usage
from .arguments import require_limit
from .base import BATCH_ROWS, Absent, Repository, condition
from .pages import Page, Position

L = TypeVar("L", Usage, UpstreamRequest, DownstreamRequest)
T = TypeVar("T")


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

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        model: Any = self.model  # a log with the filter "channel" has a provider
        match name:
            case "since":
                found: peewee.Expression = model.at >= require_time(name, value)
            case "until":
                found = model.at <= require_time(name, value)
            case "channel":
                providers = Provider.select(Provider.id).where(condition(Provider.channel, value))
                found = model.provider.in_(providers)
            case _:
                found = super()._condition(name, value)
        return found

    # -- reading ------------------------------------------------------------------------------

    def _page(self, query: peewee.ModelSelect[L], limit: int | None, cursor: str | None) -> Page[L]:
        """Read one page of the query's rows, newest first.

        `at <= ?` is a separate condition, so that every server begins within the index; with only
        a comparison of row values, or only an OR, some of them scan.
        """
        at: Any = self.model.at
        key: Any = self._key
        require_limit("limit", limit)
        # The time as it is stored: SQLite's may have more digits than a datetime.
        query = query.select_extend(at.alias("_stored_at").coerce(False))
        query = query.order_by(at.desc(), key.desc())
        if cursor is not None:
            position = Position.from_cursor(cursor, self._database)
            stored = Value(self._database.time_from_key(position.at), converter=False)
            query = query.where(at <= stored, (at < stored) | (key < position.trace_id))
        if limit is not None:
            query = query.limit(limit + 1)  # one more shows whether there is another page
        rows = self._read(lambda: list(query))
        if limit is None or len(rows) <= limit:
            return Page(rows)
        if not limit:
            return Page()
        last: Any = rows[limit - 1]
        position = Position(self._database.time_to_key(last._stored_at), last.trace_id)
        return Page(rows[:limit], position.to_cursor())

    def _pages(self, query: peewee.ModelSelect[L], batch_rows: int = BATCH_ROWS) -> Iterator[L]:
        """Iterate over the query's rows, newest first, as `_iter` does."""
        query.sql()  # refuse an invalid filter now, not with the first row
        return self._in_batches(query, batch_rows)

    def _in_batches(self, query: peewee.ModelSelect[L], batch_rows: int) -> Iterator[L]:
        cursor: str | None = None
        while True:
            page = self._page(query, batch_rows, cursor)
            yield from page
            cursor = page.next_cursor
            if cursor is None:
                return

    # -- writing ------------------------------------------------------------------------------

    def _record(self, values: dict[str, Any], write: Callable[[dict[str, Any]], T]) -> T:
        """Write a row in a transaction; a parent that does not exist becomes NULL.

        Args:
            write: stores the values and their side effects; called again after a failure.
        """
        try:
            with self._naming_row(values):
                return self._write(partial(write, values))
        except MissingReference:
            kept = self._write(partial(_without_missing, self.model, values))
            if kept == values:
                raise
        return self._record(kept, write)  # another may have been deleted since

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
