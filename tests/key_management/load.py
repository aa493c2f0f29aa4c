"""Load during a command that changes keys: reads and writes that must neither fail nor get lost.

`python -m tests.key_management.load DSN FIRST LAST` is a process of its own, with the secret in
DATABASE_SECRET_KEY: it says "ready", works until its stdin ends, and says what it did.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from dataclasses import dataclass, field

from gproxy_storage import Storage
from gproxy_storage.models import Credential
from tests.key_management.support import document
from tests.support import PATIENCE_S

THREADS = 4


@dataclass
class Done:
    """What a worker did.

    Attributes:
        versions: the last version that was written to each credential, by id.
    """

    reads: int = 0
    writes: int = 0
    logins: int = 0
    errors: list[str] = field(default_factory=list)
    versions: dict[int, int] = field(default_factory=dict)


def work(storage: Storage, ids: range, api_key: str, stop: threading.Event) -> Done:
    """Read any of all rows, and read and write the rows of these ids, until told to stop."""
    done = Done()
    draw = random.Random(ids.start)
    while not stop.is_set():
        number = draw.choice(ids)
        try:
            _step(storage, number, draw.randrange(2**31), done)
            if storage.keys.authenticate(api_key) is None:
                raise LookupError("the API key is not known")  # noqa: TRY301 - one place counts
            done.logins += 1
        except Exception as exc:
            done.errors.append(f"{type(exc).__name__}: {exc}")
            if len(done.errors) > 5:
                break
    return done


def _step(storage: Storage, number: int, version: int, done: Done) -> None:
    with storage.session():
        row = Credential.get_by_id(number)
        expected = document(number, done.versions.get(number, 0))
        if row.secret_json != expected:
            raise ValueError(f"credential {number} is not what was written last")
        done.reads += 1
        for other in Credential.select().where(Credential.id > number).limit(5):
            if not other.secret_json["api_key"]:
                raise ValueError(f"credential {other.id} is empty")
            done.reads += 1
        row.secret_json = document(number, version)
        storage.run_transaction(row.save)
        done.versions[number] = version
        done.writes += 1


class Threads:
    """Four threads at work on an open storage."""

    def __init__(self, storage: Storage, ids: range, api_key: str) -> None:
        self._stop = threading.Event()
        self.done: list[Done] = []
        share = len(ids) // THREADS
        self._threads = [
            threading.Thread(
                target=lambda mine: self.done.append(work(storage, mine, api_key, self._stop)),
                args=(ids[n * share : (n + 1) * share],),
            )
            for n in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Done]:
        """End them and return what each did."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return self.done


def main() -> None:
    """Work as a process of its own."""
    dsn, first, last, api_key = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with Storage.connect(dsn, os.environ.get("DATABASE_SECRET_KEY"), sync=False) as storage:
        threads = Threads(storage, range(first, last), api_key)
        print("ready", flush=True)
        sys.stdin.read()
        print(json.dumps([vars(done) for done in threads.stop()]), flush=True)


if __name__ == "__main__":
    main()
