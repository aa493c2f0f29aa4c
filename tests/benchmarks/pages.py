"""Pages of a million usages: the last one against the first, of all rows and of one user's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.models import Usage
from gproxy_storage.repositories.pages import PAGE_ROWS, Position
from gproxy_storage.repositories.usages import UsageFilters, Usages
from tests.benchmarks import Figure, medians
from tests.benchmarks._logs import USAGES, loaded

ROUNDS = 50
MOST = 1.5


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with loaded(dsn) as database, session(database):
        usages = Usages(database)
        user_id = usages.list(limit=1)[0].user_id
        questions: dict[str, UsageFilters] = {"all": {}, "one user's": {"user_id": user_id}}
        for whose, filters in questions.items():
            cursor = last_cursor(database, usages, filters)
            taken = medians(
                {
                    "first": lambda: usages.list(**filters),  # noqa: B023 - called at once
                    "last": lambda: usages.list(cursor=cursor, **filters),  # noqa: B023 - called at once
                },
                ROUNDS,
            )
            yield Figure(
                backend,
                f"last page of {whose}, {USAGES:,} usages",
                "first page",
                taken["last"],
                taken["first"],
                MOST,
            )


def last_cursor(database: Backend, usages: Usages, filters: UsageFilters) -> str:
    """Return the cursor after which exactly one whole page is left."""
    oldest: Any = usages._select(**filters).order_by(Usage.at, Usage.trace_id)
    row = oldest.select(Usage.at.coerce(False), Usage.trace_id).offset(PAGE_ROWS).tuples().first()
    cursor = Position(database.time_to_key(row[0]), row[1]).to_cursor()
    page = usages.list(cursor=cursor, **filters)
    if len(page) != PAGE_ROWS or page.next_cursor is not None:
        raise AssertionError(f"the last page has {len(page)} rows, next {page.next_cursor}")
    return cursor
