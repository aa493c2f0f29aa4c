"""Closing a sink: everything is stored, every caller is told."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import WriteError
from gproxy_storage.models import Usage
from tests.contract.support import PATIENCE_S, in_threads, row_count, until


def test_a_closed_sink_takes_nothing(storage: Storage) -> None:
    sink = storage.sink()
    sink.submit_usage()
    sink.close()
    sink.close()
    with pytest.raises(WriteError, match="the sink is closed"):
        sink.submit_usage()
    assert sink.stats().written == 1
    assert sink.flush(0)


def test_a_sink_is_not_closed_by_a_signal_that_interrupted_it(storage: Storage) -> None:
    """That would wait for itself for ever; said instead, and everything goes on."""
    sink = storage.sink(flush_after_s=3600)
    sink.submit_usage()
    writer = sink._writer
    assert writer is not None
    with sink._queue.lock, pytest.raises(WriteError, match="let it raise SystemExit"):
        sink.close()
    with writer.spool_lock:
        with pytest.raises(WriteError, match="let it raise SystemExit"):
            sink.close()
        with pytest.raises(WriteError, match="the row was not stored"):
            writer.spool_queued()
    sink.submit_usage()
    with sink._closing:  # a signal's handler closes what is being closed
        sink.close()
    assert row_count(storage, Usage) == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_closing_that_was_cut_off_costs_no_processor(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue takes nothing any more, and its thread has not been told to end."""
    with storage.sink() as sink:
        waited = 0
        wait_due = sink._queue.wait_due

        def counted(timeout_s: float) -> bool:
            nonlocal waited
            waited += 1
            return wait_due(timeout_s)

        monkeypatch.setattr(sink._queue, "wait_due", counted)
        sink._queue.close()
        time.sleep(0.6)  # without a pause the thread would wait thousands of times meanwhile
        assert waited < 10


def test_each_sink_is_closed_whatever_becomes_of_another(
    storage: Storage, shared_database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks = [storage.sink(flush_after_s=3600) for _ in range(3)]
    for sink in sinks:
        sink.submit_usage()
        sink._queue._unsettled[-1] = 1  # a batch that went nowhere
    with pytest.raises(WriteError, match="1 rows could neither be stored nor spooled"):
        storage.close()
    with Storage.connect(shared_database_dsn) as again:
        assert row_count(again, Usage) == 3


def test_a_spool_that_cannot_be_written_is_not_the_databases_fault(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    def submit() -> None:
        for _ in range(100):
            sink.submit_usage()

    with storage.sink(flush_rows=10, max_queue_rows=10, when_full="spool") as sink:
        writer = sink._writer
        assert writer is not None
        writer.spool_file.path.unlink()
        in_threads(*[submit] * 4)
        assert sink.flush(PATIENCE_S)
        found = sink.stats()
    assert (found.written, found.spooled, found.away) == (400, 0, None)
    assert found.spool_fault is not None
    assert "deleted while it was open" in found.spool_fault
    assert caplog.text.count("cannot be written") == 1
    assert "cannot write to the database" not in caplog.text


def test_closing_the_storage_drains_its_sinks(storage: Storage, shared_database_dsn: str) -> None:
    sinks = [storage.sink(flush_after_s=3600) for _ in range(2)]
    for sink in sinks:
        sink.submit_usage()
    storage.close()
    with Storage.connect(shared_database_dsn) as again:
        assert row_count(again, Usage) == 2


def test_closing_raises_in_a_caller_that_waits_for_space(storage: Storage) -> None:
    sink = storage.sink(max_queue_rows=5, flush_rows=5, flush_after_s=3600)
    told = threading.Event()

    def submit() -> None:
        with suppress(WriteError):
            while True:
                sink.submit_usage()
        told.set()

    thread = threading.Thread(target=submit)
    thread.start()
    until(lambda: sink.stats().submitted > 20)
    sink.close()
    thread.join(PATIENCE_S)
    assert told.is_set()
    assert row_count(storage, Usage) == sink.stats().submitted == sink.stats().written
