"""Times in rows of the logs: text, formatted with cached prefixes.

A row has one or two times, and Python's own formatting would be a third of a submit's time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

# Replaced as wholes, so that other threads get a prefix of the right time or none.
_second = [(0, "")]
"""The second before that of the last stamp, in nanoseconds since 1970; the text of the stamp's."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_minute = [(_EPOCH, _EPOCH, "1970-01-01T00:00:")]
"""The first and last time of the minute that was formatted last, and its text."""

_SECONDS = tuple(f"{second:02d}." for second in range(60))


def stamp() -> str:
    """Return the current time in the form of rows."""
    before, text = _second[0]
    since = time.time_ns() - before
    if not 1_000_000_000 <= since < 2_000_000_000:
        now = before + since
        second = now // 1_000_000_000
        before = (second - 1) * 1_000_000_000
        text = datetime.fromtimestamp(second, UTC).isoformat()[:19] + "."
        _second[0] = before, text
        since = now - before
    # Of ten digits the first is 1: those of the nanoseconds have their leading zeros.
    return f"{text}{str(since)[1:7]}Z"


def time_text(at: datetime) -> str:
    """Return a time in the form of rows.

    Args:
        at: a datetime, not of a subclass, whose tzinfo is `UTC`.
    """
    first, last, text = _minute[0]
    if not first <= at <= last:  # by minutes: calls that end in one second began in several
        text = at.isoformat()[:17]
        last = at.replace(second=59, microsecond=999_999)
        _minute[0] = at.replace(second=0, microsecond=0), last, text
    return f"{text}{_SECONDS[at.second]}{str(at.microsecond + 1_000_000)[1:]}Z"
