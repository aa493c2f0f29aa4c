"""A sync with nothing to do: against its own three queries on a bare connection, and a diff."""

from __future__ import annotations

from collections.abc import Iterator

from playhouse.schema_diff import diff_models

from gproxy_storage.database import session
from gproxy_storage.models import TABLES
from gproxy_storage.schema.sync import sync
from tests.benchmarks import Figure, medians
from tests.benchmarks._bare import BareQueries
from tests.support import opened

ROUNDS = 100

# The servers answer in milliseconds, SQLite in a fraction of one: there Python weighs more.
MOST_OF_BARE = {"sqlite": 5.0, "postgres": 2.0, "mysql": 2.0, "mariadb": 2.0}
MOST_OF_DIFF = {"postgres": 0.1}


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with opened(dsn) as database:
        sync(database)
        with (
            database.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False),
            session(database),
            BareQueries(database, lambda: sync(database)) as bare,
        ):
            taken = medians(
                {
                    "sync": lambda: sync(database),
                    "bare": bare,
                    "diff": lambda: diff_models(database, TABLES),
                },
                ROUNDS,
            )
    subject = "no-op sync"
    yield Figure(
        backend, subject, "bare queries", taken["sync"], taken["bare"], MOST_OF_BARE[backend]
    )
    yield Figure(
        backend, subject, "diff_models", taken["sync"], taken["diff"], MOST_OF_DIFF.get(backend)
    )
