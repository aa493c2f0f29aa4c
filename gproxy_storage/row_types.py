"""The rows of the logs, declared once as TypedDicts, for `record` and `submit_...`.

The keys are the model's columns, which a test compares; a column of headers is given without its
``_json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Required, TypeAlias, TypedDict

from .money import Amount

Headers: TypeAlias = Mapping[str, Any] | Sequence[Sequence[str]]
"""Headers as JSON: a mapping, or (name, value) pairs where names repeat."""

Body: TypeAlias = bytes | bytearray | memoryview
"""A body as it was sent."""


class UsageRow(TypedDict, total=False):
    """The usage and cost of a call. Absent or None is NULL, except where stated.

    Attributes:
        downstream_trace_id: the trace id of the request that caused the call.
        at: the time of the call, an aware datetime; default now.
        provider_id: the provider that answered; NULL if that row does not exist, as in the next
            three.
        credential_id: the credential used.
        user_id: the caller. The cost is added to this user's quota.
        user_key_id: the API key used.
        operation: default ``generate``.
        protocol: default ``openai``.
        model: as in the request.
        input_tokens: >= 0, as the next five.
        output_tokens: tokens of the answer.
        cache_read_input_tokens: tokens read from the provider's cache.
        cache_creation_input_tokens: tokens written into it.
        cache_creation_input_tokens_5min: of these, those for five minutes.
        cache_creation_input_tokens_1h: of these, those for an hour.
        cost: in the currency of the quotas, 0 to 1,000,000, rounded to 1e-9; default 0.
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
    """The fields of upstream and downstream requests. Absent or None is NULL, except where stated.

    Attributes:
        at: when it was sent or received, an aware datetime; default now.
        internal: whether the proxy itself caused it; default False.
        request_method: required.
        request_headers: default none; credentials in them are replaced unless `redact` is False.
        request_body: as it was sent.
        response_status: for example 200.
        response_headers: as `request_headers`.
        response_body: as it was sent.
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
    """A request that the proxy sent to a provider: a `RequestRow` with these fields.

    Attributes:
        downstream_trace_id: the trace id of the request that caused it.
        provider_id: the provider; NULL if that row does not exist, as in the next one.
        credential_id: the credential used.
        request_url: credentials in it are replaced unless `redact` is False.
        initial_latency_ms: until the first byte of the response, >= 0.
        total_latency_ms: until the last byte, >= 0.
    """

    downstream_trace_id: int | None
    provider_id: int | None
    credential_id: int | None
    request_url: str | None
    initial_latency_ms: int | None
    total_latency_ms: int | None


class ReceivedRow(RequestRow, total=False):
    """A request that a user sent to the proxy, without trace id: a `RequestRow` with these fields.

    Attributes:
        user_id: the sender; NULL if that row does not exist, as in the next one.
        user_key_id: the API key used.
        request_path: required; credentials in it are replaced unless `redact` is False.
        request_query: the part after the ``?``; likewise.
    """

    user_id: int | None
    user_key_id: int | None
    request_path: Required[str]
    request_query: str | None


class DownstreamRow(ReceivedRow, total=False):
    """A request that a user sent to the proxy: a `ReceivedRow` with its trace id.

    Attributes:
        trace_id: chosen by the caller, 1 to 2**63 - 2; default the next generated one.
    """

    trace_id: int | None


class SubmittedDownstreamRow(ReceivedRow):
    """A request that a user sent to the proxy, for a sink: a `ReceivedRow` with its trace id.

    Attributes:
        trace_id: required, for a sink does not wait for the database to generate one.
    """

    trace_id: int
