"""Sessions: a call borrows a connection and gives it back, calls in a session share one."""

from __future__ import annotations

import threading

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ReadError
from gproxy_storage.models import User
from tests.contract.support import Connections, in_threads, insert
from tests.support import PATIENCE_S


@pytest.fixture
def borrowed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections that the pool lends from now on, in order."""
    lent: list[object] = []
    pool, acquire = storage.database.pool, storage.database.pool.acquire

    def noting() -> object:
        lent.append(acquire())
        return lent[-1]

    monkeypatch.setattr(pool, "acquire", noting)
    return lent


def in_use(storage: Storage) -> int:
    return len(storage.database.pool._in_use)


def test_a_call_gives_its_connection_back(storage: Storage, borrowed: list[object]) -> None:
    storage.users.create("alice")
    assert storage.database.is_closed()
    storage.users.list()

    assert in_use(storage) == 0
    assert len(borrowed) == 2
    assert borrowed[0] is borrowed[1]  # kept open in between


def test_a_call_that_fails_gives_it_back_too(storage: Storage) -> None:
    storage.users.create("alice")
    for _ in range(storage.database.pool.max_connections + 1):
        with pytest.raises(Exception, match="a row of users with name"):
            storage.users.create("alice")

    assert in_use(storage) == 0


def test_calls_in_a_session_share_one_connection(
    storage: Storage, borrowed: list[object], connections: Connections
) -> None:
    with storage.session():
        number = connections.own(storage)
        alice = storage.users.create("alice")
        storage.keys.create(alice)
        storage.usages.record(user_id=alice.id, cost=1.0)
        storage.usages.summarize()
        storage.row_counts()
        storage.plan()
        with storage.transaction():
            assert connections.own(storage) == number
        storage.run_transaction(lambda: storage.users.create("bob"))
        assert in_use(storage) == 1
        assert connections.own(storage) == number

    assert len(borrowed) == 1
    assert in_use(storage) == 0


def test_an_inner_session_is_the_outer_one(storage: Storage, borrowed: list[object]) -> None:
    with storage.session():
        with storage.session():
            insert(User, name="alice")
        with pytest.raises(ZeroDivisionError), storage.session():
            raise ZeroDivisionError
        assert [user.name for user in User.select()] == ["alice"]

    assert len(borrowed) == 1


def test_a_session_that_raises_gives_its_connection_back(storage: Storage) -> None:
    with pytest.raises(ZeroDivisionError), storage.session():  # noqa: PT012 - the block is the subject
        insert(User, name="alice")
        raise ZeroDivisionError

    assert in_use(storage) == 0
    assert storage.users.count() == 1  # a session is no transaction


def test_a_query_outside_of_a_session_is_refused(storage: Storage) -> None:
    with pytest.raises(ReadError, match=r"with storage\.session\(\)"):
        list(User.select())
    with pytest.raises(ReadError, match=r"with storage\.session\(\)"):
        insert(User)
    with pytest.raises(ReadError, match=r"with storage\.session\(\)"):
        storage.database.query("SELECT 1")

    assert in_use(storage) == 0


def test_a_session_is_of_its_thread(storage: Storage, connections: Connections) -> None:
    numbers = []
    both = threading.Barrier(2)

    def work() -> None:
        with storage.session():
            numbers.append(connections.own(storage))
            both.wait(PATIENCE_S)
            insert(User)
            both.wait(PATIENCE_S)

    def outside() -> None:
        with pytest.raises(ReadError, match="no session is open in this thread"):
            list(User.select())

    in_threads(work, work)
    assert len(set(numbers)) == 2
    with storage.session():
        in_threads(outside)
    assert storage.users.count() == 2


def test_what_a_session_left_open_is_rolled_back(storage: Storage) -> None:
    with storage.session():
        storage.database.begin()
        insert(User)

    with storage.session():
        assert User.select().count() == 0
        storage.database.begin()  # not inside the one that was left
        storage.database.rollback()
    assert len(storage.database.pool._idle) == 1  # the same connection, fit for use


def test_peewees_own_ways_work_over_the_pool(storage: Storage) -> None:
    database = storage.database
    with database.connection_context():
        insert(User, name="alice")
    with database:  # a transaction, too
        insert(User, name="bob")
    assert database.connect()
    assert not database.connect(reuse_if_open=True)
    with pytest.raises(peewee.OperationalError, match="already opened"):
        database.connect()
    assert User.select().count() == 2
    assert database.close()
    assert not database.close()

    assert in_use(storage) == 0


def test_sequential_calls_open_one_connection(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.database.pool.close_idle()
    opened = []
    open_connection = storage.database.open_connection

    def noting() -> object:
        opened.append(open_connection())
        return opened[-1]

    monkeypatch.setattr(storage.database, "open_connection", noting)
    for number in range(20):
        storage.users.create(f"user{number}")

    assert len(opened) == 1
