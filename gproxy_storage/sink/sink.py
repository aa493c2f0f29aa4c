"""Sink: usage and request rows off the request's path, into the database, none lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from ..backends.base import Backend
from ..backends.bulk import Row
from ..errors import WriteError
from ..forks import ForkGuard
from ..repositories.redaction import REDACTORS
from ..row_types import SubmittedDownstreamRow, UpstreamRow, UsageRow
from ..rows import DOWNSTREAM_REQUESTS, LOGS, UPSTREAM_REQUESTS, USAGES, Log, row_check
from .destination import Destination
from .lifecycle import open_sinks, raise_exit_on_signals
from .queue import RowQueue
from .settings import SinkSettings, SinkStats
from .writer import Writer

_USAGES, _UPSTREAM, _DOWNSTREAM = map(LOGS.index, (USAGES, UPSTREAM_REQUESTS, DOWNSTREAM_REQUESTS))
_USAGE_BYTES = 600
_REQUEST_BYTES = 1000
_LONG = {
    "request_headers_json",
    "response_headers_json",
    "request_url",
    "request_path",
    "request_query",
    "request_body",
    "response_body",
}


class Sink:
    """Takes rows from any thread in microseconds; one thread of its own writes them in batches.

    What a batch's transaction holds: the rows, the users' quotas, and the number that tells
    whether it is stored. While the database is away, batches go to a file and come back.

    What is in the queue is written when the block or the interpreter ends: by `sys.exit`, an
    exception, Ctrl-C; not by `os._exit` or SIGKILL. For SIGTERM and SIGHUP, which end a process
    at once by default, the first sink that a process's main thread opens sets a handler that
    raises SystemExit, unless there is one or they are ignored; one that is set later replaces it.
    Where the main thread opens none, set one yourself: ``signal.signal(signal.SIGTERM, lambda *_:
    sys.exit(143))``. What must not be lost whatever happens is safe once `flush` returned True.

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
        self._check_usage, self._check_upstream, self._check_downstream = (
            row_check(log, max_body_bytes=settings.max_body_bytes, redactors=redactors)
            for log in LOGS
        )
        self._destination = Destination(database)
        self._closing = threading.RLock()  # a signal handler may close what is being closed
        self._closed = False
        self._process = ForkGuard(self._begin_in_child)
        self._writer: Writer | None = None
        self._queue = self._new_queue()
        self._writer = self._new_writer()
        open_sinks.add(self)
        raise_exit_on_signals()

    # -- rows ---------------------------------------------------------------------------------

    def submit_usage(self, **row: Unpack[UsageRow]) -> None:
        """Take a usage, as `Usages.record` does, to be stored soon.

        Args:
            row: the fields of a `UsageRow`. The cost is added to the user's quota.
        Raises:
            InvalidValue: when a value cannot be stored or a field is unknown. Nothing was taken.
            WriteError: when the sink is closed.
        """
        self._queue.put(_USAGES, self._check_usage(**row), _USAGE_BYTES)

    def submit_upstream_request(self, **row: Unpack[UpstreamRow]) -> None:
        """Take a request that the proxy sent to a provider, to be stored soon.

        Args:
            row: the fields of an `UpstreamRow`.
        Raises:
            InvalidValue: when a value cannot be stored or a field is unknown. Nothing was taken.
            WriteError: when the sink is closed.
        """
        checked = self._check_upstream(**row)
        self._queue.put(_UPSTREAM, checked, _size(checked, _UPSTREAM_LONG))

    def submit_downstream_request(self, **row: Unpack[SubmittedDownstreamRow]) -> None:
        """Take a request that a user sent to the proxy, to be stored soon.

        Args:
            row: the fields of a `SubmittedDownstreamRow`. A trace id that exists is rejected later.
        Raises:
            InvalidValue: when a value cannot be stored or a field is unknown. Nothing was taken.
            WriteError: when the sink is closed.
        """
        checked = self._check_downstream(**row)
        self._queue.put(_DOWNSTREAM, checked, _size(checked, _DOWNSTREAM_LONG))

    # -- the end of it ------------------------------------------------------------------------

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Have everything submitted before written now, and wait for it.

        Args:
            timeout_s: seconds, >= 0.
        Returns:
            True once each row is on disk, in the database, the spool or the rejects file. False
            when that took longer; the sink goes on with it.
        """
        return self._own_queue().wait_settled(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Take no more rows and have the rest written; again is a no-op.

        What the database does not take in that time goes to the spool, for the next process.

        Args:
            timeout_s: seconds, > 0.
        Raises:
            WriteError: when rows could neither be stored nor spooled; says how many are lost. In
                a signal handler that interrupted the sink: it is not closed.
        """
        self._process.check()
        if self._is_interrupted():
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
            self._closed = True  # not before: closing that was interrupted is done anew at exit
        if self._writer is not None:
            self._writer.log_remaining()
        open_sinks.discard(self)
        if self._on_close is not None:
            self._on_close(self)
        lost = self._queue.submitted - self._queue.settled
        if lost:
            raise WriteError(
                f"{lost} rows could neither be stored nor spooled and are lost: {self._why_lost()}"
            )

    def stats(self) -> SinkStats:
        """Return what the sink did so far."""
        queue, writer = self._own_queue(), self._writer
        submitted, settled = queue.submitted, queue.settled  # before what the writer did with them
        done = SinkStats() if writer is None else writer.stats()
        return replace(done, submitted=submitted, queued=submitted - settled)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------

    def _new_queue(self) -> RowQueue:
        settings = self._settings
        return RowQueue(
            flush_rows=settings.flush_rows,
            flush_after_s=settings.flush_after_s,
            max_rows=settings.max_queue_rows,
            max_bytes=settings.max_queue_bytes,
            on_first=self._ensure_writer,
            make_room=self._make_room,
            in_child=self._own_queue,
        )

    def _own_queue(self) -> RowQueue:
        """The queue of this process, which may be a child that ran no hooks."""
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

    def _ensure_writer(self) -> None:
        if self._writer is None:  # in a child that was forked, at its first row
            self._writer = self._new_writer()

    def _is_interrupted(self) -> bool:
        writer = self._writer
        return self._queue.is_interrupted() or (writer is not None and writer.is_interrupted())

    def _why_lost(self) -> str:
        stats = self.stats()
        return "; ".join(filter(None, (stats.away, stats.spool_fault))) or "the spool is full"

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
            self._queue.lock.release()  # another thread's first row has just made it

    def after_fork_in_parent(self) -> None:
        """Release them."""
        self._queue.lock.release()
        if self._writer is not None:
            self._writer.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Begin anew in a child, unless a call has noticed already that it is one."""
        self._process.check()

    def _begin_in_child(self) -> None:
        """Begin anew, with an empty queue and, at the first row, a thread and a file of our own."""
        writer, self._writer = self._writer, None
        was_closed = self._queue.closed
        if writer is not None:
            writer.abandon()
        self._closing = threading.RLock()
        self._queue = self._new_queue()
        if was_closed:
            self._queue.close()
            self._closed = True


def _long_columns(log: Log) -> tuple[int, ...]:
    return tuple(place for place, name in enumerate(log.bulk.columns) if name in _LONG)


_UPSTREAM_LONG = _long_columns(UPSTREAM_REQUESTS)
_DOWNSTREAM_LONG = _long_columns(DOWNSTREAM_REQUESTS)


def _size(row: Row, long: tuple[int, ...]) -> int:
    """About how many bytes a request takes."""
    size = _REQUEST_BYTES
    for place in long:
        value = row[place]
        if value:
            size += len(value)
    return size
