"""The dashboard: a period's traffic in total and by bucket, and its top providers and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from peewee import SQL, Case, fn

from ..backends.base import Backend
from ..database import run_query
from ..errors import InvalidValue
from ..models import Provider, UpstreamRequest, Usage
from ..money import from_nano
from .arguments import require_id
from .keywords import StrictKeywords
from .logs import require_time
from .reading import condition
from .summaries import EPOCH, TOKENS, bucket_start, ints
from .traffic import Logged, Overview, TopModel, TopProvider, Used, overview

DAY_S = 86_400
_SECOND = timedelta(seconds=1)
TOP = 10

MAX_BUCKETS = 100_000
"""Maximum number of buckets of an overview when empty ones are filled in."""

T = TypeVar("T", Used, Logged)

_COUNT = fn.COUNT(SQL("*"))
_TOKENS = tuple(fn.SUM(column) for column in TOKENS[:4])


def used_sums(database: Backend) -> tuple[Any, ...]:
    """Return the expressions of the attributes of `Used`."""
    return _COUNT, database.money_sum(Usage.cost), *_TOKENS


def logged_sums() -> tuple[Any, ...]:
    """Return the expressions of the attributes of `Logged`."""
    status: Any = UpstreamRequest.response_status
    latency: Any = Case(
        None, [(UpstreamRequest.total_latency_ms > 0, UpstreamRequest.total_latency_ms)]
    )
    classes = [
        fn.COUNT(Case(None, [(status.between(first, first + 99), 1)])) for first in (200, 400, 500)
    ]
    return _COUNT, *classes, fn.COUNT(latency), fn.SUM(latency), fn.MAX(latency)


class Dashboard(StrictKeywords):
    """Sums over the logs. Each method reads a period, whose bounds are both inclusive."""

    def __init__(self, database: Backend) -> None:
        self._database = database

    def overview(
        self, since: datetime, until: datetime, *, bucket_s: int = DAY_S, fill: bool = False
    ) -> Overview:
        """Sum up a period, in total and by bucket, in two queries.

        Usages are counted even if requests are not logged; statuses and latencies come from the
        log of upstream requests.

        Args:
            bucket_s: a bucket's length in seconds, >= 1; buckets are aligned to 1970-01-01 UTC, so
                the first may begin before `since`, but contains no earlier rows.
            fill: add buckets without traffic.
        Raises:
            InvalidValue: when a bound has no time zone, the period ends before it begins, or
                there would be more than `MAX_BUCKETS` to fill.
        """
        if require_id("bucket_s", bucket_s) < 1:
            raise InvalidValue("bucket_s must be >= 1", argument="bucket_s")
        _check_period(since, until)
        starts = _starts(since, until, bucket_s)
        if fill and (count := len(starts)) > MAX_BUCKETS:
            raise InvalidValue(
                f"the period has {count} buckets of {bucket_s} s, more than the {MAX_BUCKETS} "
                "that can be filled in: make them longer",
                argument="bucket_s",
            )
        period = since, until

        def read() -> tuple[dict[int, Used], dict[int, Logged]]:
            external = UpstreamRequest.select().where(condition(UpstreamRequest.internal, False))
            return (
                self._buckets(Usage.select(), period, starts, used_sums(self._database), Used),
                self._buckets(external, period, starts, logged_sums(), Logged),
            )

        used, logged = run_query(self._database, read)
        return overview(
            [
                (bucket_start(start), used.get(start, Used()), logged.get(start, Logged()))
                for start in sorted({*used, *logged, *(starts if fill else ())})
            ]
        )

    def top_providers(
        self, since: datetime, until: datetime, *, limit: int = TOP
    ) -> Sequence[TopProvider]:
        """Return the providers with the most usages in a period, most first, in two queries.

        Ties are ordered by first use.

        Raises:
            InvalidValue: when a bound has no time zone, the period ends before it begins, or the
                limit is negative.
        """
        query = self._top(Usage.provider, since, until, limit)

        def read() -> Sequence[TopProvider]:
            rows = list(query.tuples())
            ids = [row[0] for row in rows if row[0] is not None]
            named: Any = Provider.select(Provider.id, Provider.name).where(Provider.id.in_(ids))
            names: Mapping[int | None, str] = dict(named.tuples()) if ids else {}
            return [TopProvider(row[0], names.get(row[0]), *_ranked(*row[1:])) for row in rows]

        return run_query(self._database, read)

    def top_models(
        self, since: datetime, until: datetime, *, limit: int = TOP
    ) -> Sequence[TopModel]:
        """Return the models with the most usages in a period, most first, in one query.

        Ties are ordered by first use.

        Raises:
            InvalidValue: when a bound has no time zone, the period ends before it begins, or the
                limit is negative.
        """
        query = self._top(Usage.model, since, until, limit)
        return run_query(
            self._database,
            lambda: [TopModel(row[0], *_ranked(*row[1:])) for row in query.tuples()],
        )

    def _buckets(
        self,
        rows: Any,
        period: tuple[datetime, datetime],
        starts: range,
        sums: Sequence[Any],
        kind: type[T],
    ) -> dict[int, T]:
        """Return the sums over a log's rows by the Unix time of their bucket's start."""
        found = self._database.sums_by_time(rows, rows.model.at, period, starts, sums)
        return {int(start): kind(*ints(row)) for start, *row in found}

    def _top(self, column: Any, since: datetime, until: datetime, limit: int) -> Any:
        _check_period(since, until)
        if require_id("limit", limit) < 0:
            raise InvalidValue("limit must be >= 0", argument="limit")
        return (
            Usage.select(column, _COUNT, self._database.money_sum(Usage.cost), *_TOKENS[:2])
            .where(Usage.at.between(since, until))
            .group_by(column)
            .order_by(_COUNT.desc(), fn.MIN(Usage.trace_id))
            .limit(limit)
        )


def _check_period(since: datetime, until: datetime) -> None:
    if require_time("since", since) > require_time("until", until):
        raise InvalidValue("until must not be before since", argument="until")


def _starts(since: datetime, until: datetime, bucket_s: int) -> range:
    """Return the start of each bucket of a period, in Unix seconds."""
    first, last = ((at - EPOCH) // _SECOND // bucket_s * bucket_s for at in (since, until))
    return range(first, last + 1, bucket_s)


def _ranked(count: int, cost_nano: int, *tokens: Any) -> tuple[int, Decimal, int]:
    return count, from_nano(cost_nano), sum(ints(tokens))
