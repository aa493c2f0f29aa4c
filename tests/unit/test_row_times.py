"""Times in rows: the cached prefixes never show."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from gproxy_storage.row_times import stamp, time_text

AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def test_a_time_is_its_iso_text() -> None:
    """Near the borders of a minute, of the known times, and anywhere."""
    tick, minute = timedelta(microseconds=1), AT.replace(second=0, microsecond=0)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    times = [AT, minute, minute - tick, minute + timedelta(minutes=1), first, last, last - tick]
    chance = random.Random(7)
    times += [AT + timedelta(microseconds=chance.randrange(-(10**9), 10**9)) for _ in range(300)]
    times += [minute.replace(second=number, fold=number % 2) for number in range(60)]
    for at in [*times, *reversed(times)]:
        assert time_text(at) == at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def test_a_stamp_is_the_current_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over seconds, when the clock is set back or far ahead, and before 1970."""
    second = int(AT.timestamp()) * 10**9
    times = [second + each for each in (0, 1, 999, 1000, 999_999_999, 10**9, 10**9 - 1, -1)]
    times += [second + 3600 * 10**9, second, 10**15, 0, -1, -1000, 10**9 - 1]
    for now in times:
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        expected = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=now // 1000)
        assert stamp() == expected.isoformat(timespec="microseconds")[:26] + "Z"
