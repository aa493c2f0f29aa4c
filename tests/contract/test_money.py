"""Money: exact sums in any order, bounds however costs are added, rows of other programs."""

from __future__ import annotations

import decimal
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue
from gproxy_storage.log_rows import USAGES
from gproxy_storage.models import Usage, UserQuota
from gproxy_storage.money import MAX_COST, MAX_TOTAL, NANO, from_nano, nano_of
from tests.cases import for_each
from tests.contract.support import NOW, in_threads, insert, rows_of, wipe
from tests.support import ONE_BACKEND

DAY = datetime(2026, 3, 4, tzinfo=UTC)

COSTS = st.one_of(
    st.integers(0, MAX_COST * NANO).map(from_nano), st.floats(0, MAX_COST), st.floats(0, 1e-3)
)
HALVES = [number * 0.5e-9 for number in range(-41, 42, 2)]
"""What GPROXY stores, say, for tokens at 0.0005 a million: backends round halves differently."""

STRANGE = [*HALVES, 1 / 3, -1 / 3, 2e6 + 1 / 3, 8e6 + 1 / 3, -8e6 - 1 / 3, -0.0, 5e-324, 1e-9]


def exact(costs: Sequence[Any]) -> Decimal:
    """Return the sum of what was given, each rounded once."""
    with decimal.localcontext(prec=100):
        return sum((Decimal(cost).quantize(Decimal("1e-9")) for cost in costs), start=Decimal(0))


def store(storage: Storage, costs: Sequence[object], **given: Any) -> None:
    """Insert usages as another program does: the values as they are, and nothing else."""
    at = storage.database.time_to_db(DAY)
    row = {"at": at, "created_at": at, "operation": "o", "protocol": "p", **given}
    marks = ", ".join([storage.database.param] * (len(row) + 1))
    sql = f"INSERT INTO usages ({', '.join(row)}, cost) VALUES ({marks})"
    with storage.transaction():
        for cost in costs:
            storage.database.execute_sql(sql, [*row.values(), cost])


def set_used(storage: Storage, user_id: int, used: object) -> None:
    """Set what a user has cost as another program does."""
    sql = "UPDATE user_quotas SET cost_used = {0} WHERE user_id = {0}"
    with storage.transaction():
        storage.database.execute_sql(sql.format(storage.database.param), [used, user_id])


def doubles(storage: Storage, table: str, column: str) -> list[float]:
    """Return what the database holds, whatever the models make of it."""
    with storage.session():
        found = storage.database.query(f"SELECT {column} FROM {table}")
    return [value for (value,) in found]


# -- sums ---------------------------------------------------------------------------------------


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(costs=st.lists(COSTS, min_size=1, max_size=60), seed=st.integers(0, 9))
def test_sums_are_exact_in_any_order(storage: Storage, costs: list[Any], seed: int) -> None:
    storage.usages.delete_all()
    storage.users.delete_all()
    alice = storage.users.create("alice")
    total, used = exact(costs), Decimal(0)
    random.Random(seed).shuffle(costs)
    with storage.batch() as batch:
        for number, cost in enumerate(costs):
            batch.usages.record(user_id=alice.id, model=f"m{number % 3}", cost=cost, at=DAY)
    for cost in costs[:5]:
        used = storage.quotas.add_cost(alice, cost).cost_used

    assert storage.usages.summarize().cost == total
    assert sum(usage.cost for usage in storage.usages.iter()) == total
    assert [group.summary.cost for group in storage.usages.summarize_by("model")] == [
        exact(costs[place::3]) for place in range(min(3, len(costs)))
    ]
    assert storage.dashboard.overview(DAY, DAY).total.cost == total
    assert sum(top.cost for top in storage.dashboard.top_models(DAY, DAY)) == total
    added = total + exact(costs[:5])
    assert float(used) == pytest.approx(float(added), rel=1e-15)
    if added < 4_000_000:
        assert used == added
    storage.quotas.reconcile()
    if total < 4_000_000:
        assert storage.quotas.get(alice).cost_used == total
    assert float(storage.quotas.get(alice).cost_used) == float(total)
    assert storage.quotas.reconcile() == []


def test_what_is_used_is_exact_up_to_four_millions(storage: Storage) -> None:
    chance = random.Random(1)
    alice = storage.users.create("alice")
    for _ in range(40):
        used, cost = chance.randrange(3_000_000 * NANO), chance.randrange(MAX_COST * NANO)
        storage.quotas.set(alice, cost_used=from_nano(used))
        assert storage.quotas.get(alice).cost_used == from_nano(used)
        assert storage.quotas.add_cost(alice, from_nano(cost)).cost_used == from_nano(used + cost)
        assert storage.quotas.add_cost(alice, "1e-9").cost_used == from_nano(used + cost + 1)


def test_adding_0_changes_no_cost(storage: Storage) -> None:
    """At every magnitude of doubles; other additions are exact, too."""
    chance = random.Random(2)
    alice = storage.users.create("alice")
    for power in range(23, 34):
        used = chance.uniform(2.0**power, min(2.0 ** (power + 1), MAX_TOTAL))
        storage.quotas.set(alice, cost_used=0)
        set_used(storage, alice.id, used)
        before = storage.quotas.get(alice).cost_used
        assert storage.quotas.add_cost(alice, 0).cost_used == before
        assert float(storage.quotas.add_cost(alice, 0.5).cost_used) == float(before) + 0.5


def test_a_tenth_is_a_tenth(storage: Storage) -> None:
    _add_tenths(storage, 30)


@pytest.mark.slow
def test_a_thousand_tenths_of_each_thread(storage: Storage) -> None:
    _add_tenths(storage, 1000)


def _add_tenths(storage: Storage, times: int) -> None:
    """16 threads, each by its own way."""
    alice = storage.users.create("alice")
    with storage.sink(flush_rows=7) as sink:
        ways: list[Callable[[], object]] = [
            lambda: storage.quotas.add_cost(alice, 0.1),
            lambda: storage.usages.record(user_id=alice.id, cost="0.1"),
            lambda: sink.submit_usage(user_id=alice.id, cost=0.1),
            lambda: sink.submit_usage(user_id=alice.id, cost=Decimal("0.1")),
        ]

        def work(way: Callable[[], object]) -> None:
            for _ in range(times):
                way()

        in_threads(*(lambda way=ways[number % 4]: work(way) for number in range(16)))
        assert sink.flush(60)
    assert storage.quotas.get(alice).cost_used == Decimal("1.6") * times
    assert storage.usages.summarize(user_id=alice.id).cost == Decimal("1.2") * times


def test_what_is_stored_is_rounded(storage: Storage) -> None:
    """For other programs, and once: each way stores the same double."""
    alice = storage.users.create("alice")
    with storage.sink() as sink:
        for cost in (0.1 + 0.2, "0.30000000049", Decimal("0.2999999995001")):
            sink.submit_usage(user_id=alice.id, cost=cost)
            storage.usages.record(user_id=alice.id, cost=cost)
            with storage.batch() as batch:
                batch.usages.record(user_id=alice.id, cost=cost)
    assert doubles(storage, "usages", "cost") == [0.3] * 9
    assert doubles(storage, "user_quotas", "cost_used") == [2.7]


def test_sums_beyond_64_bits(storage: Storage) -> None:
    """Ten thousand calls at the most that one may cost."""
    alice = storage.users.create("alice")
    with storage.sink(flush_rows=1000) as sink:
        for _ in range(10_000):
            sink.submit_usage(user_id=alice.id, cost=MAX_COST)
        sink.submit_usage(user_id=alice.id, cost="1e-9")

    assert storage.usages.summarize().cost == Decimal("10000000000.000000001")
    assert storage.quotas.get(alice).cost_used == MAX_TOTAL
    assert storage.quotas.reconcile() == []


# -- bounds -------------------------------------------------------------------------------------


def _in_a_batch(storage: Storage, user_id: int) -> None:
    with storage.batch() as batch:
        batch.usages.record(user_id=user_id, cost=MAX_COST)
        batch.quotas.add_cost(user_id, MAX_COST)


def _in_a_batch_that_sets(storage: Storage, user_id: int) -> None:
    with storage.batch() as batch:
        batch.quotas.set(user_id, cost_used="8999999999.5")
        batch.usages.record(user_id=user_id, cost=MAX_COST)


def _in_a_sink(storage: Storage, user_id: int) -> None:
    with storage.sink() as sink:
        sink.submit_usage(user_id=user_id, cost=MAX_COST)
        assert sink.flush(60)
        assert (sink.stats().written, sink.stats().rejected) == (1, 0)


ADDITIONS: dict[str, Callable[[Storage, int], object]] = {
    "add_cost": lambda storage, user_id: storage.quotas.add_cost(user_id, 1),
    "record": lambda storage, user_id: storage.usages.record(user_id=user_id, cost=MAX_COST),
    "batch": _in_a_batch,
    "batch that sets": _in_a_batch_that_sets,
    "sink": _in_a_sink,
}


@for_each("way", list(ADDITIONS))
def test_what_is_used_stays_at_its_bound(storage: Storage, way: str) -> None:
    wipe(storage)
    alice = storage.users.create("alice")
    storage.quotas.set(alice, quota=10, cost_used="8999999999.75")
    for _ in range(2):
        ADDITIONS[way](storage, alice.id)

        assert doubles(storage, "user_quotas", "cost_used") == [MAX_TOTAL]
        assert storage.quotas.remaining(alice) == 10 - MAX_TOTAL


@for_each("way", list(ADDITIONS))
@for_each("used", [1.7e308, 9.3e18, 1e10])
def test_a_quota_that_another_program_left_beyond_its_bound(
    storage: Storage, way: str, used: float
) -> None:
    wipe(storage)
    alice = storage.users.create("alice")
    storage.quotas.set(alice, quota=10)
    values = [used]
    if storage.database.name in ("sqlite", "postgres"):  # which store it
        values.append(float("inf"))
    if storage.database.name == "postgres":
        values.append(float("nan"))
    for each in values:
        set_used(storage, alice.id, each)
        assert storage.quotas.get(alice).cost_used == MAX_TOTAL
        assert storage.quotas.remaining(alice) == 10 - MAX_TOTAL
        ADDITIONS[way](storage, alice.id)
        assert doubles(storage, "user_quotas", "cost_used") == [MAX_TOTAL]
    storage.usages.delete_all()
    assert len(storage.quotas.reconcile()) == 1
    assert storage.quotas.get(alice).cost_used == 0


def test_what_is_beyond_a_bound_is_refused(storage: Storage) -> None:
    alice = storage.users.create("alice")
    for refused in (
        lambda: storage.quotas.set(alice, quota=MAX_TOTAL + 1),
        lambda: storage.quotas.set(alice, quota=-MAX_TOTAL - 1),
        lambda: storage.quotas.set(alice, cost_used="9000000000.1"),
        lambda: storage.quotas.add_cost(alice, MAX_COST + 1),
        lambda: storage.usages.record(user_id=alice.id, cost=1.7e308),
        lambda: Usage(cost=1e7).save(),
    ):
        with pytest.raises(InvalidValue, match=r"must be (at most|>=) -?[19]0+$"):
            refused()
    with storage.sink() as sink:
        for cost in (1_000_000.0001, -1e-12, "1000000.1", Decimal("1e400")):
            with pytest.raises(InvalidValue, match=r"^cost must be "):
                sink.submit_usage(cost=cost)
    assert storage.usages.count() == storage.quotas.count() == 0


def test_an_overflowing_quota_blocks_no_other(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    storage.quotas.set(alice, quota=0)
    set_used(storage, alice.id, 1.7e308)
    with storage.sink(flush_rows=10) as sink:
        for _ in range(30):
            sink.submit_usage(user_id=alice.id, cost=MAX_COST)
            sink.submit_usage(user_id=bob.id, cost=0.01)
        assert sink.flush(60)
        stats = sink.stats()
    assert (stats.written, stats.spooled, stats.rejected, stats.away) == (60, 0, 0, None)
    assert storage.quotas.get(bob).cost_used == Decimal("0.3")
    assert storage.quotas.get(alice).cost_used == MAX_TOTAL


# -- rows of other programs ---------------------------------------------------------------------


def test_rows_of_another_program_are_summed_as_they_are_read(storage: Storage) -> None:
    alice = storage.users.create("alice")
    store(storage, STRANGE, user_id=alice.id)

    read = [usage.cost for usage in storage.usages.iter()]
    assert sorted(read) == sorted(from_nano(nano_of(cost)) for cost in STRANGE)
    assert storage.usages.summarize().cost == sum(read)
    storage.quotas.reconcile()
    assert storage.quotas.get(alice).cost_used == sum(read)


def test_halves_are_rounded_alike_when_added_to_a_quota(storage: Storage) -> None:
    """Each backend rounds them as the others do, when it adds."""
    alice = storage.users.create("alice")
    storage.quotas.set(alice, quota=1)
    for used in [cost for cost in STRANGE if abs(cost) < 4e6]:
        set_used(storage, alice.id, used)
        assert storage.quotas.get(alice).cost_used == from_nano(nano_of(used))
        after = storage.quotas.add_cost(alice, "0.5").cost_used
        assert after == from_nano(nano_of(used)) + Decimal("0.5")


@for_each(("cost", "expected"), [(1e10, 1), (-1e10, -1), (1e300, 1), (-1e300, -1), (1.7e308, 1)])
def test_what_is_beyond_a_bound_counts_as_the_bound(
    storage: Storage, cost: float, expected: int
) -> None:
    wipe(storage)
    store(storage, [cost, cost, 0.25])

    assert {usage.cost for usage in storage.usages.iter()} == {
        expected * MAX_TOTAL,
        Decimal("0.25"),
    }
    assert storage.usages.summarize().cost == 2 * expected * MAX_TOTAL + Decimal("0.25")
    assert storage.dashboard.overview(DAY, DAY).total.cost == storage.usages.summarize().cost


def test_values_that_only_some_databases_store(storage: Storage) -> None:
    strange: dict[str, list[object]] = {
        "sqlite": [float("inf"), "text", b"bytes"],
        "postgres": [float("inf"), float("nan")],
    }
    costs = strange.get(storage.database.name, [])
    store(storage, [*costs, 0.25])

    assert storage.usages.summarize().cost == len(costs) * MAX_TOTAL + Decimal("0.25")


# -- models, and batches of earlier versions ----------------------------------------------------


def test_queries_on_models_compare_decimals(storage: Storage) -> None:
    alice = storage.users.create("alice")
    storage.quotas.set(alice, quota="0.3", cost_used=0.1 + 0.2)
    with storage.transaction():
        quota = UserQuota.get(UserQuota.quota == Decimal("0.3"), UserQuota.cost_used == "0.3")
        assert (str(quota.quota), str(quota.cost_used)) == ("0.3", "0.3")
        insert(Usage, cost=Decimal("0.1"))
        insert(Usage, cost=0.30000000000000004)
        assert Usage().cost == Decimal(0)
        found = sorted(cost for (cost,) in rows_of(Usage, "cost"))
    assert list(map(str, found)) == ["0.1", "0.3"]


@ONE_BACKEND
def test_the_context_of_a_thread_changes_nothing(storage: Storage) -> None:
    alice = storage.users.create("alice")
    strange = decimal.Context(prec=2, rounding=decimal.ROUND_UP, traps=[decimal.Inexact])
    with decimal.localcontext(strange):
        storage.quotas.set(alice, quota="1234567.123456789")
        storage.usages.record(user_id=alice.id, cost="1234.5678901234")
        with storage.batch() as batch:
            batch.usages.record(user_id=alice.id, cost="1234.5678901234")
        left, total = storage.quotas.remaining(alice), storage.usages.summarize().cost
    assert (str(left), str(total)) == ("1232097.987676543", "2469.135780246")


def test_a_batch_of_an_earlier_version(storage: Storage) -> None:
    """Its costs were neither rounded nor bounded."""
    alice = storage.users.create("alice")
    costs = [0.1 + 0.2, 1.7e308, 0.1]
    stamp = NOW.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    given = {"at": stamp, "created_at": stamp, "user_id": alice.id}
    rows = [
        tuple(
            {**given, "operation": "o", "protocol": "p", "cost": cost}.get(name)
            for name in USAGES.bulk.columns
        )
        for cost in costs
    ]
    with storage.sink() as sink:
        for row in rows:
            sink._queue.put(0, row, 600)

    assert storage.usages.summarize().cost == MAX_TOTAL + Decimal("0.4")
    assert storage.quotas.get(alice).cost_used == MAX_TOTAL
