"""Threads share the pool: none starves, none waits for what does not concern it."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import PoolTimeout
from gproxy_storage.models import User
from tests.contract.support import PATIENCE_S, in_threads, insert, with_options


def test_16_threads_share_4_connections_fairly(shared_database_dsn: str) -> None:
    """None waits for more than a quarter of the run, which is measured in turns, not in time."""
    served: list[None] = []
    waits = []
    with Storage.connect(with_options(shared_database_dsn, max_connections=4)) as storage:
        all_open = threading.Barrier(4)  # who has to open its connection waits for the server

        def warm_up() -> None:
            with storage.session():
                all_open.wait(PATIENCE_S)

        def work() -> None:
            for _ in range(40):
                asked = len(served)
                with storage.session():
                    waits.append(len(served) - asked)
                    served.append(None)
                    storage.users.count()
                    storage.usages.summarize()

        in_threads(*[warm_up] * 4)
        in_threads(*[work] * 16)

        assert len(waits) == 640
        assert max(waits) <= 640 / 4
        assert len(storage.database.pool._idle) <= 4
        assert not storage.database.pool._waiters


def test_all_that_16_threads_write_is_there(shared_database_dsn: str, storage: Storage) -> None:
    storage.close()
    with Storage.connect(with_options(shared_database_dsn, max_connections=4)) as small:

        def work(number: int) -> None:
            for place in range(5):
                small.users.create(f"{number}.{place}")

        in_threads(*[lambda number=number: work(number) for number in range(16)])

        assert small.users.count() == 80


def test_a_slow_connect_blocks_no_other_thread(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, go_on, connecting = storage.database, threading.Event(), threading.Event()
    open_connection = database.open_connection

    def slow() -> Any:
        connecting.set()
        assert go_on.wait(PATIENCE_S)
        return open_connection()

    def newcomer() -> None:
        # The only idle connection is lent to the others: this thread has to open one.
        assert borrowed.wait(PATIENCE_S)
        monkeypatch.setattr(database, "open_connection", slow)
        storage.users.create("newcomer")

    borrowed = threading.Event()

    def others() -> None:
        with storage.session():
            borrowed.set()
            assert connecting.wait(PATIENCE_S)
        for number in range(50):  # give back and borrow while the other still connects
            storage.users.create(f"user{number}")
        assert storage.users.find(name="newcomer") is None
        go_on.set()

    in_threads(newcomer, others)

    assert storage.users.count() == 51


def test_waiting_for_a_connection_ends_with_pool_timeout(shared_database_dsn: str) -> None:
    dsn = with_options(shared_database_dsn, max_connections=1, pool_timeout=0.05)
    with Storage.connect(dsn) as storage:

        def wait() -> None:
            for call in (storage.users.list, lambda: storage.run_transaction(lambda: None)):
                with pytest.raises(
                    PoolTimeout, match=r"raise max_connections in the DSN"
                ) as caught:
                    call()
                assert (caught.value.timeout_s, caught.value.max_connections) == (0.05, 1)

        with storage.session():
            in_threads(wait)
            storage.users.list()
        in_threads(storage.users.list)  # and threads that gave up have left the queue
        assert not storage.database.pool._waiters


def test_ctrl_c_while_waiting_keeps_nothing(shared_database_dsn: str) -> None:
    with Storage.connect(with_options(shared_database_dsn, max_connections=1)) as storage:
        pool = storage.database.pool
        main = threading.main_thread().ident
        assert main is not None
        lent, give_back = threading.Event(), threading.Event()

        def hold() -> None:
            with storage.session():
                lent.set()
                while not pool._waiters:
                    time.sleep(0.001)
                signal.pthread_kill(main, signal.SIGINT)
                assert give_back.wait(PATIENCE_S)

        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        assert lent.wait(PATIENCE_S)
        with pytest.raises(KeyboardInterrupt):
            storage.users.list()
        assert not pool._waiters
        assert storage.database.is_closed()
        give_back.set()
        holder.join(PATIENCE_S)

        assert storage.users.list() is not None
        assert pool._slots == len(pool._idle) == 1


def test_connections_opened_at_once_are_not_too_many(
    shared_database_dsn: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.close()
    with Storage.connect(with_options(shared_database_dsn, max_connections=3)) as small:
        small.database.pool.close_idle()
        now_open, most = [0], [0]
        lock = threading.Lock()
        open_connection, close_connection = (
            small.database.open_connection,
            small.database.close_connection,
        )

        def opening() -> Any:
            with lock:
                now_open[0] += 1
                most[0] = max(most[0], now_open[0])
            return open_connection()

        def closing(conn: Any) -> None:
            close_connection(conn)
            with lock:
                now_open[0] -= 1

        monkeypatch.setattr(small.database, "open_connection", opening)
        monkeypatch.setattr(small.database, "close_connection", closing)

        def work() -> None:
            for place in range(8):
                with small.session():
                    insert(User)
                    if place % 4 == 0:
                        small.database.replace_connection()

        in_threads(*[work] * 8)

        assert most[0] == 3
        assert now_open[0] == len(small.database.pool._idle) <= 3
        assert small.users.count() == 64
