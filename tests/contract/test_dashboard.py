"""The dashboard: what it counts, in which bucket, and what comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gproxy_storage import Storage
from gproxy_storage.models import Provider
from gproxy_storage.repositories.traffic import Bucket, Overview, TopModel, TopProvider, Traffic
from tests.cases import for_each
from tests.contract.support import insert, refused_unasked
from tests.support import ONE_BACKEND, SQLITE_ALONE, assert_query_count

DAY = datetime(2026, 3, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
STEP = timedelta(microseconds=1)
NOTHING = Traffic(0, 0, 0, 0, 0, 0, Decimal(0), 0, 0, 0, 0, None, None)


def request(storage: Storage, at: datetime, **given: Any) -> None:
    storage.upstream_requests.record(request_method="POST", at=at, **given)


def test_an_empty_database_has_an_empty_overview(storage: Storage) -> None:
    assert storage.dashboard.overview(DAY, DAY + HOUR) == Overview(NOTHING, [])
    assert storage.dashboard.top_providers(DAY, DAY + HOUR) == []
    assert storage.dashboard.top_models(DAY, DAY + HOUR) == []


def test_the_overview_sums_usages_and_requests_by_bucket(storage: Storage) -> None:
    tokens: dict[str, Any] = {
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 2**40,
        "cache_creation_input_tokens": 1,
    }
    storage.usages.record(at=DAY, cost=0.25, **tokens)
    storage.usages.record(at=DAY + HOUR - STEP, cost=0.5, input_tokens=1)
    storage.usages.record(at=DAY + 2 * HOUR, cost=1.0)
    for status, latency in ((200, 100), (299, 51), (404, 0), (499, None), (500, 1), (301, 0)):
        request(storage, DAY, response_status=status, total_latency_ms=latency)
    request(storage, DAY + HOUR, response_status=None, total_latency_ms=None)
    request(storage, DAY + HOUR, response_status=200, total_latency_ms=9999, internal=True)

    first = Traffic(
        *(2, 6, 6, 2, 2, 1),
        cost=Decimal("0.75"),
        input_tokens=101,
        output_tokens=20,
        cache_read_tokens=2**40,
        cache_creation_tokens=1,
        average_latency_ms=152 / 3,
        largest_latency_ms=100,
    )
    second = replace(NOTHING, logged=1, requests=1)
    third = replace(NOTHING, usages=1, requests=1, cost=Decimal(1))
    expected = Overview(
        replace(first, usages=3, logged=7, requests=8, cost=Decimal("1.75")),
        [Bucket(DAY + place * HOUR, each) for place, each in enumerate((first, second, third))],
    )
    with assert_query_count(storage.database, 2):
        found = storage.dashboard.overview(DAY, DAY + 2 * HOUR, bucket_s=3600)

    assert found == expected
    assert first.tokens == 121
    for name, value in ((name, getattr(found.total, name)) for name in Traffic.__slots__):
        assert type(value) is {"cost": Decimal, "average_latency_ms": float}.get(name, int)


def test_without_a_log_of_requests_usages_count(storage: Storage) -> None:
    for _ in range(3):
        storage.usages.record(at=DAY, cost=0.5)
    found = storage.dashboard.overview(DAY, DAY)

    assert found.total == replace(NOTHING, usages=3, requests=3, cost=Decimal("1.5"))
    assert found.buckets == [Bucket(DAY, found.total)]


def test_the_period_is_inclusive(storage: Storage) -> None:
    since, until = DAY + HOUR, DAY + 5 * HOUR
    for at in (since - STEP, since, until, until + STEP):
        storage.usages.record(at=at, cost=1.0)
        request(storage, at)

    found = storage.dashboard.overview(since, until)
    assert (found.total.usages, found.total.logged) == (2, 2)
    assert [bucket.start for bucket in found.buckets] == [DAY]
    assert storage.dashboard.top_models(since, until) == [TopModel(None, 2, Decimal("2.0"), 0)]


def test_empty_buckets_are_filled_in_on_request(storage: Storage) -> None:
    storage.usages.record(at=DAY + 2 * HOUR)
    since, until = DAY + HOUR / 2, DAY + 4 * HOUR
    found = storage.dashboard.overview(since, until, bucket_s=3600, fill=True)

    assert [bucket.start for bucket in found.buckets] == [DAY + place * HOUR for place in range(5)]
    assert [bucket.traffic.usages for bucket in found.buckets] == [0, 0, 1, 0, 0]
    assert found.buckets[0].traffic == NOTHING
    assert len(storage.dashboard.overview(since, until, bucket_s=3600).buckets) == 1


@ONE_BACKEND
@for_each("bucket_s", [1, 7, 60, 3600, 86_400, 604_800])
@for_each(
    "at",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 999_999, UTC),
        datetime(2026, 3, 1, 0, 0, 0, 1, UTC),
        datetime(2100, 2, 28, 23, 59, 59, 999_999, UTC),
    ],
)
def test_buckets_are_counted_from_1970(storage: Storage, at: datetime, bucket_s: int) -> None:
    storage.usages.delete_all()
    storage.usages.record(at=at)
    (bucket,) = storage.dashboard.overview(at, at, bucket_s=bucket_s).buckets
    (filled,) = storage.dashboard.overview(at, at, bucket_s=bucket_s, fill=True).buckets

    epoch, length = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=bucket_s)
    assert bucket.start <= at < bucket.start + length
    assert (bucket.start - epoch) % length == timedelta(0) or bucket.start.year == 1
    assert filled == bucket


def test_top_lists_are_sorted_by_usages_then_first_use(storage: Storage) -> None:
    with storage.session():
        ids = [insert(Provider, name=f"p{number}").id for number in range(12)]
    for place, provider_id in enumerate(ids):
        for _ in range(2 if place == 7 else 1):
            storage.usages.record(
                provider_id=provider_id,
                model=f"m{11 - place}",
                at=DAY,
                cost=0.5,
                input_tokens=3,
                output_tokens=4,
            )
    for _ in range(3):
        storage.usages.record(at=DAY, cost=1.0)
    storage.usages.record(at=DAY - STEP, provider_id=ids[11], model="m0")

    with assert_query_count(storage.database, 2):
        providers = storage.dashboard.top_providers(DAY, DAY)
    with assert_query_count(storage.database, 1):
        models = storage.dashboard.top_models(DAY, DAY)
    assert models[:3] == [
        *(
            TopModel(None, 3, Decimal("3.0"), 0),
            TopModel("m4", 2, Decimal("1.0"), 14),
            TopModel("m11", 1, Decimal("0.5"), 7),
        ),
    ]
    assert providers[:3] == [
        TopProvider(None, None, 3, Decimal("3.0"), 0),
        TopProvider(ids[7], "p7", 2, Decimal("1.0"), 14),
        TopProvider(ids[0], "p0", 1, Decimal("0.5"), 7),
    ]
    assert [each.name for each in providers[2:]] == [f"p{n}" for n in (*range(7), 8)]
    assert len(models) == 10
    assert storage.dashboard.top_models(DAY, DAY, limit=2) == models[:2]
    assert storage.dashboard.top_providers(DAY, DAY, limit=0) == []


@SQLITE_ALONE
@for_each(
    ("given", "argument"),
    [
        ({"since": DAY.replace(tzinfo=None)}, "since"),
        ({"until": "2026-01-01"}, "until"),
        ({"until": None}, "until"),
        ({"until": DAY - STEP}, "until"),
    ],
)
@for_each("method", ["overview", "top_providers", "top_models"])
def test_what_is_no_period_is_refused(
    storage: Storage, method: str, given: dict[str, Any], argument: str
) -> None:
    with refused_unasked(storage, argument):
        getattr(storage.dashboard, method)(**{"since": DAY, "until": DAY, **given})


@SQLITE_ALONE
@for_each("bucket_s", [0, -1, 1.0, "60", True])
def test_what_is_no_width_of_a_bucket_is_refused(storage: Storage, bucket_s: Any) -> None:
    with refused_unasked(storage, "bucket_s"):
        storage.dashboard.overview(DAY, DAY, bucket_s=bucket_s)


@SQLITE_ALONE
def test_too_many_buckets_to_fill_are_refused(storage: Storage) -> None:
    with refused_unasked(storage, match="more than the 100000 that can be filled in"):
        storage.dashboard.overview(DAY, DAY + 100 * 24 * HOUR, bucket_s=1, fill=True)


@SQLITE_ALONE
@for_each("limit", [-1, "1", None])
def test_what_is_no_limit_is_refused(storage: Storage, limit: Any) -> None:
    for method in (storage.dashboard.top_models, storage.dashboard.top_providers):
        with refused_unasked(storage, "limit"):
            method(DAY, DAY, limit=limit)
