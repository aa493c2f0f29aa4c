"""A database of GPROXY's before its ledger: its steps are done here, as GPROXY does them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.database import session
from gproxy_storage.errors import SyncFailed
from gproxy_storage.key_management.gproxy import LEDGER, STEPS
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.sync import plan, sync
from tests import gproxy, leaks
from tests.cases import for_each
from tests.gproxy import old
from tests.schema.test_kill import boundaries, killed_at
from tests.schema.test_together import start_together
from tests.support import SOME_BACKENDS, assert_query_count, opened, run_script, wipe_schema

SECRET = "canary/secret+é of an old GPROXY"
leaks.register(SECRET)

STRIPPED = {2, 3}
"""The providers that have rules with realtime operations; three others look alike."""

WHOLE = [pytest.param(name, 1, marks=pytest.mark.slow) for name in ("mysql", "mariadb", "postgres")]


@pytest.fixture
def dsn(database_dsn: str, backend: str) -> str:
    """The DSN of the old database."""
    old.restore(database_dsn, backend)
    return database_dsn


def query(database: Backend, sql: str) -> list[tuple[Any, ...]]:
    with session(database):
        return database.query(sql)


def assert_taken(database: Backend) -> None:
    """All steps are done and written down, and every row is as after GPROXY's own."""
    with Storage.connect(database.dsn, sync=False) as storage:
        expected = old.rows_after()
        assert gproxy.read_rows(storage.database, expected) == expected
    assert query(database, "SELECT alias_of FROM models ORDER BY id") == [(None,), (1,)]
    versions = query(database, f"SELECT version FROM {LEDGER}")
    assert sorted(versions) == sorted((step,) for step in STEPS)


def test_its_rows_are_those_after_gproxys_steps(dsn: str) -> None:
    with opened(dsn) as database:
        found = plan(database)
        assert not found.incompatible
        assert sync(database).applied
        assert_taken(database)
        with assert_query_count(database, 3) as statements:
            assert not sync(database)
        assert not statements.locks
        left = {one.level for one in plan(database).drift}
        assert not left & {Level.MISSING, Level.INCOMPATIBLE}


def test_routing_without_such_rules_stays_as_it_was(dsn: str, backend: str) -> None:
    before = old.routing_texts()
    with opened(dsn) as database:
        sync(database)
        routing = f"CAST(routing_json AS {database.json_text})"
        texts = query(database, f"SELECT id, {routing} FROM providers")
    for provider, text in texts:
        if backend == "mysql":  # which keeps the value, not the text
            assert provider in STRIPPED or json.loads(text) == json.loads(before[provider])
        else:
            assert (text == before[provider]) == (provider not in STRIPPED)


def test_a_dry_run_shows_the_steps_and_takes_none(dsn: str) -> None:
    with Storage.connect(dsn, sync=False) as storage:
        shown = [step.sql for step in storage.plan().steps]
    rename, *_, strip, rows = shown
    assert "RENAME COLUMN dispatch_json TO routing_json" in rename
    assert strip == "UPDATE providers SET routing_json = ? WHERE id = ?"
    assert rows.startswith(f"INSERT INTO {LEDGER} ")
    assert all(step in rows for step in STEPS)
    with opened(dsn) as database:
        assert [step.sql for step in plan(database).steps] == shown
        assert [step.sql for step in sync(database).applied] == shown


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_database_that_may_only_be_read_is_left_alone(dsn: str) -> None:
    with opened(dsn) as database:
        before = query(database, "SELECT sql FROM sqlite_schema")
        run_script(database, "PRAGMA journal_mode = delete")
    with opened(f"{dsn.partition('?')[0]}?mode=ro") as database:
        assert plan(database).steps
        with pytest.raises(SyncFailed, match="sync it once with a user"):
            sync(database)
        assert query(database, "SELECT sql FROM sqlite_schema") == before
        assert len(query(database, "SELECT * FROM providers")) == len(old.routing_texts())


@for_each("missing", STEPS)
def test_one_missing_row_is_written(database_dsn: str, missing: str) -> None:
    with Storage.connect(database_dsn) as storage:
        storage.providers.delete_all()
        routing = {"rules": [{"route": {"operation": "realtime_call_refer"}}, 1], "é": [1.5]}
        storage.providers.create("a", channel="c", routing=routing)
        run_script(storage.database, f"DELETE FROM {LEDGER} WHERE version = '{missing}'")
        found = storage.plan()
        assert f"{LEDGER}: the rows {missing}" in map(str, found.drift)
        assert storage.sync()
        assert len(query(storage.database, f"SELECT version FROM {LEDGER}")) == len(STEPS)
        assert not storage.sync()
        (provider,) = storage.providers.list()
        stripped = {"rules": [1], "é": [1.5]}
        assert provider.routing_json == (stripped if "strip" in missing else routing)


def test_rows_of_later_versions_stay(database_dsn: str) -> None:
    with opened(database_dsn) as database:
        sync(database)
        run_script(database, f"INSERT INTO {LEDGER} VALUES ('m20270101_000001_later', 1)")
        assert not sync(database)
        assert len(query(database, f"SELECT version FROM {LEDGER}")) == len(STEPS) + 1


@pytest.mark.parametrize(("backend", "every"), [("mysql", 5), *WHOLE], indirect=["backend"])
def test_killed_at_boundaries(database_dsn: str, backend: str, every: int) -> None:
    """Also between a step and the row that says it is done."""

    def prepare(database: Backend) -> None:
        wipe_schema(database)
        old.restore(database_dsn, backend)

    count = boundaries(database_dsn, prepare, widen=False)
    for boundary in sorted({*range(0, count, every), count - 1}):
        with opened(database_dsn) as database:
            prepare(database)
        killed_at(database_dsn, boundary, widen=False)
        with opened(database_dsn) as database:
            sync(database)
            assert_taken(database)


@SOME_BACKENDS
def test_twelve_processes_take_the_steps_once(dsn: str) -> None:
    with opened(dsn) as database:
        steps = len(plan(database).steps)
    applied = start_together(dsn)
    assert sorted(applied) == [0] * (len(applied) - 1) + [steps]
    with opened(dsn) as database:
        assert_taken(database)


# -- whose database it is -----------------------------------------------------------------------


def in_use(database: Backend) -> None:
    """What GPROXY's start leaves on a database that this package made."""
    run_script(database, "CREATE INDEX idx_providers_channel ON providers (channel)")


def dated(database: Backend) -> None:
    """GPROXY has taken its steps itself."""
    run_script(database, f"UPDATE {LEDGER} SET applied_at = 1795759895")


def later(database: Backend) -> None:
    """A later GPROXY has taken further steps."""
    run_script(database, f"INSERT INTO {LEDGER} VALUES ('m20270101_000001_later', 1)")


@pytest.mark.parametrize("sign", [in_use, dated, later])
def test_a_database_that_gproxy_uses_gets_its_format(
    database_dsn: str, sign: Callable[[Backend], None]
) -> None:
    with opened(database_dsn) as database:
        sync(database)
        sign(database)
    with Storage.connect(database_dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.V2


@pytest.mark.parametrize("synced_before", [False, True])
def test_our_own_database_gets_our_format(database_dsn: str, synced_before: bool) -> None:
    if synced_before:
        with Storage.connect(database_dsn) as storage:
            storage.providers.create("a", channel="c")
    with Storage.connect(database_dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.ENCRYPTED


def test_an_old_database_gets_gproxys_format(dsn: str, backend: str) -> None:
    if backend != "sqlite":  # the others have our own names for its indexes
        with opened(dsn) as database:
            in_use(database)
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.V2


def test_gproxys_database_gets_its_format(database_dsn: str, backend: str) -> None:
    gproxy.restore(database_dsn, backend)
    with Storage.connect(database_dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.V2
        assert storage.users.authenticate("alice-10", "pw alice")
