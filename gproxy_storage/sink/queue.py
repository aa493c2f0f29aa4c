"""RowQueue: rows on their way from callers to the writer, bounded by number and by bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from ..backends.bulk import Row
from ..errors import WriteError
from ..forks import current_pid
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


class _Books(NamedTuple):
    """What is where; replaced as a whole, so that an interruption leaves the old or the new.

    Attributes:
        rows: (log, row, bytes, when) in order.
        in_hand: the batch that was cut last, until it is the spool's or the writer's.
        taken: how many rows were cut.
    """

    rows: deque[tuple[int, Row, int, float]]
    in_hand: Batch | None
    next_seq: int
    taken: int


class RowQueue:
    """Rows in order; callers put, the writer takes them in batches.

    A signal handler may raise between any two steps of a caller's thread. No row is in two places
    then, and none in no place.

    Args:
        flush_rows: so many rows make a batch.
        flush_after_s: or the oldest row's age.
        max_rows, max_bytes: beyond either, `put` waits.
        on_first: called under the lock before a row comes into the empty queue.
        make_room: called, without the lock, by who finds the queue full; whether it made room.
        in_child: called in a child of the process that made the queue; returns the child's own.
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
        in_child: Callable[[], RowQueue],
    ) -> None:
        self.flush_rows = flush_rows
        self.flush_after_s = flush_after_s
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        # An RLock, for it knows whose it is: see `is_held_here`.
        self.lock = threading.RLock()
        self._notable = {1, flush_rows, max_rows}  # at these counts the writer may have to wake
        self.closed = False
        self._on_first = on_first
        self._make_room = make_room
        self._in_child = in_child
        self._pid = current_pid()
        self._books = _Books(deque(), None, 1, 0)
        self._unsettled: dict[int, int] = {}  # rows by the number of the batch that they are in
        self._bytes = 0  # about: interrupted, a row may not be counted
        self._wanted = 0  # rows up to this number are to be taken now
        self._waiting = 0
        self._due = threading.Condition(self.lock)
        self._room = threading.Condition(self.lock)
        self._settling = threading.Condition(self.lock)

    def __len__(self) -> int:
        """How many rows wait to be cut; a batch in hand counts as one more."""
        books = self._books
        return len(books.rows) + (books.in_hand is not None)

    @property
    def submitted(self) -> int:
        """How many rows were put."""
        books = self._books
        return books.taken + len(books.rows)

    @property
    def settled(self) -> int:
        """How many of them are stored, spooled or rejected."""
        return self._books.taken - sum(list(self._unsettled.values()))

    # -- callers ------------------------------------------------------------------------------

    def put(self, log: int, row: Row, size: int) -> None:
        """Append a row; waits while the queue is full.

        Raises:
            WriteError: when the queue is closed.
        """
        if current_pid() != self._pid:
            self._in_child().put(log, row, size)
            return
        with self.lock:
            rows = self._books.rows
            if len(rows) >= self.max_rows or self._bytes >= self.max_bytes:
                self._wait_for_room()
                rows = self._books.rows
            if self.closed:
                raise WriteError("the sink is closed: the row was not stored")
            if not rows:
                self._on_first()
            rows.append((log, row, size, time.monotonic()))
            self._bytes += size
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
                rows = self._books.rows
                until = min(deadline, rows[0][3] + self.flush_after_s if rows else deadline)
                left_s = until - time.monotonic()
                if self.closed or (left_s <= 0 and until == deadline):
                    return False
                self._due.wait(left_s)
            return True

    def cut(self) -> Batch | None:
        """Take a batch of the oldest rows in hand and return it; None when there are none.

        What an interruption left in hand comes first: the spool may have it already.
        """
        with self.lock:
            return self._books.in_hand or (self._cut() if self._books.rows else None)

    def hand_over(self) -> None:
        """Forget the batch in hand: it is somewhere else."""
        with self.lock:
            self._books = self._books._replace(in_hand=None)

    def put_back(self, batch: Batch) -> None:
        """Undo the last `cut`: nothing was done with it, and nothing was cut since."""
        with self.lock:
            share, now = batch.size_bytes // len(batch), time.monotonic()
            rows = deque(
                (log, row, share, now) for log, of_log in enumerate(batch.rows) for row in of_log
            )
            rows.extend(self._books.rows)
            taken = self._books.taken - len(batch)
            self._books = _Books(rows, None, batch.seq, taken)
            self._unsettled.pop(batch.seq, None)
            self._bytes += share * len(batch)

    def settle(self, batch: Batch) -> None:
        """Note a batch as stored, spooled or rejected; again is a no-op."""
        with self.lock:
            self._unsettled.pop(batch.seq, None)
            self._settling.notify_all()

    # -- inside, under the lock -----------------------------------------------------------------

    def _is_due(self) -> bool:
        rows = self._books.rows
        count = len(rows)
        return self._books.in_hand is not None or bool(
            count
            and (
                count >= self.flush_rows
                or count >= self.max_rows
                or self._bytes >= BATCH_BYTES
                or self._bytes >= self.max_bytes
                or self.submitted - count < self._wanted
                or time.monotonic() >= rows[0][3] + self.flush_after_s
            )
        )

    def _cut(self) -> Batch:
        rows, _, seq, taken = self._books
        batch, count = Batch(seq), 0
        for log, row, row_bytes, _ in islice(rows, self.flush_rows):
            batch.rows[log].append(row)
            count += 1
            batch.size_bytes += row_bytes
            if batch.size_bytes >= BATCH_BYTES:
                break
        rest = deque(islice(rows, count, None))
        self._unsettled[seq] = count
        self._books = _Books(rest, batch, seq + 1, taken + count)
        self._bytes = max(0, self._bytes - batch.size_bytes) if rest else 0
        if self._waiting and len(rest) <= self.max_rows // 2 and self._bytes <= self.max_bytes // 2:
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
        return len(self._books.rows) >= self.max_rows or self._bytes >= self.max_bytes
