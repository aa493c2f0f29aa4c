"""The dashboard over thirty days and a million usages: against the same SQL on the bare driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gproxy_storage.database import session
from gproxy_storage.repositories.dashboard import Dashboard
from tests.benchmarks import Figure, medians
from tests.benchmarks._bare import BareQueries
from tests.benchmarks._logs import SINCE, UNTIL, loaded

ROUNDS = 5
MOST = 1.3


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with loaded(dsn) as database, session(database):
        dashboard = Dashboard(database)
        calls: dict[str, Callable[[], object]] = {
            "overview by day": lambda: dashboard.overview(SINCE, UNTIL),
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
