"""A fork by C code runs none of Python's hooks: a child is known by its pid."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import WriteError
from tests import servers
from tests.contract.support import PATIENCE_S, Connections
from tests.contract.test_fork import (
    fork_inside_a_session,
    leave_the_parents_transaction,
    stored,
    warm_up,
    write_and_close,
)
from tests.support import Child


def child_of(callback: Callable[[], object]) -> Child:
    def work() -> str:
        signal.alarm(int(PATIENCE_S))  # ends a child that waits for a lock of its parent
        return str(callback())

    return Child(work, hooks=False)


@pytest.mark.parametrize("first", ["parent", "child"])
def test_rows_of_both_are_there_after_both_close(
    storage: Storage, shared_database_dsn: str, first: str
) -> None:
    warm_up(storage)  # connections that are idle when the process is forked
    before = storage.users.count()
    write_and_close(storage, first, child_of, 50, 20)

    assert stored(shared_database_dsn) == before + 140


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
def test_a_child_uses_no_connection_of_its_parents(
    storage: Storage, connections: Connections
) -> None:
    """On the same one each would get the other's answers."""

    def own() -> object:
        with storage.session():
            return connections.own(storage)

    parents = own()
    assert child_of(own).check() != str(parents)
    assert own() == parents


def test_each_gets_its_own_answers(storage: Storage) -> None:
    warm_up(storage)
    keys = [storage.keys.create(storage.users.create(f"user{number}"))[1] for number in range(10)]

    def look_up() -> int:
        wrong = 0
        for number in range(200):
            found = storage.keys.authenticate(keys[number % 10])
            wrong += found is None or found.user.name != f"user{number % 10}"
        return wrong

    children = [child_of(look_up) for _ in range(4)]
    assert look_up() == 0
    assert [child.check() for child in children] == ["0"] * 4


def test_locks_that_other_threads_of_the_parent_held(storage: Storage) -> None:
    sink = storage.sink()
    alice = storage.users.create("alice")

    def work() -> int:
        sink.submit_usage(user_id=alice.id, cost=1)
        sink.close()
        storage.users.update(alice.id, password="correct horse battery staple")
        return storage.users.count()

    with ExitStack() as held:
        for lock in (
            storage.database.pool._lock,
            sink._queue.lock,
            Storage._open_lock,
        ):
            held.enter_context(lock)
        child = child_of(work)
    assert child.check() == "1"
    sink.close()
    assert storage.usages.count() == 1


def test_a_sink_of_before_the_fork_works_in_both(storage: Storage) -> None:
    alice = storage.users.create("alice")
    sink = storage.sink(flush_after_s=3600)
    for _ in range(10):
        sink.submit_usage(user_id=alice.id, cost=1)  # in the parent's queue when it forks

    def work() -> None:
        assert sink.stats().submitted == 0
        for _ in range(20):
            sink.submit_usage(user_id=alice.id, cost=1)
        assert sink.flush(timeout_s=PATIENCE_S)
        storage.close()

    child = child_of(work)
    child.check()
    sink.close(timeout_s=PATIENCE_S)

    assert storage.usages.count() == 30
    assert storage.quotas.get(alice).cost_used == 30


def test_a_sink_has_no_thread_before_its_first_row(storage: Storage) -> None:
    """C code forks without the interpreter's lock: where a thread has it, the child hangs."""
    before = {*threading.enumerate()}
    sink = storage.sink()
    assert {*threading.enumerate()} == before
    sink.submit_usage()
    names = {thread.name for thread in {*threading.enumerate()} - before}
    assert "gproxy-sink" in names
    sink.close(timeout_s=PATIENCE_S)
    assert storage.usages.count() == 1


def test_a_sink_without_rows_leaves_nothing(storage: Storage) -> None:
    sink = storage.sink()
    assert sink.flush(timeout_s=0)
    sink.close()
    sink.close()
    assert list(storage.spool_dir.iterdir()) == []
    with pytest.raises(WriteError, match="the sink is closed"):
        sink.submit_usage()


def test_a_child_that_does_not_use_the_storage_does_no_harm(storage: Storage) -> None:
    warm_up(storage)
    sink = storage.sink()
    sink.submit_usage()
    child_of(sink.close).check()  # as at its exit
    sink.close(timeout_s=PATIENCE_S)

    assert storage.usages.count() == 1
    assert storage.users.create("alice").id


def test_forked_inside_a_session(storage: Storage) -> None:
    fork_inside_a_session(storage, child_of)


def test_forked_inside_a_transaction(storage: Storage) -> None:
    leave_the_parents_transaction(storage, child_of)
