"""Usages: recorded with their cost, whatever became of who made them, and summed up."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue
from gproxy_storage.log_rows import USAGES
from gproxy_storage.models import Usage, UserQuota
from gproxy_storage.repositories.summaries import UsageSummary
from tests.cases import for_each
from tests.contract.support import (
    NOW,
    PARENTS,
    ids,
    in_threads,
    insert,
    parents,
    quotas,
    refused_unasked,
    rows_of,
    wipe,
)
from tests.support import SQLITE_ALONE, assert_query_count, sample_row

TOKENS = [
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation_input_tokens_5min",
    "cache_creation_input_tokens_1h",
]


def test_everything_is_stored(storage: Storage) -> None:
    counts = {name: 10**12 + place for place, name in enumerate(TOKENS)}
    given = sample_row(
        USAGES,
        **ids(parents(storage)),
        **counts,
        operation="embed",
        protocol="gemini",
        model="text-embedding-3",
        cost=0.125,
        at=NOW,
        downstream_trace_id=2**62,
    )
    usage = storage.usages.record(**given)

    with storage.session():
        (row,) = rows_of(Usage, "trace_id", *given)
    assert dict(zip(["trace_id", *given], row, strict=True)) == {
        "trace_id": usage.trace_id,
        **given,
    }


def test_what_is_not_given_is_null(storage: Storage) -> None:
    before = datetime.now(UTC)
    usage = storage.usages.record()

    assert before <= usage.at == usage.created_at <= datetime.now(UTC)
    with storage.session():
        (row,) = rows_of(Usage, *PARENTS, *TOKENS, "model", "downstream_trace_id", "cost")
    assert row == (*[None] * 12, 0.0)
    assert quotas(storage) == []


def test_the_cost_is_added_to_the_quota(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    with storage.session():
        insert(UserQuota, user=bob, quota=100.0, cost_used=1.0)
    for cost in (0.25, 0.5, 0.0):
        storage.usages.record(user_id=alice.id, cost=cost)
        storage.usages.record(user_id=bob.id, cost=cost)
    storage.usages.record(cost=8.0)

    assert sorted(quotas(storage)) == [(alice.id, 0.0, 0.75), (bob.id, 100.0, 1.75)]


def test_quotas_of_many_writers_are_exact(storage: Storage) -> None:
    users = [storage.users.create(name) for name in "abc"]

    def work() -> None:
        for number in range(24):
            storage.usages.record(user_id=users[number % 3].id, cost=0.25)

    in_threads(*[work] * 6)

    assert quotas(storage) == [(user.id, 0.0, 12.0) for user in users]
    assert storage.usages.summarize().count == 144
    assert storage.usages.summarize().cost == 36.0


@for_each("gone", list(PARENTS))
def test_a_deleted_parent_becomes_null(storage: Storage, gone: str) -> None:
    wipe(storage)
    rows = parents(storage)
    with storage.session():
        rows[gone].delete_instance()
    storage.usages.record(**ids(rows), cost=0.5)

    with storage.session():
        (found,) = rows_of(Usage, *PARENTS, "cost")
    expected = {column: row.get_id() for column, row in rows.items() if column != gone}
    assert dict(zip(PARENTS, found, strict=False)) == {**expected, gone: None}
    assert quotas(storage) == ([] if gone == "user_id" else [(expected["user_id"], 0.0, 0.5)])


def test_usages_of_a_deleted_user_are_kept(storage: Storage) -> None:
    rows = parents(storage)
    storage.usages.record(**ids(rows), cost=0.5, input_tokens=7)
    with storage.session():
        rows["user_id"].delete_instance()
    storage.usages.record(**ids(rows), cost=0.25)

    assert storage.usages.summarize(user_id=None).cost == 0.75
    assert storage.usages.summarize(user_id=rows["user_id"].get_id()).count == 0
    assert quotas(storage) == []


def test_all_parents_gone_inside_a_transaction(storage: Storage) -> None:
    with storage.transaction():
        gone: dict[str, Any] = dict.fromkeys(PARENTS, 10**9)
        storage.usages.record(**gone, cost=0.5)
        storage.usages.record(cost=0.25)

    assert storage.usages.summarize(user_id=None, provider_id=None).cost == 0.75


def test_the_usage_and_the_quota_are_one_transaction(storage: Storage) -> None:
    alice = storage.users.create("alice")
    with pytest.raises(ZeroDivisionError), storage.transaction():  # noqa: PT012 - the block is the subject
        storage.usages.record(user_id=alice.id, cost=0.5)
        raise ZeroDivisionError

    assert storage.usages.summarize().count == 0
    assert quotas(storage) == []
    with assert_query_count(storage.database, 3) as statements:  # COMMIT does not count
        storage.usages.record(user_id=alice.id, cost=0.5)
    assert statements.sent[0] == "BEGIN"


@for_each(
    ("given", "argument"),
    [
        ({"cost": -0.01}, "cost"),
        ({"cost": math.nan}, "cost"),
        ({"cost": math.inf}, "cost"),
        ({"cost": True}, "cost"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"output_tokens": 2**63}, "output_tokens"),
        ({"input_tokens": 1.5}, "input_tokens"),
        ({"at": NOW.replace(tzinfo=None)}, "at"),
        ({"operation": None}, "operation"),
        ({"model": 1}, "model"),
        ({"user_id": "alice"}, "user_id"),
        ({"downstream_trace_id": 2**63}, "downstream_trace_id"),
    ],
)
def test_bad_input_is_refused(storage: Storage, given: dict[str, Any], argument: str) -> None:
    alice = storage.users.upsert("alice")
    with pytest.raises(InvalidValue) as caught:
        storage.usages.record(**{"user_id": alice.id, "cost": 1.0, **given})

    assert (caught.value.argument or "").removeprefix("usages.") == argument
    assert storage.usages.summarize().count == 0
    assert quotas(storage) == []


# -- summaries ----------------------------------------------------------------------------------


def summary(*numbers: Any) -> UsageSummary:
    return UsageSummary(*numbers)


def test_sums_are_int_and_decimal(storage: Storage) -> None:
    counts: dict[str, Any] = dict.fromkeys(TOKENS, 2**60)
    storage.usages.record(**counts, cost=0.25)
    storage.usages.record(input_tokens=1, cost=0.5)
    storage.usages.record()
    found = storage.usages.summarize()

    assert found == summary(3, 2**60 + 1, *[2**60] * 5, 0.75)
    assert {type(getattr(found, name)) for name in ("count", *TOKENS)} == {int}
    assert type(found.cost) is Decimal


def test_the_sum_of_no_usages_is_zero(storage: Storage) -> None:
    found = storage.usages.summarize()

    assert found == summary(*[0] * 7, 0.0)
    assert type(found.cost) is Decimal


def test_filters_select_what_is_summed(storage: Storage) -> None:
    rows = ids(parents(storage))
    user, key, provider = rows["user_id"], rows["user_key_id"], rows["provider_id"]
    storage.usages.record(user_id=user, model="a", cost=1.0)
    storage.usages.record(user_key_id=key, model="A", cost=2.0)
    storage.usages.record(provider_id=provider, cost=4.0)

    def cost(**filters: Any) -> Decimal:
        return storage.usages.summarize(**filters).cost

    assert cost() == 7.0
    assert cost(user_id=user) == 1.0
    assert cost(user_id=None) == 6.0
    assert cost(user_id=[user, None]) == 7.0
    assert cost(user_id=[]) == 0.0
    assert cost(user_key_id=key) == 2.0
    assert cost(provider_id=provider) == 4.0
    assert cost(provider_id=[provider, 10**9]) == 4.0
    assert cost(model="a") == 1.0
    assert cost(model=["a", "A"]) == 3.0
    assert cost(model=None) == 4.0
    assert cost(model=None, user_id=user) == 0.0


def test_time_bounds_are_inclusive(storage: Storage) -> None:
    step = timedelta(microseconds=1)
    for place in range(3):
        storage.usages.record(at=NOW + place * step, cost=2.0**place)

    def cost(**bounds: Any) -> Decimal:
        return storage.usages.summarize(**bounds).cost

    assert cost(since=NOW) == 7.0
    assert cost(since=NOW + step) == 6.0
    assert cost(until=NOW) == 1.0
    assert cost(since=NOW + step, until=NOW + step) == 2.0
    assert cost(since=NOW + 3 * step) == 0.0
    assert cost(until=NOW - step) == 0.0


@SQLITE_ALONE
@for_each("bound", ["since", "until"])
@for_each("value", [NOW.replace(tzinfo=None), "2026-01-01", None])
def test_a_bound_that_is_no_time_is_refused(storage: Storage, bound: str, value: object) -> None:
    with refused_unasked(storage, bound):
        storage.usages.summarize(**{bound: value})  # type: ignore[arg-type]  # the question


def test_a_summary_is_one_query(storage: Storage) -> None:
    with assert_query_count(storage.database, 1):
        storage.usages.summarize(user_id=1, since=NOW)


# -- groups -------------------------------------------------------------------------------------


def test_sums_by_user_and_month(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    for user_id, month, cost in ((bob.id, 3, 1.0), (alice.id, 4, 2.0), (bob.id, 3, 4.0)):
        at = datetime(2026, month, 1, tzinfo=UTC)
        storage.usages.record(user_id=user_id, at=at, cost=cost, input_tokens=2**60)
    storage.usages.record(at=datetime(2026, 3, 31, 23, 59, 59, 999_999, UTC), cost=8.0)
    march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    with assert_query_count(storage.database, 1):
        groups = storage.usages.summarize_by("user_id", "month")

    assert [(key, total.count, total.input_tokens, float(total.cost)) for key, total in groups] == [
        ((None, march), 1, 0, 8.0),
        ((alice.id, april), 1, 2**60, 2.0),
        ((bob.id, march), 2, 2**61, 5.0),
    ]
    for key, total in groups:
        assert {type(total.count), type(total.input_tokens)} == {int}
        assert type(total.cost) is Decimal
        assert key[1].tzinfo is UTC
    assert storage.usages.summarize_by("model", since=april, user_id=bob.id) == []


@SQLITE_ALONE
@for_each("by", [(), ("users",), ("user_id", "at"), (None,), (1,)])
def test_what_is_no_group_is_refused(storage: Storage, by: Any) -> None:
    with refused_unasked(storage, "by"):
        storage.usages.summarize_by(*by)


def test_a_mistyped_name_to_group_by_is_refused_with_the_one_that_was_meant(
    storage: Storage,
) -> None:
    by: Any = "modle"
    with pytest.raises(InvalidValue, match=r"by has 'modle', .* did you mean 'model'\? known are"):
        storage.usages.summarize_by(by)
