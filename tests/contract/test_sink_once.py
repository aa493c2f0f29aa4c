"""A batch is stored once, whatever becomes of the answer to its COMMIT."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.log_rows import USAGES
from gproxy_storage.models import SinkWriter, Usage
from gproxy_storage.sink.batch import Batch
from gproxy_storage.sink.sink import Sink
from tests.contract.support import PATIENCE_S, Connections, quotas, row_count, rows_of
from tests.support import log_row

AT = "2026-03-04T05:06:07.890123Z"


def store_again(sink: Sink, seq: int) -> Any:
    """Have the sink's writer store a batch of one usage under a number."""
    writer = sink._writer
    assert writer is not None
    batch = Batch(seq)
    row = log_row(USAGES, at=AT, operation="a", protocol="b", cost=0.5, created_at=AT)
    batch.rows[0].append(row)
    return writer._store.store(writer._name, batch, writer._rejects)


def test_a_number_is_stored_once(storage: Storage) -> None:
    with storage.sink() as sink:
        assert not store_again(sink, 3).repeated
        assert store_again(sink, 3).repeated
        assert store_again(sink, 2).repeated
        assert not store_again(sink, 4).repeated
        with storage.session():
            assert rows_of(SinkWriter, "seq") == [(4,)]
    assert row_count(storage, Usage) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_lost_at_commit(
    storage: Storage, connections: Connections, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = storage.users.create("alice")
    commit = storage.database.commit
    lost: list[bool] = []

    def losing_commit() -> None:
        if threading.current_thread().name != "gproxy-sink" or lost:
            commit()
            return
        lost.append(True)
        if when == "after":
            commit()
        connections.kill_own(storage)
        if when == "after":
            storage.database.query("SELECT 1")  # the client learns that the connection is gone
        commit()

    with storage.sink(flush_after_s=3600) as sink:
        monkeypatch.setattr(storage.database, "commit", losing_commit)
        for _ in range(10):
            sink.submit_usage(user_id=alice.id, cost=0.25)
        assert sink.flush(PATIENCE_S)
        assert lost
        assert (sink.stats().written, sink.stats().retried) == (10, 1)
        assert sink.stats().spooled == 0
    assert row_count(storage, Usage) == 10
    assert quotas(storage) == [(alice.id, 0.0, 2.5)]
