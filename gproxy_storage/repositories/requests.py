"""Requests: the base of the logs of upstream and downstream requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar

import peewee

from ..errors import InvalidValue
from ..fields import TextField, check_text
from ..log_rows import LogTable
from ..models import DownstreamRequest, UpstreamRequest
from .arguments import require_id, require_ids
from .base import now
from .logs import Log, LogFilters
from .reading import Filter
from .redaction import REDACTORS
from .statements import Select

R = TypeVar("R", UpstreamRequest, DownstreamRequest)


class RequestFilters(LogFilters, total=False):
    """The filters of both logs of requests.

    Attributes:
        status: of the response; a `range` such as ``range(500, 600)`` means within it.
        internal: whether the proxy itself caused the request.
    """

    status: Filter[int | None] | range
    internal: Filter[bool]


class Requests(Log[R]):
    """The base of both logs of requests.

    Bodies are read only with `bodies=True`. On a row that was read without them, their attributes
    raise ReadError instead of returning None.

    Attributes:
        log: its table, which checks the columns of rows.
    """

    log: ClassVar[LogTable]

    def _filter(self, name: str, value: Any) -> Any:
        contains = name in ("url_contains", "path_contains")
        return require_part(name, value) if contains else super()._filter(name, value)

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        status: Any = self.model.response_status
        match name:
            case "status" if isinstance(value, range):
                found: peewee.Expression = status.between(value.start, value.stop - 1)
            case "status":
                found = super()._condition("response_status", value)
            case "url_contains" | "path_contains":
                column = self.model._meta.fields[f"request_{name.removesuffix('_contains')}"]
                found = self._database.contains(column, value)
            case _:
                found = super()._condition(name, value)
        return found

    def get(self, trace_id: int, /, *, bodies: bool = False) -> R:
        """Return the request with that trace id.

        Raises:
            NotFoundError: when there is none.
        """

        def make(query: Any) -> Select[R]:
            return Select(query.select(*self._fields(bodies=bodies)))

        filters = {"trace_id": require_id("trace_id", trace_id)}
        statement, parameters = self._compiled(("get", bodies), filters, make)
        row = self._read(partial(statement.first, self._database, parameters))
        if row is None:
            raise self._not_found(trace_id=trace_id)
        return row

    def clear_bodies(self, ids: int | Iterable[int]) -> int:
        """Set both bodies of requests to NULL, all or none; return how many had one.

        An empty list clears nothing.

        Raises:
            InvalidValue: when an id is not an int.
        """
        return self._write_all(self._clearing(), require_ids("ids", ids))

    def clear_all_bodies(self) -> int:
        """Set every body to NULL, in one transaction; return how many requests had one."""
        return int(self._write(lambda: self._clearing().execute()))

    def _clearing(self) -> Any:
        request, response = self.model.request_body, self.model.response_body
        return self.model.update(request_body=None, response_body=None).where(
            request.is_null(False) | response.is_null(False)
        )

    def _values(self, row: Mapping[str, Any], redact: bool) -> dict[str, Any]:
        """Return a row's checked values by column, without credentials if `redact`."""
        values = self.log.values(row, now())
        for name in values.keys() & REDACTORS.keys():
            if redact:
                values[name] = REDACTORS[name](values[name])
            elif isinstance(values[name], Mapping):
                values[name] = dict(values[name])
        self._check(values)
        return values

    def _store(self, values: dict[str, Any]) -> R:
        if values.get("trace_id") is not None:
            self._database.will_insert_id(self._key, values["trace_id"])
        return self._inserted(values)


def require_part(argument: str, value: Any) -> str:
    """Return the text to search for; not empty, because every text contains that."""
    text = check_text(TextField(column_name=argument), value)
    if not text:
        raise InvalidValue(f"{argument} must not be empty; leave it out for all", argument=argument)
    return text
