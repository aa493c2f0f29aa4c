"""ConnectionPool: a bounded, fair pool of driver connections, independent of the database.

Peewee's own pool connects while it holds the lock that `release` needs, and wakes waiters in no
order. Here no lock is held across a round trip, and waiters are served first come, first served.

A signal handler may raise between any two steps. So a connection is registered under its thread in
a single step, and `recover` closes all that the calling thread still holds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ..errors import ConnectError, PoolTimeout

T = TypeVar("T")

IDLE_CHECK_S = 5.0
"""A connection that was idle for longer is checked with a query before it is lent again."""

_LEFT_LOCKED_S = 1.0  # a lock held for so long was left locked: it is held for microseconds


class ConnectionDriver(Protocol):
    """What the pool needs from a backend."""

    def open_connection(self) -> Any:
        """Return a new, fully set-up driver connection."""

    def close_connection(self, conn: Any) -> None:
        """Close a connection; never raises."""

    def is_current(self, conn: Any) -> bool:
        """Tell without a round trip whether the connection's file is still the one at its path."""

    def is_alive(self, conn: Any) -> bool:
        """Check in one round trip whether the server answers; never raises."""

    def reset_connection(self, conn: Any) -> bool:
        """Roll back what was left open; False when the connection cannot be reused."""

    def disown_connection(self, conn: Any, *, in_use: bool) -> None:
        """Give up, in a child process, a connection that fork copied from the parent."""


@dataclass(slots=True, eq=False)
class _Lease:
    """One slot: its connection, None while it is being opened, and its age (monotonic, seconds)."""

    conn: Any = None
    opened_at: float = 0.0
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class _Waiter:
    """A thread that borrows. After a wait, `lease` is None if the pool was closed meanwhile."""

    thread: int
    lease: _Lease | None = None
    served: threading.Event = field(init=False, repr=False)


class ConnectionPool:
    """Lend at most `max_connections` connections, first come, first served.

    Args:
        max_connections: connections open at once, idle ones included; >= 1.
        pool_timeout_s: seconds a caller waits before PoolTimeout, > 0.
        stale_timeout_s: seconds after which a connection is replaced instead of lent; 0 = never.
    """

    def __init__(
        self,
        driver: ConnectionDriver,
        *,
        max_connections: int,
        pool_timeout_s: float,
        stale_timeout_s: float,
    ) -> None:
        self.max_connections = max_connections
        self.pool_timeout_s = pool_timeout_s
        self.stale_timeout_s = stale_timeout_s
        self._driver = driver
        self._lock = threading.Lock()
        self._holder = 0  # the thread that took the lock last
        self._idle: list[_Lease] = []  # the last one is lent first
        self._in_use: dict[_Lease, int] = {}  # -> the thread that holds it
        self._waiters: deque[_Waiter] = deque()
        self._refusal: str | None = None

    @property
    def _slots(self) -> int:
        return len(self._idle) + len(self._in_use)

    # -- borrowing and giving back ------------------------------------------------------------

    def acquire(self) -> Any:
        """Borrow a connection; open one when none is idle and the pool has room.

        Raises:
            PoolTimeout: when none becomes free within `pool_timeout_s`.
            ConnectError: when the pool is closed, or a connection cannot be opened.
        """
        waiter = _Waiter(threading.get_ident())
        try:
            with self._lock:  # as `_locked`; each call of these would be a fiftieth of a login
                self._holder = waiter.thread
                is_served = self._take_or_queue(waiter)
            if not is_served:
                self._wait(waiter)
            return self._connected(waiter.lease)
        except BaseException:
            self._surely_locked(self._leave_queue, waiter)
            if waiter.lease is not None:  # it was lent meanwhile
                self._drop(waiter.lease)
            raise

    def release(self, conn: Any, *, reuse: bool = True) -> None:
        """Return a connection, to the thread that has waited longest if any; idempotent.

        Args:
            reuse: False closes it instead.
        """
        lease = self._lease_of(conn)
        if lease is None:
            return
        try:
            if reuse and self._driver.reset_connection(conn):
                now = time.monotonic()
                if not self._is_stale(lease, now) and self._locked(self._put_back, lease, now):
                    return
            self._driver.close_connection(conn)
            self._locked(self._remove, lease)
        except BaseException:  # a signal handler raised
            self._drop(lease)
            raise

    def recover(self) -> None:
        """Close the connections this thread still holds after an interrupted call."""
        me = threading.get_ident()
        for lease, owner in list(self._in_use.items()):
            if owner == me:
                self._drop(lease)

    # -- the whole pool -----------------------------------------------------------------------

    def close_idle(self) -> None:
        """Close the idle connections."""
        self._locked(self._close_idle)

    def close(self, refusal: str = "the storage is closed: open a new one") -> None:
        """Close idle connections now and borrowed ones when they are returned; lend no more."""
        self._locked(self._close, refusal)

    def before_fork(self) -> None:
        """Close idle connections and lend none until one of the two calls below."""
        self._lock.acquire()
        self._close_idle()

    def after_fork_in_parent(self) -> None:
        """Lend connections again."""
        self._lock.release()

    def after_fork_in_child(self) -> bool:
        """Start empty; return whether the parent had connections in use, which remain its own."""
        self._lock = threading.Lock()
        in_use = bool(self._in_use)
        for lease in self._in_use:
            if lease.conn is not None:
                self._driver.disown_connection(lease.conn, in_use=True)
        while self._idle:  # only if the fork ran no hooks
            self._driver.disown_connection(self._idle.pop().conn, in_use=False)
        self._in_use.clear()
        self._waiters.clear()
        return in_use

    # -- under the lock -----------------------------------------------------------------------

    def _locked(self, action: Callable[..., T], *args: Any) -> T:
        with self._lock:
            self._holder = threading.get_ident()
            return action(*args)

    def _surely_locked(self, action: Callable[..., T], *args: Any) -> T:
        """Like `_locked`, even if this thread was interrupted just before it released the lock."""
        me = threading.get_ident()
        while not self._lock.acquire(timeout=_LEFT_LOCKED_S):
            if self._holder == me:
                break
        try:
            self._holder = me
            return action(*args)
        finally:
            self._lock.release()

    def _take_or_queue(self, waiter: _Waiter) -> bool:
        """Lend at once if nobody waits and something is free; else add to the queue."""
        self._refuse_if_closed()
        if not self._waiters and self._take(waiter):
            return True
        waiter.served = threading.Event()  # only now: rarely needed, and slow to create
        self._waiters.append(waiter)
        return False

    def _take(self, waiter: _Waiter) -> bool:
        """Lend an idle connection, or a slot to open one."""
        if self._idle:
            self._lend(waiter, self._idle[-1])
            self._idle.pop()
            return True
        if len(self._in_use) < self.max_connections:
            self._lend(waiter, _Lease())
            return True
        return False

    def _lend(self, waiter: _Waiter, lease: _Lease) -> None:
        waiter.lease = lease
        self._in_use[lease] = waiter.thread

    def _put_back(self, lease: _Lease, now: float) -> bool:
        if self._refusal is not None:
            return False
        lease.idle_since = now
        if self._waiters:
            self._lend(self._waiters[0], lease)
            self._finish_serving()
        else:
            self._idle.append(lease)
            del self._in_use[lease]
        return True

    def _remove(self, lease: _Lease) -> bool:
        """Remove a lease and give its slot to a waiter; False if this thread no longer holds it."""
        self._finish_serving()
        ours = self._in_use.get(lease) == threading.get_ident()
        if ours:
            if lease in self._idle:
                self._idle.remove(lease)
            del self._in_use[lease]
        while self._waiters and self._take(self._waiters[0]):
            self._finish_serving()
        return ours

    def _finish_serving(self) -> None:
        """Wake the waiters that have a lease, also those whose `_lend` was interrupted."""
        while self._waiters and (lease := self._waiters[0].lease):
            self._in_use[lease] = self._waiters[0].thread
            self._waiters[0].served.set()
            self._waiters.popleft()

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Return whether the waiter was still unserved."""
        if waiter not in self._waiters:
            return False
        self._waiters.remove(waiter)
        return True

    def _close(self, refusal: str) -> None:
        self._refusal = self._refusal or refusal
        self._close_idle()
        for waiter in self._waiters:
            waiter.served.set()
        self._waiters.clear()

    def _close_idle(self) -> None:
        while self._idle:
            self._driver.close_connection(self._idle[-1].conn)
            self._idle.pop()

    # -- outside the lock ---------------------------------------------------------------------

    def _lease_of(self, conn: Any) -> _Lease | None:
        """The lease under which this thread holds a connection."""
        me = threading.get_ident()
        for lease, owner in list(self._in_use.items()):
            if lease.conn is conn and owner == me:
                return lease
        return None

    def _drop(self, lease: _Lease) -> None:
        """Remove a lease of this thread and close its connection, after any interruption."""
        if self._surely_locked(self._remove, lease) and lease.conn is not None:
            self._driver.close_connection(lease.conn)

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            raise ConnectError(self._refusal)

    def _wait(self, waiter: _Waiter) -> None:
        waiter.served.wait(self.pool_timeout_s)
        if self._locked(self._leave_queue, waiter):
            raise PoolTimeout(
                f"no connection became free within {self.pool_timeout_s:g} s: all "
                f"{self.max_connections} are in use; raise max_connections in the DSN, or hold "
                "sessions for a shorter time",
                timeout_s=self.pool_timeout_s,
                max_connections=self.max_connections,
            )
        self._refuse_if_closed()

    def _is_stale(self, lease: _Lease, now: float) -> bool:
        return bool(self.stale_timeout_s) and now - lease.opened_at > self.stale_timeout_s

    def _is_fit(self, lease: _Lease) -> bool:
        now = time.monotonic()
        if self._is_stale(lease, now) or not self._driver.is_current(lease.conn):
            return False
        return now - lease.idle_since <= IDLE_CHECK_S or self._driver.is_alive(lease.conn)

    def _connected(self, lease: _Lease | None) -> Any:
        """Return the lease's connection; open one if it has none that can be used."""
        assert lease is not None  # noqa: S101 - for the types: without a lease `_wait` has raised
        conn = lease.conn
        if conn is not None:
            if self._is_fit(lease):
                return conn
            self._driver.close_connection(conn)
            lease.conn = None
        lease.conn = self._driver.open_connection()
        lease.opened_at = time.monotonic()
        return lease.conn
