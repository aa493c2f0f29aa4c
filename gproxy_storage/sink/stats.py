"""SinkStats: what a sink did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStats:
    """Counts of rows since the sink was made, in this process.

    Attributes:
        submitted: taken by ``submit_...``.
        written: stored in the database, those included that waited in the spool.
        retried: attempts at a batch beside its first.
        spooled: written to the spool file.
        rejected: refused by the database and kept in the rejects file.
        queued: in memory, waiting or being written.
        spool_batches, spool_bytes: what waits in the spool file now.
        adopted: rows of spool files of ended processes that were stored.
        away: why the database does not take batches now, or None.
        spool_fault: why the spool file could not be written the last time, or None.
    """

    submitted: int = 0
    written: int = 0
    retried: int = 0
    spooled: int = 0
    rejected: int = 0
    queued: int = 0
    spool_batches: int = 0
    spool_bytes: int = 0
    adopted: int = 0
    away: str | None = None
    spool_fault: str | None = None

    @classmethod
    def of(cls, submitted: int, settled: int, engine: Engine | None) -> Self:
        """Collect the counts; without an engine nothing was done yet."""
        if engine is None:
            return cls(submitted=submitted, queued=submitted - settled)
        writer, spool = engine.writer, engine.writer.spool_file
        return cls(
            submitted=submitted,
            written=writer.written,
            retried=engine.retried,
            spooled=writer.spooled,
            rejected=writer.rejected,
            queued=submitted - settled,
            spool_batches=len(spool),
            spool_bytes=spool.size_bytes if len(spool) else 0,
            adopted=engine.leftovers.total.written,
            away=writer.away,
            spool_fault=writer.spool_fault,
        )
