"""SinkSettings and SinkStats: how a sink works, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SinkSettings:
    """How a sink works.

    Attributes:
        flush_rows: so many rows are written together, >= 1.
        flush_after_s: or once the oldest has waited so many seconds, > 0.
        max_queue_rows: how many rows may wait in memory, >= 1.
        max_queue_bytes: and how many bytes of them, about, >= 1.
        when_full: ``block`` has callers wait for room; ``spool`` moves a batch to the spool.
        max_body_bytes: the longest body of a request that is taken. A server's packet must hold
            twice two of them: MariaDB's is 16 MiB by default.
        redact: False stores headers, URLs and queries with the credentials in them.
        max_spool_bytes: how long the spool file may become; beyond, the queue fills.
        retry_s: seconds for which a batch is tried before the database counts as away, > 0.
        stall_timeout_s: seconds that a transaction may take before its connection counts as dead,
            > 0.
    """

    flush_rows: int = 100
    flush_after_s: float = 0.5
    max_queue_rows: int = 10_000
    max_queue_bytes: int = 128 * 1024 * 1024
    when_full: Literal["block", "spool"] = "block"
    max_body_bytes: int = 3 * 1024 * 1024
    redact: bool = True
    max_spool_bytes: int = 1024 * 1024 * 1024
    retry_s: float = 5.0
    stall_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.when_full not in ("block", "spool"):
            raise ConfigError("when_full must be 'block' or 'spool'", setting="when_full")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("when_full", "redact"):
                continue
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                kind = "an int" if whole else "a number"
                raise ConfigError(f"{field.name} must be {kind}", setting=field.name)
            if not 0 < value < float("inf"):
                raise ConfigError(f"{field.name} must be > 0 and finite", setting=field.name)


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
        spool_batches: batches that wait in the spool file now.
        spool_bytes: their length in it.
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
