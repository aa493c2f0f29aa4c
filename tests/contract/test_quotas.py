"""Quotas: set, added to by many at once, and made right from what was recorded."""

from __future__ import annotations

import math
import threading
from decimal import Decimal
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, MissingReference, NotFoundError
from gproxy_storage.models import User, UserQuota
from gproxy_storage.repositories.quotas import Correction
from tests.cases import for_each
from tests.contract.support import in_threads, insert, quotas
from tests.processes import start_python
from tests.support import PATIENCE_S, assert_query_count

CENT = 1 / 128  # exact in binary: sums do not depend on their order


def test_values_that_are_not_given_are_kept(storage: Storage) -> None:
    alice = storage.users.create("alice")
    first = storage.quotas.set(alice, quota=10)
    assert (first.quota, first.cost_used) == (Decimal(10), Decimal(0))
    assert type(first.quota) is Decimal

    second = storage.quotas.set(alice.id, cost_used=2.5)
    third = storage.quotas.set(alice, quota=-1)
    assert (second.quota, second.cost_used, second.id) == (Decimal(10), Decimal("2.5"), first.id)
    assert (third.quota, third.cost_used, third.id) == (Decimal(-1), Decimal("2.5"), first.id)
    assert first.updated_at <= second.updated_at <= third.updated_at
    assert storage.quotas.get(alice).__data__ == third.__data__


def test_two_users_have_two_rows(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    storage.quotas.set(alice, quota=1)
    storage.quotas.set(bob, quota=2)
    storage.quotas.set(bob, cost_used=1)

    assert quotas(storage) == [(alice.id, 1.0, 0.0), (bob.id, 2.0, 1.0)]
    assert [row.user_id for row in storage.quotas.list()] == [alice.id, bob.id]
    assert [row.user_id for row in storage.quotas.list(limit=1)] == [alice.id]
    assert [row.user_id for row in storage.quotas.iter(user_id=[bob.id])] == [bob.id]
    assert storage.quotas.count() == 2
    with storage.session():
        bob.delete_instance()
    assert storage.quotas.count() == 1


def test_cost_is_added(storage: Storage) -> None:
    alice = storage.users.create("alice")
    assert storage.quotas.find(alice) is None
    assert storage.quotas.add_cost(alice, CENT).cost_used == CENT
    assert storage.quotas.add_cost(alice.id, 0).cost_used == CENT
    assert storage.quotas.add_cost(alice, 2).cost_used == 2 + CENT
    with assert_query_count(storage.database, 3):  # BEGIN, one statement, reading it back
        storage.quotas.add_cost(alice, 1)

    assert quotas(storage) == [(alice.id, 0.0, 3 + CENT)]


def test_remaining_is_the_quota_without_the_cost(storage: Storage) -> None:
    alice = storage.users.create("alice")
    assert storage.quotas.remaining(alice) is None
    storage.quotas.add_cost(alice, 3)
    assert storage.quotas.remaining(alice) is None
    storage.quotas.set(alice, quota=10)
    assert storage.quotas.remaining(alice) == 7.0
    storage.quotas.add_cost(alice, 7)
    assert storage.quotas.remaining(alice) == 0.0
    storage.quotas.add_cost(alice, 1)
    assert storage.quotas.remaining(alice) == -1.0
    storage.quotas.set(alice, quota=-5)
    assert storage.quotas.remaining(alice) is None
    with assert_query_count(storage.database, 1):
        storage.quotas.remaining(alice)


_CHILD = """
import logging, sys
logging.basicConfig(level="ERROR")  # not that secrets are in the clear
from gproxy_storage import Storage
with Storage.connect(sys.argv[1], sync=False) as storage:
    input()
    for number in range(500):
        storage.quotas.add_cost(int(sys.argv[2]), {cent})
"""


@pytest.mark.slow
def test_many_threads_and_processes_add_exactly(storage: Storage, shared_database_dsn: str) -> None:
    """16 threads and 4 processes, 4,000 additions."""
    alice = storage.users.create("alice")
    children = [
        start_python(["-c", _CHILD.format(cent=CENT), shared_database_dsn, str(alice.id)])
        for _ in range(4)
    ]

    def work() -> None:
        for _ in range(125):
            storage.quotas.add_cost(alice, CENT)

    def child(process: Any) -> None:
        said, _ = process.communicate("go\n", timeout=PATIENCE_S)
        assert (process.returncode, said) == (0, "")

    in_threads(*[work] * 16, *(lambda each=each: child(each) for each in children))

    assert quotas(storage) == [(alice.id, 0.0, 4000 * CENT)]


# -- reconciliation -----------------------------------------------------------------------------


def test_reconcile_sets_what_usages_add_up_to(storage: Storage) -> None:
    alice, bob, carol, dave = (storage.users.create(name) for name in ("a", "b", "c", "d"))
    for user, cost in ((alice, 1.5), (alice, 0.25), (bob, 8.0), (dave, 4.0)):
        storage.usages.record(user_id=user.id, cost=cost)
    storage.usages.record(cost=16.0)
    storage.quotas.set(alice, quota=5, cost_used=100)
    storage.quotas.set(carol, quota=1, cost_used=3)
    with storage.session():
        UserQuota.delete().where(UserQuota.user == dave).execute()
    before = storage.quotas.get(bob)

    assert storage.quotas.reconcile() == [
        Correction(alice.id, Decimal("100.0"), Decimal("1.75")),
        Correction(carol.id, Decimal("3.0"), Decimal("0.0")),
        Correction(dave.id, Decimal("0.0"), Decimal("4.0")),
    ]
    assert quotas(storage) == [
        *((alice.id, 5.0, 1.75), (bob.id, 0.0, 8.0)),
        *((carol.id, 1.0, 0.0), (dave.id, 0.0, 4.0)),
    ]
    assert storage.quotas.get(bob).__data__ == before.__data__
    assert storage.quotas.reconcile() == []


def test_reconcile_of_one_user(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    for user in (alice, bob):
        storage.usages.record(user_id=user.id, cost=1.0)
        storage.quotas.set(user, cost_used=5.0)

    assert storage.quotas.reconcile(alice) == [Correction(alice.id, Decimal("5.0"), Decimal("1.0"))]
    assert storage.quotas.reconcile(alice.id) == []
    assert quotas(storage) == [(alice.id, 0.0, 1.0), (bob.id, 0.0, 5.0)]
    with pytest.raises(MissingReference) as caught:
        storage.quotas.reconcile(10**9)
    assert caught.value.argument == "user"


def test_reconcile_forgives_rounding(storage: Storage) -> None:
    alice = storage.users.create("alice")
    for _ in range(10):
        storage.usages.record(user_id=alice.id, cost=0.1)
    storage.quotas.set(alice, cost_used=1.0000000000000002)

    assert storage.quotas.reconcile() == []
    storage.quotas.set(alice, cost_used="1.000000001")
    assert storage.quotas.reconcile() == [
        Correction(alice.id, Decimal("1.000000001"), Decimal("1"))
    ]


def test_reconcile_while_usages_are_recorded(storage: Storage) -> None:
    users = [storage.users.create(name) for name in "abc"]
    done = threading.Event()

    def record() -> None:
        for number in range(60):
            storage.usages.record(user_id=users[number % 3].id, cost=CENT)

    def reconcile() -> None:
        while not done.is_set():
            storage.quotas.reconcile()

    reconciling = threading.Thread(target=reconcile)
    reconciling.start()
    try:
        in_threads(*[record] * 4)
    finally:
        done.set()
        reconciling.join()

    assert quotas(storage) == [(user.id, 0.0, 80 * CENT) for user in users]
    assert storage.quotas.reconcile() == []


def test_reconcile_skips_users_deleted_meanwhile(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    for user in (alice, bob):
        storage.usages.record(user_id=user.id, cost=1.0)
        storage.quotas.set(user, cost_used=0.0)
    inner = type(storage.quotas)._reconcile

    def delete_first(self: Any, ids: Any) -> Any:
        with storage.session():
            User.delete().where(User.id == alice.id).execute()
        return inner(self, ids)

    monkeypatch.setattr(type(storage.quotas), "_reconcile", delete_first)
    assert storage.quotas.reconcile() == [Correction(bob.id, Decimal("0.0"), Decimal("1.0"))]


def test_reconcile_asks_by_the_hundred(storage: Storage) -> None:
    with storage.transaction():
        for _ in range(150):
            insert(UserQuota, cost_used=0.0)
    with assert_query_count(storage.database, 1 + 2 * 4):  # each: BEGIN, lock, sum, compare
        assert storage.quotas.reconcile() == []


# -- bad input ----------------------------------------------------------------------------------


@for_each(
    ("given", "argument"),
    [
        ({"quota": math.nan}, "quota"),
        ({"quota": math.inf}, "quota"),
        ({"quota": "one"}, "quota"),
        ({"quota": "0.0000000004"}, "quota"),  # it would be unlimited
        ({"quota": b"1"}, "quota"),
        ({"quota": None}, "quota"),
        ({"cost_used": -1}, "cost_used"),
        ({"cost_used": math.nan}, "cost_used"),
        ({"cost_used": True}, "cost_used"),
        ({}, "quota"),
        ({"user": "1", "quota": 1}, "user"),
        ({"user": 10**9, "quota": 1}, "user"),
        ({"user": User(), "quota": 1}, "user"),
    ],
)
def test_bad_settings_are_refused(storage: Storage, given: dict[str, Any], argument: str) -> None:
    alice = storage.users.upsert("alice")
    with pytest.raises(InvalidValue) as caught:
        storage.quotas.set(**{"user": alice, **given})
    assert caught.value.argument == argument
    assert quotas(storage) == []


@for_each(
    ("user", "cost", "argument"),
    [
        *((None, cost, "cost") for cost in (-1, math.nan, math.inf, -math.inf, "one", True, None)),
        (10**9, 1, "user"),
        ("1", 1, "user"),
    ],
)
def test_bad_additions_are_refused(storage: Storage, user: Any, cost: Any, argument: str) -> None:
    alice = storage.users.upsert("alice")
    with pytest.raises(InvalidValue) as caught:
        storage.quotas.add_cost(alice if user is None else user, cost)
    assert caught.value.argument == argument
    assert quotas(storage) == []


def test_a_user_without_a_quota_is_not_found(storage: Storage) -> None:
    alice = storage.users.create("alice")
    with pytest.raises(NotFoundError) as caught:
        storage.quotas.get(alice)
    assert (caught.value.table, caught.value.key) == ("user_quotas", alice.id)
