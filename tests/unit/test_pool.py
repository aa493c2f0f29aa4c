"""The pool alone, over a driver that only counts: it is not a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gproxy_storage.backends.pool import IDLE_CHECK_S, ConnectionPool
from gproxy_storage.errors import ConnectError, PoolTimeout
from tests.support import PATIENCE_S


class Connection:
    """What the driver opens."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"<connection {self.number}>"


@dataclass
class Driver:
    """Counts what the pool asks of it; each answer can be replaced by a test."""

    opened: int = 0
    checked: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    disowned: list[tuple[int, bool]] = field(default_factory=list)
    # Called first with the name of the call; raises to fail it.
    before: Callable[[str], None] = lambda _: None
    alive: bool = True
    current: bool = True
    fit: bool = True

    def open_connection(self) -> Connection:
        self.before("open")
        self.opened += 1
        return Connection(self.opened)

    def close_connection(self, conn: Connection) -> None:
        self.closed.append(conn.number)
        self.before("close")

    def is_current(self, conn: Connection) -> bool:
        del conn
        return self.current

    def is_alive(self, conn: Connection) -> bool:
        self.checked.append(conn.number)
        self.before("check")
        return self.alive

    def reset_connection(self, conn: Connection) -> bool:
        self.before("reset")
        return self.fit

    def disown_connection(self, conn: Connection, *, in_use: bool) -> None:
        self.disowned.append((conn.number, in_use))


class Clock:
    """Stands in for the module `time` in the pool."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gproxy_storage.backends.pool.time", clock)
    return clock


def make_pool(driver: Driver, size: int = 1, **limits: float) -> ConnectionPool:
    limits = {"pool_timeout_s": PATIENCE_S, "stale_timeout_s": 0.0, **limits}
    return ConnectionPool(driver, max_connections=size, **limits)


class Waiter(threading.Thread):
    """A thread that borrows, and notes what became of it."""

    def __init__(
        self,
        pool: ConnectionPool,
        then: Callable[[Any], None] = lambda _: None,
        *,
        keeps: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self.pool, self.then = pool, self.keep if keeps else then
        self.got: Any = None
        self.error: BaseException | None = None
        self.has_got, self.may_end = threading.Event(), threading.Event()
        queued = len(pool._waiters)
        self.start()
        deadline = time.monotonic() + PATIENCE_S
        while len(pool._waiters) == queued and self.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.001)  # the queue tells nobody when it grows

    def run(self) -> None:
        try:
            self.got = self.pool.acquire()
            self.has_got.set()
            self.then(self.got)
        except BaseException as exc:
            self.error = exc

    def keep(self, got: Any) -> None:
        """For `then`: keep it until `give_back`, for it is this thread's to give."""
        assert self.may_end.wait(PATIENCE_S)
        self.pool.release(got)

    def give_back(self) -> Any:
        assert self.has_got.wait(PATIENCE_S)
        self.may_end.set()
        return self.finish()

    def finish(self) -> Any:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        return self.got


# -- lending ------------------------------------------------------------------------------------


def test_nothing_is_opened_before_it_is_needed(driver: Driver) -> None:
    pool = make_pool(driver)
    assert driver.opened == 0
    pool.acquire()
    assert driver.opened == 1


def test_what_was_given_back_last_is_lent_first(driver: Driver) -> None:
    pool = make_pool(driver, 3)
    first, second, third = (pool.acquire() for _ in range(3))
    for conn in (second, third, first):
        pool.release(conn)

    assert [pool.acquire() for _ in range(3)] == [first, third, second]
    assert driver.opened == 3
    assert driver.checked == []


def test_waiters_are_served_in_order(driver: Driver) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    served: list[int] = []

    def serve(number: int) -> Callable[[Any], None]:
        def give_back(got: Any) -> None:
            served.append(number)
            pool.release(got)

        return give_back

    waiters = [Waiter(pool, serve(number)) for number in range(8)]
    pool.release(conn)

    assert {waiter.finish() for waiter in waiters} == {conn}
    assert served == list(range(8))
    assert driver.opened == 1


def test_a_newcomer_does_not_pass_the_queue(driver: Driver) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    first = Waiter(pool, keeps=True)
    pool.release(conn)
    second = Waiter(pool)

    assert first.has_got.wait(PATIENCE_S)
    assert not second.has_got.is_set()
    assert first.give_back() is conn
    assert second.finish() is conn


def test_a_discarded_connections_place_goes_to_the_first_waiter(driver: Driver) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    first, second = Waiter(pool, keeps=True), Waiter(pool)
    pool.release(conn, reuse=False)

    assert first.has_got.wait(PATIENCE_S)
    assert not second.has_got.is_set()
    got = first.give_back()
    assert got is not conn
    assert second.finish() is got
    assert (driver.opened, driver.closed) == (2, [1])


def test_waiting_ends_with_an_error(driver: Driver) -> None:
    pool = make_pool(driver, 2, pool_timeout_s=0.01)
    lent = [pool.acquire() for _ in range(2)]
    with pytest.raises(PoolTimeout, match=r"within 0\.01 s: all 2 are in use") as caught:
        pool.acquire()

    assert (caught.value.timeout_s, caught.value.max_connections) == (0.01, 2)
    assert not pool._waiters
    pool.release(lent[0])
    assert pool.acquire() is lent[0]


def test_giving_back_twice_or_what_is_not_ours_does_nothing(driver: Driver) -> None:
    pool = make_pool(driver, 2)
    conn = pool.acquire()
    pool.release(conn)
    pool.release(conn)
    pool.release(conn, reuse=False)
    pool.release(Connection(99))

    assert pool._slots == len(pool._idle) == 1
    assert driver.closed == []


# -- age and health -----------------------------------------------------------------------------


def test_a_connection_idle_for_long_is_checked(driver: Driver, clock: Clock) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    pool.release(conn)
    clock.now += IDLE_CHECK_S
    assert pool.acquire() is conn
    assert driver.checked == []

    pool.release(conn)
    clock.now += IDLE_CHECK_S + 0.1
    assert pool.acquire() is conn
    assert driver.checked == [1]


def test_a_dead_one_is_replaced(driver: Driver, clock: Clock) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    pool.release(conn)
    clock.now += IDLE_CHECK_S + 0.1
    driver.alive = False

    assert pool.acquire().number == 2
    assert driver.closed == [1]
    assert pool._slots == len(pool._in_use) == 1


@pytest.mark.parametrize("when", ["idle", "in use"])
def test_an_old_one_is_replaced(driver: Driver, clock: Clock, when: str) -> None:
    pool = make_pool(driver, stale_timeout_s=60.0)
    conn = pool.acquire()
    if when == "idle":
        pool.release(conn)
        clock.now += 60.1
    else:
        clock.now += 60.1
        pool.release(conn)
        assert driver.closed == [1]

    assert pool.acquire().number == 2
    assert driver.closed == [1]
    assert driver.checked == []


def test_by_default_none_is_too_old(driver: Driver, clock: Clock) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    clock.now += 1e9
    pool.release(conn)

    assert pool.acquire() is conn


def test_one_that_cannot_be_reset_is_closed(driver: Driver) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    waiter = Waiter(pool)
    driver.fit = False
    pool.release(conn)

    assert waiter.finish().number == 2
    assert driver.closed == [1]


# -- what goes wrong ----------------------------------------------------------------------------


def failing(*names: str, error: type[BaseException] = ConnectError) -> Callable[[str], None]:
    def before(name: str) -> None:
        if name in names:
            raise error(name)

    return before


@pytest.mark.parametrize("error", [ConnectError, KeyboardInterrupt])
def test_a_failed_opening_keeps_no_place(driver: Driver, error: type[BaseException]) -> None:
    pool = make_pool(driver)
    driver.before = failing("open", error=error)
    for _ in range(3):
        with pytest.raises(error):
            pool.acquire()
    driver.before = failing()

    assert pool.acquire().number == 1


def test_a_failed_opening_passes_its_place_on(driver: Driver) -> None:
    pool = make_pool(driver)
    opening, queued = threading.Event(), threading.Event()

    def before(name: str) -> None:
        if name == "open" and not opening.is_set():
            opening.set()
            assert queued.wait(PATIENCE_S)
            raise ConnectError("down")

    driver.before = before

    def fail() -> None:
        with pytest.raises(ConnectError):
            pool.acquire()

    first = threading.Thread(target=fail, daemon=True)
    first.start()
    assert opening.wait(PATIENCE_S)
    second = Waiter(pool)
    queued.set()
    first.join(PATIENCE_S)

    assert second.finish().number == 1


@pytest.mark.parametrize("call", ["check", "reset", "close"])
def test_an_interrupted_call_keeps_no_place(driver: Driver, clock: Clock, call: str) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    interrupts: dict[str, Callable[[], object]] = {
        "check": pool.acquire,
        "reset": lambda: pool.release(conn),
        "close": lambda: pool.release(conn, reuse=False),
    }
    if call == "check":
        pool.release(conn)
        clock.now += IDLE_CHECK_S + 0.1
    driver.before = failing(call, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupts[call]()
    driver.before = failing()

    assert set(driver.closed) == {1}
    assert pool._slots == 0
    assert pool.acquire().number == 2


def test_a_lock_that_an_interrupted_thread_left_locked_is_released(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gproxy_storage.backends.pool._LEFT_LOCKED_S", 0.01)
    pool = make_pool(driver)
    pool.acquire()
    pool._lock.acquire()  # and its holder is still this thread, as it was for `acquire`
    pool.recover()

    assert (driver.closed, pool._slots, pool._lock.locked()) == ([1], 0, False)
    assert pool.acquire().number == 2


def test_no_lock_is_held_while_the_driver_works(driver: Driver, clock: Clock) -> None:
    pool = make_pool(driver)
    seen = set()

    def before(name: str) -> None:
        seen.add(name)
        assert not pool._lock.locked()

    driver.before = before
    conn = pool.acquire()
    pool.release(conn)
    clock.now += IDLE_CHECK_S + 0.1
    driver.alive = False
    pool.release(pool.acquire(), reuse=False)

    assert seen == {"open", "reset", "check", "close"}


# -- the whole pool -----------------------------------------------------------------------------


def test_close_closes_idle_and_returned_connections(driver: Driver) -> None:
    pool = make_pool(driver, 2)
    idle, lent = pool.acquire(), pool.acquire()
    pool.release(idle)
    pool.close("that is over")
    pool.close("again")

    assert driver.closed == [1]
    for _ in range(2):
        with pytest.raises(ConnectError, match="that is over"):
            pool.acquire()
    pool.release(lent)
    assert driver.closed == [1, 2]
    assert pool._slots == 0


def test_close_sends_the_waiters_away(driver: Driver) -> None:
    pool = make_pool(driver)
    lent = pool.acquire()
    waiters = [Waiter(pool) for _ in range(3)]
    pool.close()
    for waiter in waiters:
        waiter.finish()

    assert [type(waiter.error) for waiter in waiters] == [ConnectError] * 3
    pool.release(lent)
    assert driver.opened == 1
    assert driver.closed == [1]


def test_close_idle_leaves_the_others(driver: Driver) -> None:
    pool = make_pool(driver, 2)
    idle, lent = pool.acquire(), pool.acquire()
    pool.release(idle)
    pool.close_idle()
    assert driver.closed == [1]
    pool.release(lent)

    assert pool.acquire() is lent
    assert pool.acquire().number == 3


# -- fork ---------------------------------------------------------------------------------------


@pytest.fixture
def forked(driver: Driver) -> Iterator[ConnectionPool]:
    """A pool of three with one idle connection, as it is between fork's hooks."""
    pool = make_pool(driver, 3)
    pool.release(pool.acquire())
    pool.before_fork()
    yield pool
    if pool._lock.locked():
        pool._lock.release()


def test_before_a_fork_idle_connections_are_closed(driver: Driver, forked: ConnectionPool) -> None:
    assert driver.closed == [1]
    assert forked._slots == 0


def test_the_pool_continues_in_the_parent_after_a_fork(
    driver: Driver, forked: ConnectionPool
) -> None:
    waiting = threading.Event()

    def acquire() -> None:
        waiting.set()
        got.append(forked.acquire().number)

    got: list[int] = []
    thread = threading.Thread(target=acquire, daemon=True)
    thread.start()
    assert waiting.wait(PATIENCE_S)
    assert got == []  # the pool stands still
    forked.after_fork_in_parent()
    thread.join(PATIENCE_S)

    assert got == [2]


def test_the_child_starts_empty(driver: Driver, forked: ConnectionPool) -> None:
    assert forked.after_fork_in_child() is False
    assert forked.acquire().number == 2


def test_a_child_leaves_what_was_in_use_to_the_parent(driver: Driver) -> None:
    pool = make_pool(driver, 2)
    lent = pool.acquire()
    pool.before_fork()
    assert pool.after_fork_in_child() is True

    assert driver.closed == []
    assert driver.disowned == [(1, True)]
    pool.release(lent)
    pool.release(lent, reuse=False)
    assert driver.closed == []
    assert pool._slots == 0


def test_a_child_of_a_fork_without_hooks_gives_up_idle_ones_too(driver: Driver) -> None:
    pool = make_pool(driver)
    pool.release(pool.acquire())
    pool._lock.acquire()  # as another thread of the parent may have had it
    assert pool.after_fork_in_child() is False

    assert (driver.closed, driver.disowned) == ([], [(1, False)])
    assert pool.acquire().number == 2


def test_a_thread_gives_back_what_is_its_own_only(driver: Driver) -> None:
    pool = make_pool(driver)
    conn = pool.acquire()
    holder = Waiter(pool, keeps=True)
    pool.release(conn)
    assert holder.has_got.wait(PATIENCE_S)
    pool.release(conn)  # as a cleanup that was interrupted does, and comes again
    pool.release(conn, reuse=False)
    pool.recover()

    assert pool._slots == len(pool._in_use) == 1
    assert driver.closed == []
    assert holder.give_back() is conn


def test_a_connection_being_opened_counts_as_in_use(driver: Driver) -> None:
    pool = make_pool(driver)
    opening, go_on = threading.Event(), threading.Event()

    def before(name: str) -> None:
        opening.set()
        assert go_on.wait(PATIENCE_S)

    driver.before = before
    thread = threading.Thread(target=pool.acquire, daemon=True)
    thread.start()
    assert opening.wait(PATIENCE_S)
    pool.before_fork()
    in_use = pool._slots > 0
    pool.after_fork_in_parent()
    go_on.set()
    thread.join(PATIENCE_S)

    assert in_use
