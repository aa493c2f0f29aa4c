"""Benchmarks: this package against plain Peewee and the bare driver, as ratios from one run.

Each module of this folder has `run(backend, dsn)`, which yields figures measured in the database
of that DSN, which is its own and empty. `python -m tests.benchmarks` runs them all.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """How one contender did against another.

    Attributes:
        subject: what was measured.
        ours_s, other_s: medians in seconds.
        most: the goal: ours takes at most so many times as long as the other; None for no goal.
        rows: how many rows were written in that time, where that was measured.
        memory: both are bytes instead of seconds.
    """

    backend: str
    subject: str
    against: str
    ours_s: float
    other_s: float
    most: float | None = None
    rows: int = 0
    memory: bool = False

    def words(self, measured: float) -> str:
        """Return one of the two for a person."""
        if self.memory:
            return f"{measured / 2**20:.1f} MiB"
        if self.rows:
            return f"{self.rows / measured:,.0f} rows/s"
        return f"{measured * 1000:.2f} ms" if measured > 1e-4 else f"{measured * 1e6:.2f} us"

    @property
    def ratio(self) -> float:
        """How many times as long ours took."""
        return self.ours_s / self.other_s

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.most is None:
            return ""
        return "met" if self.ratio <= self.most else "MISSED"

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as JSON-able values."""
        rates = {
            "ours_rows_per_s": self.rows / self.ours_s,
            "other_rows_per_s": self.rows / self.other_s,
        }
        measured = {**asdict(self), "ratio": self.ratio, "verdict": self.verdict}
        return measured | (rates if self.rows else {})


def medians(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    before: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Time contenders in turn, so that whatever else the machine does meets all of them.

    The first round warms up and does not count; the order changes from round to round.

    Args:
        before: called before each contender; its time does not count.
    Returns:
        The median of each, in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds + 1):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                before()
                started = time.perf_counter()
                contenders[name]()
                if turn:
                    times[name].append(time.perf_counter() - started)
    finally:
        gc.enable()
    return {name: statistics.median(taken) for name, taken in times.items()}
