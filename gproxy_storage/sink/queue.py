"""RowQueue: the rows between callers and the writer, bounded by number and bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from ..backends.bulk import Row
from ..errors import WriteError
from ..forks import mark
from .batch import Batch
from .settings import SinkSettings

BATCH_BYTES = 4 * 1024 * 1024
"""A batch ends with the row that reaches this size, however few rows it has."""


def is_held_here(condition: threading.Condition) -> bool:
    """Whether this thread holds the condition's RLock: a signal handler may interrupt its holder.

    A separate flag would be wrong between taking the lock and setting the flag.
    """
    try:
        condition.notify(0)
    except RuntimeError:  # the lock is not this thread's
        return False
    return True


@dataclass(frozen=True, slots=True)  # a NamedTuple's attributes take longer to read
class _State:
    """The queue's content; replaced as a whole, so that an interruption leaves the old or the new.

    Attributes:
        rows: (log, row, bytes, when) in order. A list: its rest is copied in a fifth of the time.
        in_flight: the batch dequeued last, until it is spooled or held by the writer.
        next_seq: the number of the next batch.
        dequeued: the number of rows dequeued so far.
    """

    rows: list[tuple[int, Row, int, float]]
    in_flight: Batch | None
    next_seq: int
    dequeued: int


class RowQueue:
    """Rows in order; callers put them, the writer dequeues them in batches.

    A signal handler may raise between any two steps of a caller's thread: no row is lost or
    duplicated by that.

    Args:
        settings: say when a batch is due, and when the queue is full and `put` waits.
        on_first: called under the lock before a row is put into the empty queue.
        make_room: called without the lock when the queue is full; returns whether it made room.
        in_child: called in a child of the process that created the queue; returns the child's own.
    """

    def __init__(
        self,
        settings: SinkSettings,
        *,
        on_first: Callable[[], None],
        make_room: Callable[[], bool],
        in_child: Callable[[], RowQueue],
    ) -> None:
        self._flush_rows = settings.flush_rows
        self._flush_after_s = settings.flush_after_s
        self._max_rows = settings.max_queue_rows
        self._max_bytes = settings.max_queue_bytes
        # An RLock, because it knows its owner: see `is_held_here`.
        self.lock = threading.RLock()
        # At these numbers of rows the writer may have to wake up.
        self._wake_counts = {1, self._flush_rows, self._max_rows}
        self.closed = False
        self._on_first = on_first
        self._make_room = make_room
        self._in_child = in_child
        self._here = mark()
        self._state = _State([], None, 1, 0)
        self._unsettled: dict[int, int] = {}  # number of a batch -> its number of rows
        self._bytes = 0  # approximate: after an interruption a row may not be counted
        self._flush_up_to = 0  # rows up to this number are due now
        self._awaited: list[int] = []  # what callers of `wait_settled` wait for
        self._waiting = 0
        self._due = threading.Condition(self.lock)
        self._room = threading.Condition(self.lock)
        self._settling = threading.Condition(self.lock)

    def __len__(self) -> int:
        """The number of rows that wait; a batch in flight counts as one more."""
        state = self._state
        return len(state.rows) + (state.in_flight is not None)

    @property
    def submitted(self) -> int:
        """The number of rows that were put."""
        state = self._state
        return state.dequeued + len(state.rows)

    @property
    def settled(self) -> int:
        """The number of rows that are stored, spooled or rejected."""
        return self._state.dequeued - sum(list(self._unsettled.values()))

    # -- callers ------------------------------------------------------------------------------

    def put(self, log: int, row: Row, size: int) -> None:
        """Append a row; waits while the queue is full.

        Raises:
            WriteError: when the queue is closed.
        """
        if not self._here[0]:
            self._in_child().put(log, row, size)
            return
        with self.lock:
            rows = self._state.rows
            if len(rows) >= self._max_rows or self._bytes >= self._max_bytes:
                self._wait_for_room()
                rows = self._state.rows
            if self.closed:
                raise WriteError("the sink is closed: the row was not stored")
            if not rows:
                self._on_first()
            rows.append((log, row, size, monotonic()))
            self._bytes = waiting = self._bytes + size
            if len(rows) in self._wake_counts or waiting >= BATCH_BYTES:
                self._due.notify()

    def is_interrupted(self) -> bool:
        """Whether this thread is inside the queue already, as a signal handler may be."""
        return is_held_here(self._due)

    def wait_settled(self, timeout_s: float) -> bool:
        """Make all rows put so far due; return whether they were settled in time."""
        with self.lock:
            target = self.submitted
            self._flush_up_to = max(self._flush_up_to, target)
            self._due.notify()
            self._awaited.append(target)
            try:
                return self._settling.wait_for(lambda: self.settled >= target, timeout_s)
            finally:
                self._awaited.remove(target)

    def close(self) -> None:
        """Accept no more rows, and make the rest due."""
        with self.lock:
            self.closed = True
            self._flush_up_to = self.submitted
            self._due.notify_all()
            self._room.notify_all()

    # -- the writer ---------------------------------------------------------------------------

    def wait_due(self, timeout_s: float) -> bool:
        """Wait until a batch is due; False after the time-out, or when the queue is closed."""
        deadline = monotonic() + timeout_s
        with self.lock:
            while not self._is_due():
                rows = self._state.rows
                until = min(deadline, rows[0][3] + self._flush_after_s if rows else deadline)
                left_s = until - monotonic()
                if self.closed or (left_s <= 0 and until == deadline):
                    return False
                self._due.wait(left_s)
            return True

    def dequeue(self) -> Batch | None:
        """Return a batch of the oldest rows, in flight until `finish_dequeue`; None without rows.

        A batch that an interruption left in flight comes first: it may be spooled already.
        """
        with self.lock:
            return self._state.in_flight or (self._dequeue() if self._state.rows else None)

    def finish_dequeue(self) -> None:
        """Forget the batch in flight: it is spooled, or held by the writer."""
        with self.lock:
            self._state = replace(self._state, in_flight=None)

    def put_back(self, batch: Batch) -> None:
        """Undo the last `dequeue`: nothing was done with the batch, and none was dequeued since."""
        with self.lock:
            share, now = batch.size_bytes // len(batch), monotonic()
            rows = [
                (log, row, share, now) for log, of_log in enumerate(batch.rows) for row in of_log
            ]
            rows += self._state.rows
            dequeued = self._state.dequeued - len(batch)
            self._state = _State(rows, None, batch.seq, dequeued)
            self._unsettled.pop(batch.seq, None)
            self._bytes += share * len(batch)

    def settle(self, batch: Batch) -> None:
        """Record a batch as stored, spooled or rejected; idempotent."""
        with self.lock:
            self._unsettled.pop(batch.seq, None)
            # Not at each batch: the callers that wait would only take the GIL from the writer.
            if self._awaited and self.settled >= min(self._awaited):
                self._settling.notify_all()

    # -- private, under the lock --------------------------------------------------------------

    def _is_due(self) -> bool:
        rows = self._state.rows
        count = len(rows)
        return self._state.in_flight is not None or bool(
            count
            and (
                count >= self._flush_rows
                or count >= self._max_rows
                or self._bytes >= BATCH_BYTES
                or self._bytes >= self._max_bytes
                or self.submitted - count < self._flush_up_to
                or monotonic() >= rows[0][3] + self._flush_after_s
            )
        )

    def _dequeue(self) -> Batch:
        state = self._state
        rows, seq = state.rows, state.next_seq
        batch, count = Batch(seq), 0
        for log, row, row_bytes, _ in rows[: self._flush_rows]:
            batch.rows[log].append(row)
            count += 1
            batch.size_bytes += row_bytes
            if batch.size_bytes >= BATCH_BYTES:
                break
        rest = rows[count:]
        self._unsettled[seq] = count
        self._state = _State(rest, batch, seq + 1, state.dequeued + count)
        self._bytes = max(0, self._bytes - batch.size_bytes) if rest else 0
        if (
            self._waiting
            and len(rest) <= self._max_rows // 2
            and self._bytes <= self._max_bytes // 2
        ):
            self._room.notify_all()
        return batch

    def _wait_for_room(self) -> None:
        """Wait until the queue is half empty.

        If callers were woken at each row, they and the writer would mostly exchange the GIL.
        """
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
        return len(self._state.rows) >= self._max_rows or self._bytes >= self._max_bytes
