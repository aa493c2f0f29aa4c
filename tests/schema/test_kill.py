"""kill -9 between any two steps: all or nothing, or a state that the next sync completes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.schema.definitions import definitions
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.snapshot import Snapshot, read_snapshot
from gproxy_storage.schema.sync import plan, sync
from tests.support import (
    ONE_BACKEND,
    PATIENCE_S,
    Child,
    assert_query_count,
    opened,
    run_script,
    wipe_schema,
)


def snapshot(database: Backend) -> Snapshot:
    with session(database):
        return read_snapshot(database, definitions(database))


def boundaries(dsn: str, prepare: Callable[[Backend], None], *, widen: bool) -> int:
    """Count the step boundaries of a sync of what `prepare` leaves."""
    names: list[str] = []
    with opened(dsn) as database:
        prepare(database)
        sync(database, widen=widen, hook=names.append)
    assert names[0] == "locked"
    assert names[-1] == "before commit"
    return len(names)


def killed_at(dsn: str, boundary: int, *, widen: bool) -> None:
    """Sync in a child that is killed at a boundary."""

    def run() -> str:
        left = boundary

        def hook(name: str) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        with opened(dsn) as database:
            sync(database, widen=widen, hook=hook)
        return "came to the end"

    child = Child(run)
    assert child.result() == ""
    assert child.exit_code == -signal.SIGKILL


def kill_at_every_boundary(
    dsn: str, prepare: Callable[[Backend], None], *, every: int = 1, widen: bool = False
) -> None:
    """Kill a sync at each boundary, or at each `every`th and the last, and look what is left."""
    count = boundaries(dsn, prepare, widen=widen)
    for boundary in sorted({*range(0, count, every), count - 1}):
        with opened(dsn) as database:
            prepare(database)
            before = snapshot(database)
        killed_at(dsn, boundary, widen=widen)
        with opened(dsn) as database:
            after = snapshot(database)
            if database.transactional_ddl:
                assert after == before, f"killed at boundary {boundary}"
            else:
                assert not plan(database).incompatible
                steps = len(plan(database, widen=widen).steps)
                assert steps == max(0, count - 2 - boundary), f"killed at boundary {boundary}"
            sync(database, widen=widen, lock_timeout_s=PATIENCE_S)
            assert {one.level for one in plan(database).drift} <= {Level.EXTRA}
            with assert_query_count(database, 3) as statements:
                assert not sync(database, widen=widen)
            assert not statements.locks


def lacking(database: Backend) -> None:
    """A synced schema that lacks a table, a column and an index."""
    sync(database)
    on = " ON providers" if database.name in ("mysql", "mariadb") else ""
    run_script(
        database,
        [
            "DROP TABLE user_quotas",
            "ALTER TABLE users DROP COLUMN password",
            f"DROP INDEX ix_providers_channel{on}",
        ],
    )


@ONE_BACKEND
def test_killed_while_it_adds_what_is_missing(database_dsn: str) -> None:
    kill_at_every_boundary(database_dsn, lacking)


@ONE_BACKEND
def test_killed_while_it_makes_the_schema(database_dsn: str) -> None:
    kill_at_every_boundary(database_dsn, wipe_schema, every=11)


@pytest.mark.slow
def test_killed_at_every_boundary_of_an_empty_database(database_dsn: str) -> None:
    kill_at_every_boundary(database_dsn, wipe_schema)


@pytest.mark.slow
def test_killed_after_a_rename(database_dsn: str) -> None:
    def older(database: Backend) -> None:
        lacking(database)
        run_script(database, "ALTER TABLE providers RENAME COLUMN routing_json TO dispatch_json")

    kill_at_every_boundary(database_dsn, older)
