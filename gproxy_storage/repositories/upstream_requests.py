"""Upstream requests: those that the proxy sent to providers, with their responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from ..log_rows import UPSTREAM_REQUESTS
from ..models import UpstreamRequest
from ..row_types import UpstreamRow
from .pages import PAGE_ROWS, Page
from .reading import Filter
from .requests import RequestFilters, Requests


class UpstreamFilters(RequestFilters, total=False):
    """The filters of upstream requests.

    Attributes:
        channel: the current channel of the provider.
        url_contains: a part of the URL; case-sensitive, and no character is special.
    """

    provider_id: Filter[int | None]
    credential_id: Filter[int | None]
    channel: Filter[str]
    downstream_trace_id: Filter[int | None]
    url_contains: str


class UpstreamRequests(Requests[UpstreamRequest]):
    """The requests that the proxy sent to providers."""

    model = UpstreamRequest
    filters = UpstreamFilters
    log = UPSTREAM_REQUESTS

    def record(self, *, redact: bool = True, **row: Unpack[UpstreamRow]) -> UpstreamRequest:
        """Store a request and its response.

        A provider or credential that does not exist is stored as NULL.

        Args:
            redact: False stores headers and URL as they are, with credentials.
            row: the fields of an `UpstreamRow`.
        Raises:
            InvalidValue: when a value cannot be stored, or a latency is negative.
            TypeError: when a field is unknown or missing.
        """
        return self._record(self._values(row, redact), self._store)

    def list(
        self,
        *,
        limit: int | None = PAGE_ROWS,
        cursor: str | None = None,
        bodies: bool = False,
        **filters: Unpack[UpstreamFilters],
    ) -> Page[UpstreamRequest]:
        """Return a page of the matching requests, newest first.

        Raises:
            InvalidValue: when a filter, the limit or the cursor is invalid.
        """
        return self._page(filters, limit, cursor, bodies=bodies)

    def iter(
        self, *, bodies: bool = False, **filters: Unpack[UpstreamFilters]
    ) -> Iterator[UpstreamRequest]:
        """Iterate over the matching requests, newest first, reading them in batches."""
        return self._pages(filters, bodies=bodies)

    def count(self, **filters: Unpack[UpstreamFilters]) -> int:
        """Return the number of matching requests."""
        return self._count(**filters)
