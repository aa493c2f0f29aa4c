"""What the database refuses to a sink: rows at fault are rejected, a database at fault is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.models import DownstreamRequest, UpstreamRequest, Usage
from gproxy_storage.sink import bisection, writer
from gproxy_storage.sink.sink import Sink
from tests import servers
from tests.contract.support import (
    PATIENCE_S,
    quotas,
    rejects,
    rows_of,
    until,
    with_options,
)

# A statement that fails for a reason that says nothing: no constraint, no SIGNAL.
FAIL = {
    "sqlite": "SELECT abs(-9223372036854775807 - 1);",
    "postgres": "RAISE EXCEPTION 'no' USING ERRCODE = 'GP001';",
    "mysql": "SET @x = (SELECT 1 UNION SELECT 2);",
}
FAIL["mariadb"] = FAIL["mysql"]

Refuse = Callable[..., None]


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is asked often: here it is back at once, or never."""
    monkeypatch.setattr(writer, "_MAX_PROBE_S", writer._MIN_PROBE_S)


@pytest.fixture
def execute(storage: Storage, backend: str, server: servers.Server) -> Callable[[str], None]:
    """Execute as the administrator: a MySQL with a binary log lets nobody else make triggers."""

    def execute(sql: str) -> None:
        if backend == "sqlite":
            with storage.session():
                storage.database.execute_sql(sql)
            return
        connection = server.connect(storage.database.dsn.database)
        connection.cursor().execute(sql)
        connection.close()

    return execute


@pytest.fixture
def refuse(backend: str, execute: Callable[[str], None]) -> Iterator[Refuse]:
    """Make a table refuse rows, those of a condition or all, until `allow`."""
    made: list[tuple[str, str]] = []

    def refuse(table: str, condition: str = "1 = 1", event: str = "INSERT") -> None:
        name = f"refuse_{len(made)}"
        made.append((name, table))
        if backend == "postgres":
            execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {condition} THEN {FAIL[backend]} END IF; RETURN NEW; END $$; "
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW "
                f"EXECUTE FUNCTION {name}()"
            )
        elif backend == "sqlite":
            execute(
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition} BEGIN "
                f"{FAIL[backend]} END"
            )
        else:
            execute(
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW BEGIN "
                f"IF {condition} THEN {FAIL[backend]} END IF; END"
            )

    def allow() -> None:
        while made:
            name, _ = made.pop()
            execute(
                f"DROP FUNCTION {name} CASCADE" if backend == "postgres" else f"DROP TRIGGER {name}"
            )

    refuse.allow = allow  # type: ignore[attr-defined]  # a function with a function
    yield refuse
    allow()


def allow(refuse: Refuse) -> None:
    refuse.allow()  # type: ignore[attr-defined]  # as above


def models(storage: Storage) -> list[str]:
    with storage.session():
        return sorted(row[0] for row in rows_of(Usage, "model"))


def request(sink: Sink) -> None:
    sink.submit_upstream_request(request_method="GET")


SIGNAL = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON usages WHEN NEW.model = 'bad' BEGIN "
    "SELECT RAISE(ABORT, 'no'); END",
    "postgres": "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF "
    "NEW.model = 'bad' THEN RAISE 'no'; END IF; RETURN NEW; END $$; CREATE TRIGGER refuse BEFORE "
    "INSERT ON usages FOR EACH ROW EXECUTE FUNCTION refuse()",
    "mysql": "CREATE TRIGGER refuse BEFORE INSERT ON usages FOR EACH ROW BEGIN IF NEW.model = "
    "'bad' THEN SIGNAL SQLSTATE '45000'; END IF; END",
}
SIGNAL["mariadb"] = SIGNAL["mysql"]
ALLOW = {"postgres": "DROP FUNCTION refuse CASCADE"}


def test_a_trigger_that_refuses_rows(
    storage: Storage, backend: str, execute: Callable[[str], None]
) -> None:
    alice = storage.users.create("alice")
    execute(SIGNAL[backend])
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


def test_a_refused_row_is_rejected_alone_or_among_others(storage: Storage, refuse: Refuse) -> None:
    refuse("usages", "NEW.model = 'bad'")
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage(model="bad")
        assert sink.flush(PATIENCE_S)
        for model in ("good", "bad", "good"):
            sink.submit_usage(model=model)
        assert sink.flush(PATIENCE_S)
        retried = sink.stats().retried
        sink.submit_usage(model="bad")
        assert sink.flush(PATIENCE_S)
        found = sink.stats()
    assert (found.written, found.rejected, found.spooled, found.away) == (2, 3, 0, None)
    assert found.retried == retried + 1  # what is known of a reason is not tried again and again
    assert models(storage) == ["good", "good"]
    assert [kept["values"]["model"] for kept in rejects(storage)] == ["bad"] * 3


def test_refused_rows_of_each_table_are_rejected(storage: Storage, refuse: Refuse) -> None:
    for table in ("usages", "upstream_requests", "downstream_requests"):
        refuse(table, "NEW.internal" if table != "usages" else "NEW.input_tokens = 7")
    with storage.sink(flush_after_s=3600) as sink:
        for bad in (True, False):
            sink.submit_usage(input_tokens=7 if bad else 8)
            sink.submit_upstream_request(request_method="GET", internal=bad)
            sink.submit_downstream_request(
                trace_id=1 + bad, request_method="GET", request_path="/", internal=bad
            )
            if bad:
                assert sink.flush(PATIENCE_S)
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (3, 3)


def test_a_database_that_refuses_everything_is_away(storage: Storage, refuse: Refuse) -> None:
    """For no row is at fault then, and all are stored once it is put right."""
    alice = storage.users.create("alice")
    tables = ("usages", "upstream_requests", "downstream_requests")
    for table in tables:
        refuse(table)
    with storage.sink(flush_rows=10, flush_after_s=3600) as sink:
        for number in range(40):
            sink.submit_usage(user_id=alice.id, cost=0.25)
            sink.submit_downstream_request(
                trace_id=number + 1, request_method="GET", request_path="/"
            )
        assert sink.flush(PATIENCE_S)
        assert sink.stats().away is not None
        assert (sink.stats().spooled, sink.stats().rejected) == (80, 0)
        allow(refuse)
        until(lambda: sink.stats().written == 80)
    assert rejects(storage) == []
    assert quotas(storage) == [(alice.id, 0.0, 10.0)]
    with storage.session():
        assert len(rows_of(Usage, "trace_id")) == len(rows_of(DownstreamRequest, "trace_id")) == 40


@pytest.mark.parametrize("others_wait", [False, True])
def test_a_table_that_refuses_everything(
    storage: Storage, refuse: Refuse, others_wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is at fault, and waited for; not for ever where rows of other tables wait behind."""
    monkeypatch.setattr(bisection, "_TABLE_PATIENCE", 2)
    refuse("usages")
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage()
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().spooled, sink.stats().rejected) == (1, 0)
        tried = sink.stats().retried
        until(lambda: sink.stats().retried > tried + 12)  # three an attempt
        assert sink.stats().rejected == 0
        if others_wait:
            request(sink)
            assert sink.flush(PATIENCE_S)
            until(lambda: sink.stats().written == 1)
            assert sink.stats().rejected == 1
        else:
            allow(refuse)
            until(lambda: sink.stats().written == 1)
    with storage.session():
        assert len(rows_of(UpstreamRequest, "trace_id")) == others_wait
        assert len(rows_of(Usage, "trace_id")) == 1 - others_wait


def test_a_quota_that_takes_no_costs(storage: Storage, refuse: Refuse) -> None:
    """The usages of that user are at fault, and no others."""
    users = [storage.users.create(name) for name in "abcde"]
    bad = users[2]
    for event in ("INSERT", "UPDATE"):
        refuse("user_quotas", f"NEW.user_id = {bad.id}", event)
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage(user_id=bad.id, cost=0.5)
        assert sink.flush(PATIENCE_S)
        for user in users * 3:
            sink.submit_usage(user_id=user.id, cost=0.5)
        request(sink)
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (13, 4)
    kept = rejects(storage)
    assert [found["values"]["user_id"] for found in kept] == [bad.id] * 4
    assert [found["place"] for found in kept] == [0, 2, 7, 12]
    assert "cannot be added to the user's quota" in kept[0]["reason"]
    assert quotas(storage) == [(user.id, 0.0, 1.5) for user in users if user.id != bad.id]


def test_a_usage_whose_quota_refuses_its_cost_is_rejected(storage: Storage, refuse: Refuse) -> None:
    alice = storage.users.create("alice")
    refuse("user_quotas")
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage(user_id=alice.id, cost=0.5)
        assert sink.flush(PATIENCE_S)
        sink.submit_usage(model="nobody's")
        request(sink)
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (2, 1)
    assert models(storage) == ["nobody's"]


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_constraint_that_commit_checks(storage: Storage, execute: Callable[[str], None]) -> None:
    execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.model = 'bad' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'GP001'; END IF; "
        "RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER late AFTER INSERT ON usages "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()"
    )
    try:
        with storage.sink(flush_after_s=3600) as sink:
            for model in ("good", "bad", "good"):
                sink.submit_usage(model=model)
            assert sink.flush(PATIENCE_S)
            assert (sink.stats().written, sink.stats().rejected) == (2, 1)
    finally:
        execute("DROP FUNCTION late CASCADE")
    assert models(storage) == ["good", "good"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_full_disk_is_no_rows_fault(database_dsn: str, tmp_path: Any) -> None:
    """SQLite ends the transaction, and small rows would still fit after it."""
    dsn = with_options(database_dsn, max_connections=1)
    with Storage.connect(dsn, data_dir=tmp_path / "data") as storage:

        def allow_pages(pages: int) -> None:
            with storage.session():  # the one connection
                storage.database.query(f"PRAGMA max_page_count = {pages}")

        alice = storage.users.create("alice")
        with storage.session():
            ((pages,),) = storage.database.query("PRAGMA page_count")
        allow_pages(pages + 10)
        with storage.sink(flush_after_s=3600) as sink:
            for number in range(10):
                sink.submit_usage(user_id=alice.id, cost=0.25)
                body = b"x" * (500_000 if number in (3, 4, 7) else 10)
                sink.submit_upstream_request(request_method="GET", request_body=body)
            assert sink.flush(PATIENCE_S)
            assert "SQLITE_FULL" in str(sink.stats().away)
            assert (sink.stats().written, sink.stats().spooled) == (0, 20)
            assert storage.usages.count() == storage.upstream_requests.count() == 0
            allow_pages(2**31)
            until(lambda: sink.stats().written == 20)
        assert storage.usages.count() == storage.upstream_requests.count() == 10
        assert quotas(storage) == [(alice.id, 0.0, 2.5)]
        assert rejects(storage) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_process_without_memory_is_no_rows_fault(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = storage.database.bulk_insert

    def without_memory(*_: Any) -> None:
        raise MemoryError

    with storage.sink(flush_after_s=3600) as sink:
        monkeypatch.setattr(storage.database, "bulk_insert", without_memory)
        sink.submit_usage()
        assert sink.flush(PATIENCE_S)
        assert sink.stats().spooled == 1
        monkeypatch.setattr(storage.database, "bulk_insert", insert)
        until(lambda: sink.stats().written == 1)
    assert rejects(storage) == []


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("second", ["usage", "request", "bad row"])
def test_users_are_locked_in_their_order(
    storage: Storage, server: servers.Server, second: str
) -> None:
    """As who grants permissions does; in another order the two would deadlock."""
    low, high = sorted(storage.users.create(name).id for name in "ab")
    dsn = storage.database.dsn
    rival = server.connect(dsn.database, autocommit=False)
    lock = "SELECT id FROM users WHERE id = %s FOR UPDATE"
    assert isinstance(server, servers.MySQLServer)
    waiting = (
        f"SELECT 1 FROM information_schema.innodb_trx t JOIN {server.processlist} p "
        "ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = %s"
    )
    try:
        with storage.sink(flush_rows=3, flush_after_s=3600, stall_timeout_s=PATIENCE_S) as sink:
            if second == "bad row":
                sink.submit_downstream_request(trace_id=7, request_method="G", request_path="/")
                assert sink.flush(PATIENCE_S)
            cursor = rival.cursor()
            cursor.execute(lock, (low,))
            sink.submit_usage(user_id=high)
            if second == "usage":
                sink.submit_usage(user_id=low)
            else:
                sink.submit_downstream_request(
                    trace_id=7, request_method="G", request_path="/", user_id=low
                )
            sink.submit_usage()
            # InnoDB refreshes that table only when nobody has read it for 0.1 s.
            while not server.execute(waiting, (dsn.database,)):
                time.sleep(0.2)
            cursor.execute(lock, (high,))
            rival.rollback()
            assert sink.flush(PATIENCE_S)
            found = sink.stats()
    finally:
        rival.close()
    assert found.retried == (1 if second == "bad row" else 0)
    assert found.written == 3
    assert found.rejected == (1 if second == "bad row" else 0)


def test_a_row_whose_cause_was_fixed_meanwhile_is_stored(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the row's last refusal and the probe row that shows whose fault it is."""
    alice = storage.users.create("alice")
    check_database = bisection._Run.check_database
    failing = [True]
    insert = storage.database.bulk_insert

    def bulk_insert(table: Any, rows: Any) -> None:
        if failing and any(row[-2] == 0.5 for row in rows):
            raise OSError("no")
        insert(table, rows)

    def late_check(run: Any, history: Any) -> None:
        check_database(run, history)
        failing.clear()

    monkeypatch.setattr(storage.database, "bulk_insert", bulk_insert)
    monkeypatch.setattr(bisection._Run, "check_database", late_check)
    with storage.sink(flush_after_s=3600) as sink:
        sink.submit_usage(user_id=alice.id, cost=0.5)
        assert sink.flush(PATIENCE_S)
        assert (sink.stats().written, sink.stats().rejected) == (1, 0)
    assert quotas(storage) == [(alice.id, 0.0, 0.5)]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("table", ["usages", "user_quotas"])
def test_a_refusal_that_ends_the_transaction(
    storage: Storage, execute: Callable[[str], None], table: str
) -> None:
    """SQLite rolls all of it back: what follows must not be stored outside of it."""
    users = [storage.users.create(f"user{number}").id for number in range(10)]
    bad = (users[2], users[7])
    for event in ("INSERT", "UPDATE"):
        execute(
            f"CREATE TRIGGER end_{event} BEFORE {event} ON {table} WHEN NEW.user_id IN {bad} "
            "BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
        )
    try:
        with storage.sink(flush_after_s=3600) as sink:
            sink.submit_usage(user_id=bad[0], cost=0.25)
            assert sink.flush(PATIENCE_S)
            for user in users * 3:
                sink.submit_usage(user_id=user, cost=0.25)
            assert sink.flush(PATIENCE_S)
            assert (sink.stats().written, sink.stats().rejected) == (24, 7)
    finally:
        for event in ("INSERT", "UPDATE"):
            execute(f"DROP TRIGGER end_{event}")
    assert [kept["values"]["user_id"] for kept in rejects(storage)] == [bad[0], *bad * 3]
    assert quotas(storage) == [(user, 0.0, 0.75) for user in users if user not in bad]
    with storage.session():
        assert len(rows_of(Usage, "trace_id")) == 24
