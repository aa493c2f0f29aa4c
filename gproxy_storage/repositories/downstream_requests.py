"""Downstream requests: what users sent to the proxy, and what they got."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Unpack

import peewee

from ..models import DownstreamRequest
from .arguments import require_given_id
from .base import Filter, now
from .pages import PAGE_ROWS, Page
from .redaction import redact_query, redact_url
from .requests import Body, Headers, RequestFilters, Requests, batch_rows, stored_headers


class DownstreamFilters(RequestFilters, total=False):
    """The filters of downstream requests.

    Attributes:
        path_contains: a part of the path, without the query; case counts, and no character is
            special.
    """

    user_id: Filter[int | None]
    user_key_id: Filter[int | None]
    path_contains: str


class DownstreamRequests(Requests[DownstreamRequest]):
    """The requests that users sent to the proxy."""

    model = DownstreamRequest
    filters = DownstreamFilters

    def record(
        self,
        *,
        request_method: str,
        request_path: str,
        request_query: str | None = None,
        request_headers: Headers | None = None,
        request_body: Body | None = None,
        response_status: int | None = None,
        response_headers: Headers | None = None,
        response_body: Body | None = None,
        user_id: int | None = None,
        user_key_id: int | None = None,
        internal: bool = False,
        at: datetime | None = None,
        trace_id: int | None = None,
        redact: bool = True,
    ) -> DownstreamRequest:
        """Store a request and its response.

        A user or key that no longer exists becomes NULL.

        Args:
            internal: whether the proxy itself caused it.
            at: when it came in; now where absent.
            trace_id: the caller's own, 1 to 2**63 - 2; the next free one where absent. The
                database gives out none that is not above it.
            redact: False stores headers, path and query as they are, credentials in them too.
        Raises:
            ConflictError: when a request with that trace id exists.
            InvalidValue: when a value cannot be stored.
        """
        if trace_id is not None:
            trace_id = require_given_id("trace_id", trace_id)
        stored_at = now()
        values = {
            "trace_id": trace_id,
            "at": stored_at if at is None else at,
            "internal": internal,
            "user_id": user_id,
            "user_key_id": user_key_id,
            "request_method": request_method,
            "request_headers_json": stored_headers(request_headers, redact),
            "request_path": redact_url(request_path) if redact else request_path,
            "request_query": redact_query(request_query) if redact else request_query,
            "request_body": request_body,
            "response_status": response_status,
            "response_headers_json": stored_headers(response_headers, redact),
            "response_body": response_body,
            "created_at": stored_at,
        }
        if trace_id is None:
            del values["trace_id"]
        self._check(values)
        return self._record(values, self._store)

    def list(
        self,
        *,
        limit: int | None = PAGE_ROWS,
        cursor: str | None = None,
        bodies: bool = False,
        **filters: Unpack[DownstreamFilters],
    ) -> Page[DownstreamRequest]:
        """Return a page of the requests that fit, newest first.

        Raises:
            InvalidValue: when a filter, the limit or the cursor cannot be.
        """
        self._check_filters("list", filters)
        return self._page(self._with_bodies(bodies, filters), limit, cursor)

    def iter(
        self, *, bodies: bool = False, **filters: Unpack[DownstreamFilters]
    ) -> Iterator[DownstreamRequest]:
        """Return the requests that fit, newest first, read as they are asked for."""
        self._check_filters("iter", filters)
        return self._pages(self._with_bodies(bodies, filters), batch_rows(bodies))

    def count(self, **filters: Unpack[DownstreamFilters]) -> int:
        """Return how many requests fit."""
        self._check_filters("count", filters)
        return self._count(**filters)

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        if name == "path_contains":
            return self._contains(DownstreamRequest.request_path, name, value)
        return super()._condition(name, value)
