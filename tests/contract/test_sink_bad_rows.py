"""Rows that the database does not take as they are: parents become NULL, the rest is rejected."""

from __future__ import annotations

from gproxy_storage import Storage
from gproxy_storage.models import DownstreamRequest, UpstreamRequest, Usage
from tests.cases import for_each
from tests.contract.support import (
    PARENTS,
    PATIENCE_S,
    ids,
    insert,
    parents,
    quotas,
    rejects,
    row_count,
    rows_of,
    spool_files,
    wipe,
)


@for_each("gone", list(PARENTS))
def test_a_deleted_parent_becomes_null(storage: Storage, gone: str) -> None:
    wipe(storage)
    rows = parents(storage)
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage(**ids(rows), cost=0.5, input_tokens=1)
        sink.submit_usage(user_id=rows["user_id"].get_id(), cost=0.25)
        with storage.session():
            rows[gone].delete_instance()
        sink.submit_usage(**ids(rows), cost=0.5)
        assert sink.flush(PATIENCE_S)
        assert sink.stats().retried == 1
        sink.submit_usage(**ids(rows), cost=0.5)
        assert sink.flush(PATIENCE_S)
        assert sink.stats().retried == 1  # batches after it ask beforehand

    with storage.session():
        found = rows_of(Usage, *PARENTS, "cost", "input_tokens")
    kept = [None if column == gone else row.get_id() for column, row in rows.items()]
    assert found[0] == (*kept, 0.5, 1)
    assert [row[4] for row in found] == [0.5, 0.25, 0.5, 0.5]
    assert quotas(storage) == ([] if gone == "user_id" else [(kept[0], 0.0, 1.75)])
    assert sink.stats().rejected == 0


def test_missing_parents_of_requests_become_null(storage: Storage) -> None:
    with storage.sink() as sink:
        sink.submit_upstream_request(request_method="GET", provider_id=10**9, credential_id=10**9)
        sink.submit_downstream_request(
            trace_id=1, request_method="GET", request_path="/", user_id=10**9, user_key_id=10**9
        )
    with storage.session():
        assert rows_of(UpstreamRequest, "provider_id", "credential_id") == [(None, None)]
        assert rows_of(DownstreamRequest, "user_id", "user_key_id") == [(None, None)]


def test_a_bad_row_blocks_no_other(storage: Storage) -> None:
    alice = storage.users.create("alice")
    with storage.session():
        insert(DownstreamRequest, trace_id=5)
    with storage.sink(flush_after_s=3600) as sink:
        for number in range(30):
            sink.submit_usage(user_id=alice.id, cost=0.25)
            sink.submit_downstream_request(
                trace_id=number + 1, request_method="GET", request_path="/", request_body=b"body"
            )
        sink.submit_downstream_request(trace_id=7, request_method="TWICE", request_path="/")
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (59, 2)

    assert row_count(storage, Usage) == 30
    assert quotas(storage) == [(alice.id, 0.0, 7.5)]
    with storage.session():
        assert [row[0] for row in rows_of(DownstreamRequest, "trace_id")] == list(range(1, 31))
    first, second = rejects(storage)
    assert first["table"] == second["table"] == "downstream_requests"
    assert (first["values"]["trace_id"], second["values"]["request_method"]) == (5, "TWICE")
    assert "a row with the same" in first["reason"]
    assert spool_files(storage) == [".rejects"]


def test_a_batch_of_bad_rows_only(storage: Storage) -> None:
    with storage.session():
        insert(DownstreamRequest, trace_id=5)
    with storage.sink() as sink:
        sink.submit_downstream_request(trace_id=5, request_method="GET", request_path="/")
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (0, 1)
    assert len(rejects(storage)) == 1


def test_a_row_larger_than_the_server_takes(storage: Storage) -> None:
    """MariaDB's packet holds 16 MiB; the others take it."""
    with storage.sink(max_body_bytes=2**26, flush_after_s=3600, max_queue_bytes=2**30) as sink:
        for number in (2, 1, 3):
            sink.submit_downstream_request(
                trace_id=number,
                request_method="GET",
                request_path="/",
                request_body=b"x" * (20 * 2**20 if number == 1 else 10),
            )
        sink.submit_usage(cost=0.25)
        assert sink.flush(PATIENCE_S)
        rejected = sink.stats().rejected
    assert rejected == (1 if storage.database.name == "mariadb" else 0)
    assert row_count(storage, DownstreamRequest) == 3 - rejected
    assert row_count(storage, Usage) == 1
    if rejected:
        (found,) = rejects(storage)
        assert found["values"]["trace_id"] == 1
        assert "closed the connection at this row" in found["reason"]
