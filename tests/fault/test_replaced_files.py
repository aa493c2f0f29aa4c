"""A SQLite file that is replaced, moved or deleted under a running process: nothing acknowledged is
lost, and the log says so once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gproxy_storage import Dsn, Storage, StorageError
from gproxy_storage.backends import sqlite_files
from gproxy_storage.backends.sqlite import SqliteBackend
from gproxy_storage.errors import ConnectError, WriteError
from tests.contract.support import in_threads, names
from tests.support import PATIENCE_S

ENDINGS = ("", "-wal", "-shm")
KILLED_LATER = """
import os, sys
from gproxy_storage import Storage
storage = Storage.connect(sys.argv[1])
storage.users.create("first")
for ending in sys.argv[3:]:
    os.unlink(sys.argv[2] + ending)
for number in range(5):
    try:
        storage.users.create(f"after{number}")
        print(f"after{number}", flush=True)
    except Exception as refused:
        print(type(refused).__name__, file=sys.stderr)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in a directory of its own."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "gproxy.db"


def at(path: Path) -> str:
    return f"sqlite://{path}?mode=rwc"


def copy_of(path: Path) -> Path:
    """Copy the file as it is now to the same directory."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("VACUUM INTO ?", (f"{path}.copy",))
    return Path(f"{path}.copy")


def unlink(path: Path, *endings: str) -> None:
    for ending in endings:
        Path(f"{path}{ending}").unlink(missing_ok=True)


def restore(path: Path) -> None:
    copy = copy_of(path)
    unlink(path, *ENDINGS)
    copy.rename(path)


def rename_over(path: Path) -> None:
    copy_of(path).rename(path)
    unlink(path, "-wal", "-shm")


def swap_directory(path: Path) -> None:
    copy = copy_of(path)
    path.parent.rename(path.parent.with_name("old"))
    path.parent.mkdir()
    path.parent.with_name("old").joinpath(copy.name).rename(path)


@pytest.mark.parametrize("replace", [restore, rename_over, swap_directory])
@pytest.mark.parametrize("idle", [1, 3], ids=["one connection", "three connections"])
def test_a_file_that_was_replaced(
    path: Path, replace: Callable[[Path], None], idle: int, caplog: pytest.LogCaptureFixture
) -> None:
    with Storage.connect(at(path)) as storage:
        storage.users.create("before")
        in_threads(*[lambda: hold(storage, idle)] * idle)
        replace(path)
        for number in range(5):
            storage.users.create(f"after{number}")
        assert sum("replaced, moved or deleted" in each for each in caplog.messages) == 1
    with Storage.connect(at(path)) as storage:
        assert names(storage) == ["before", *(f"after{number}" for number in range(5))]


def hold(storage: Storage, threads: int) -> None:
    """Have one connection of so many open at once."""
    with storage.session():
        storage.users.count()
        while storage.database.pool._slots < threads:
            pass


def test_a_link_that_names_another_file(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with Storage.connect(at(path)) as storage:
        storage.users.create("before")
        other = copy_of(path)
    with Storage.connect(at(link)) as storage:
        storage.users.create("one")
        link.unlink()
        link.symlink_to(other)
        storage.users.create("other")
    with Storage.connect(at(other)) as storage:
        assert names(storage) == ["before", "other"]
    with Storage.connect(at(path)) as storage:
        assert names(storage) == ["before", "one"]


@pytest.mark.parametrize("mode", ["rw", "rwc"])
def test_a_deleted_file_is_not_recreated(path: Path, mode: str) -> None:
    with Storage.connect(at(path)) as storage:
        storage.users.create("before")
        copy = copy_of(path)
    with Storage.connect(f"sqlite://{path}?mode={mode}") as storage:
        unlink(path, *ENDINGS)
        for _ in range(2):
            with pytest.raises(ConnectError, match="deleted while it was open: put it back"):
                storage.users.create("after")
        assert not path.exists()
        copy.rename(path)
        storage.users.create("after")
        assert names(storage) == ["before", "after"]


@pytest.mark.parametrize("endings", [["-wal"], ["-shm"], ["-wal", "-shm"], list(ENDINGS)])
def test_what_was_acknowledged_survives_a_kill(path: Path, endings: list[str]) -> None:
    dsn = at(path)
    command = [sys.executable, "-W", "ignore", "-c", KILLED_LATER, dsn, str(path), *endings]
    child = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    acknowledged = child.stdout.split()
    assert child.returncode == -9

    if "" in endings:
        assert acknowledged == []
        return
    assert acknowledged, child.stderr
    with Storage.connect(dsn) as storage:
        assert names(storage) == ["first", *acknowledged]
        with storage.session():
            assert storage.database.query("PRAGMA integrity_check") == [("ok",)]


def test_a_session_that_is_held(path: Path) -> None:
    with Storage.connect(at(path)) as storage, storage.session():
        storage.users.create("before")
        restore(path)
        storage.users.create("after")
        assert names(storage) == ["before", "after"]
    with Storage.connect(at(path)) as storage:
        assert names(storage) == ["before", "after"]


def test_a_transaction_is_not_committed_to_a_missing_file(path: Path) -> None:
    with Storage.connect(at(path)) as storage:
        storage.users.create("before")
        copy = copy_of(path)

        def write() -> None:
            with storage.transaction():
                storage.users.create("lost")
                copy.rename(path)

        with pytest.raises(WriteError, match="during the transaction") as caught:
            write()
        assert caught.value.committed is False
        unlink(path, "-wal", "-shm")
        storage.users.create("after")
        assert names(storage) == ["before", "after"]


def test_a_lost_log_waits_for_who_still_uses_it(path: Path) -> None:
    with Storage.connect(at(path)) as storage:
        storage.users.create("before")
        with storage.session():
            storage.users.count()
            unlink(path, "-wal", "-shm")

            def other() -> None:
                with pytest.raises(ConnectError, match="-wal or -shm was deleted"):
                    storage.users.count()

            in_threads(other)
        storage.users.create("after")
    with Storage.connect(at(path)) as storage:
        assert names(storage) == ["before", "after"]


@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), OSError(116, "stale"), OSError(5, "")]
)
def test_a_file_system_that_does_not_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def stat(_path: str) -> None:
        raise error

    with Storage.connect(at(path)) as storage:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_files, "file_id", stat)
            storage.users.create("meanwhile")
        assert names(storage) == ["meanwhile"]


def test_a_relative_path_is_of_the_directory_at_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with Storage.connect(f"sqlite://{path.name}?mode=rwc") as storage:
        storage.users.create("here")
        monkeypatch.chdir("/")
        storage.database.pool.close_idle()
        storage.users.create("still here")
    assert path.exists()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN])
def test_a_directory_that_cannot_be_written(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a file with write-ahead logging needs files in its directory."""
    with Storage.connect(at(path)):
        pass
    backend = SqliteBackend(Dsn.parse(f"sqlite://{path}?mode=ro"))
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = code
    access = os.access  # root may write anywhere
    monkeypatch.setattr(
        os, "access", lambda at, mode: access(at, mode) and not (at == path.parent and mode & 2)
    )

    assert "immutable=1" in backend.connect_problem(error)
    assert str(path.parent) in backend.connect_problem(error)


def test_errors_are_of_the_package(path: Path) -> None:
    with Storage.connect(at(path)) as storage:
        unlink(path, *ENDINGS)
        with pytest.raises(StorageError):
            storage.users.list()
