"""What a transaction does about deadlocks, locks and lost connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage import database as database_module
from gproxy_storage.database import run_transaction
from gproxy_storage.errors import ConflictError, ConnectError, WriteError
from gproxy_storage.models import User, UserQuota
from tests import servers
from tests.contract.support import NOW, Connections, in_threads, insert, names
from tests.support import PATIENCE_S

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)


def add_cost(user: User, cost: float) -> None:
    used = UserQuota.cost_used
    UserQuota.update(cost_used=used + cost).where(UserQuota.user == user).execute()


def with_quotas(storage: Storage) -> list[User]:
    """Return two users, each with a quota row."""
    with storage.session():
        users = [insert(User), insert(User)]
        for user in users:
            insert(UserQuota, user=user, cost_used=0.0)
    return users


def costs(storage: Storage) -> list[Any]:
    with storage.session():
        return [quota.cost_used for quota in UserQuota.select().order_by(UserQuota.id)]


# -- rivals -------------------------------------------------------------------------------------


@only_servers
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "in a savepoint"])
def test_a_deadlock_is_retried_to_success(storage: Storage, nested: bool) -> None:
    users = with_quotas(storage)
    both = threading.Barrier(2)
    attempts = []

    def rival(first: User, second: User) -> Callable[[], None]:
        def second_update() -> None:
            if nested:
                with storage.transaction():
                    add_cost(second, 1.0)
            else:
                add_cost(second, 1.0)

        def work() -> None:
            attempts.append(first)
            add_cost(first, 1.0)
            if attempts.count(first) == 1:
                both.wait(PATIENCE_S)  # now each holds what the other wants
            second_update()

        return lambda: storage.run_transaction(work)

    in_threads(rival(users[0], users[1]), rival(users[1], users[0]))

    assert len(attempts) >= 3
    assert costs(storage) == [2.0, 2.0]


def test_many_writers_of_one_row_lose_nothing(storage: Storage) -> None:
    user = with_quotas(storage)[0]

    def read_and_write() -> None:
        quota = UserQuota.get(UserQuota.user == user)
        with storage.transaction():
            UserQuota.update(quota=UserQuota.quota + 1).where(UserQuota.id == quota.id).execute()
        add_cost(user, 0.25)

    def work() -> None:
        for _ in range(10):
            storage.run_transaction(read_and_write)

    in_threads(*[work] * 8)

    assert costs(storage) == [20.0, 0.0]


LOCK_WAIT = {  # the shortest that each server knows
    "sqlite": "PRAGMA busy_timeout = 1",
    "postgres": "SET lock_timeout = '1ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 0",
}


def test_a_lock_that_is_never_given_up_ends_the_retries(
    storage: Storage, connections: Connections, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MAX_ATTEMPTS", 2)
    user = with_quotas(storage)[0]
    calls = []

    def work() -> None:
        calls.append(1)
        add_cost(user, 1.0)

    with connections.rival(storage) as rival:
        rival.execute("UPDATE user_quotas SET cost_used = 7")
        with storage.session():
            storage.database.execute_sql(LOCK_WAIT[backend])
            with pytest.raises(WriteError, match="run it again") as caught:
                run_transaction(storage.database, work)
            storage.database.close()
            storage.database.pool.close_idle()  # the wait was this connection's
            storage.database.connect()

    assert caught.value.committed is False
    assert len(calls) == (0 if backend == "sqlite" else 2)  # there BEGIN takes the lock
    assert costs(storage) == [0.0, 0.0]


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_attempts_are_bounded(
    storage: Storage,
    connections: Connections,
    max_attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_module, "MAX_ATTEMPTS", max_attempts)
    calls = []

    def work() -> None:
        calls.append(1)
        insert(User)
        connections.kill_own(storage)
        insert(User)

    with pytest.raises(ConnectError, match="was lost") as caught:
        run_transaction(storage.database, work)

    assert len(calls) == max_attempts
    assert caught.value.dsn == str(storage.database.dsn)
    assert isinstance(caught.value.__cause__, peewee.PeeweeException)
    assert storage.users.count() == 0


# -- lost connections ---------------------------------------------------------------------------


def test_lost_before_commit_is_retried_and_applied_once(
    storage: Storage, connections: Connections
) -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        insert(User, name="alice")
        if len(calls) == 1:
            connections.kill_own(storage)
        insert(User, name="bob")

    storage.run_transaction(work)

    assert len(calls) == 2
    assert names(storage) == ["alice", "bob"]


def test_lost_in_a_savepoint_retries_the_outermost(
    storage: Storage, connections: Connections
) -> None:
    calls: list[int] = []

    def inner() -> None:
        insert(User, name="bob")
        if len(calls) == 1:
            connections.kill_own(storage)
        insert(User, name="carol")

    def work() -> None:
        calls.append(1)
        insert(User, name="alice")
        storage.run_transaction(inner)

    storage.run_transaction(work)

    assert len(calls) == 2
    assert names(storage) == ["alice", "bob", "carol"]


def test_lost_at_commit_is_reported_as_unknown(storage: Storage, connections: Connections) -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        insert(User, name="alice")
        connections.kill_own(storage)

    with pytest.raises(WriteError, match="during COMMIT") as caught:
        storage.run_transaction(work)

    assert caught.value.committed is None
    assert len(calls) == 1  # again might apply it twice
    assert names(storage) == []


def test_a_block_that_loses_its_connection_raises(
    storage: Storage, connections: Connections
) -> None:
    with pytest.raises(ConnectError, match="was lost"), storage.transaction():  # noqa: PT012 - the block is the subject
        storage.users.create("alice")
        connections.kill_own(storage)
        storage.users.create("bob")

    assert names(storage) == []


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_lost_between_calls_of_a_session(
    storage: Storage, connections: Connections, write: bool
) -> None:
    with storage.session():
        storage.users.create("alice")
        connections.kill_own(storage)
        if write:
            storage.users.create("bob")
        assert storage.users.count() == (2 if write else 1)


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_connection_lost_in_the_pool_is_replaced(
    storage: Storage, connections: Connections, write: bool
) -> None:
    with storage.session():
        number = connections.own(storage)
    connections.kill(number)

    if write:
        storage.users.create("alice")
    assert storage.users.count() == int(write)


def test_a_connection_long_idle_is_asked_first(
    storage: Storage, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gproxy_storage.backends.pool.IDLE_CHECK_S", -1.0)
    with storage.session():
        number = connections.own(storage)
    connections.kill(number)

    # A block of queries is not run again: here only a check beforehand helps.
    with storage.transaction():
        insert(User, name="alice")

    assert names(storage) == ["alice"]


IDLE_LIMIT = {
    "postgres": "SET idle_session_timeout = '10ms'",
    "mysql": "SET SESSION wait_timeout = 1",
    "mariadb": "SET SESSION wait_timeout = 1",
}


@only_servers
def test_ended_by_the_servers_idle_timeout(
    storage: Storage, connections: Connections, backend: str
) -> None:
    with storage.session():
        number = connections.own(storage)
        storage.database.execute_sql(IDLE_LIMIT[backend])
        connections.wait_until_gone(number)
        storage.users.create("alice")
        assert connections.own(storage) != number

    assert names(storage) == ["alice"]


@pytest.mark.parametrize("backend", ["postgres", "mariadb"], indirect=True)
def test_ended_by_the_servers_timeout_inside_a_transaction(
    storage: Storage, connections: Connections, backend: str
) -> None:
    limit = {
        "postgres": "SET LOCAL idle_in_transaction_session_timeout = '10ms'",
        "mariadb": "SET SESSION idle_transaction_timeout = 1",
    }
    calls = []

    def work() -> None:
        calls.append(1)
        insert(User, name="alice")
        if len(calls) == 1:
            number = connections.own(storage)
            storage.database.execute_sql(limit[backend])
            connections.wait_until_gone(number)
        insert(User, name="bob")

    storage.run_transaction(work)

    assert len(calls) == 2
    assert names(storage) == ["alice", "bob"]


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_killed_while_a_statement_runs(storage: Storage, connections: Connections) -> None:
    calls = []
    numbers: list[int] = []
    asked = threading.Event()

    def work() -> None:
        calls.append(1)
        insert(User, name="alice")
        if len(calls) == 1:
            numbers.append(connections.own(storage))
            asked.set()
            storage.database.query("SELECT SLEEP(30)")

    def kill() -> None:
        assert asked.wait(PATIENCE_S)
        connections.kill(numbers[0])

    in_threads(lambda: storage.run_transaction(work), kill)

    assert len(calls) == 2
    assert names(storage) == ["alice"]


def test_an_exception_of_the_callers_over_a_lost_connection_is_not_retried(
    storage: Storage, connections: Connections
) -> None:
    """As a signal handler raises it, whatever it interrupts: it reaches the caller."""
    raised = RuntimeError("mine")
    calls = []

    def work() -> None:
        calls.append(1)
        insert(User)
        connections.kill_own(storage)
        try:
            insert(User)
        except peewee.PeeweeException:
            raise raised  # noqa: B904 - with the lost connection as its context

    with pytest.raises(RuntimeError) as caught:
        storage.run_transaction(work)

    assert caught.value is raised
    assert len(calls) == 1
    assert storage.users.count() == 0


# -- the boundary: what was being handled before does not count ---------------------------------


def test_an_older_lost_connection_is_not_the_callbacks(
    storage: Storage, connections: Connections
) -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise ValueError("mine")

    with storage.session():
        connections.kill_own(storage)
        try:
            storage.database.query("SELECT 1")
        except peewee.PeeweeException:
            with pytest.raises(ValueError, match="mine"):
                storage.run_transaction(work)
            with pytest.raises(ConflictError):
                storage.run_transaction(lambda: [insert(User, name="alice") for _ in "ab"])
        else:
            pytest.fail("the connection lives")

    assert len(calls) == 1


def test_an_older_conflict_is_not_the_callbacks(storage: Storage) -> None:
    storage.users.create("alice")
    try:
        storage.users.create("alice")
    except ConflictError:
        with pytest.raises(ValueError, match="mine"):
            storage.run_transaction(lambda: int("mine"))
        assert storage.users.create("bob").created_at > NOW
