"""Many processes that start at once: no error, and one of them does the work."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import db_from_dsn
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.sync import plan, sync
from tests.schema.test_kill import lacking
from tests.support import ONE_BACKEND, Child, opened, wipe_schema

PROCESSES = 12


def start_together(dsn: str) -> list[int]:
    """Fork processes, let them sync at the same moment; return how many steps each applied."""
    ready, gate = os.pipe()

    def run() -> str:
        os.close(gate)
        os.read(ready, 1)  # ends when the parent opens the gate by closing it
        database = db_from_dsn(dsn)
        try:
            return str(len(sync(database).applied))
        finally:
            database.close_all()

    children = [Child(run) for _ in range(PROCESSES)]
    os.close(ready)
    os.close(gate)
    return [int(child.check()) for child in children]


def rounds(dsn: str, prepare: Callable[[Backend], None], count: int) -> None:
    for _ in range(count):
        with opened(dsn) as database:
            prepare(database)
            steps = len(plan(database).steps)
        assert steps
        applied = start_together(dsn)
        assert sorted(applied) == [0] * (PROCESSES - 1) + [steps]
        with opened(dsn) as database:
            assert {one.level for one in plan(database).drift} <= {Level.EXTRA}


@ONE_BACKEND
def test_concurrent_syncs_of_an_empty_database(database_dsn: str) -> None:
    rounds(database_dsn, wipe_schema, 1)


@ONE_BACKEND
def test_concurrent_syncs_of_an_incomplete_database(database_dsn: str) -> None:
    rounds(database_dsn, lacking, 1)


@pytest.mark.slow
def test_concurrent_syncs_of_an_empty_database_thirty_times(database_dsn: str) -> None:
    rounds(database_dsn, wipe_schema, 30)


@pytest.mark.slow
def test_concurrent_syncs_of_an_incomplete_database_thirty_times(database_dsn: str) -> None:
    rounds(database_dsn, lacking, 30)
