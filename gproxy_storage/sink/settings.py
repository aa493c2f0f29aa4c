"""SinkSettings and SinkStats: a sink's options and counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SinkSettings:
    """The options of a sink.

    Attributes:
        flush_rows: a batch is written with this many rows, >= 1.
        flush_after_s: or when the oldest row has waited this many seconds, > 0.
        max_queue_rows: the maximum number of rows in memory, >= 1.
        max_queue_bytes: the approximate maximum of their size, >= 1.
        when_full: ``block`` lets callers wait for room; ``spool`` moves a batch to the spool.
        max_body_bytes: the maximum length of a body. A server's packet must hold four of them;
            MariaDB's default is 16 MiB.
        redact: False stores headers, URLs and queries with the credentials in them.
        max_spool_bytes: the maximum size of the spool file; beyond it the queue fills up.
        retry_s: seconds for which a batch is retried before the database counts as away, > 0.
        stall_timeout_s: maximum seconds of a transaction before its connection counts as dead, > 0.
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
    """Counts of rows since the sink was opened, in this process.

    Attributes:
        submitted: accepted by ``submit_...``.
        written: stored in the database, including those that were spooled before.
        retried: attempts at batches after the first of each.
        spooled: written to the spool file.
        rejected: refused by the database and kept in the rejects file.
        queued: in memory, waiting or being written.
        spool_batches: batches in the spool file now.
        spool_bytes: their size in it.
        adopted: rows stored from spool files of ended processes.
        away: why the database does not take batches now, or None.
        spool_fault: why the last write to the spool file failed, or None.
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
