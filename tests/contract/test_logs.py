"""Pages, iteration and retention of logs: each row once, newest first, on every backend."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, NotFoundError
from gproxy_storage.models import Provider, Usage
from tests.cases import for_each
from tests.contract.support import NOW, insert, refused_unasked, rows_of
from tests.support import SQLITE_ALONE, assert_query_count, recorded

STEP = timedelta(microseconds=1)


def record_at(storage: Storage, *microseconds: int) -> list[int]:
    """Record a usage so many microseconds after NOW each; return their trace ids."""
    return [storage.usages.record(at=NOW + place * STEP).trace_id for place in microseconds]


def pages(storage: Storage, limit: int, **filters: Any) -> list[list[int]]:
    """Read page after page to the last."""
    found, cursor = [], None
    while True:
        page = storage.usages.list(limit=limit, cursor=cursor, **filters)
        found.append([row.trace_id for row in page])
        assert len(found) <= storage.usages.count(), "a page was read twice"
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_newest_first_then_by_trace_id(storage: Storage) -> None:
    a, b, c, d, e = record_at(storage, 5, 1, 5, 9, 1)

    assert [row.trace_id for row in storage.usages.list()] == [d, c, a, e, b]
    assert [row.trace_id for row in storage.usages.iter()] == [d, c, a, e, b]
    assert pages(storage, 2) == [[d, c], [a, e], [b]]
    assert pages(storage, 1) == [[d], [c], [a], [e], [b]]
    assert pages(storage, 5) == [[d, c, a, e, b]]


def test_list_and_get_return_all_columns(storage: Storage) -> None:
    usage = storage.usages.record(model="m", cost=0.125, at=NOW, input_tokens=1)

    (listed,), got = storage.usages.list(), storage.usages.get(usage.trace_id)
    assert listed.__data__ == got.__data__ == {**dict.fromkeys(got.__data__), **usage.__data__}
    assert (listed.at, listed.cost, listed.model) == (NOW, Decimal("0.125"), "m")


def test_pages_are_stable_while_rows_are_added_and_deleted(storage: Storage) -> None:
    old = record_at(storage, *[7] * 6)
    first = storage.usages.list(limit=2)
    record_at(storage, 7, 8, 9)  # newer, and of the same time as all
    storage.usages.delete([first[-1].trace_id, old[0]])
    second = storage.usages.list(limit=2, cursor=first.next_cursor)
    third = storage.usages.list(limit=2, cursor=second.next_cursor)

    assert [row.trace_id for row in (*first, *second, *third)] == [*reversed(old[1:])]
    assert third.next_cursor is None


def test_a_page_has_100_rows_by_default(storage: Storage) -> None:
    record_at(storage, *range(101))

    assert len(storage.usages.list()) == 100
    assert len(storage.usages.list(limit=None)) == 101
    assert storage.usages.list(limit=0) == []
    assert storage.usages.list(limit=101).next_cursor is None


def test_iter_reads_in_batches(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gproxy_storage.repositories.logs._ROWS_A_BATCH", 3)
    ids = record_at(storage, *[1] * 8)
    with assert_query_count(storage.database, 3):
        assert [row.trace_id for row in storage.usages.iter()] == [*reversed(ids)]

    with assert_query_count(storage.database, 0):
        rows = storage.usages.iter()
    with assert_query_count(storage.database, 1):
        next(rows)


def test_a_page_begins_at_its_cursor_whatever_until_is(storage: Storage) -> None:
    """Two upper bounds of the time would make SQLite begin at the first of them."""
    ids = record_at(storage, 1, 2, 3, 4, 5)
    middle = NOW + 3 * STEP
    for until, expected in ((NOW + timedelta(days=1), ids[:4]), (middle, ids[:3])):
        cursor = storage.usages.list(limit=1).next_cursor
        with recorded(storage.database) as statements:
            rows = storage.usages.list(cursor=cursor, until=until)
        assert [row.trace_id for row in rows] == expected[::-1]
        (sql,) = statements.sent
        assert sql.count("<= ") == 1 + (until == middle)


def test_one_page_is_one_query(storage: Storage) -> None:
    record_at(storage, 1, 2, 3)
    with assert_query_count(storage.database, 2):
        cursor = storage.usages.list(limit=2).next_cursor
        storage.usages.list(limit=2, cursor=cursor, channel="openai", user_id=[1, None])
    with assert_query_count(storage.database, 2):
        storage.usages.count(channel="openai", since=NOW)
        storage.usages.summarize(channel="openai")


def test_the_channel_is_the_providers(storage: Storage) -> None:
    with storage.session():
        ids = {
            name: insert(Provider, name=name, channel=channel).id
            for name, channel in (("a", "openai"), ("b", "openai"), ("c", "Claude"))
        }
    for provider_id in (*ids.values(), None):
        storage.usages.record(provider_id=provider_id)

    def found(channel: Any) -> set[int | None]:
        return {row.provider_id for row in storage.usages.list(channel=channel)}

    assert found("openai") == {ids["a"], ids["b"]}
    assert found(["openai", "Claude"]) == set(ids.values())
    assert found("claude") == set()
    assert storage.usages.count(channel="openai") == 2
    assert storage.usages.summarize(channel=["Claude"]).count == 1


def test_get_of_nothing_names_table_and_key(storage: Storage) -> None:
    with pytest.raises(NotFoundError) as caught:
        storage.usages.get(7)
    assert (caught.value.table, caught.value.key) == ("usages", 7)


# -- deletion -----------------------------------------------------------------------------------


def test_delete_takes_ids_only(storage: Storage) -> None:
    a, b, c = record_at(storage, 1, 2, 3)

    with assert_query_count(storage.database, 0):
        assert storage.usages.delete([]) == 0
    assert storage.usages.delete([a, 10**9]) == 1
    assert storage.usages.delete(b) == 1
    with storage.session():
        assert rows_of(Usage, "trace_id") == [(c,)]
    assert storage.usages.delete_all() == 1
    assert storage.usages.delete_all() == 0


def test_retention_deletes_what_is_older(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gproxy_storage.repositories.logs.BATCH_ROWS", 2)
    kept = record_at(storage, 10, 11)
    record_at(storage, *range(5))

    assert storage.usages.delete_before(NOW + 10 * STEP) == 5
    assert storage.usages.delete_before(NOW + 10 * STEP) == 0
    with storage.session():
        assert rows_of(Usage, "trace_id") == [(trace_id,) for trace_id in kept]


# -- bad input ----------------------------------------------------------------------------------

BAD_FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"since": NOW.replace(tzinfo=None)}, "since"),
    ({"until": "2026-01-01"}, "until"),
    ({"until": None}, "until"),
    ({"user_id": "1"}, "user_id"),
    ({"user_id": [1, "2"]}, "user_id"),
    ({"provider_id": True}, "provider_id"),
    ({"model": 1}, "model"),
    ({"operation": b"x"}, "operation"),
    ({"channel": 7}, "channel"),
    ({"downstream_trace_id": 2**63}, "downstream_trace_id"),
]


@SQLITE_ALONE
@for_each(("filters", "argument"), BAD_FILTERS)
@for_each("method", ["list", "iter", "count", "summarize"])
def test_a_filter_that_no_value_can_fit_is_refused(
    storage: Storage, method: str, filters: dict[str, Any], argument: str
) -> None:
    with refused_unasked(storage, argument):
        getattr(storage.usages, method)(**filters)


@SQLITE_ALONE
@for_each("method", ["list", "iter", "count", "summarize", "summarize_by"])
@for_each("name", ["users_id", "trace_id", "order_by", "at", "cost"])
def test_an_unknown_filter_is_a_type_error(storage: Storage, method: str, name: str) -> None:
    says = rf"^{method}\(\) got .*'{name}'; .*known are .*user_id"
    with refused_unasked(storage, kind=TypeError, match=says):
        getattr(storage.usages, method)(**{name: None})


@for_each(
    "cursor",
    [
        *("", "x", "~", "1~2", "2026-01-01T00:00:00Z", "2026-01-01~x", 7, b"a~b"),
        *(f"{NOW}~{changed}" for changed in (2**63, "+7", " 7", "07", "1_0")),
    ],
)
def test_what_is_no_cursor_is_refused(storage: Storage, cursor: Any) -> None:
    with pytest.raises(InvalidValue, match="next_cursor of a page") as caught:
        storage.usages.list(cursor=cursor)
    assert caught.value.argument == "cursor"


@SQLITE_ALONE
@for_each("limit", [-1, "1", 1.0, True, 2**63])
def test_what_is_no_limit_is_refused(storage: Storage, limit: Any) -> None:
    with refused_unasked(storage, "limit"):
        storage.usages.list(limit=limit)


@SQLITE_ALONE
@for_each("ids", ["1", ["1"], [1, None], None, 1.0, {1: 2}, True])
def test_what_are_no_ids_deletes_nothing(storage: Storage, ids: Any) -> None:
    (trace_id,) = record_at(storage, 1)
    with refused_unasked(storage, "ids"):
        storage.usages.delete(ids)
    assert storage.usages.get(trace_id)


# -- times as GPROXY writes them into SQLite ----------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_pages_over_the_texts_of_sqlx(storage: Storage) -> None:
    texts = [
        *("2026-03-04T05:06:07.123456001Z", "2026-03-04T05:06:07.123456Z"),
        *("2026-03-04T05:06:07.123456999Z", "2026-03-04T05:06:07Z"),
        *("2026-03-04T05:06:07.5Z", "2026-03-04T05:06:07.500000Z", "2026-03-04T05:06:08.000000Z"),
    ]
    for text in texts:
        usage = storage.usages.record()
        with storage.session():
            storage.database.execute_sql(
                "UPDATE usages SET at = ? WHERE trace_id = ?", (text, usage.trace_id)
            )
    everything = [row.trace_id for row in storage.usages.list()]

    assert len(everything) == len(texts)
    for limit in (1, 2, 3):
        assert [row for page in pages(storage, limit) for row in page] == everything
    assert storage.usages.list()[1].at == NOW.replace(microsecond=0)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_bounds_over_the_texts_of_sqlx(storage: Storage) -> None:
    """As `LogFilters` says: a whole second counts as the end of that second."""
    usage = storage.usages.record()
    with storage.session():
        storage.database.execute_sql("UPDATE usages SET at = '2026-03-04T05:06:07Z'")
    second = NOW.replace(microsecond=0)

    assert storage.usages.get(usage.trace_id).at == second
    assert storage.usages.count(since=second) == 1
    assert storage.usages.count(since=second + timedelta(seconds=0.999999)) == 1
    assert storage.usages.count(since=second + timedelta(seconds=1)) == 0
    assert storage.usages.count(until=second) == 0
    assert storage.usages.count(until=second + timedelta(seconds=1)) == 1
    (((start,), _),) = storage.usages.summarize_by("hour")
    assert start == second.replace(minute=0, second=0)
