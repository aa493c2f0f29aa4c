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
    """What a call used and cost. What is absent or None is NULL, but for what is said here.

    Attributes:
        downstream_trace_id: that of the request which caused the call.
        at: when it was made, an aware datetime; now where absent.
        provider_id: who answered; NULL where that row does not exist, as in the next three.
        credential_id: by which credential.
        user_id: who called. The cost is added to this user's quota.
        user_key_id: by which API key.
        operation: ``generate`` where absent.
        protocol: ``openai`` where absent.
        model: as the request named it.
        input_tokens: >= 0, as the next five.
        output_tokens: of the answer.
        cache_read_input_tokens: read from the provider's cache.
        cache_creation_input_tokens: written into it.
        cache_creation_input_tokens_5min: of these, for five minutes.
        cache_creation_input_tokens_1h: of these, for an hour.
        cost: in the currency of the quotas, >= 0 and at most 1,000,000, rounded to 1e-9; 0 where
            absent.
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
    """What requests of both sides have. What is absent or None is NULL, but for what is said here.

    Attributes:
        at: when it was sent or came in, an aware datetime; now where absent.
        internal: whether the proxy itself caused it; False where absent.
        request_method: must be given.
        request_headers: none where absent; credentials in them are replaced unless `redact` is
            False.
        request_body: as it went over the wire.
        response_status: for example 200.
        response_headers: as `request_headers`.
        response_body: as it went over the wire.
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
    """A request that the proxy sent to a provider: a `RequestRow` and what is named here.

    Attributes:
        downstream_trace_id: that of the request which caused it.
        provider_id: to whom; NULL where that row does not exist, as in the next one.
        credential_id: by which credential.
        request_url: credentials in it are replaced unless `redact` is False.
        initial_latency_ms: until the first byte of the response, >= 0.
        total_latency_ms: until the last, >= 0.
    """

    downstream_trace_id: int | None
    provider_id: int | None
    credential_id: int | None
    request_url: str | None
    initial_latency_ms: int | None
    total_latency_ms: int | None


class ReceivedRow(RequestRow, total=False):
    """A request that a user sent to the proxy, without its key: a `RequestRow` and these.

    Attributes:
        user_id: who sent it; NULL where that row does not exist, as in the next one.
        user_key_id: by which API key.
        request_path: must be given; credentials in it are replaced unless `redact` is False.
        request_query: what stands behind the ``?``; likewise.
    """

    user_id: int | None
    user_key_id: int | None
    request_path: Required[str]
    request_query: str | None


class DownstreamRow(ReceivedRow, total=False):
    """A request that a user sent to the proxy: a `ReceivedRow` and its key.

    Attributes:
        trace_id: the caller's own, 1 to 2**63 - 2; the next free one where absent.
    """

    trace_id: int | None


class SubmittedDownstreamRow(ReceivedRow):
    """A request that a user sent to the proxy, for a sink: a `ReceivedRow` and its key.

    Attributes:
        trace_id: must be given, for a sink does not wait for the database to give one out.
    """

    trace_id: int
