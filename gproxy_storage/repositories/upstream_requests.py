"""Upstream requests: what the proxy sent to providers, and what came back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import peewee

from ..log_rows import UPSTREAM_REQUESTS
from ..models import UpstreamRequest
from ..row_types import UpstreamRow
from .arguments import require_at_least_zero
from .base import Filter
from .logs import of_channel
from .pages import PAGE_ROWS, Page
from .requests import RequestFilters, Requests, batch_rows


class UpstreamFilters(RequestFilters, total=False):
    """The filters of upstream requests.

    Attributes:
        channel: that of the provider as it is now.
        url_contains: a part of the URL; case counts, and no character is special.
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

        A provider or credential that no longer exists becomes NULL.

        Args:
            redact: False stores headers and URL as they are, credentials in them too.
            row: the fields of an `UpstreamRow`.
        Raises:
            InvalidValue: when a value cannot be stored, or a latency is negative.
            TypeError: when a field is unknown or missing.
        """
        values = self._values(row, redact)
        for name in ("initial_latency_ms", "total_latency_ms"):
            require_at_least_zero(name, values[name])
        return self._record(values, self._store)

    def list(
        self,
        *,
        limit: int | None = PAGE_ROWS,
        cursor: str | None = None,
        bodies: bool = False,
        **filters: Unpack[UpstreamFilters],
    ) -> Page[UpstreamRequest]:
        """Return a page of the requests that fit, newest first.

        Raises:
            InvalidValue: when a filter, the limit or the cursor cannot be.
        """
        return self._page(self._with_bodies(bodies, filters), limit, cursor)

    def iter(
        self, *, bodies: bool = False, **filters: Unpack[UpstreamFilters]
    ) -> Iterator[UpstreamRequest]:
        """Return the requests that fit, newest first, read as they are asked for."""
        return self._pages(self._with_bodies(bodies, filters), batch_rows(bodies))

    def count(self, **filters: Unpack[UpstreamFilters]) -> int:
        """Return how many requests fit."""
        return self._count(**filters)

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        if name == "url_contains":
            return self._contains(UpstreamRequest.request_url, name, value)
        if name == "channel":
            return of_channel(UpstreamRequest.provider, value)
        return super()._condition(name, value)
