"""Locks that others hold: waiting has an end, the error says who, and nobody queues for long."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.errors import SyncFailed
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.support import PATIENCE_S, Child, opened, run_script

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)

REMOVE_PASSWORD = "ALTER TABLE users DROP COLUMN password"
READ_USERS = "SELECT id FROM users"
ADD_USER = (
    "INSERT INTO users (name, enabled, is_admin, created_at, updated_at) "
    "VALUES ('a', TRUE, FALSE, '2026-05-04 12:00:00', '2026-05-04 12:00:00')"
)


@contextmanager
def transaction_on(server: servers.Server, database: Backend, statement: str) -> Iterator[Any]:
    """A transaction of another connection that has run a statement and stays open.

    On SQLite it is one that writes, whatever the statement.
    """
    if server.backend == "sqlite":
        connection: Any = sqlite3.connect(database.dsn.path, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
    else:
        connection = server.connect(database.database, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(statement)
    try:
        yield connection
    finally:
        connection.rollback()
        connection.close()


def connection_id(connection: Any, backend: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid()" if backend == "postgres" else "SELECT CONNECTION_ID()"
        )
        return int(cursor.fetchone()[0])


def failure(database: Backend, **kwargs: Any) -> tuple[SyncFailed, float]:
    """Sync, which must give up; return the error and how long it took."""
    started = time.monotonic()
    with pytest.raises(SyncFailed) as caught:
        sync(database, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert f"({database.name})" in message
    assert str(database.dsn) in message
    assert "then start again" in message
    return caught.value, time.monotonic() - started


@contextmanager
def reading(dsn: str, sql: str) -> Iterator[list[float]]:
    """Another connection that reads all the time; yields how long each read took, in seconds."""
    waits: list[float] = []
    stop = threading.Event()

    def read() -> None:
        with opened(dsn) as database, session(database):
            while not stop.is_set():
                started = time.monotonic()
                database.query(sql)
                waits.append(time.monotonic() - started)
                time.sleep(0.005)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield waits
    finally:
        stop.set()
        reader.join()


@only_servers
def test_a_long_transaction_on_the_table(
    synced: Backend, server: servers.Server, backend: str
) -> None:
    run_script(synced, REMOVE_PASSWORD)
    with transaction_on(server, synced, READ_USERS) as holder:
        with reading(synced.dsn.reveal(), "SELECT count(*) FROM users") as waits:
            error, elapsed_s = failure(synced, lock_timeout_s=5)
        number = connection_id(holder, backend)
    assert elapsed_s >= 5
    assert max(waits) < elapsed_s * 0.7, "a reader stood in the queue behind the sync"
    assert max(waits) > 0.5, "the sync never waited for the table"
    assert len(waits) > 3
    assert "step 1/1, table users, column password is missing" in str(error)
    assert "a lock on users was not released within 5 s" in str(error)
    assert "nothing was changed" in str(error)
    assert error.step is not None
    assert error.step in str(error)
    assert error.applied == ()
    if backend == "postgres":
        assert f"(pid {number}, user " in str(error)
    else:  # this user may not ask
        assert "(the server does not say: see SHOW PROCESSLIST)" in str(error)
    assert [step.sql for step in sync(synced).applied] == [error.step]


@pytest.mark.parametrize("backend", ["mysql"], indirect=True)
def test_mysql_says_who_to_a_user_who_may_ask(synced: Backend, server: servers.Server) -> None:
    run_script(synced, REMOVE_PASSWORD)
    access = replace(server.access, database=synced.database)
    with transaction_on(server, synced, READ_USERS) as holder:
        number = connection_id(holder, "mysql")
        with opened(access.dsn(server.scheme, server.socket_option)) as as_admin:
            error, _ = failure(as_admin, lock_timeout_s=0.2)
    assert f"(connection {number}, user {access.user})" in str(error)


@pytest.mark.parametrize("backend", ["postgres", "mysql"], indirect=True)  # MariaDB does not wait
def test_a_new_table_waits_for_those_it_refers_to(
    synced: Backend, server: servers.Server, backend: str
) -> None:
    """The step's table is not there yet; what is locked is the one its foreign key points to."""
    run_script(synced, "DROP TABLE user_quotas")
    with transaction_on(server, synced, ADD_USER) as holder:
        error, _ = failure(synced, lock_timeout_s=0.5)
        number = connection_id(holder, backend)
    assert "step 1/" in str(error)
    assert "table user_quotas, the table is missing" in str(error)
    assert "a lock on user_quotas, users was not released within" in str(error)
    if backend == "postgres":
        assert f"pid {number}" in str(error)


def test_it_goes_on_when_the_lock_is_given_up(synced: Backend, server: servers.Server) -> None:
    run_script(synced, REMOVE_PASSWORD)
    with transaction_on(server, synced, READ_USERS) as holder:
        timer = threading.Timer(0.7, holder.rollback)
        timer.start()
        report = sync(synced, lock_timeout_s=PATIENCE_S)
        timer.join()
    assert len(report.applied) == 1
    assert not plan(synced)


# -- the sync lock itself -------------------------------------------------------------------------


@contextmanager
def another_sync(dsn: str) -> Iterator[None]:
    """Another process's sync that holds the lock until the end of the block."""
    read, write = os.pipe()
    done, end = os.pipe()

    def hold() -> str:
        def hook(name: str) -> None:
            if name == "locked":
                os.write(write, b"locked")
                os.read(done, 1)

        with opened(dsn) as database:
            return str(bool(sync(database, hook=hook)))

    child = Child(hold)
    os.read(read, 6)
    try:
        yield
    finally:
        os.write(end, b"!")
        assert child.check() == "True"
        for descriptor in (read, write, done, end):
            os.close(descriptor)


def test_another_process_holds_the_sync_lock(
    empty: Backend, backend: str, database_dsn: str
) -> None:
    with another_sync(database_dsn):
        error, elapsed_s = failure(empty, lock_timeout_s=1)
    assert elapsed_s > 0.5
    assert "waiting for the sync lock: another process held it for 1 s" in str(error)
    words = {
        "sqlite": "(a process that writes to the file: `fuser` names",
        "postgres": "(pid ",
        "mysql": "(connection ",
        "mariadb": "(connection ",
    }
    assert words[backend] in str(error)
    assert not sync(empty)  # the other has done it


def test_a_time_out_of_0_suffices_without_other_locks(empty: Backend) -> None:
    assert sync(empty, lock_timeout_s=0)
    assert not sync(empty, lock_timeout_s=0)


def test_a_sync_with_nothing_to_do_waits_for_no_lock(synced: Backend) -> None:
    """Neither for another's sync lock nor, on SQLite, for a writer."""

    entered, release = threading.Event(), threading.Event()

    def keep() -> None:
        with opened(synced.dsn.reveal()) as other, session(other), other.sync_lock(1):
            entered.set()
            release.wait(PATIENCE_S)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        assert entered.wait(PATIENCE_S)
        assert not sync(synced, lock_timeout_s=0)
    finally:
        release.set()
        keeper.join()


@pytest.mark.parametrize("at", ["locked", "before commit"])
def test_the_lock_is_given_up_after_an_exception(
    empty: Backend, at: str, database_dsn: str
) -> None:
    class Interrupted(BaseException):
        """Ctrl-C, say."""

    def hook(name: str) -> None:
        if name == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        sync(empty, hook=hook)
    assert not empty.in_transaction()
    with opened(database_dsn) as other:
        sync(other, lock_timeout_s=PATIENCE_S)
        assert not plan(other)
