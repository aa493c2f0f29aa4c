"""SQLite in memory: one database for all connections of a Storage, and for nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy_storage import Storage, db_from_dsn
from gproxy_storage.errors import ConfigError, ConnectError
from gproxy_storage.models import User
from tests.contract.support import PATIENCE_S, in_child, in_threads, insert

DSN = "sqlite::memory:"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.chdir(tmp_path)
    with Storage.connect(DSN) as storage:
        yield storage
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dsn", [DSN, "sqlite://:memory:", "sqlite://x.db?mode=memory"])
def test_every_way_of_naming_it(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Storage.connect(dsn) as storage:
        storage.users.create("alice")
        assert storage.users.count() == 1
        assert repr(storage) == "<Storage sqlite::memory:>"

    assert list(tmp_path.iterdir()) == []


def test_all_connections_see_the_same(memory: Storage) -> None:
    together = threading.Barrier(4)
    connections = set()

    def work() -> None:
        with memory.session():
            together.wait(PATIENCE_S)
            connections.add(id(memory.database.connection()))
            insert(User)
            together.wait(PATIENCE_S)
            assert User.select().count() == 4
            together.wait(PATIENCE_S)

    in_threads(*[work] * 4)
    assert len(connections) == 4


def test_writers_wait_for_each_other(memory: Storage) -> None:
    def work() -> None:
        for _ in range(25):
            memory.run_transaction(lambda: insert(User))

    in_threads(*[work] * 8)

    assert memory.users.count() == 200


def test_a_database_in_memory_outlives_its_connections(memory: Storage) -> None:
    memory.users.create("alice")
    memory.database.pool.close_idle()
    with memory.session():
        memory.database.replace_connection()

    assert memory.users.count() == 1


def test_foreign_keys_are_enforced(memory: Storage) -> None:
    with memory.session():
        assert memory.database.query("PRAGMA foreign_keys") == [(1,)]


def test_a_database_in_memory_is_private(memory: Storage) -> None:
    memory.users.create("alice")
    other = db_from_dsn(DSN)
    try:
        with other.connection_context():
            assert other.query("SELECT count(*) FROM sqlite_schema") == [(0,)]
    finally:
        other.close_all()


def test_it_is_gone_after_close(memory: Storage) -> None:
    memory.users.create("alice")
    memory.close()
    with Storage.connect(DSN) as again:
        assert again.users.count() == 0


def test_a_child_is_refused_and_the_parent_goes_on(memory: Storage) -> None:
    def child() -> None:
        with pytest.raises(ConnectError, match="in memory stays with the parent"):
            memory.users.list()
        with pytest.raises(ConfigError, match="close it first"):
            Storage.connect(DSN)
        memory.close()
        with Storage.connect(DSN) as own:
            own.users.create("child")
            assert own.users.count() == 1

    memory.users.create("alice")
    in_child(child)
    with memory.transaction():
        insert(User, name="bob")
        in_child(child)
        insert(User, name="carol")

    assert memory.users.count() == 3


@pytest.mark.parametrize("option", ["mode=ro", "immutable=1", "cache=private", "vfs=unix"])
def test_options_that_contradict_memory_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="remove it"):
        Storage.connect(f"{DSN}?{option}")
