"""Transactions: all or nothing, savepoints inside, user exceptions pass."""

from __future__ import annotations

import threading

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError, InvalidValue, MissingReference
from gproxy_storage.models import User
from tests.contract.support import in_threads, insert, names
from tests.support import PATIENCE_S


def test_a_block_commits_at_its_end(storage: Storage) -> None:
    written, looked = threading.Event(), threading.Event()
    seen = []

    def write() -> None:
        with storage.transaction():
            storage.users.create("alice")
            storage.users.create("bob")
            written.set()
            assert looked.wait(PATIENCE_S)

    def look() -> None:
        assert written.wait(PATIENCE_S)
        seen.extend(names(storage))
        looked.set()

    in_threads(write, look)

    assert seen == []
    assert names(storage) == ["alice", "bob"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_nothing(storage: Storage, error: type[BaseException]) -> None:
    with pytest.raises(error), storage.transaction():  # noqa: PT012 - the block is the subject
        storage.users.create("alice")
        raise error

    assert names(storage) == []
    assert not storage.database.in_transaction()


@pytest.mark.parametrize("in_session", [False, True])
def test_run_transaction_returns_what_its_callback_does(storage: Storage, in_session: bool) -> None:
    def work() -> str:
        storage.users.create("alice")
        return "done"

    if in_session:
        with storage.session():
            assert storage.run_transaction(work) == "done"
    else:
        assert storage.run_transaction(work) == "done"
    assert names(storage) == ["alice"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_users_exception_is_not_retried(storage: Storage, error: type[BaseException]) -> None:
    raised = error("mine")
    calls = []

    def work() -> None:
        calls.append(storage.users.create("alice"))
        raise raised

    with pytest.raises(error) as caught:
        storage.run_transaction(work)

    assert caught.value is raised
    assert len(calls) == 1
    assert names(storage) == []


def test_an_inner_failure_leaves_the_outer_transaction_usable(storage: Storage) -> None:
    with storage.transaction():
        storage.users.create("alice")
        with pytest.raises(ConflictError):
            storage.users.create("alice")
        with pytest.raises(MissingReference):
            storage.keys.create(10**9)
        with pytest.raises(ZeroDivisionError), storage.transaction():  # noqa: PT012 - the block is the subject
            storage.users.create("gone")
            raise ZeroDivisionError
        with pytest.raises(InvalidValue):
            storage.users.create("n" * 256)
        storage.users.create("bob")

    assert names(storage) == ["alice", "bob"]


def test_savepoints_nest(storage: Storage) -> None:
    with storage.transaction():
        storage.users.create("one")
        with storage.transaction():
            storage.users.create("two")
            with pytest.raises(ConflictError), storage.transaction():  # noqa: PT012 - the block is the subject
                storage.users.create("three")
                with storage.transaction():
                    storage.users.create("four")
                storage.users.create("one")
            storage.users.create("five")
        with pytest.raises(ZeroDivisionError):
            storage.run_transaction(lambda: storage.users.create("six").id // 0)
        storage.run_transaction(lambda: storage.users.create("seven"))

    assert names(storage) == ["one", "two", "five", "seven"]


def test_a_committed_savepoint_falls_with_the_outer_transaction(storage: Storage) -> None:
    with pytest.raises(ZeroDivisionError), storage.transaction():  # noqa: PT012 - the block is the subject
        with storage.transaction():
            storage.users.create("alice")
        storage.run_transaction(lambda: storage.users.create("bob"))
        raise ZeroDivisionError

    assert names(storage) == []


def test_the_error_of_a_callers_own_statement_is_translated(storage: Storage) -> None:
    with storage.transaction():
        insert(User, name="alice")
    with pytest.raises(ConflictError), storage.transaction():  # noqa: PT012 - the block is the subject
        insert(User, name="bob")
        insert(User, name="alice")

    assert names(storage) == ["alice"]


def test_reading_inside_a_transaction_sees_its_own_writes(storage: Storage) -> None:
    with storage.transaction():
        alice = storage.users.create("alice")
        _, plaintext = storage.keys.create(alice)
        assert storage.users.find(name="alice") == alice
        found = storage.keys.authenticate(plaintext)
        assert found is not None
        assert found.user == alice
        assert storage.row_counts()["users"] == 1
