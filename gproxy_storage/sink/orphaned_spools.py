"""OrphanedSpools: the spool files of processes that ended while the database was away."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..backends.base import Backend
from ..errors import WriteError
from .bisection import DatabaseAway
from .destination import Destination
from .records import SpoolError
from .rejects import RejectsFile
from .settings import SinkSettings
from .spool import SUFFIX, SpoolFile, is_orphaned
from .store import BatchStore

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Replayed:
    """The result of replaying spool files.

    Attributes:
        written: number of rows that were stored.
        rejected: number of rows that the database refused; they are in the rejects files.
        skipped: number of batches that had been stored before.
        damaged: number of unreadable parts of files that were skipped.
        refused: why files could not be used, a message each; they are left as they are.
    """

    written: int = 0
    rejected: int = 0
    skipped: int = 0
    damaged: int = 0
    refused: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)


class OrphanedSpools:
    """Adopts the spool files that no process uses, and stores their batches.

    Attributes:
        files: adopted files that are not finished.
        refused: path of a file that cannot be used -> why. It is left as it is.
        total: the result for all files so far.
    """

    def __init__(self, directory: Path, destination: Destination, store: BatchStore) -> None:
        self.files: list[SpoolFile] = []
        self.refused: dict[Path, str] = {}
        self.total = Replayed()
        self._directory = directory
        self._destination = destination
        self._store = store
        self._rejects: dict[str, RejectsFile] = {}

    def exist(self) -> bool:
        """Tell whether there are files that no process uses; reads none of them."""
        return any(map(is_orphaned, self._directory.glob(f"*{SUFFIX}")))

    def adopt(self) -> None:
        """Open and lock the files that no process uses."""
        held = {file.path for file in self.files}
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            if path in held:
                continue
            try:
                spool = SpoolFile.adopt(path, self._destination.identity, self._destination.cipher)
            except SpoolError as exc:
                if path not in self.refused:
                    _log.warning("a spool file is not replayed: %s", exc)
                self.refused[path] = str(exc)
                continue
            self.refused.pop(path, None)
            if spool is not None:
                self.files.append(spool)

    def replay_one(self) -> bool:
        """Store the next batch of the first file, or finish that file; False if none is left.

        Raises:
            DatabaseAway: when the database does not take it now.
        """
        if not self.files:
            return False
        spool = self.files[0]
        writer = spool.header.writer
        batch = spool.first()
        if batch is None:
            self._finish(spool)
            return True
        if writer not in self._rejects:
            made = RejectsFile(self._directory, *self._destination.header(writer))
            self._rejects[writer] = made
        stored = self._store.store(writer, batch, self._rejects[writer])
        if stored.repeated:
            self.total.skipped += 1
        else:
            self.total.written += stored.written
            self.total.rejected += stored.rejected
        spool.drop_first()
        return True

    def _finish(self, spool: SpoolFile) -> None:
        self.files.remove(spool)
        self._rejects.pop(spool.header.writer, None)
        self.total.damaged += len(spool.damages)
        try:
            spool.remove()
        except OSError as exc:
            _log.warning("%s is stored, and cannot be deleted: %s", spool.path, exc.strerror)
            return
        if not spool.damages:  # else the number is kept: the file may be restored
            with suppress(DatabaseAway):  # worst case: a stale row remains
                self._store.forget(spool.header.writer)

    def close(self) -> None:
        """Close the unfinished files, for the next process."""
        while self.files:
            self.files.pop().close()


def replay(database: Backend, directory: Path, settings: SinkSettings) -> Replayed:
    """Store the batches of the spool files that no process uses, in this thread.

    Raises:
        WriteError: when the database does not take them; the rest is left in the files.
    """
    store = BatchStore(database, settings)
    spools = OrphanedSpools(directory, Destination(database), store)
    store.watchdog.start()
    try:
        spools.adopt()
        while spools.replay_one():
            pass
    except DatabaseAway as exc:
        raise WriteError(f"the spool could not be replayed: {exc}") from exc
    finally:
        spools.close()
        store.watchdog.stop()
    spools.total.refused = tuple(spools.refused.values())
    return spools.total
