"""The results of the dashboard, and their computation from sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from ..money import from_nano


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of a bucket, or of all buckets.

    Attributes:
        usages: recorded usages.
        logged: upstream requests in the log, without those that the proxy itself caused.
        requests: the larger of `usages` and `logged`, because the log may be off and a failed
            request has no usage; of all buckets, the sum of theirs.
        ok: logged requests with a status of 2xx.
        client_errors: with 4xx.
        server_errors: with 5xx.
        cost: of the usages.
        input_tokens: the sum of the usages' column; likewise the next three.
        output_tokens: of `output_tokens`.
        cache_read_tokens: of `cache_read_input_tokens`.
        cache_creation_tokens: of `cache_creation_input_tokens`.
        average_latency_ms: of the logged requests with a total latency > 0; None without any.
        largest_latency_ms: likewise.
    """

    usages: int
    logged: int
    requests: int
    ok: int
    client_errors: int
    server_errors: int
    cost: Decimal
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    average_latency_ms: float | None
    largest_latency_ms: int | None

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Bucket:
    """A part of the period. Its start is aware UTC, a multiple of its length since 1970."""

    start: datetime
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Overview:
    """A period's total traffic, and its buckets in order of time."""

    total: Traffic
    buckets: Sequence[Bucket]


@dataclass(frozen=True, slots=True)
class TopProvider:
    """The usages of a provider; its id is None for deleted and unknown ones."""

    provider_id: int | None
    name: str | None
    requests: int
    cost: Decimal
    tokens: int


@dataclass(frozen=True, slots=True)
class TopModel:
    """The usages of a model; None for those without one."""

    model: str | None
    requests: int
    cost: Decimal
    tokens: int


class Used(NamedTuple):
    """Sums over usages."""

    rows: int = 0
    cost_nano: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0


class Logged(NamedTuple):
    """Sums over logged requests; latencies are those > 0."""

    rows: int = 0
    ok: int = 0
    client_errors: int = 0
    server_errors: int = 0
    latencies: int = 0
    latency_sum_ms: int = 0
    largest_latency_ms: int = 0


def traffic(used: Used, logged: Logged) -> Traffic:
    """Combine the sums of the two logs."""
    return Traffic(
        usages=used.rows,
        logged=logged.rows,
        requests=max(used.rows, logged.rows),
        ok=logged.ok,
        client_errors=logged.client_errors,
        server_errors=logged.server_errors,
        cost=from_nano(used.cost_nano),
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cache_read_tokens=used.cache_read_tokens,
        cache_creation_tokens=used.cache_creation_tokens,
        average_latency_ms=logged.latency_sum_ms / logged.latencies if logged.latencies else None,
        largest_latency_ms=logged.largest_latency_ms or None,
    )


def overview(parts: Sequence[tuple[datetime, Used, Logged]]) -> Overview:
    """Build an overview from the sums of its buckets."""
    buckets = [Bucket(start, traffic(used, logged)) for start, used, logged in parts]
    if not parts:
        return Overview(traffic(Used(), Logged()), buckets)
    _, all_used, all_logged = zip(*parts, strict=True)
    used = Used(*map(sum, zip(*all_used, strict=True)))
    *sums, latencies = zip(*all_logged, strict=True)
    logged = Logged._make([*map(sum, sums), max(latencies)])
    requests = sum(bucket.traffic.requests for bucket in buckets)
    return Overview(replace(traffic(used, logged), requests=requests), buckets)
