"""A signal handler may raise between any two steps: nothing is lost, kept, or answered wrongly."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import peewee
import pytest

import gproxy_storage
from gproxy_storage import Storage
from gproxy_storage.database import Session
from gproxy_storage.errors import WriteError
from gproxy_storage.models import User
from tests.contract.support import PATIENCE_S, insert, with_options
from tests.processes import run_python

PACKAGE = str(Path(gproxy_storage.__file__).parent)
TRACED = (PACKAGE, str(peewee.__file__), str(contextlib.__file__))


@pytest.fixture
def storage(synced_dsn: str, tmp_path: Path) -> Iterator[Storage]:
    dsn = with_options(synced_dsn, max_connections=2, pool_timeout=5)
    with Storage.connect(dsn, data_dir=tmp_path) as opened:
        yield opened


class Interruption:
    """Raises KeyboardInterrupt at one of a call's steps, counted over our code and Peewee's."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._steps = 0
        self.where: str | None = None

    def run(self, call: Callable[[], object]) -> None:
        sys.settrace(self._trace)
        try:
            call()
        except KeyboardInterrupt:
            assert self.where is not None
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, _: str, __: object) -> Any:
        return self._step if frame.f_code.co_filename.startswith(TRACED) else None

    def _step(self, frame: FrameType, event: str, _: object) -> Any:
        if event in ("line", "return"):
            self._steps += 1
            if self._steps == self._at:
                code = frame.f_code
                self.where = (
                    f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name} {event}"
                )
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._step


def test_the_tracer_covers_the_packages_own_code() -> None:
    assert Session.__enter__.__code__.co_filename.startswith(TRACED)


# One of so many steps: servers answer slowly, and the steps are the same code.
STRIDE = {"sqlite": 11, "postgres": 29, "mysql": 61, "mariadb": 61}

Call = Callable[[Storage, int], object]


def nested(storage: Storage, number: int) -> None:
    def work() -> None:
        storage.users.create(f"outer{number}")
        storage.run_transaction(lambda: storage.users.create(f"inner{number}"))

    storage.run_transaction(work)


def batch(storage: Storage, number: int) -> None:
    with storage.batch() as writes:
        writes.users.upsert(f"batch{number}")


CALLS: dict[str, Call] = {
    "a read": lambda storage, _: storage.users.count(),
    "a write": lambda storage, number: storage.users.create(f"user{number}"),
    "a cost": lambda storage, _: storage.quotas.add_cost(1, 1),
    "a savepoint": nested,
    "a batch": batch,
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finaliser
@pytest.mark.parametrize("name", CALLS)
def test_whatever_step_is_interrupted(storage: Storage, backend: str, name: str) -> None:
    call, pool = CALLS[name], storage.database.pool
    with storage.session():
        insert(User, id=1, name="first")
    call(storage, 0)
    found, at = [], 1
    while True:
        interruption = Interruption(at)
        interruption.run(partial(call, storage, at))
        if interruption.where is None:
            break
        left = {
            "in a transaction": storage.database.in_transaction(),
            "a connection kept": not storage.database.is_closed(),
            "a slot lost": pool._slots != len(pool._idle),
            "locked": pool._lock.locked(),
        }
        found += [f"{interruption.where}: {what}" for what, holds in left.items() if holds]
        at += STRIDE[backend]
    before = storage.users.count()
    storage.users.create("last")

    assert found == []
    assert at > 100  # it was a long way
    assert storage.users.count() == before + 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finaliser
def test_a_block_of_the_callers_interrupted_anywhere(storage: Storage, backend: str) -> None:
    """The call after it works on a clean connection, and nothing of the block is half there."""
    at = 1
    while True:

        def block(number: int = at) -> None:
            with storage.session(), storage.transaction():
                storage.users.create(f"a{number}")
                storage.users.create(f"b{number}")

        interruption = Interruption(at)
        interruption.run(block)
        names = {user.name for user in storage.users.list() if user.name[1:] == str(at)}
        assert len(names) in (0, 2), interruption.where
        assert not storage.database.in_transaction(), interruption.where
        assert storage.database.pool._slots == len(storage.database.pool._idle), interruption.where
        if interruption.where is None:
            break
        at += 5 * STRIDE[backend]


class SoftTimeLimit(Exception):  # noqa: N818 - what task queues call it
    """An exception that is no driver's."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimit, TimeoutError])
def test_a_block_that_swallowed_an_interruption_of_a_statement_stores_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    raised = error("mine")

    def interrupt(*_: object) -> None:
        raise raised

    def block() -> None:
        with storage.transaction():
            storage.users.create("before")
            with monkeypatch.context() as patch:
                patch.setattr(peewee.Database, "execute_sql", interrupt)
                with pytest.raises(error) as reached:
                    storage.users.create("interrupted")
            assert reached.value is raised
            storage.users.create("after")

    with pytest.raises(WriteError, match="was ended before the block") as caught:
        block()

    assert caught.value.committed is False
    assert storage.users.list() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimit])
def test_a_block_that_swallowed_an_interruption_of_an_inner_ones_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], when: str
) -> None:
    """Nothing of the inner one is stored: the outer one rolls it back, or ends with an error."""
    release = peewee._savepoint.commit

    def interrupt(savepoint: Any, begin: bool = True) -> None:
        if when == "after":
            release(savepoint, begin)
        raise error

    def block() -> None:
        with storage.transaction():
            storage.users.create("outer")
            monkeypatch.setattr(peewee._savepoint, "commit", interrupt)
            with pytest.raises(error):
                storage.users.create("inner")
            monkeypatch.undo()

    ended = False
    try:
        block()
    except WriteError:
        ended = True

    assert [user.name for user in storage.users.list()] == ([] if ended else ["outer"])


def test_an_interrupted_commit_reaches_the_caller_as_it_is(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = peewee.Database.commit

    def interrupt(database: peewee.Database) -> None:
        commit(database)
        raise SoftTimeLimit

    monkeypatch.setattr(peewee.Database, "commit", interrupt)
    with pytest.raises(SoftTimeLimit):
        storage.users.create("alice")
    monkeypatch.undo()

    assert [user.name for user in storage.users.list()] == ["alice"]  # and not twice


def run_interrupted(dsn: str, directory: Path, interruptions: int) -> None:
    done = run_python(
        "-m", "tests.fault.interrupted", directory, str(interruptions),
        settings={"DSN": dsn}, cwd=directory, timeout_s=PATIENCE_S,
    )  # fmt: skip
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])

    assert told["findings"] == {}
    assert told["interrupted"] >= interruptions


def test_a_timer_interrupts_at_random_while_others_write(database_dsn: str, tmp_path: Path) -> None:
    run_interrupted(database_dsn, tmp_path, 100)


@pytest.mark.slow
def test_a_timer_interrupts_often(database_dsn: str, tmp_path: Path) -> None:
    run_interrupted(database_dsn, tmp_path, 1_000)  # 10,000 take an hour on the four
