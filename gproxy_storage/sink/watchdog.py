"""Watchdog: ends a statement that the database does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..backends.base import Backend


class Watchdog:
    """Breaks a connection whose transaction takes too long, so that its thread goes on.

    A server or a network that hangs would hold the writer for as long as it likes, for drivers
    wait without end.

    Args:
        timeout_s: how long a transaction may take.
    """

    def __init__(self, database: Backend, timeout_s: float) -> None:
        self._database = database
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._conn: Any = None
        self._deadline = 0.0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        threading.Thread(target=self._run, name="gproxy-sink-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()

    @contextmanager
    def watching(self, conn: Any) -> Iterator[None]:
        """Give the block its time on this connection."""
        self._deadline = time.monotonic() + self._timeout_s
        self._conn = conn
        try:
            yield
        finally:
            with self._lock:  # never a connection that somebody else has by now
                self._conn = None

    def bite(self) -> None:
        """Break the connection that is being watched now, if any."""
        with self._lock:
            if self._conn is not None:
                self._database.abort(self._conn)

    def _run(self) -> None:
        while not self._stopped.wait(min(self._timeout_s / 4, 5.0)):
            if self._conn is not None and time.monotonic() > self._deadline:
                self.bite()
