"""A sink in parent and child: each has its own thread, queue and spool file."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from gproxy_storage import Storage
from gproxy_storage.models import Usage
from tests.contract.support import PATIENCE_S, in_child, rows_of, spool_files
from tests.support import SOME_BACKENDS


def open_spools() -> list[str]:
    """Return the spool files that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            found.append(str(link.readlink()))
    return [name for name in found if name.endswith(".spool")]


def test_parent_and_child_have_separate_queues(storage: Storage) -> None:
    sink = storage.sink(flush_after_s=3600)
    for _ in range(3):
        sink.submit_usage(model="parent")

    def child() -> str:
        assert sink.stats().submitted == 0
        assert spool_files(storage) == [".spool"]
        assert open_spools() == []  # or the parent's lock would outlive the parent
        for _ in range(4):
            sink.submit_usage(model="child")
        assert spool_files(storage) == [".spool", ".spool"]
        assert sink.flush(PATIENCE_S)
        sink.submit_usage(model="child")
        storage.close()
        return str(sink.stats().written)

    assert in_child(child) == "5"
    sink.submit_usage(model="parent")
    sink.close()
    with storage.session():
        models = [row[0] for row in rows_of(Usage, "model")]
    assert (models.count("parent"), models.count("child")) == (4, 5)
    assert spool_files(storage) == []


@SOME_BACKENDS
def test_forks_while_rows_are_written(storage: Storage) -> None:
    stop = threading.Event()
    sink = storage.sink(flush_rows=10)

    def submit() -> None:
        while not stop.is_set():
            sink.submit_usage(model="parent")
            time.sleep(0.0001)  # so that the queue does not fill: it only has to go on

    def child() -> str:
        for _ in range(25):
            sink.submit_usage(model="child")
        sink.close()
        return str(sink.stats().written)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        told = [in_child(child) for _ in range(8)]
    finally:
        stop.set()
        thread.join()
    sink.close()
    assert told == ["25"] * 8
    with storage.session():
        models = [row[0] for row in rows_of(Usage, "model")]
    assert models.count("child") == 200
    assert models.count("parent") == sink.stats().submitted == sink.stats().written
    assert spool_files(storage) == []


def test_a_fork_while_a_child_takes_its_first_row(storage: Storage) -> None:
    """Its thread and file are made between the fork's look at the sink and its lock."""
    sink = storage.sink(flush_after_s=3600)
    writer = sink._writer
    assert writer is not None
    writer.stop(PATIENCE_S)
    sink.after_fork_in_child()
    held: list[bool] = []

    def fork() -> None:
        sink.before_fork()
        assert sink._writer is not None
        held.append(sink._writer.is_interrupted())
        sink.after_fork_in_parent()

    with sink._queue.lock:
        forking = threading.Thread(target=fork)
        forking.start()
        time.sleep(0.05)  # long enough for it to wait for the lock; if not, nothing is tested
        sink._start_writer()
    forking.join(PATIENCE_S)
    assert sink._writer is not None
    assert held == [True]
    sink.close()
