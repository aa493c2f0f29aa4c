"""Downstream requests: those that users sent to the proxy, with their responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from ..log_rows import DOWNSTREAM_REQUESTS
from ..models import DownstreamRequest
from ..row_types import DownstreamRow
from .arguments import require_given_id
from .pages import PAGE_ROWS, Page
from .reading import Filter
from .requests import RequestFilters, Requests


class DownstreamFilters(RequestFilters, total=False):
    """The filters of downstream requests.

    Attributes:
        path_contains: a part of the path, without the query; case-sensitive, and no character
            is special.
    """

    user_id: Filter[int | None]
    user_key_id: Filter[int | None]
    path_contains: str


class DownstreamRequests(Requests[DownstreamRequest]):
    """The requests that users sent to the proxy."""

    model = DownstreamRequest
    filters = DownstreamFilters
    log = DOWNSTREAM_REQUESTS

    def record(self, *, redact: bool = True, **row: Unpack[DownstreamRow]) -> DownstreamRequest:
        """Store a request and its response.

        A user or key that does not exist is stored as NULL.

        Args:
            redact: False stores headers, path and query as they are, with credentials.
            row: the fields of a `DownstreamRow`. Generated trace ids are greater than all that
                were given.
        Raises:
            ConflictError: when a request with that trace id exists.
            InvalidValue: when a value cannot be stored.
            TypeError: when a field is unknown or missing.
        """
        if row.get("trace_id") is None:
            row.pop("trace_id", None)
        else:
            require_given_id("trace_id", row["trace_id"])
        return self._record(self._values(row, redact), self._store)

    def list(
        self,
        *,
        limit: int | None = PAGE_ROWS,
        cursor: str | None = None,
        bodies: bool = False,
        **filters: Unpack[DownstreamFilters],
    ) -> Page[DownstreamRequest]:
        """Return a page of the matching requests, newest first.

        Raises:
            InvalidValue: when a filter, the limit or the cursor is invalid.
        """
        return self._page(filters, limit, cursor, bodies=bodies)

    def iter(
        self, *, bodies: bool = False, **filters: Unpack[DownstreamFilters]
    ) -> Iterator[DownstreamRequest]:
        """Iterate over the matching requests, newest first, reading them in batches."""
        return self._pages(filters, bodies=bodies)

    def count(self, **filters: Unpack[DownstreamFilters]) -> int:
        """Return the number of matching requests."""
        return self._count(**filters)
