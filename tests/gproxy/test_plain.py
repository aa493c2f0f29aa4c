"""A database that GPROXY created: its rows, its logins, writing rows next to its own."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gproxy_storage import Storage
from gproxy_storage.schema.sync import sync
from tests import gproxy
from tests.contract.support import PASSWORD, write_each_aggregate
from tests.support import assert_query_count, opened


@pytest.fixture
def dsn(database_dsn: str, backend: str) -> str:
    """The DSN of GPROXY's database."""
    gproxy.restore(database_dsn, backend)
    return database_dsn


def test_every_row_is_read_as_gproxy_reads_it(dsn: str, backend: str) -> None:
    expected = gproxy.expected_rows(backend)
    with Storage.connect(dsn) as storage:
        found = gproxy.read_rows(storage.database, expected)
        assert found == expected
        counts = storage.row_counts()
        assert {table: counts[table] for table in expected} == {
            table: len(rows) for table, rows in expected.items()
        }


def test_a_second_sync_is_a_no_op(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        assert storage.sync_report
    with opened(dsn) as database, assert_query_count(database, 3) as statements:
        assert not sync(database)
    assert not statements.locks


def test_gproxys_users_log_in(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        key = storage.keys.authenticate("sk-api01-alice10")
        assert key is not None
        assert key.user.name == "alice-10"
        for refused in ("sk-api01-disabled10", "sk-api01-off10", "sk-api01-nobody10"):
            assert storage.keys.authenticate(refused) is None
        alice = storage.users.authenticate("alice-10", "pw alice")
        assert alice is not None
        assert alice.id == key.user_id
        for name, password in (
            ("alice-10", "pw off"),
            ("off-10", "pw off"),
            ("empty-10", ""),
            ("empty-10", "pw alice"),
            ("nopw-10", ""),
        ):
            assert storage.users.authenticate(name, password) is None


def test_rows_are_added_to_those_of_gproxy(dsn: str, backend: str) -> None:
    """GPROXY chose the keys of its rows, and on PostgreSQL told the sequences nothing."""
    expected = gproxy.expected_rows(backend)
    with Storage.connect(dsn) as storage:
        alice = storage.users.find(name="alice-10")
        assert alice is not None
        used = storage.quotas.get(alice).cost_used
        user, _, plaintext = write_each_aggregate(storage)
        storage.usages.record(user_id=user.id, cost=0.25)
        storage.upstream_requests.record(request_method="GET", request_body=b"1")
        with storage.sink() as sink:
            sink.submit_usage(user_id=alice.id, cost=0.5)
            sink.submit_upstream_request(request_method="GET")
        with storage.batch() as batch:
            batch.users.create("another")
            batch.providers.upsert("new", channel="d")
        assert storage.quotas.get(alice).cost_used == used + Decimal("0.5")
        found = storage.keys.authenticate(plaintext)
        assert found is not None
        assert found.user.id == user.id
        assert storage.users.authenticate("new", PASSWORD) is not None
        after = gproxy.read_rows(storage.database, expected)
    for table, rows in expected.items():
        if table == "user_quotas":
            continue  # checked above
        kept = [row for row in after[table] if row in rows]
        assert kept == rows, table
    written = {table: len(after[table]) - len(rows) for table, rows in expected.items()}
    once = dict.fromkeys(expected, 1)
    assert written == once | {
        "global_settings": 0,
        "downstream_requests": 0,
        "usages": 2,
        "upstream_requests": 2,
        "users": 2,
    }
