"""Fork with an open storage: parent and child both go on, and nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gproxy_storage import Dsn, Storage
from gproxy_storage.database import db_from_dsn
from gproxy_storage.errors import ConnectError
from gproxy_storage.models import User
from tests import servers
from tests.contract.support import PATIENCE_S, Signal, in_child, in_threads, insert
from tests.support import SOME_BACKENDS, Child

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
only_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def write(storage: Storage, prefix: str, count: int) -> None:
    for number in range(count):
        storage.users.create(f"{prefix}{number}")


def warm_up(storage: Storage) -> None:
    """Leave several connections idle in the pool."""
    together = threading.Barrier(3)

    def hold() -> None:
        with storage.session():
            together.wait(PATIENCE_S)
            insert(User)

    in_threads(*[hold] * 3)
    assert len(storage.database.pool._idle) == 3


def stored(dsn: str) -> int:
    with Storage.connect(dsn) as storage:
        return storage.users.count()


StartChild = Callable[[Callable[[], str]], Child]


def write_and_close(storage: Storage, first: str, start: StartChild, rows: int, late: int) -> None:
    """Write rows in parent and child, and after the first has closed its storage some more."""
    parent_closed, child_closed = Signal(), Signal()

    def work() -> str:
        write(storage, "child", rows)
        if first == "parent":
            parent_closed.wait()
        write(storage, "late child", late)
        storage.close()
        child_closed.set()
        return ""

    child = start(work)
    write(storage, "parent", rows)
    if first == "child":
        child_closed.wait()
    write(storage, "late parent", late)
    storage.close()
    parent_closed.set()
    child.check()
    parent_closed.close()
    child_closed.close()


@SOME_BACKENDS
@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_thousand_rows_of_both_are_there_after_both_close(
    storage: Storage, shared_database_dsn: str, first: str
) -> None:
    warm_up(storage)
    before = storage.users.count()
    write_and_close(storage, first, Child, 400, 100)

    assert stored(shared_database_dsn) == before + 1000


def test_idle_connections_are_closed_before_the_fork(storage: Storage) -> None:
    warm_up(storage)
    told = in_child(lambda: len(storage.database.pool._idle) + storage.database.pool._slots)

    assert told == "0"
    assert storage.database.pool._idle == []
    assert storage.users.count() == 3


def test_a_child_of_a_child(storage: Storage, shared_database_dsn: str) -> None:
    def grandchild() -> None:
        write(storage, "grandchild", 20)
        storage.close()

    def child() -> None:
        write(storage, "child", 10)
        in_child(grandchild)
        write(storage, "later child", 10)
        storage.close()

    write(storage, "parent", 10)
    in_child(child)
    write(storage, "later parent", 10)
    storage.close()

    assert stored(shared_database_dsn) == 60


def test_several_children_at_once(storage: Storage) -> None:
    def work(name: str) -> Callable[[], str]:
        def writing() -> str:
            write(storage, name, 20)
            return ""

        return writing

    children = [Child(work(name)) for name in "abcd"]
    write(storage, "parent", 20)
    for child in children:
        child.check()

    assert storage.users.count() == 100


# -- with a connection in use -------------------------------------------------------------------


def expect_refusals(storage: Storage) -> str:
    """Try everything in a child that may have nothing; return the last message."""
    message = ""
    for call in (
        storage.users.list,
        lambda: storage.users.create("child"),
        lambda: storage.run_transaction(lambda: None),
        storage.session().__enter__,
        storage.transaction().__enter__,
        storage.plan,
    ):
        with pytest.raises(ConnectError, match="this process was forked while") as caught:
            call()
        message = str(caught.value)
    assert storage.database.is_closed()
    return message


def fork_inside_a_session(storage: Storage, start: StartChild) -> None:
    with storage.session():
        insert(User)
        message = start(lambda: expect_refusals(storage)).check()
        insert(User)

    assert ("fork outside of sessions" in message) == (storage.database.name == "sqlite")
    assert storage.users.count() == 2


def test_forked_inside_a_session(storage: Storage) -> None:
    fork_inside_a_session(storage, Child)


def test_forked_inside_a_transaction(storage: Storage) -> None:
    with storage.transaction():
        insert(User)
        with storage.transaction():
            insert(User)
            in_child(lambda: expect_refusals(storage))
            insert(User)
        insert(User)

    assert storage.users.count() == 4


def test_forked_while_another_thread_has_a_session(storage: Storage) -> None:
    inside, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with storage.transaction():
            insert(User)
            inside.set()
            assert forked.wait(PATIENCE_S)
            insert(User)

    def fork() -> None:
        assert inside.wait(PATIENCE_S)
        try:
            in_child(lambda: expect_refusals(storage))
        finally:
            forked.set()

    in_threads(hold, fork)

    assert storage.users.count() == 2


def leave_the_parents_transaction(storage: Storage, start: StartChild) -> None:
    def leave() -> str:
        with pytest.raises(ConnectError, match="only the parent can end"):
            block.__exit__(None, None, None)
        return ""

    block = storage.transaction()
    with block:
        insert(User)
        start(leave).check()
        insert(User)

    assert storage.users.count() == 2


def test_leaving_the_parents_transaction_raises_in_a_child(storage: Storage) -> None:
    leave_the_parents_transaction(storage, Child)


@only_servers
def test_such_a_child_may_open_a_new_storage(storage: Storage, shared_database_dsn: str) -> None:
    def child() -> None:
        expect_refusals(storage)
        storage.close()
        with Storage.connect(shared_database_dsn) as own:
            write(own, "child", 10)

    with storage.session():
        insert(User)
        in_child(child)
        insert(User)

    assert storage.users.count() == 12


@only_sqlite
def test_such_a_child_must_not_open_the_file_again(
    storage: Storage, shared_database_dsn: str, tmp_path: Path
) -> None:
    """It would take the parent's locks for its own, and rows of either would be lost."""
    path = Path(Dsn.parse(shared_database_dsn).path)
    other_name = tmp_path / "link.db"
    other_name.symlink_to(path)

    def refused(dsn: str) -> None:
        with pytest.raises(ConnectError, match="fork outside of sessions, or start a new program"):
            Storage.connect(dsn)

    def grandchild() -> None:
        refused(shared_database_dsn)

    def child() -> None:
        storage.close()
        refused(shared_database_dsn)
        refused(f"sqlite://{path.parent}/../{path.parent.name}/{path.name}?mode=ro")
        refused(f"sqlite://{other_name}")
        in_child(grandchild)
        with Storage.connect(f"sqlite://{tmp_path}/another.db?mode=rwc") as another:
            write(another, "child", 10)

    with storage.session():
        insert(User)
        in_child(child)
        insert(User)

    assert storage.users.count() == 2


def test_a_database_without_a_storage_survives_too(shared_database_dsn: str) -> None:
    database = db_from_dsn(shared_database_dsn)

    def ask() -> str:
        with database.connection_context():
            return str(database.query("SELECT 7")[0][0])

    try:
        assert ask() == "7"
        assert in_child(ask) == "7"
        assert ask() == "7"
    finally:
        database.close_all()


@only_sqlite
def test_a_child_forked_while_another_thread_opens_a_storage(database_dsn: str) -> None:
    def open_one() -> str:
        signal.alarm(int(PATIENCE_S))  # ends a child that waits for a thread it does not have
        with Storage.connect(database_dsn) as own:
            return str(own.users.create("alice").name)

    with Storage._open_lock:  # as the other thread does
        child = Child(open_one)

    assert child.check() == "alice"
