"""The sink: what is submitted is stored, in few statements and in time, with its cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.log_rows import (
    DOWNSTREAM_REQUESTS,
    UPSTREAM_REQUESTS,
    USAGES,
    keyword,
)
from gproxy_storage.models import DownstreamRequest, SinkWriter, UpstreamRequest, Usage
from gproxy_storage.sink.sink import Sink
from tests.contract.support import (
    NOW,
    PATIENCE_S,
    ids,
    in_threads,
    insert,
    parents,
    quotas,
    row_count,
    rows_of,
    spool_files,
    until,
)
from tests.support import SOME_BACKENDS, SQLITE_ALONE, recorded, sample_row
from tests.values import EVERY_BYTE

TOKENS: dict[str, Any] = {
    "input_tokens": 1,
    "output_tokens": 2,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 4,
    "cache_creation_input_tokens_5min": 5,
    "cache_creation_input_tokens_1h": 2**62,
}


def test_a_usage_is_stored_as_record_stores_it(storage: Storage) -> None:
    given = sample_row(
        USAGES,
        **ids(parents(storage)),
        **TOKENS,
        operation="embed",
        protocol="gemini",
        model="modèle\t\\N\n",
        cost=0.125,
        at=NOW,
        downstream_trace_id=2**62,
    )
    storage.usages.record(**given)
    with storage.sink() as sink:
        sink.submit_usage(**given)

    with storage.session():
        recorded_row, ours = rows_of(Usage, *given)
        first, second = rows_of(Usage, "created_at")
    assert ours == recorded_row
    assert timedelta() <= second[0] - first[0] < timedelta(minutes=1)
    assert quotas(storage) == [(given["user_id"], 0.0, 0.25)]


def test_requests_are_stored(storage: Storage) -> None:
    made_by = ids(parents(storage))
    common: dict[str, Any] = {
        "request_method": "POST",
        "request_headers": {"content-type": "text/plain", "x": ["a\\", "é"]},
        "request_body": EVERY_BYTE,
        "response_status": 200,
        "response_headers": [["a", "b"]],
        "response_body": b"",
        "internal": True,
        "at": NOW,
    }
    upstream = sample_row(
        UPSTREAM_REQUESTS,
        **common,
        request_url="https://example.org/ü",
        provider_id=made_by["provider_id"],
        credential_id=made_by["credential_id"],
        downstream_trace_id=7,
        initial_latency_ms=1,
        total_latency_ms=2**40,
    )
    downstream = sample_row(
        DOWNSTREAM_REQUESTS,
        **common,
        trace_id=2**40,
        request_path="/v1",
        request_query="a=b",
        user_id=made_by["user_id"],
        user_key_id=made_by["user_key_id"],
    )
    with storage.sink() as sink:
        sink.submit_upstream_request(**upstream)
        sink.submit_downstream_request(**downstream)
        sink.submit_upstream_request(request_method="GET")

    least = [f"{name}_json" if name.endswith("headers") else name for name in common]
    with storage.session():
        stored, _ = rows_of(UpstreamRequest, *UPSTREAM_REQUESTS.arguments)
        _, almost_empty = rows_of(UpstreamRequest, *least)
        (received,) = rows_of(DownstreamRequest, *DOWNSTREAM_REQUESTS.arguments)
    assert stored == tuple(upstream[keyword(name)] for name in UPSTREAM_REQUESTS.arguments)
    assert received == tuple(downstream[keyword(name)] for name in DOWNSTREAM_REQUESTS.arguments)
    assert almost_empty[:7] == ("GET", {}, None, None, {}, None, False)


def test_credentials_are_redacted(storage: Storage) -> None:
    headers = [["Authorization", "Bearer sk-1"], ["x-api-key", "sk-2"], ["accept", "*/*"]]
    where = "https://user:sk-3@example.org/v1?key=sk-4&a=b"
    for redact in (True, False):
        with storage.sink(redact=redact) as sink:
            sink.submit_upstream_request(
                request_method="GET",
                request_url=where,
                request_headers=headers,
                response_headers={"Set-Cookie": "sk-5"},
            )
            sink.submit_downstream_request(
                trace_id=1 + redact,
                request_method="GET",
                request_path="/v1?key=sk-6",
                request_query="api_key=sk-7",
                request_headers=dict(headers),
            )
        with storage.session():
            columns = ("request_headers_json", "response_headers_json")
            found = [
                *rows_of(UpstreamRequest, "request_url", *columns),
                *rows_of(DownstreamRequest, "request_path", "request_query", *columns),
            ]
            UpstreamRequest.delete().execute()
            DownstreamRequest.delete().execute()
        assert ("sk-" in repr(found)) is not redact
        assert "*/*" in repr(found)
        assert "a=b" in repr(found)


def test_ids_of_downstream_requests_leave_no_sequence_behind(storage: Storage) -> None:
    with storage.session():
        last = insert(DownstreamRequest).trace_id
    with storage.sink() as sink:
        for trace_id in (last + 1000, last + 10):
            sink.submit_downstream_request(
                trace_id=trace_id, request_method="GET", request_path="/"
            )
    with storage.session():
        assert insert(DownstreamRequest).trace_id == last + 1001


def test_a_flush_is_one_transaction_of_few_statements(storage: Storage) -> None:
    users = [storage.users.create(f"user{number}") for number in range(20)]
    with storage.sink(flush_rows=100, flush_after_s=3600) as sink:
        sink.submit_usage()
        assert sink.flush(PATIENCE_S)
        writer = sink._writer
        assert writer is not None
        until(lambda: writer._check_at)
        with writer.storing:  # the first check asks the database, too
            pass
        with recorded(storage.database) as statements:
            for number in range(100):
                sink.submit_usage(user_id=users[number % 20].id, cost=0.25)
            until(lambda: sink.stats().written == 101)
    assert [sql.split()[0] for sql in statements.sent[:4]] in (
        ["BEGIN", "UPDATE", "INSERT", "INSERT"],
        ["BEGIN", "UPDATE", "COPY", "INSERT"],
    )
    assert len(statements) == 4
    assert quotas(storage) == [(user.id, 0.0, 1.25) for user in users]


@SQLITE_ALONE
def test_a_flush_copies_pages_in_memory_and_nothing_else_does(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On success and after an error: elsewhere a large sort would not fit."""
    database, found = storage.database, list[int]()
    default, memory = 0, 2

    def temp_store() -> int:
        number: int = database.query("PRAGMA temp_store")[0][0]
        return number

    add_costs = database.add_costs

    def fails_once(*args: Any) -> None:
        found.append(temp_store())
        add_costs(*args)
        if len(found) == 1:
            raise MemoryError

    monkeypatch.setattr(database, "add_costs", fails_once)
    sink = storage.sink()
    sink.submit_usage(user_id=storage.users.create("alice").id)
    sink.close()
    assert found == [memory]
    assert sink.stats().spooled == 1
    with storage.session():
        assert temp_store() == default
    assert storage.replay_spool().written == 1
    assert found == [memory] * 2
    with storage.session():
        assert temp_store() == default


@SQLITE_ALONE
def test_a_caller_of_flush_is_woken_when_its_rows_are_stored(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at each batch: it would take the GIL from the writer."""
    with storage.sink(flush_rows=1) as sink:
        queue, woken = sink._queue, list[int]()
        notify_all = queue._settling.notify_all

        def counted() -> None:
            woken.append(queue.settled)
            notify_all()

        monkeypatch.setattr(queue._settling, "notify_all", counted)
        with queue.lock:  # else batches would be stored before `flush` is called
            for _ in range(20):
                sink.submit_usage()
            assert sink.flush(PATIENCE_S)
        sink.submit_usage()
        until(lambda: sink.stats().written == 21)
    assert woken == [20]


def test_the_oldest_row_is_written_after_a_while(storage: Storage) -> None:
    with storage.sink(flush_rows=1000, flush_after_s=0.05) as sink:
        for _ in range(3):
            sink.submit_usage()
        until(lambda: sink.stats().written == 3)
        assert row_count(storage, Usage) == 3
        sink.submit_usage()
        until(lambda: sink.stats().written == 4)


def test_full_batches_are_written_without_waiting(storage: Storage) -> None:
    with storage.sink(flush_rows=10, flush_after_s=3600) as sink:
        for _ in range(35):
            sink.submit_usage()
        until(lambda: sink.stats().written == 30)
        assert sink.stats().queued == 5
        assert sink.flush(PATIENCE_S)
        assert sink.stats().written == 35
        assert sink.flush(0)
    with storage.session():
        assert rows_of(SinkWriter, "seq") == []  # nothing is left that could be replayed
    assert spool_files(storage) == []


def test_stats_count_what_was_submitted_and_written(storage: Storage) -> None:
    with storage.sink(flush_rows=2) as sink:
        for _ in range(5):
            sink.submit_usage()
        assert sink.flush(PATIENCE_S)
        found = sink.stats()
    assert (found.submitted, found.written, found.queued) == (5, 5, 0)
    assert (found.spooled, found.rejected, found.retried, found.away) == (0, 0, 0, None)


def test_large_and_small_rows_share_the_memory(storage: Storage) -> None:
    """The queue is bounded by bytes, too: four bodies of 1 MB fill one of 4 MB."""
    body = b"x" * 2**20
    with storage.sink(max_queue_bytes=4 * 2**20, flush_after_s=3600) as sink:
        for _ in range(20):
            sink.submit_upstream_request(request_method="POST", request_body=body)
            assert sink.stats().queued <= 9
    assert row_count(storage, UpstreamRequest) == 20


@SOME_BACKENDS
@pytest.mark.parametrize("when_full", ["block", "spool"])
def test_a_small_queue_and_many_threads(storage: Storage, when_full: Any) -> None:
    users = [storage.users.create(name) for name in "abc"]
    with storage.sink(max_queue_rows=7, flush_rows=5, when_full=when_full) as sink:

        def work() -> None:
            for number in range(300):
                sink.submit_usage(user_id=users[number % 3].id, cost=0.25)

        in_threads(*[work] * 4)
        assert sink.flush(PATIENCE_S)
    assert sink.stats().written == 1200
    assert row_count(storage, Usage) == 1200
    assert quotas(storage) == [(user.id, 0.0, 100.0) for user in users]
    assert spool_files(storage) == []


def test_sinks_that_write_the_same_quotas(storage: Storage) -> None:
    users = [storage.users.create(f"user{number}") for number in range(10)]
    sinks = [storage.sink(flush_rows=20) for _ in range(3)]

    def work(sink: Sink, step: int) -> Callable[[], None]:
        def submit() -> None:
            for number in range(400):
                sink.submit_usage(user_id=users[number * step % 10].id, cost=0.25)
            sink.close()

        return submit

    in_threads(*(work(sink, step) for sink, step in zip(sinks, (1, 3, 7), strict=True)))
    assert quotas(storage) == [(user.id, 0.0, 30.0) for user in users]
    assert row_count(storage, Usage) == 1200


@SQLITE_ALONE
def test_the_spool_directory_is_the_owners_alone(storage: Storage, tmp_path: Path) -> None:
    with storage.sink():
        (path,) = (tmp_path / "data" / "spool").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
