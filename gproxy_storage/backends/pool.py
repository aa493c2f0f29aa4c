"""ConnectionPool: a bounded, fair pool of driver connections. Knows no database.

Peewee's own pool connects while it holds the lock that giving back needs, and wakes waiters in no
order. Here no lock is held across a round trip, and who waits longest is served first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import ConnectError, PoolTimeout

IDLE_CHECK_S = 5.0
"""A connection idle for longer is asked whether it lives before it is lent again."""


class ConnectionDriver(Protocol):
    """What the pool needs of a backend."""

    def open_connection(self) -> Any:
        """Return a new, fully set-up driver connection."""

    def close_connection(self, conn: Any) -> None:
        """Close a connection; never raises."""

    def is_alive(self, conn: Any) -> bool:
        """Ask the server, in one round trip; never raises."""

    def reset_connection(self, conn: Any) -> bool:
        """Roll back what was left open; False when the connection is not fit for reuse."""


@dataclass(slots=True, eq=False)
class _Lease:
    """One connection and its age. Times are of the monotonic clock, in seconds."""

    conn: Any
    opened_at: float
    idle_since: float = 0.0


class _Waiter:
    """A thread in the queue. `lease` stays None when it is granted a slot to open its own."""

    __slots__ = ("lease", "served")

    def __init__(self) -> None:
        self.served = threading.Event()
        self.lease: _Lease | None = None


class ConnectionPool:
    """Lend at most `max_connections` connections, first come first served.

    Args:
        driver: opens, checks and closes the connections.
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
        self._idle: list[_Lease] = []  # the warmest last
        self._in_use: dict[int, _Lease] = {}
        self._waiters: deque[_Waiter] = deque()
        self._slots = 0  # idle, in use, and being opened or checked
        self._refusal: str | None = None

    # -- lending ------------------------------------------------------------------------------

    def acquire(self) -> Any:
        """Borrow a connection for one thread; pair with `release` or `discard`.

        Raises:
            PoolTimeout: when none comes free within `pool_timeout_s`.
            ConnectError: when the pool is closed, or a connection cannot be opened.
        """
        waiter: _Waiter | None = None
        lease: _Lease | None = None
        with self._lock:
            self._refuse_if_closed()
            if self._idle:
                lease = self._lend(self._idle.pop())
            elif self._slots < self.max_connections:
                self._slots += 1
            else:
                waiter = _Waiter()
                self._waiters.append(waiter)
        if waiter is not None:
            lease = self._wait(waiter)
        if lease is not None:
            try:
                if self._is_fit(lease):
                    return lease.conn
            except BaseException:  # Ctrl-C while asking
                self.discard(lease.conn)
                raise
            self._drop(lease)
        return self._open()

    def release(self, conn: Any) -> None:
        """Give a connection back; it goes to whoever waits longest."""
        lease = self._in_use.get(id(conn))
        if lease is None:
            return
        try:
            is_fit = self._driver.reset_connection(conn)
        except BaseException:  # Ctrl-C while rolling back
            self.discard(conn)
            raise
        now = time.monotonic()
        if not is_fit or self._is_stale(lease, now):
            self.discard(conn)
            return
        with self._lock:
            if self._refusal is None:
                del self._in_use[id(conn)]
                lease.idle_since = now
                if self._waiters:
                    self._serve(self._lend(lease))
                else:
                    self._idle.append(lease)
                return
        self.discard(conn)

    def discard(self, conn: Any) -> None:
        """Close a borrowed connection instead of giving it back."""
        lease = self._in_use.get(id(conn))
        if lease is not None:
            try:
                self._drop(lease)
            finally:
                self._free_slot()

    # -- the whole pool -----------------------------------------------------------------------

    def close_idle(self) -> None:
        """Close the connections that nobody borrows."""
        with self._lock:
            self._close_idle()

    def close(self, refusal: str = "the storage is closed: open a new one") -> None:
        """Close idle connections now and borrowed ones as they come back; lend no more."""
        with self._lock:
            self._refusal = self._refusal or refusal
            self._close_idle()
            while self._waiters:
                self._serve(None)

    def before_fork(self) -> None:
        """Close idle connections and hold the pool still until one of the two calls below."""
        self._lock.acquire()
        self._close_idle()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        self._lock.release()

    def after_fork_in_child(self) -> bool:
        """Start empty; return whether connections were in use, which the parent goes on using."""
        self._lock = threading.Lock()
        in_use = self._slots > 0
        for lease in self._in_use.values():
            _never_finalise(lease.conn)
        self._in_use.clear()
        self._waiters.clear()
        self._slots = 0
        return in_use

    # -- inside -------------------------------------------------------------------------------

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            raise ConnectError(self._refusal)

    def _lend(self, lease: _Lease) -> _Lease:
        self._in_use[id(lease.conn)] = lease
        return lease

    def _serve(self, lease: _Lease | None) -> None:
        waiter = self._waiters.popleft()
        waiter.lease = lease
        waiter.served.set()

    def _wait(self, waiter: _Waiter) -> _Lease | None:
        """Wait to be served: a lease, or None for a slot to open one's own connection."""
        try:
            waiter.served.wait(self.pool_timeout_s)
        except BaseException:  # Ctrl-C while waiting: leave the queue, keep nothing
            if not self._leave_queue(waiter):
                self._give_up(waiter)
            raise
        if self._leave_queue(waiter):
            raise PoolTimeout(
                f"no connection came free within {self.pool_timeout_s:g} s: all "
                f"{self.max_connections} are in use; raise max_connections in the DSN, or hold "
                "sessions for a shorter time",
                timeout_s=self.pool_timeout_s,
                max_connections=self.max_connections,
            )
        if self._refusal is not None:
            self._give_up(waiter)
            self._refuse_if_closed()
        return waiter.lease

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Return whether the waiter was still unserved."""
        with self._lock:
            if waiter.served.is_set():
                return False
            self._waiters.remove(waiter)
            return True

    def _give_up(self, waiter: _Waiter) -> None:
        if waiter.lease is not None:
            self.release(waiter.lease.conn)
        elif self._refusal is None:
            self._free_slot()

    def _is_stale(self, lease: _Lease, now: float) -> bool:
        return bool(self.stale_timeout_s) and now - lease.opened_at > self.stale_timeout_s

    def _is_fit(self, lease: _Lease) -> bool:
        now = time.monotonic()
        if self._is_stale(lease, now):
            return False
        return now - lease.idle_since <= IDLE_CHECK_S or self._driver.is_alive(lease.conn)

    def _open(self) -> Any:
        """Open a connection in a slot already counted; gives the slot up on failure."""
        try:
            conn = self._driver.open_connection()
        except BaseException:
            self._free_slot()
            raise
        with self._lock:
            self._lend(_Lease(conn, time.monotonic()))
        return conn

    def _drop(self, lease: _Lease) -> None:
        """Close a borrowed connection, keeping its slot."""
        try:
            self._driver.close_connection(lease.conn)
        finally:
            with self._lock:
                self._in_use.pop(id(lease.conn), None)

    def _free_slot(self) -> None:
        with self._lock:
            if self._waiters:
                self._serve(None)
            else:
                self._slots -= 1

    def _close_idle(self) -> None:
        while self._idle:
            self._driver.close_connection(self._idle.pop().conn)
            self._slots -= 1


def _never_finalise(conn: Any) -> None:
    """Keep a connection that a fork copied from being closed here, even by the process's end.

    It belongs to the parent: closed in the child, SQLite would undo the parent's transaction in
    the memory that they share.
    """
    import ctypes  # noqa: PLC0415 - only such a child pays for it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(conn))
