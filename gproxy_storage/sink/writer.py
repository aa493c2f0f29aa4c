"""Writer: the thread between a sink's queue, the database and the spool, in one process."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from ..backends.base import Backend
from ..errors import WriteError
from ..interruptions import raise_interruption
from .batch import Batch
from .bisection import DatabaseAway
from .destination import Destination
from .orphaned_spools import OrphanedSpools
from .queue import RowQueue, is_held_here
from .rejects import RejectsFile
from .settings import SinkSettings, SinkStats
from .spool import SpoolFile, SpoolFull
from .store import BatchStore

_log = logging.getLogger(__name__)

_SHUTDOWN_GRACE_S = 5.0
_FORK_PATIENCE_S = 10.0
_MIN_PROBE_S = 0.25
_MAX_PROBE_S = 5.0
_CATCH_UP_S = 0.25
_CHECK_S = 60.0


class Writer:
    """Takes batches from the queue and stores them; spools them while the database is away.

    Batches are stored in the order of their numbers, since one that is not above the stored number
    counts as stored. So while any batch is in the spool, later ones go there, too.

    Its threads run from `start` to `stop`. Before, it has none: a server that forks in C does so
    without the interpreter's lock, and a child that is forked while a thread holds it hangs.

    Attributes:
        spool_file: used, and replaced, under `spool_lock` only.
        spool_lock: see `spool_file`.
        orphans: spool files of ended processes.
        storing: held while the database is used; a fork waits for it.
    Raises:
        SpoolError: when the spool directory cannot be used.
    """

    def __init__(
        self,
        database: Backend,
        queue: RowQueue,
        settings: SinkSettings,
        *,
        directory: Path,
        destination: Destination,
    ) -> None:
        self._name = uuid.uuid4().hex
        self._queue = queue
        self._destination = destination
        self._max_spool_bytes = settings.max_spool_bytes
        header, cipher = destination.header(self._name)
        self.spool_file = SpoolFile.create(directory, header, cipher)
        self.spool_lock = threading.RLock()
        self._spool_condition = threading.Condition(self.spool_lock)  # for `is_interrupted` alone
        self._rejects = RejectsFile(directory, header, cipher)
        self._store = BatchStore(database, settings)
        self.orphans = OrphanedSpools(directory, destination, self._store)
        self.storing = threading.Lock()
        self._quiesced = False
        self._written = 0
        self._spooled = 0
        self._rejected = 0
        self._away: str | None = None  # why the database does not take batches now
        self._spool_fault: str | None = None  # why the last write to the spool failed
        self._held: Batch | None = None  # neither stored nor spooled yet
        self._probe_at = 0.0
        self._probe_s = _MIN_PROBE_S
        self._check_at = 0.0
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._is_drained = False  # under spool_lock: nothing more is spooled
        self._ended = threading.Event()  # the thread has finished its work
        self._running = threading.Lock()  # held by the thread, for good
        self._thread: threading.Thread | None = None

    # -- for other threads --------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread unless it runs, also after an interruption of this method."""
        if not self._running.locked():
            self._thread = threading.Thread(target=self._run, name="gproxy-sink", daemon=True)
            self._thread.start()

    def spool_queued(self) -> bool:
        """Move a batch from the full queue to the spool; return whether that made room.

        Raises:
            WriteError: in a signal handler that interrupted this very method.
        """
        if self.is_interrupted():
            raise WriteError(
                "the queue is full, and this signal handler interrupted the thread that makes "
                "room: the row was not stored"
            )
        # One lock for both steps: a later batch must not be stored between them.
        with self.spool_lock:
            batch = None if self._is_drained else self._queue.dequeue()
            if batch is None:
                return False
            # After an interruption the batch is still in flight, and the next `dequeue` returns it.
            if self._is_spooled(batch) or self._append(batch):
                self._queue.settle(batch)
                self._queue.finish_dequeue()
                return True
            self._queue.put_back(batch)
            return False

    def is_interrupted(self) -> bool:
        """Whether this thread is in `spool_queued` already, as a signal handler may be."""
        return is_held_here(self._spool_condition)

    def stop(self, timeout_s: float) -> None:
        """Drain the queue, into the spool if the database does not take it in time.

        May be called again after an interruption.
        """
        self._give_up_at = time.monotonic() + timeout_s  # from then on the thread only spools
        self._store.retry_s = min(self._store.retry_s, timeout_s / 2)
        self._queue.close()
        self._closing.set()
        if self._thread is None:  # no row came; the interpreter's exit starts no threads
            self._end()
            return
        # Not Thread.join: before Python 3.13, one interrupted by Ctrl-C marks the thread as ended.
        ended = self._ended.wait(timeout_s)
        settled = -1
        while not ended and settled < self._queue.settled:
            settled = self._queue.settled
            self._store.watchdog.abort()  # the database does not answer
            ended = self._ended.wait(_SHUTDOWN_GRACE_S)  # a slow disk may take it longer
        if ended:
            self._thread.join(_SHUTDOWN_GRACE_S)
        self._store.watchdog.stop()

    def log_remaining(self) -> None:
        """Warn if rows are left in the spool; call it after `stop`."""
        spool = self.spool_file
        if spool.rows:
            _log.warning(
                "the sink was closed with %d rows waiting in %s: the next sink of this data "
                "directory stores them, or `gproxy-storage spool replay`",
                *(spool.rows, spool.path),
            )

    def stats(self) -> SinkStats:
        """Return the counts so far, without those of the queue: `submitted` and `queued`."""
        spool = self.spool_file
        return SinkStats(
            written=self._written,
            retried=self._store.retried,
            spooled=self._spooled,
            rejected=self._rejected,
            spool_batches=len(spool),
            spool_bytes=spool.size_bytes if len(spool) else 0,
            adopted=self.orphans.total.written,
            away=self._away,
            spool_fault=self._spool_fault,
        )

    # -- fork ---------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Take the locks; wait for a batch that is being written only up to `_FORK_PATIENCE_S`."""
        self._quiesced = self.storing.acquire(timeout=_FORK_PATIENCE_S)
        self.spool_lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Release the locks."""
        self.spool_lock.release()
        if self._quiesced:
            self.storing.release()

    def abandon(self) -> None:
        """Close a child's copies of the parent's files; the parent keeps their locks."""
        self.spool_file.close()
        self.orphans.close()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        """Write until the queue is closed and empty, or the rest cannot be stored or spooled."""
        if not self._running.acquire(blocking=False):
            return  # `start` was interrupted, and called again
        self._store.watchdog.start()
        is_done = False
        while not is_done:
            try:
                self._step()
            except Exception:
                # A bug must not end the thread: the batch is held and tried again.
                _log.exception("the sink's writer had an unexpected error and continues")
                self._closing.wait(_MIN_PROBE_S)
            is_done = self._is_done()
        self._end()

    def _end(self) -> None:
        try:
            self._finish()
        except Exception:
            _log.exception("the sink's writer leaves its spool to the next process")
        finally:
            self.orphans.close()
            self.spool_file.close()
            self._ended.set()

    def _is_done(self) -> bool:
        if not self._closing.is_set():
            return False
        if self._held is not None:
            return time.monotonic() >= self._give_up_at  # neither stored nor spooled: lost
        with self.spool_lock:
            self._is_drained = not len(self._queue)
        return self._is_drained

    def _step(self) -> None:
        if self._held is None:
            self._hold_next()
        if self._held is not None and self._settle(self._held):
            self._held = None
        if self._held is not None:
            self._closing.wait(self._until_probe_s() or _MIN_PROBE_S)
        if not self._until_probe_s():
            self._catch_up()

    def _hold_next(self) -> None:
        if self._queue.wait_due(self._patience_s()):
            # The dequeuing thread holds this lock until the batch is spooled or held.
            with self.spool_lock:
                batch = self._queue.dequeue()
                if batch is not None and self._is_spooled(batch):
                    self._queue.settle(batch)
                else:
                    self._held = batch
                self._queue.finish_dequeue()
        elif self._queue.closed:
            # The closing flag is not set yet, or `close` was interrupted and is called at exit.
            self._closing.wait(_MIN_PROBE_S)

    def _until_probe_s(self) -> float:
        return max(0.0, self._probe_at - time.monotonic())

    def _patience_s(self) -> float:
        """Return the seconds to wait for a batch before there is something else to do."""
        if len(self.spool_file) or self.orphans.files:
            return self._until_probe_s()
        return max(self._until_probe_s(), self._check_at - time.monotonic())

    def _settle(self, batch: Batch) -> bool:
        """Store the batch or else spool it; False if both fail."""
        if self._is_next(batch) and (self._away is None or not self._until_probe_s()):
            try:
                self._write(batch)
            except DatabaseAway as exc:
                self._note_away(str(exc))
            else:
                self._queue.settle(batch)
                return True
        with self.spool_lock:
            appended = self._append(batch)
        if appended:
            self._queue.settle(batch)
        return appended

    def _is_next(self, batch: Batch) -> bool:
        if self._closing.is_set() and time.monotonic() >= self._give_up_at:
            return False
        with self.spool_lock:
            waiting = self.spool_file.first_seq()
        return waiting is None or waiting > batch.seq

    def _append(self, batch: Batch) -> bool:
        try:
            self._match_destination()
            self.spool_file.append(batch, self._max_spool_bytes)
        except SpoolFull:
            return False
        except OSError as exc:
            raise_interruption(exc)
            # The database may still be available: it is tried further.
            why = f"the spool {self.spool_file.path} cannot be written: {exc.strerror}"
            if self._spool_fault is None:
                _log.warning("%s", why)
            self._spool_fault = why
            return False
        self._spool_fault = None
        self._spooled += len(batch)
        self._store.expect(batch)
        return True

    def _match_destination(self) -> None:
        """Rewrite the spool file if the database or spool key has changed; under `spool_lock`."""
        header, cipher = self._destination.header(self._name)
        if header == self.spool_file.header:
            return
        self.spool_file = self.spool_file.moved(header, cipher)
        self._rejects = RejectsFile(self.spool_file.path.parent, header, cipher)

    def _is_spooled(self, batch: Batch) -> bool:
        return self.spool_file.last_seq() == batch.seq

    def _write(self, batch: Batch) -> None:
        with self.storing:
            stored = self._store.store(self._name, batch, self._rejects)
        self._written += stored.written
        self._rejected += stored.rejected
        self._note_back()

    def _note_away(self, why: str) -> None:
        if self._away is None:
            _log.warning("the sink cannot write to the database, and spools: %s", why)
        self._away = why
        self._check_at = 0.0  # afterwards it may be another database
        self._probe_at = time.monotonic() + self._probe_s
        self._probe_s = min(self._probe_s * 2, _MAX_PROBE_S)

    def _note_back(self) -> None:
        if self._away is not None:
            _log.warning("the sink writes to the database again")
        self._away = None
        self._probe_at = 0.0
        self._probe_s = _MIN_PROBE_S

    # -- catching up --------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Store batches of this spool and of ended processes' spools, for a short time."""
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_S
            with self.storing:  # a fork meanwhile would copy a file that is being adopted
                self._check()
        until = min(time.monotonic() + _CATCH_UP_S, self._give_up_at)
        try:
            while time.monotonic() < until and (self._replay_one() or self._adopt_one()):
                pass
        except DatabaseAway as exc:
            self._note_away(str(exc))

    def _check(self) -> None:
        with suppress(DatabaseAway):
            self._store.run_watched(self._destination.refresh)
        with suppress(OSError), self.spool_lock:  # after an error, with the next spooled batch
            self._match_destination()
        self.orphans.adopt()

    def _replay_one(self) -> bool:
        """Store the first batch of the spool; False if it is empty, or an earlier one is held."""
        with self.spool_lock:
            batch = self.spool_file.first()
        if batch is None or (self._held is not None and self._held.seq < batch.seq):
            return False
        self._write(batch)
        with self.spool_lock:
            self.spool_file.drop_first()
        return True

    def _adopt_one(self) -> bool:
        with self.storing:
            done = self.orphans.replay_one()
        if done:
            self._note_back()
        return done

    # -- the end ------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Replay as much as time permits; leave the rest to the next process."""
        while len(self.spool_file) and self._away is None and time.monotonic() < self._give_up_at:
            self._catch_up()
        if len(self.spool_file):
            self.spool_file.finish()
            return
        self.spool_file.remove()
        # See `OrphanedSpools` for damages. Without a thread nothing was stored.
        if self._thread is not None and self._away is None and not self.spool_file.damages:
            with suppress(DatabaseAway):  # worst case: a stale row remains
                self._store.forget(self._name)
