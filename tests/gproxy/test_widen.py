"""The tables that GPROXY makes on MySQL and MariaDB hold less than ours, until they are widened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.errors import InvalidValue
from gproxy_storage.schema.definitions import definitions
from gproxy_storage.schema.snapshot import Snapshot, read_snapshot
from tests import gproxy

pytestmark = pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)

COMMAND = "gproxy-storage sync --widen"


@pytest.fixture
def dsn(database_dsn: str, backend: str) -> str:
    """The DSN of GPROXY's database."""
    gproxy.restore(database_dsn, backend)
    return database_dsn


def snapshot(database: Backend) -> Snapshot:
    with session(database):
        return read_snapshot(database, definitions(database))


def test_each_start_warns_of_narrow_columns_and_keeps_them(
    dsn: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Storage.connect(dsn) as storage:
        assert storage.sync_report
        told = {str(drift) for drift in storage.sync_report.narrower}
        types = {
            column.type
            for table in snapshot(storage.database).tables.values()
            for column in table.columns.values()
        }
    assert {"varchar(255)", "varbinary(255)", "timestamp", "text"} <= types
    assert (
        "upstream_requests: request_body, response_body: varbinary(255), not LONGBLOB: more than "
        "255 bytes are refused"
    ) in told
    assert (
        "users: password: varchar(255), not LONGTEXT: text of more than 255 characters is refused"
    ) in told
    assert (
        "usages: at, created_at: timestamp, not DATETIME(6): times lose their fractions of a "
        "second; times before 1970 or after January 2038 are refused"
    ) in told
    assert "16 tables have columns that are narrower" in caplog.text
    assert COMMAND in caplog.text


def test_widened_every_row_is_equal(dsn: str, backend: str) -> None:
    expected = gproxy.expected_rows(backend)
    with Storage.connect(dsn) as storage:
        before = snapshot(storage.database)
        with pytest.raises(InvalidValue, match=COMMAND) as caught:
            storage.upstream_requests.record(request_method="GET", request_body=b"b" * 256)
        assert caught.value.argument == "request_body"
        late = datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
        usage = storage.usages.record(at=late)
        assert storage.usages.get(usage.trace_id).at == late.replace(microsecond=0)
        storage.usages.delete(usage.trace_id)
        report = storage.sync(widen=True)
        assert len(report.applied) == len(expected) == 16
        assert report.narrower == ()
        assert gproxy.read_rows(storage.database, expected) == expected
        after = snapshot(storage.database)
        for name, table in before.tables.items():
            assert after.tables[name].indexes == table.indexes
            assert after.tables[name].foreign_keys == table.foreign_keys
            assert after.tables[name].primary_key == table.primary_key
            for column, was in table.columns.items():
                there = after.tables[name].columns[column]
                assert (there.nullable, there.has_default) == (was.nullable, was.has_default)
                if was.shortfall is None:
                    assert there == was
        request = storage.upstream_requests.record(
            request_method="GET", request_body=b"b" * 100_000, request_url="u" * 100_000
        )
        found = storage.upstream_requests.get(request.trace_id, bodies=True)
        assert found.request_body == b"b" * 100_000
        assert found.at == request.at  # with its fractions
        assert storage.keys.authenticate("sk-api01-alice10") is not None
        assert storage.users.authenticate("alice-10", "pw alice") is not None
        assert not storage.sync(widen=True)
    with Storage.connect(dsn) as storage:
        assert not storage.sync_report
