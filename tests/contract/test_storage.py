"""Opening and closing a storage, and what remains of it afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

import peewee
import pytest

from gproxy_storage import Dsn, Storage, db_from_dsn
from gproxy_storage.errors import ConfigError, ConnectError, SchemaError
from gproxy_storage.models import TABLES, User
from gproxy_storage.secret import Secret
from tests import servers
from tests.contract.support import in_threads
from tests.support import PATIENCE_S, SQLITE_ALONE

SECRET = "a secret of this test"


@pytest.fixture
def settings_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory and an environment without settings."""
    for name in ("GPROXY_DSN", "GPROXY_DATA_DIR", "GPROXY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DATABASE_SECRET_KEY", "DATABASE_SECRET_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_open_takes_the_dsn_from_the_environment(
    settings_from: Path, shared_database_dsn: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPROXY_DSN", shared_database_dsn)

    with Storage.open() as storage:
        assert storage.database.name == backend
        assert storage.users.count() >= 0

    assert list(settings_from.iterdir()) == []


def test_the_argument_goes_before_the_environment(
    settings_from: Path, shared_database_dsn: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPROXY_DSN", "sqlite://elsewhere.db?mode=rwc")

    with Storage.open(dsn=shared_database_dsn) as storage:
        assert storage.database.name == backend

    assert not (settings_from / "elsewhere.db").exists()


def test_connect_creates_every_table(database_dsn: str) -> None:
    with Storage.connect(database_dsn) as storage:
        counts = storage.row_counts()

    empty = dict.fromkeys((model._meta.table_name for model in TABLES), 0)
    assert counts == empty | {"encryption_keys": 1}
    with Storage.connect(Dsn.parse(database_dsn)) as again:
        assert again.row_counts() == counts


def test_without_sync_the_database_stays_empty(database_dsn: str) -> None:
    with Storage.connect(database_dsn, sync=False) as storage:
        assert set(storage.row_counts().values()) == {None}
        with pytest.raises(SchemaError, match="gproxy-storage sync"):
            storage.users.create("alice")
        with pytest.raises(SchemaError, match="gproxy-storage sync"):
            storage.users.list()
        assert set(storage.row_counts().values()) == {None}

        assert storage.plan()
        assert storage.sync()
        assert not storage.plan()
        assert storage.users.create("alice").id


def test_row_counts_are_of_each_table(storage: Storage) -> None:
    alice = storage.users.create("alice")
    for _ in range(3):
        storage.keys.create(alice)

    counts = storage.row_counts()

    assert list(counts) == [model._meta.table_name for model in TABLES]
    assert {name: rows for name, rows in counts.items() if rows} == {
        "users": 1,
        "user_keys": 3,
        "encryption_keys": 1,
    }


def test_a_second_storage_is_refused(storage: Storage, shared_database_dsn: str) -> None:
    with pytest.raises(ConfigError, match="close it first") as caught:
        Storage.connect(shared_database_dsn)

    assert str(storage.database.dsn) in str(caught.value)
    assert storage.users.create("alice").id
    storage.close()
    with Storage.connect(shared_database_dsn) as second:
        assert second.users.find(name="alice")


def test_a_refused_database_in_memory_is_not_left_open(storage: Storage) -> None:
    # An unclosed connection would warn, and warnings are errors.
    for _ in range(3):
        with pytest.raises(ConfigError, match="close it first"):
            Storage.connect("sqlite::memory:")


def test_a_storage_that_fails_to_open_holds_nothing(
    storage: Storage, shared_database_dsn: str, tmp_path: Path
) -> None:
    storage.close()
    with pytest.raises(ConnectError):
        Storage.connect(f"sqlite://{tmp_path}/missing.db")

    with Storage.connect(shared_database_dsn) as opened:
        assert opened.users.list() == []


def test_no_way_of_showing_it_shows_the_password(storage: Storage, server: servers.Server) -> None:
    shown = f"{storage} {storage!r} {storage.database.dsn} {storage.database.dsn!r}"

    assert servers.TEST_PASSWORD not in shown
    assert repr(storage).startswith(f"<Storage {server.scheme}://")
    if server.backend != "sqlite":
        assert f"{servers.TEST_USER}:***@" in repr(storage)


@SQLITE_ALONE
@pytest.mark.parametrize("secret", [SECRET, Secret(SECRET)], ids=["text", "Secret"])
def test_the_secret_is_an_argument(database_dsn: str, secret: str | Secret) -> None:
    with Storage.connect(database_dsn, secret) as storage:
        assert storage.encryption.mode == "encrypted"


@SQLITE_ALONE
def test_the_secret_is_in_the_environment(
    settings_from: Path, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_SECRET_KEY", SECRET)

    with Storage.open(dsn=database_dsn) as storage:
        assert storage.encryption.mode == "encrypted"


def test_every_call_after_close_raises(storage: Storage) -> None:
    storage.users.create("alice")
    storage.close()

    for call in (
        storage.users.list,
        lambda: storage.users.create("bob"),
        lambda: storage.run_transaction(lambda: None),
        storage.row_counts,
        storage.sync,
        storage.plan,
        storage.session().__enter__,
        storage.transaction().__enter__,
    ):
        with pytest.raises(ConnectError, match="closed: open a new one"):
            call()


def test_models_are_unbound_by_close(storage: Storage) -> None:
    assert all(model._meta.database is storage.database for model in TABLES)
    storage.close()

    assert all(model._meta.database is None for model in TABLES)
    with pytest.raises(peewee.PeeweeException):
        list(User.select())


def test_a_storage_closed_late_leaves_the_next_one_alone(
    storage: Storage, shared_database_dsn: str
) -> None:
    storage.close()
    with Storage.connect(shared_database_dsn) as second:
        storage.close()

        assert second.users.list() == []
        with pytest.raises(ConfigError, match="close it first"):
            Storage.connect(shared_database_dsn)


def test_close_twice(storage: Storage) -> None:
    storage.close()
    storage.close()


def test_close_inside_a_session_gives_its_connection_back(storage: Storage) -> None:
    with storage.session():
        storage.users.create("alice")
        storage.close()
        with pytest.raises(ConnectError, match="closed"):
            storage.users.list()


def test_close_inside_a_transaction_is_refused(storage: Storage) -> None:
    with storage.transaction():
        storage.users.create("alice")
        with pytest.raises(ConfigError, match="inside a transaction"):
            storage.close()
        storage.users.create("bob")

    assert storage.users.count() == 2


def test_close_while_another_thread_works(storage: Storage) -> None:
    inside, closed = threading.Event(), threading.Event()

    def work() -> None:
        with storage.session():
            inside.set()
            assert closed.wait(PATIENCE_S)
            storage.database.query("SELECT 1")

    def close() -> None:
        assert inside.wait(PATIENCE_S)
        storage.close()
        closed.set()

    in_threads(work, close)
    assert storage.database.pool._slots == 0


def test_the_block_closes_it_when_it_raises(storage: Storage, shared_database_dsn: str) -> None:
    storage.close()
    with pytest.raises(ZeroDivisionError):
        with Storage.connect(shared_database_dsn):
            raise ZeroDivisionError

    with Storage.connect(shared_database_dsn):
        pass


def test_a_database_without_a_storage(shared_database_dsn: str, backend: str) -> None:
    database = db_from_dsn(shared_database_dsn)
    try:
        with database.connection_context():
            assert database.query("SELECT 1") == [(1,)]
            assert database.name == backend
        assert database.is_closed()
    finally:
        database.close_all()
