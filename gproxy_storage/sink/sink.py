"""Sink: writes usage and request rows in the background, off the request's path; none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self, Unpack

from ..backends.base import Backend
from ..backends.bulk import Kind, Row
from ..errors import WriteError
from ..forks import ForkGuard
from ..log_rows import DOWNSTREAM_REQUESTS, LOGS, UPSTREAM_REQUESTS, USAGES, row_check, unrolled
from ..repositories.redaction import REDACTORS
from ..row_types import SubmittedDownstreamRow, UpstreamRow, UsageRow
from .destination import Destination
from .lifecycle import open_sinks, raise_exit_on_signals
from .queue import RowQueue
from .settings import SinkSettings, SinkStats
from .writer import Writer

_USAGES, _UPSTREAM, _DOWNSTREAM = map(LOGS.index, (USAGES, UPSTREAM_REQUESTS, DOWNSTREAM_REQUESTS))
_USAGE_BYTES = 600
_REQUEST_BYTES = 1000


class Sink:
    """Takes rows from any thread in microseconds; its own thread writes them in batches.

    The thread starts with the first row, or at once where ended processes left spool files.

    A batch's transaction writes the rows, the users' quotas, and a sequence number by which a
    stored batch is recognised. While the database is away, batches go to a spool file and are
    stored later.

    The queue is written when the block or the interpreter ends: by `sys.exit`, an exception or
    Ctrl-C, but not by `os._exit` or SIGKILL. SIGTERM and SIGHUP end a process at once by default:
    the first sink that a process's main thread opens sets a handler for them that raises
    SystemExit, unless they have a handler or are ignored; a handler set later replaces it. If the
    main thread opens no sink, set one: ``signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))``.
    Once `flush` has returned True, earlier rows are safe in any case.

    Raises:
        ConfigError: when the spool directory cannot be used, or the database has no id yet and
            cannot be written.
    """

    def __init__(
        self,
        database: Backend,
        directory: Path,
        settings: SinkSettings,
        *,
        on_close: Callable[[Sink], None] | None = None,
    ) -> None:
        self._database = database
        self._directory = directory
        self._settings = settings
        self._on_close = on_close
        redactors = REDACTORS if settings.redact else {}
        self._check_upstream, self._check_downstream = (
            row_check(log, max_body_bytes=settings.max_body_bytes, redactors=redactors)
            for log in (UPSTREAM_REQUESTS, DOWNSTREAM_REQUESTS)
        )
        self._destination = Destination(database)
        self._closing = threading.RLock()  # a signal handler may close what is being closed
        self._closed = False
        self._process = ForkGuard(self._begin_in_child)
        self._writer: Writer | None = None
        self._queue = self._new_queue()
        self._writer = self._new_writer()
        if self._writer.orphans.exist():
            self._writer.start()
        open_sinks.add(self)
        raise_exit_on_signals()

    # -- rows ---------------------------------------------------------------------------------

    @unrolled(USAGES, f"self._queue.put({_USAGES}, {{}}, {_USAGE_BYTES})")
    def submit_usage(self, **row: Unpack[UsageRow]) -> None:
        """Queue a usage like that of `Usages.record`, to be stored soon.

        Args:
            row: the fields of a `UsageRow`. The cost is added to the user's quota.
        Raises:
            InvalidValue: when a value cannot be stored or a field is unknown. Nothing was queued.
            WriteError: when the sink is closed.
        """
        raise NotImplementedError  # `unrolled` replaces it

    def submit_upstream_request(self, **row: Unpack[UpstreamRow]) -> None:
        """Queue a request that the proxy sent to a provider, to be stored soon.

        Args:
            row: the fields of an `UpstreamRow`.
        Raises:
            InvalidValue: when a value cannot be stored or a field is unknown. Nothing was queued.
            WriteError: when the sink is closed.
        """
        checked = self._check_upstream(**row)
        self._queue.put(_UPSTREAM, checked, _size(checked, _UPSTREAM_LONG))

    def submit_downstream_request(self, **row: Unpack[SubmittedDownstreamRow]) -> None:
        """Queue a request that a user sent to the proxy, to be stored soon.

        Args:
            row: the fields of a `SubmittedDownstreamRow`. A trace id that exists is rejected later.
        Raises:
            InvalidValue: when a value cannot be stored or a field is unknown. Nothing was queued.
            WriteError: when the sink is closed.
        """
        checked = self._check_downstream(**row)
        self._queue.put(_DOWNSTREAM, checked, _size(checked, _DOWNSTREAM_LONG))

    # -- flush, close, statistics -------------------------------------------------------------

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Write all rows submitted before, and wait for that.

        Args:
            timeout_s: seconds, >= 0.
        Returns:
            True once each row is on disk, in the database, the spool or the rejects file. False
            when that took longer; the sink continues with it.
        """
        return self._own_queue().wait_settled(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Accept no more rows and write the rest; idempotent.

        Rows that the database does not take in time go to the spool, for the next process.

        Args:
            timeout_s: seconds, > 0.
        Raises:
            WriteError: when rows could neither be stored nor spooled; says how many are lost. Also
                in a signal handler that interrupted the sink, which is then not closed.
        """
        self._process.check()
        writer = self._writer
        if self._queue.is_interrupted() or (writer is not None and writer.is_interrupted()):
            raise WriteError(
                "a signal handler cannot close the sink that it interrupted: let it raise "
                "SystemExit, and the sink is drained at exit; nothing is lost yet"
            )
        with self._closing:
            if self._closed:
                return
            if self._writer is None:
                self._queue.close()
            else:
                self._writer.stop(timeout_s)
            self._closed = True  # only now: an interrupted close is repeated at exit
        if self._writer is not None:
            self._writer.log_remaining()
        open_sinks.discard(self)
        if self._on_close is not None:
            self._on_close(self)
        lost = self._queue.submitted - self._queue.settled
        if lost:
            stats = self.stats()
            why = "; ".join(filter(None, (stats.away, stats.spool_fault))) or "the spool is full"
            raise WriteError(f"{lost} rows could neither be stored nor spooled and are lost: {why}")

    def stats(self) -> SinkStats:
        """Return the counts of rows so far."""
        queue, writer = self._own_queue(), self._writer
        submitted, settled = queue.submitted, queue.settled  # read before the writer's counts
        done = SinkStats() if writer is None else writer.stats()
        return replace(done, submitted=submitted, queued=submitted - settled)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- private ------------------------------------------------------------------------------

    def _new_queue(self) -> RowQueue:
        return RowQueue(
            self._settings,
            on_first=self._start_writer,
            make_room=self._make_room,
            in_child=self._own_queue,
        )

    def _own_queue(self) -> RowQueue:
        """Return the queue of this process, which may be a child that ran no hooks."""
        self._process.check()
        return self._queue

    def _new_writer(self) -> Writer:
        return Writer(
            self._database,
            self._queue,
            self._settings,
            directory=self._directory,
            destination=self._destination,
        )

    def _start_writer(self) -> None:
        if self._writer is None:  # in a forked child
            self._writer = self._new_writer()
        self._writer.start()

    def _make_room(self) -> bool:
        writer = self._writer
        if self._settings.when_full == "block" or writer is None:
            return False
        return writer.spool_queued()

    # -- fork ---------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Quiesce: take all locks before a fork, between transactions, records and rows."""
        while True:
            writer = self._writer
            if writer is not None:
                writer.before_fork()
            self._queue.lock.acquire()
            if self._writer is writer:
                return
            self._queue.lock.release()  # another thread's first row has just created the writer

    def after_fork_in_parent(self) -> None:
        """Release the locks."""
        self._queue.lock.release()
        if self._writer is not None:
            self._writer.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Reset in a child process, unless a call has detected the fork already."""
        self._process.check()

    def _begin_in_child(self) -> None:
        """Start with an empty queue and, at the first row, a thread and spool file of our own."""
        writer, self._writer = self._writer, None
        was_closed = self._queue.closed
        if writer is not None:
            writer.abandon()
        self._closing = threading.RLock()
        self._queue = self._new_queue()
        if was_closed:
            self._queue.close()
            self._closed = True


_UPSTREAM_LONG, _DOWNSTREAM_LONG = (
    log.bulk.of_kind(Kind.TEXT) + log.bulk.of_kind(Kind.BYTES)
    for log in (UPSTREAM_REQUESTS, DOWNSTREAM_REQUESTS)
)


def _size(row: Row, long: list[int]) -> int:
    """Return the approximate size of a request in bytes."""
    size = _REQUEST_BYTES
    for position in long:
        value = row[position]
        if value:
            size += len(value)
    return size
