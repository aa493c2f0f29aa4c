"""Engine: what stands behind a sink's queue in one process: thread, spool file, store."""

from __future__ import annotations

import logging
import threading
import uuid
from pathlib import Path

from ..backends.base import Backend
from ..errors import WriteError
from .bisection import DatabaseAway
from .destination import Destination
from .leftovers import Leftovers, Replayed
from .queue import RowQueue
from .settings import SinkSettings
from .spool import SpoolFile
from .store import BatchStore
from .watchdog import Watchdog
from .writer import Writer

_log = logging.getLogger(__name__)

_LAST_WORDS_S = 5.0
_FORK_PATIENCE_S = 10.0


def replay(database: Backend, directory: Path, settings: SinkSettings) -> Replayed:
    """Store what is in the spool files that no process holds, in this thread.

    Raises:
        WriteError: when the database does not take it; what is stored is, and no more.
    """
    watchdog = Watchdog(database, settings.stall_timeout_s)
    store = BatchStore(
        database, watch=watchdog.watching, retry_s=settings.retry_s, on_retry=lambda: None
    )
    leftovers = Leftovers(directory, Destination(database), store)
    watchdog.start()
    try:
        leftovers.look()
        while leftovers.replay_one():
            pass
    except DatabaseAway as exc:
        raise WriteError(f"the spool could not be replayed: {exc}") from exc
    finally:
        leftovers.close()
        watchdog.stop()
    leftovers.total.refused = tuple(leftovers.refused.values())
    return leftovers.total


class Engine:
    """Runs from its making to `stop`.

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
        name = uuid.uuid4().hex
        self._queue = queue
        header, cipher = destination.header(name)
        self.retried = 0
        self.watchdog = Watchdog(database, settings.stall_timeout_s)
        store = BatchStore(
            database,
            watch=self.watchdog.watching,
            retry_s=settings.retry_s,
            on_retry=self._count_retry,
        )
        self.leftovers = Leftovers(directory, destination, store)
        self.writer = Writer(
            queue,
            store,
            SpoolFile.create(directory, header, cipher),
            destination,
            self.leftovers,
            max_spool_bytes=settings.max_spool_bytes,
        )
        self._thread = threading.Thread(target=self.writer.run, name="gproxy-sink", daemon=True)
        self._held_still = False
        self._thread.start()
        self.watchdog.start()

    def _count_retry(self) -> None:
        self.retried += 1

    def stop(self, timeout_s: float) -> None:
        """Drain the queue, into the spool when the database does not take it in time.

        May be called again when it was interrupted.
        """
        self.writer.close(timeout_s)
        # Not Thread.join: before Python 3.13, one that Ctrl-C interrupts believes the thread ended.
        ended = self.writer.ended.wait(timeout_s)
        settled = -1
        while not ended and settled < self._queue.settled:
            settled = self._queue.settled
            self.watchdog.bite()  # the database does not answer
            ended = self.writer.ended.wait(_LAST_WORDS_S)  # a slow disk may take it longer
        if ended:
            self._thread.join(_LAST_WORDS_S)
        self.watchdog.stop()

    def log_what_waits(self) -> None:
        """Say what the spool holds, once nothing more comes into it."""
        spool = self.writer.spool_file
        if spool.rows:
            _log.warning(
                "the sink was closed with %d rows waiting in %s: the next sink of this data "
                "directory stores them, or `gproxy-storage spool replay`",
                *(spool.rows, spool.path),
            )

    # -- fork ---------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait until no batch is being written; only so long when the database hangs."""
        self._held_still = self.writer.storing.acquire(timeout=_FORK_PATIENCE_S)
        self.writer.spool_lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        self.writer.spool_lock.release()
        if self._held_still:
            self.writer.storing.release()

    def abandon(self) -> None:
        """Close our copies of the parent's files, whose locks stay the parent's."""
        self.writer.spool_file.close()
        self.leftovers.close()
