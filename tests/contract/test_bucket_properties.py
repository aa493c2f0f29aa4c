"""Sums by ranges of SQLite's index on time are those by GROUP BY, whatever text the times are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gproxy_storage import Storage
from gproxy_storage.backends import sqlite_values
from gproxy_storage.backends.sqlite_buckets import MOST_RANGES
from gproxy_storage.repositories.dashboard import DAY_S
from gproxy_storage.repositories.traffic import Overview
from tests.support import SQLITE_ALONE, recorded

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)

FRACTIONS = st.sampled_from(["", ".000000", ".5", ".500000", ".999999", ".000001", ".9999"]) | (
    st.integers(1, 10**9 - 1).map(lambda nano: f".{nano:09}".rstrip("0"))  # as GPROXY writes them
)
LENGTHS = st.sampled_from([1, 7, 60, 3600, DAY_S, 7 * DAY_S, 2**62]) | st.integers(1, 10**6)
ANCHORS = st.sampled_from([EARLIEST, -1, 0, 1_772_323_200, LATEST]) | (
    st.integers(EARLIEST, LATEST)
)


def at_second(unix_s: int) -> datetime:
    return EPOCH + timedelta(seconds=max(EARLIEST, min(unix_s, LATEST)))


def stored(unix_s: int, fraction: str, zone: str) -> str:
    return at_second(unix_s).isoformat()[:19] + fraction + zone


@st.composite
def periods(draw: st.DrawFn) -> tuple[list[str], datetime, datetime, int]:
    """Stored times, and a period about them with the length of its buckets."""
    length, anchor = draw(LENGTHS), draw(ANCHORS)
    near_a_bound = st.builds(
        lambda bucket, second: (anchor // length + bucket) * length + second,
        st.integers(-3, 3),
        st.integers(-2, 1),
    )
    seconds = near_a_bound | st.integers(anchor - 3 * length, anchor + 3 * length)
    rows = st.builds(stored, seconds, FRACTIONS, st.sampled_from(["Z", "Z", "+00:00"]))
    bound = st.builds(
        lambda second, micro: at_second(second) + timedelta(microseconds=micro),
        seconds,
        st.sampled_from([0, 1, 500_000, 999_999]),
    )
    since, until = sorted((draw(bound), draw(bound)))
    return draw(st.lists(rows, max_size=12)), since, until, length


def store(storage: Storage, times: list[str]) -> None:
    for place, at in enumerate(times):
        storage.database.execute_sql(
            "INSERT INTO usages (at, created_at, operation, protocol, cost, input_tokens) "
            "VALUES (?, ?, '', '', ?, ?)",
            [at, at, place / 3, 2**place],
        )
        storage.database.execute_sql(
            "INSERT INTO upstream_requests (at, created_at, internal, request_method, "
            "request_headers_json, response_headers_json, response_status, total_latency_ms) "
            "VALUES (?, ?, 0, 'POST', '{}', '{}', 200, ?)",
            [at, at, 2**place],
        )


def grouped(
    storage: Storage, since: datetime, until: datetime, length: int, *, fill: bool = False
) -> Overview:
    with patch.object(sqlite_values, "MOST_RANGES", 0):
        return storage.dashboard.overview(since, until, bucket_s=length, fill=fill)


@SQLITE_ALONE
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(period=periods(), fill=st.booleans())
@example(
    # The second of a bound without a fraction sorts after the same second with one.
    period=(
        ["2026-01-01T23:59:59Z", "2026-01-02T00:00:00.5Z", "2026-01-02T00:00:00Z"],
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 3, tzinfo=UTC),
        DAY_S,
    ),
    fill=False,
)
def test_sums_by_ranges_are_those_by_groups(
    storage: Storage, period: tuple[list[str], datetime, datetime, int], fill: bool
) -> None:
    times, *arguments, length = period
    since, until = arguments
    with storage.transaction():
        storage.usages.delete_all()
        storage.upstream_requests.delete_all()
        store(storage, times)

    found = storage.dashboard.overview(since, until, bucket_s=length, fill=fill)
    assert found == grouped(storage, since, until, length, fill=fill)


@SQLITE_ALONE
def test_rows_are_grouped_only_into_many_buckets(storage: Storage) -> None:
    """Ranges take a time for each bucket, even if it is empty."""
    since = datetime(2026, 3, 4, tzinfo=UTC)
    for second in range(0, MOST_RANGES, 90):
        storage.usages.record(at=since + timedelta(seconds=second), cost="0.1")
    most = since + timedelta(seconds=MOST_RANGES - 1)
    for until, is_grouped in ((most, False), (most + timedelta(seconds=1), True)):
        with recorded(storage.database) as statements:
            found = storage.dashboard.overview(since, until, bucket_s=1)
        assert ["GROUP BY" in sql for sql in statements.sent] == [is_grouped] * 2
        assert found == grouped(storage, since, until, 1)
        assert len(found.buckets) == 12
