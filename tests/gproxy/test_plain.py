"""A database that GPROXY made: its rows, its logins, writing beside it."""

from __future__ import annotations

import pytest

from gproxy_storage import Storage
from gproxy_storage.schema.sync import sync
from tests import gproxy
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


def test_logins(dsn: str) -> None:
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
