"""A sync with nothing to do: against its own three queries on a bare connection, and a diff."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peewee
from playhouse.schema_diff import diff_models

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.models import TABLES
from gproxy_storage.schema.sync import sync
from tests.benchmarks import Figure, medians
from tests.support import opened

ROUNDS = 100

# The servers answer in milliseconds, SQLite in a fraction of one: there Python weighs more.
MOST_OF_BARE = {"sqlite": 5.0, "postgres": 2.0, "mysql": 2.0, "mariadb": 2.0}
MOST_OF_DIFF = {"postgres": 0.1}


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with opened(dsn) as database:
        sync(database)
        with database.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False), session(database):
            bare = _BareQueries(database)
            taken = medians(
                {
                    "sync": lambda: sync(database),
                    "bare": bare,
                    "diff": lambda: diff_models(database, TABLES),
                },
                ROUNDS,
            )
            bare.close()
    subject = "no-op sync"
    yield Figure(
        backend, subject, "bare queries", taken["sync"], taken["bare"], MOST_OF_BARE[backend]
    )
    yield Figure(
        backend, subject, "diff_models", taken["sync"], taken["diff"], MOST_OF_DIFF.get(backend)
    )


class _BareQueries:
    """The statements of a sync with nothing to do, on a connection of the driver."""

    def __init__(self, database: Backend) -> None:
        self._statements: list[tuple[str, Any]] = []

        def hook(event: peewee.QueryEvent) -> None:
            self._statements.append((event.sql, event.params))

        database.query_hooks.append(hook)
        sync(database)
        database.query_hooks.remove(hook)
        self._connection = database.open_connection()

    def __call__(self) -> None:
        for sql, parameters in self._statements:
            cursor = self._connection.cursor()
            cursor.execute(sql, parameters)
            cursor.fetchall()
            cursor.close()

    def close(self) -> None:
        self._connection.close()
