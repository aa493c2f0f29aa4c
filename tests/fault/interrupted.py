"""A program whose main thread is interrupted by SIGALRM while four others write; prints findings.

    DSN=... python -m tests.fault.interrupted DIRECTORY INTERRUPTIONS

What a time limit, Ctrl-C in a notebook or a worker's soft shutdown does: a signal handler raises
between any two steps. Whatever it hits, the next call must get its own answer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from gproxy_storage import Storage

READERS = 50
OTHERS = 4
CALL_S = 0.004  # a call and a new connection take about this long


class Interrupted(BaseException):
    """As KeyboardInterrupt is: no `except Exception` takes it."""


class SoftTimeLimit(Exception):  # noqa: N818 - what task queues call it
    """As the time limits of task queues are."""


class Abort(Exception):  # noqa: N818 - not an error
    """Raised by a block that wants its transaction rolled back."""


INTERRUPTIONS = (Interrupted, SoftTimeLimit, TimeoutError)


class Program:
    """The calls, what became of each, and what that must mean for the database."""

    def __init__(self, storage: Storage, directory: Path) -> None:
        self.storage = storage
        self.sink = storage.sink(flush_after_s=0.05, when_full="spool", max_queue_rows=50)
        self.users = [storage.users.create(f"reader{number}") for number in range(READERS)]
        self.spender = storage.users.create("spender")
        storage.quotas.add_cost(self.spender, 0)  # so that there is one to look at
        self.stored: set[str] = set()
        self.perhaps: set[str] = set()
        self.never: set[str] = set()
        self.submitted: set[int] = set()
        self.spent = 0
        self.spent_perhaps = 0
        self.findings: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._numbers = count(1)
        self._armed = False

    # -- what is called -----------------------------------------------------------------------

    def read(self) -> None:
        asked = random.choice(self.users)
        got = self.storage.users.get(asked.id)
        if (got.id, got.name) != (asked.id, asked.name):
            self.findings["wrong row"] += 1

    def count(self) -> None:
        if not isinstance(self.storage.usages.summarize(user_id=self.spender.id).count, int):
            self.findings["wrong answer"] += 1

    def create(self, prefix: str = "main") -> None:
        name = f"{prefix}-{next(self._numbers)}"
        self.perhaps.add(name)
        self.storage.users.create(name)
        self.stored.add(name)

    def spend(self) -> None:
        self.spent_perhaps += 1
        self.storage.quotas.add_cost(self.spender, 1)
        self.spent += 1

    def roll_back(self) -> None:
        name = f"never-{next(self._numbers)}"
        self.never.add(name)
        with suppress(Abort), self.storage.transaction():
            self.storage.users.create(name)
            self.read()
            raise Abort

    def swallow(self) -> None:
        """A block that catches whatever comes, and goes on: then it raises at its end."""
        pair = f"pair-{next(self._numbers)}"
        first, second = f"{pair}-a", f"{pair}-b"
        self.perhaps |= {first, second}
        with self.storage.transaction():
            with suppress(*INTERRUPTIONS):
                self.storage.users.create(first)
            self.storage.users.create(second)
        self.stored.add(second)

    def submit(self) -> None:
        number = next(self._numbers)
        self.sink.submit_usage(user_id=self.users[0].id, downstream_trace_id=number)
        self.submitted.add(number)

    def share(self) -> None:
        with self.storage.session():
            self.read()
            self.create()
            self.read()

    # -- the two sides ------------------------------------------------------------------------

    def interrupt(self, interruptions: int) -> None:
        calls: tuple[Callable[[], None], ...] = (
            self.read, self.count, self.create, self.spend, self.roll_back, self.swallow,
            self.submit, self.share,
        )  # fmt: skip
        signal.signal(signal.SIGALRM, self._handle)
        while self.counts["interrupted"] < interruptions:
            call = random.choice(calls)
            self.counts["calls"] += 1
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, CALL_S))
                call()
            except INTERRUPTIONS:
                self.counts["interrupted"] += 1
            except Exception as exc:
                if not _says_so(exc):
                    self.findings[f"{call.__name__}: {type(exc).__name__}: {exc}"[:300]] += 1
            finally:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                self.read()
            except Exception as exc:
                self.findings[f"next call: {type(exc).__name__}: {exc}"[:300]] += 1
            if self.storage.database.in_transaction():
                self.findings["left in a transaction"] += 1

    def _handle(self, *_: object) -> None:
        if self._armed:
            self._armed = False
            raise random.choice(INTERRUPTIONS)

    def write(self, until: threading.Event, prefix: str) -> None:
        while not until.is_set():
            try:
                self.create(prefix)
                self.read()
            except Exception as exc:
                self.findings[f"another thread: {type(exc).__name__}: {exc}"[:300]] += 1

    # -- what must hold -----------------------------------------------------------------------

    def look(self) -> None:
        self.sink.close(timeout_s=60)
        self.storage.replay_spool()
        names = Counter(user.name for user in self.storage.users.list())
        self._expect("an acknowledged row is missing", not self.stored - names.keys())
        self._expect("a row of a block that raised is there", not self.never & names.keys())
        pairs = {name[:-1] for name in names if name.startswith("pair-")}
        self._expect(
            "half of what was acknowledged",
            all(f"{pair}b" in names for pair in pairs),
        )
        quota = self.storage.quotas.get(self.spender)
        used = int(quota.cost_used)
        self._expect("costs were lost or doubled", self.spent <= used <= self.spent_perhaps)
        usages = Counter(usage.downstream_trace_id for usage in self.storage.usages.iter())
        self._expect("a usage was lost", not self.submitted - usages.keys())
        self._expect("a usage was stored twice", max(usages.values(), default=0) <= 1)
        pool = self.storage.database.pool
        self._expect("a slot of the pool was lost", pool._slots == len(pool._idle))
        self._expect("the pool is locked", not pool._lock.locked())
        open_ones = [self.storage.database.has_transaction(lease.conn) for lease in pool._idle]
        self._expect("a transaction is open in the server", not any(open_ones))

    def _expect(self, what: str, holds: bool) -> None:
        if not holds:
            self.findings[what] += 1


def _says_so(exc: Exception) -> bool:
    """Whether an error is what a block must raise whose body caught an interruption."""
    return "was ended before the block" in str(exc)


def main(dsn: str, directory: str, interruptions: int) -> int:
    with Storage.connect(dsn, data_dir=directory) as storage:
        program: Any = Program(storage, Path(directory))
        done = threading.Event()
        others = [
            threading.Thread(target=program.write, args=(done, f"other{number}"))
            for number in range(OTHERS)
        ]
        for thread in others:
            thread.start()
        try:
            program.interrupt(interruptions)
        finally:
            done.set()
            for thread in others:
                thread.join()
        program.look()
    print(json.dumps({**program.counts, "findings": program.findings}), flush=True)
    return len(program.findings)


if __name__ == "__main__":
    os._exit(bool(main(os.environ["DSN"], sys.argv[1], int(sys.argv[2]))))
