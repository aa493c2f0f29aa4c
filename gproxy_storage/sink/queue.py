"""RowQueue: rows on their way from callers to the writer, bounded by number and by bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from ..backends.bulk import Row
from ..errors import WriteError
from .batch import Batch

BATCH_BYTES = 4 * 1024 * 1024
"""A batch ends with the row that brings it here, however few they are."""


def is_held_here(condition: threading.Condition) -> bool:
    """Whether this thread holds the condition's RLock: a signal handler may interrupt its holder.

    Noted beside the lock, it would not be true of the moment in which that is taken.
    """
    try:
        condition.notify(0)
    except RuntimeError:  # the lock is not this thread's
        return False
    return True


class RowQueue:
    """Rows in order; callers put, the writer takes them in batches.

    Args:
        flush_rows: so many rows make a batch.
        flush_after_s: or the oldest row's age.
        max_rows, max_bytes: beyond either, `put` waits.
        on_first: called under the lock before a row comes into the empty queue.
        make_room: called, without the lock, by who finds the queue full; whether it made room.
    """

    def __init__(
        self,
        *,
        flush_rows: int,
        flush_after_s: float,
        max_rows: int,
        max_bytes: int,
        on_first: Callable[[], None],
        make_room: Callable[[], bool],
    ) -> None:
        self.flush_rows = flush_rows
        self.flush_after_s = flush_after_s
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        # An RLock, for it knows whose it is: see `is_held_here`.
        self.lock = threading.RLock()
        self._notable = {1, flush_rows, max_rows}  # at these counts the writer may have to wake
        self.submitted = 0
        self.settled = 0
        self.closed = False
        self._on_first = on_first
        self._make_room = make_room
        self._rows: deque[tuple[int, Row, int, float]] = deque()
        self._bytes = 0
        self._next_seq = 1
        self._wanted = 0  # rows up to this number are to be taken now
        self._waiting = 0
        self._due = threading.Condition(self.lock)
        self._room = threading.Condition(self.lock)
        self._settling = threading.Condition(self.lock)

    def __len__(self) -> int:
        return len(self._rows)

    # -- callers ------------------------------------------------------------------------------

    def put(self, log: int, row: Row, size: int) -> None:
        """Append a row; waits while the queue is full.

        Raises:
            WriteError: when the queue is closed.
        """
        rows = self._rows
        with self.lock:
            if len(rows) >= self.max_rows or self._bytes >= self.max_bytes:
                self._wait_for_room()
            if self.closed:
                raise WriteError("the sink is closed: the row was not stored")
            if not rows:
                self._on_first()
            rows.append((log, row, size, time.monotonic()))
            self._bytes += size
            self.submitted += 1
            count = len(rows)
            if count in self._notable or self._bytes >= BATCH_BYTES:
                self._due.notify()

    def is_interrupted(self) -> bool:
        """Whether this thread is inside the queue already: in a signal handler it may be."""
        return is_held_here(self._due)

    def wait_settled(self, timeout_s: float) -> bool:
        """Have everything put so far written now; whether it was settled in time."""
        with self.lock:
            target = self.submitted
            self._wanted = max(self._wanted, target)
            self._due.notify()
            return self._settling.wait_for(lambda: self.settled >= target, timeout_s)

    def close(self) -> None:
        """Take no more rows, and have the rest written now."""
        with self.lock:
            self.closed = True
            self._wanted = self.submitted
            self._due.notify_all()
            self._room.notify_all()

    # -- the writer ---------------------------------------------------------------------------

    def wait_due(self, timeout_s: float) -> bool:
        """Wait until a batch is due; False when none is within the time, or the queue is closed."""
        deadline = time.monotonic() + timeout_s
        with self.lock:
            while not self._is_due():
                until = min(
                    deadline, self._rows[0][3] + self.flush_after_s if self._rows else deadline
                )
                left_s = until - time.monotonic()
                if self.closed or (left_s <= 0 and until == deadline):
                    return False
                self._due.wait(left_s)
            return True

    def cut(self) -> Batch | None:
        """Return a batch of the oldest rows now; None when there are none."""
        with self.lock:
            return self._cut() if self._rows else None

    def put_back(self, batch: Batch) -> None:
        """Undo the last `cut`: nothing was done with it, and nothing was cut since."""
        with self.lock:
            self._next_seq = batch.seq
            share, now = batch.size_bytes // len(batch), time.monotonic()
            for log, rows in enumerate(batch.rows):
                self._rows.extendleft((log, row, share, now) for row in reversed(rows))
            self._bytes += share * len(batch)

    def settle(self, rows: int) -> None:
        """Count rows as stored, spooled or rejected."""
        with self.lock:
            self.settled += rows
            self._settling.notify_all()

    # -- inside, under the lock -----------------------------------------------------------------

    def _is_due(self) -> bool:
        count = len(self._rows)
        return bool(count) and (
            count >= self.flush_rows
            or count >= self.max_rows
            or self._bytes >= BATCH_BYTES
            or self._bytes >= self.max_bytes
            or self.submitted - count < self._wanted
            or time.monotonic() >= self._rows[0][3] + self.flush_after_s
        )

    def _cut(self) -> Batch:
        rows, count, size = self._rows, 0, 0
        for _, _, row_bytes, _ in islice(rows, self.flush_rows):
            count += 1
            size += row_bytes
            if size >= BATCH_BYTES:
                break
        batch = Batch(self._next_seq, size_bytes=size)
        for _ in range(count):
            log, row, _, _ = rows.popleft()
            batch.rows[log].append(row)
        self._next_seq += 1
        self._bytes -= size
        if self._waiting and len(rows) <= self.max_rows // 2 and self._bytes <= self.max_bytes // 2:
            self._room.notify_all()
        return batch

    def _wait_for_room(self) -> None:
        """Wait until the queue is half empty: woken at each row, callers and writer would
        spend their time handing the interpreter's lock to each other."""
        while not self.closed and self._is_full():
            self.lock.release()
            try:
                made = self._make_room()
            finally:
                self.lock.acquire()
            if made or not self._is_full():
                return
            self._waiting += 1
            try:
                self._due.notify()
                self._room.wait()
            finally:
                self._waiting -= 1

    def _is_full(self) -> bool:
        return len(self._rows) >= self.max_rows or self._bytes >= self.max_bytes
