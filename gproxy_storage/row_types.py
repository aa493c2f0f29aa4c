"""What `record` and `submit_...` take: each log's row, declared once for type checkers.

The keys of a TypedDict are its model's columns, which a test compares; a column of headers is given
without its ``_json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Required, TypeAlias, TypedDict

from .money import Amount

Headers: TypeAlias = Mapping[str, Any] | Sequence[Sequence[str]]
"""Headers as JSON: a mapping, or (name, value) pairs where names repeat."""

Body: TypeAlias = bytes | bytearray | memoryview
"""A body as it went over the wire."""


class UsageRow(TypedDict, total=False):
    """What a call used and cost.

    Attributes:
        at: when it was made; now where absent.
        cost: in the currency of the quotas, >= 0 and at most 1,000,000; rounded to 1e-9.
    """

    downstream_trace_id: int | None
    at: datetime | None
    provider_id: int | None
    credential_id: int | None
    user_id: int | None
    user_key_id: int | None
    operation: str
    protocol: str
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_input_tokens: int | None
    cache_creation_input_tokens: int | None
    cache_creation_input_tokens_5min: int | None
    cache_creation_input_tokens_1h: int | None
    cost: Amount


class RequestRow(TypedDict, total=False):
    """What requests of both sides have.

    Attributes:
        at: when it was sent or came in; now where absent.
        internal: whether the proxy itself caused it.
    """

    at: datetime | None
    internal: bool
    request_method: Required[str]
    request_headers: Headers | None
    request_body: Body | None
    response_status: int | None
    response_headers: Headers | None
    response_body: Body | None


class UpstreamRow(RequestRow, total=False):
    """A request that the proxy sent to a provider.

    Attributes:
        downstream_trace_id: that of the request which caused it.
        initial_latency_ms: until the first byte of the response; total: until the last.
    """

    downstream_trace_id: int | None
    provider_id: int | None
    credential_id: int | None
    request_url: str | None
    initial_latency_ms: int | None
    total_latency_ms: int | None


class ReceivedRow(RequestRow, total=False):
    """A request that a user sent to the proxy, without its key."""

    user_id: int | None
    user_key_id: int | None
    request_path: Required[str]
    request_query: str | None


class DownstreamRow(ReceivedRow, total=False):
    """A request that a user sent to the proxy.

    Attributes:
        trace_id: the caller's own, 1 to 2**63 - 2; the next free one where absent.
    """

    trace_id: int | None


class SubmittedDownstreamRow(ReceivedRow):
    """The same for a sink, which cannot wait for the database to give a key out."""

    trace_id: int
