"""The dashboard over thirty days and a million usages: against the same SQL on the bare driver.

The overview by day, too, against the driver's sums over a range of the index on time for each day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.models import UpstreamRequest, Usage
from gproxy_storage.repositories.dashboard import Dashboard, logged_sums, used_sums
from tests.benchmarks import Figure, medians
from tests.benchmarks._bare import BareQueries
from tests.benchmarks._logs import DAYS, SINCE, UNTIL, loaded

ROUNDS = 5
MOST = 1.3
MOST_OF_RANGES = {"sqlite": 1.1}
"""No goal where GROUP BY is used: it is fast there."""

DAY = "overview by day"


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with loaded(dsn) as database, session(database):
        dashboard = Dashboard(database)
        calls: dict[str, Callable[[], object]] = {
            DAY: lambda: dashboard.overview(SINCE, UNTIL),
            "overview by hour, filled": lambda: dashboard.overview(
                SINCE, UNTIL, bucket_s=3600, fill=True
            ),
            "top providers": lambda: dashboard.top_providers(SINCE, UNTIL),
            "top models": lambda: dashboard.top_models(SINCE, UNTIL),
        }
        for subject, call in calls.items():
            with BareQueries(database, call) as bare:
                taken = medians({"ours": call, "bare": bare}, ROUNDS)
            yield Figure(backend, subject, "bare queries", taken["ours"], taken["bare"], MOST)
        with BareQueries(database, lambda: _sum_ranges(database)) as ranges:
            taken = medians({"ours": calls[DAY], "ranges": ranges}, ROUNDS)
        most = MOST_OF_RANGES.get(backend)
        yield Figure(backend, DAY, "range sums", taken["ours"], taken["ranges"], most)


def _sum_ranges(database: Backend) -> None:
    """Read what the overview by day does, with a statement for each day of each log."""
    external = UpstreamRequest.select().where(UpstreamRequest.internal == False)  # noqa: E712 - SQL
    logs: tuple[tuple[Any, Any], ...] = (
        (Usage.select(), used_sums(database)),
        (external, logged_sums()),
    )
    for rows, sums in logs:
        at = rows.model.at
        for number in range(DAYS):
            day = SINCE + timedelta(days=number)
            within = (at >= day) & (at < day + timedelta(days=1))
            list(rows.select(*sums).where(within).tuples())
