"""The sink: what is submitted is stored, once, with its cost; what cannot be is told or kept."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConfigError, InvalidValue, WriteError
from gproxy_storage.models import (
    DownstreamRequest,
    SinkWriter,
    Table,
    UpstreamRequest,
    Usage,
)
from gproxy_storage.sink.batch import Batch
from gproxy_storage.sink.rejects import read_rejects
from gproxy_storage.sink.sink import Sink
from tests import servers
from tests.contract.support import (
    NOW,
    PARENTS,
    PATIENCE_S,
    Connections,
    ids,
    in_child,
    in_threads,
    insert,
    parents,
    quotas,
    rows_of,
    until,
)
from tests.support import SOME_BACKENDS, recorded
from tests.values import EVERY_BYTE

TOKENS: dict[str, Any] = {
    "input_tokens": 1,
    "output_tokens": 2,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 4,
    "cache_creation_input_tokens_5min": 5,
    "cache_creation_input_tokens_1h": 2**62,
}


def count(storage: Storage, model: type[Table]) -> int:
    with storage.session():
        return int(model.select().count())


def rejects(storage: Storage) -> list[dict[str, Any]]:
    return [found for path in storage.spool_dir.glob("*.rejects") for found in read_rejects(path)]


def files(storage: Storage) -> list[str]:
    return sorted(path.suffix for path in storage.spool_dir.iterdir())


# -- what is stored -----------------------------------------------------------------------------


def test_a_usage_is_stored_as_record_stores_it(storage: Storage) -> None:
    given: dict[str, Any] = {
        **ids(parents(storage)),
        **TOKENS,
        "operation": "embed",
        "protocol": "gemini",
        "model": "modèle\t\\N\n",
        "cost": 0.125,
        "at": NOW,
        "downstream_trace_id": 2**62,
    }
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
    with storage.sink() as sink:
        sink.submit_upstream_request(
            **common,
            request_url="https://example.org/ü",
            provider_id=made_by["provider_id"],
            credential_id=made_by["credential_id"],
            downstream_trace_id=7,
            initial_latency_ms=1,
            total_latency_ms=2**40,
        )
        sink.submit_downstream_request(
            **common,
            trace_id=2**40,
            request_path="/v1",
            request_query="a=b",
            user_id=made_by["user_id"],
            user_key_id=made_by["user_key_id"],
        )
        sink.submit_upstream_request(request_method="GET")

    columns = [f"{name}_json" if name.endswith("headers") else name for name in common]
    with storage.session():
        upstream, least = rows_of(
            UpstreamRequest,
            *columns,
            *("request_url", "provider_id", "credential_id", "downstream_trace_id"),
            *("initial_latency_ms", "total_latency_ms"),
        )
        (downstream,) = rows_of(
            DownstreamRequest,
            *columns,
            *("trace_id", "request_path", "request_query", "user_id", "user_key_id"),
        )
    assert upstream == (
        *common.values(),
        *("https://example.org/ü", made_by["provider_id"], made_by["credential_id"], 7, 1, 2**40),
    )
    assert downstream == (
        *common.values(),
        *(2**40, "/v1", "a=b", made_by["user_id"], made_by["user_key_id"]),
    )
    assert least[:7] == ("GET", {}, None, None, {}, None, False)


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


def test_the_oldest_row_is_written_after_a_while(storage: Storage) -> None:
    with storage.sink(flush_rows=1000, flush_after_s=0.05) as sink:
        for _ in range(3):
            sink.submit_usage()
        until(lambda: sink.stats().written == 3)
        assert count(storage, Usage) == 3
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
    assert files(storage) == []


def test_stats(storage: Storage) -> None:
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
    assert count(storage, UpstreamRequest) == 20


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
    assert count(storage, Usage) == 1200
    assert quotas(storage) == [(user.id, 0.0, 100.0) for user in users]
    assert files(storage) == []


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
    assert count(storage, Usage) == 1200


# -- what is refused at once --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"cost": math.nan}, "cost"),
        ({"cost": -0.01}, "cost"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"at": NOW.replace(tzinfo=None)}, "at"),
        ({"operation": None}, "operation"),
        ({"user_id": "alice"}, "user_id"),
        ({"colour": "red"}, "colour"),
        ({"request_body": b""}, "request_body"),
    ],
)
def test_bad_usages(storage: Storage, given: dict[str, Any], argument: str) -> None:
    with storage.sink() as sink:
        with pytest.raises(InvalidValue) as caught:
            sink.submit_usage(**given)
        assert sink.stats().submitted == 0
    assert caught.value.argument == argument
    assert count(storage, Usage) == 0


def test_bad_requests(storage: Storage) -> None:
    with storage.sink(max_body_bytes=10) as sink:
        for bad in (
            {"request_body": b"x" * 11},
            {"response_body": b"x" * 11},
            {"request_body": "text"},
            {"request_headers": {"a": math.nan}},
            {"response_status": 2**31},
            {"cost": 1.0},
        ):
            name = next(iter(bad))
            with pytest.raises(InvalidValue, match=name):
                sink.submit_upstream_request(**{"request_method": "GET", **bad})  # type: ignore[arg-type]  # the question
            with pytest.raises(InvalidValue, match=name):
                sink.submit_downstream_request(
                    **{"trace_id": 1, "request_method": "GET", "request_path": "/", **bad}  # type: ignore[arg-type]  # the question
                )
        sink.submit_upstream_request(request_method="GET", request_body=b"x" * 10)
        assert sink.stats().submitted == 1


@pytest.mark.parametrize("name", ["flush_rows", "flush_after_s", "max_queue_rows", "retry_s"])
@pytest.mark.parametrize("value", [0, -1, "1", True, math.nan, math.inf])
def test_bad_settings(storage: Storage, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        storage.sink(**{name: value})
    with pytest.raises(ConfigError, match="when_full"):
        storage.sink(when_full="drop")  # type: ignore[arg-type]  # the question
    assert not storage.spool_dir.exists()


def test_a_spool_directory_that_cannot_be_used(storage: Storage) -> None:
    storage.data_dir.write_text("a file")
    with pytest.raises(ConfigError, match=r"the spool directory .* cannot be used"):
        storage.sink()
    assert not storage._sinks


# -- what the database refuses ------------------------------------------------------------------


@pytest.mark.parametrize("gone", list(PARENTS))
def test_a_deleted_parent_becomes_null(storage: Storage, gone: str) -> None:
    rows = parents(storage)
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage(**ids(rows), cost=0.5, **TOKENS)
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


def test_requests_of_the_deleted(storage: Storage) -> None:
    with storage.sink() as sink:
        sink.submit_upstream_request(request_method="GET", provider_id=10**9, credential_id=10**9)
        sink.submit_downstream_request(
            trace_id=1, request_method="GET", request_path="/", user_id=10**9, user_key_id=10**9
        )
    with storage.session():
        assert rows_of(UpstreamRequest, "provider_id", "credential_id") == [(None, None)]
        assert rows_of(DownstreamRequest, "user_id", "user_key_id") == [(None, None)]


def test_a_bad_row_holds_up_no_other(storage: Storage) -> None:
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

    assert count(storage, Usage) == 30
    assert quotas(storage) == [(alice.id, 0.0, 7.5)]
    with storage.session():
        assert [row[0] for row in rows_of(DownstreamRequest, "trace_id")] == list(range(1, 31))
    first, second = rejects(storage)
    assert first["table"] == second["table"] == "downstream_requests"
    assert (first["values"]["trace_id"], second["values"]["request_method"]) == (5, "TWICE")
    assert "a row with the same" in first["reason"]
    assert files(storage) == [".rejects"]


def test_a_batch_of_bad_rows_only(storage: Storage) -> None:
    with storage.session():
        insert(DownstreamRequest, trace_id=5)
    with storage.sink() as sink:
        sink.submit_downstream_request(trace_id=5, request_method="GET", request_path="/")
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (0, 1)
    assert len(rejects(storage)) == 1


REFUSE = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON usages WHEN NEW.model = 'bad' BEGIN "
    "SELECT RAISE(ABORT, 'no'); END",
    "postgres": "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF "
    "NEW.model = 'bad' THEN RAISE 'no'; END IF; RETURN NEW; END $$; CREATE TRIGGER refuse BEFORE "
    "INSERT ON usages FOR EACH ROW EXECUTE FUNCTION refuse()",
    "mysql": "CREATE TRIGGER refuse BEFORE INSERT ON usages FOR EACH ROW BEGIN IF NEW.model = "
    "'bad' THEN SIGNAL SQLSTATE '45000'; END IF; END",
}
REFUSE["mariadb"] = REFUSE["mysql"]
ALLOW = {"postgres": "DROP FUNCTION refuse CASCADE"}


def test_a_trigger_that_refuses_rows(
    storage: Storage, backend: str, server: servers.Server
) -> None:
    def execute(sql: str) -> None:
        """As the administrator: a MySQL with a binary log lets nobody else make triggers."""
        if backend == "sqlite":
            with storage.session():
                storage.database.execute_sql(sql)
            return
        connection = server.connect(storage.database.dsn.database)
        connection.cursor().execute(sql)
        connection.close()

    alice = storage.users.create("alice")
    execute(REFUSE[backend])
    try:
        with storage.sink(flush_after_s=3600) as sink:
            for number in range(40):
                model = "bad" if number in (0, 17, 18, 39) else "good"
                sink.submit_usage(user_id=alice.id, model=model, cost=0.25)
        assert (sink.stats().written, sink.stats().rejected) == (36, 4)
    finally:
        execute(ALLOW.get(backend, "DROP TRIGGER refuse"))
    assert quotas(storage) == [(alice.id, 0.0, 9.0)]
    assert [found["place"] for found in rejects(storage)] == [0, 17, 18, 39]


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
    assert count(storage, DownstreamRequest) == 3 - rejected
    assert count(storage, Usage) == 1
    if rejected:
        (found,) = rejects(storage)
        assert found["values"]["trace_id"] == 1
        assert "closed the connection at this row" in found["reason"]


# -- once ---------------------------------------------------------------------------------------


def store_again(sink: Sink, seq: int) -> Any:
    """Have the sink's writer store a batch of one usage under a number."""
    engine = sink._engine
    assert engine is not None
    batch = Batch(seq)
    batch.rows[0].append((None, "2026-03-04T05:06:07.890123Z", *[None] * 4, "a", "b"))
    batch.rows[0][0] += (*[None] * 7, 0.5, "2026-03-04T05:06:07.890123Z")
    return engine.writer._store.store(engine.writer._name, batch, engine.writer._rejects)


def test_a_number_is_stored_once(storage: Storage) -> None:
    with storage.sink() as sink:
        assert not store_again(sink, 3).repeated
        assert store_again(sink, 3).repeated
        assert store_again(sink, 2).repeated
        assert not store_again(sink, 4).repeated
        with storage.session():
            assert rows_of(SinkWriter, "seq") == [(4,)]
    assert count(storage, Usage) == 2


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
    assert count(storage, Usage) == 10
    assert quotas(storage) == [(alice.id, 0.0, 2.5)]


# -- the end, and forks -------------------------------------------------------------------------


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
    engine = sink._engine
    assert engine is not None
    with sink._queue.lock, pytest.raises(WriteError, match="let it raise SystemExit"):
        sink.close()
    with engine.writer.spool_lock:
        with pytest.raises(WriteError, match="let it raise SystemExit"):
            sink.close()
        with pytest.raises(WriteError, match="the row was not stored"):
            engine.writer.spool_queued()
    sink.submit_usage()
    with sink._closing:  # a signal's handler closes what is being closed
        sink.close()
    assert count(storage, Usage) == 2


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
        time.sleep(0.6)
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
        assert count(again, Usage) == 3


def test_a_spool_that_cannot_be_written_is_not_the_databases_fault(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    def submit() -> None:
        for _ in range(100):
            sink.submit_usage()

    with storage.sink(flush_rows=10, max_queue_rows=10, when_full="spool") as sink:
        engine = sink._engine
        assert engine is not None
        engine.writer.spool_file.path.unlink()
        in_threads(*[submit] * 4)
        assert sink.flush(PATIENCE_S)
        found = sink.stats()
    assert (found.written, found.spooled, found.away) == (400, 0, None)
    assert found.spool_fault is not None
    assert "deleted under its process" in found.spool_fault
    assert caplog.text.count("cannot be written") == 1
    assert "cannot write to the database" not in caplog.text


def test_closing_the_storage_drains_its_sinks(storage: Storage, shared_database_dsn: str) -> None:
    sinks = [storage.sink(flush_after_s=3600) for _ in range(2)]
    for sink in sinks:
        sink.submit_usage()
    storage.close()
    with Storage.connect(shared_database_dsn) as again:
        assert count(again, Usage) == 2


def test_a_caller_that_waits_for_room_is_told_of_the_end(storage: Storage) -> None:
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
    assert count(storage, Usage) == sink.stats().submitted == sink.stats().written


def open_spools() -> list[str]:
    """Return the spool files that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            found.append(str(link.readlink()))
    return [name for name in found if name.endswith(".spool")]


def test_parent_and_child_have_their_own(storage: Storage) -> None:
    sink = storage.sink(flush_after_s=3600)
    for _ in range(3):
        sink.submit_usage(model="parent")

    def child() -> str:
        assert sink.stats().submitted == 0
        assert files(storage) == [".spool"]
        assert open_spools() == []  # or the parent's lock would outlive the parent
        for _ in range(4):
            sink.submit_usage(model="child")
        assert files(storage) == [".spool", ".spool"]
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
    assert files(storage) == []


@SOME_BACKENDS
def test_forks_while_rows_are_written(storage: Storage) -> None:
    stop = threading.Event()
    sink = storage.sink(flush_rows=10)

    def submit() -> None:
        while not stop.is_set():
            sink.submit_usage(model="parent")
            time.sleep(0.0001)

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
    assert files(storage) == []


def test_a_fork_while_a_child_takes_its_first_row(storage: Storage) -> None:
    """Its thread and file are made between the fork's look at the sink and its lock."""
    sink = storage.sink(flush_after_s=3600)
    engine = sink._engine
    assert engine is not None
    engine.stop(PATIENCE_S)
    sink.after_fork_in_child()
    held: list[bool] = []

    def fork() -> None:
        sink.before_fork()
        assert sink._engine is not None
        held.append(sink._engine.writer.is_interrupted())
        sink.after_fork_in_parent()

    with sink._queue.lock:
        forking = threading.Thread(target=fork)
        forking.start()
        time.sleep(0.05)
        sink._ensure_engine()
    forking.join(PATIENCE_S)
    assert sink._engine is not None
    assert held == [True]
    sink.close()


def test_the_spool_directory_is_the_owners_alone(storage: Storage, tmp_path: Path) -> None:
    with storage.sink():
        (path,) = (tmp_path / "data" / "spool").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
