"""Processes that gevent has patched: what they store is the same, and who blocks is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.models import DownstreamRequest, Table, UpstreamRequest, Usage
from tests import servers
from tests.contract.support import quotas, rows_of
from tests.processes import run_python

only_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)
only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)

PATCHED = "import gevent.monkey; gevent.monkey.patch_all()\n"
GREEN = f"{PATCHED}from psycogreen.gevent import patch_psycopg; patch_psycopg()\n"
SUBMIT = """
import os, random
from datetime import UTC, datetime, timedelta
from gproxy_storage import Storage
AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
TEXTS = ["", "a\\tb\\\\N\\n\\\\.\\r'\\"%s %", "\\\\N", "modèle 🦊", None, "\\\\x00", "NULL"]
BODIES = [None, b"", bytes(range(256)), b"\\\\N\\t\\n%s'"]
COSTS = [0.1, 0.0, 5e-324, 1e-9, 123456.789012345, 1 / 3]
with Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"]) as storage:
    user = storage.users.find(name="alice") or storage.users.create("alice")
    first = storage.downstream_requests.count()
    with storage.sink(flush_rows=400, redact=False) as sink:
        for n in range(300):
            text, body = TEXTS[n % 7], BODIES[n % 4]
            sink.submit_usage(
                user_id=user.id if n % 2 else None, model=text, cost=COSTS[n % 6],
                at=AT + timedelta(microseconds=n), downstream_trace_id=(-1) ** n * 2**62,
                input_tokens=n if n % 3 else None, output_tokens=2**62,
            )
            sink.submit_upstream_request(
                request_method="POST", request_url=text, request_headers={"a\\\\": [text, 1e22]},
                request_body=body, internal=bool(n % 2), at=AT, total_latency_ms=n,
            )
            sink.submit_downstream_request(
                trace_id=first + n + 1, request_method="GET", request_path=text or "/",
                response_body=body, response_status=-n, at=AT,
            )
        assert sink.flush(60)
        assert sink.stats().spooled == sink.stats().rejected == 0, sink.stats()
"""
LOOKS = f"""{GREEN}
import os, gevent
from gproxy_storage import Storage
with Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"]) as storage:
    seen = []
    other = gevent.spawn(seen.append, 1)
    with storage.session():
        storage.database.query("SELECT pg_sleep(0.05)")
    print(seen)
"""


def run(program: str, dsn: str, tmp_path: Path) -> str:
    pytest.importorskip("psycogreen")
    settings = {"DSN": dsn, "DATA_DIR": str(tmp_path / "data"), "PYTHONWARNINGS": "default"}
    done = run_python("-c", program, settings=settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@only_postgres
def test_rows_are_what_copy_stores(synced_dsn: str, tmp_path: Path) -> None:
    run(SUBMIT, synced_dsn, tmp_path)
    with Storage.connect(synced_dsn) as storage:
        copied, cost = stored(storage), quotas(storage)
    said = run(GREEN + SUBMIT, synced_dsn, tmp_path)
    assert "blocks all of them" not in said
    with Storage.connect(synced_dsn) as storage:
        both = stored(storage)
        assert quotas(storage)[0][2] == pytest.approx(2 * cost[0][2])
    for before, rows in zip(copied, both, strict=True):
        assert len(before) == 300
        assert rows == before * 2


def stored(storage: Storage) -> list[list[tuple[object, ...]]]:
    """Return all rows of the logs without their ids and when they were made, in their order."""
    models: tuple[type[Table], ...] = (Usage, UpstreamRequest, DownstreamRequest)
    with storage.session():
        return [
            rows_of(
                model,
                *(
                    field.name
                    for field in model._meta.sorted_fields
                    if field.name not in ("trace_id", "created_at")
                ),
            )
            for model in models
        ]


@only_postgres
def test_a_query_blocks_no_other_green_thread(synced_dsn: str, tmp_path: Path) -> None:
    assert "[1]" in run(LOOKS, synced_dsn, tmp_path)


@only_servers
def test_blocking_queries_cause_one_warning(synced_dsn: str, tmp_path: Path, backend: str) -> None:
    """psycopg2 without psycogreen; PyMySQL needs nothing."""
    said = run(PATCHED + SUBMIT + SUBMIT, synced_dsn, tmp_path)
    assert said.count("uses green threads of gevent") == (1 if backend == "postgres" else 0)
    assert said.count("install psycogreen") == (1 if backend == "postgres" else 0)
    with Storage.connect(synced_dsn) as storage:
        assert storage.usages.count() == 600


EVENTLET = """
import sys, types
patcher = types.ModuleType("eventlet.patcher")
patcher.is_monkey_patched = "socket".__eq__
sys.modules["eventlet.patcher"] = patcher
"""


@only_postgres
def test_eventlet(synced_dsn: str, tmp_path: Path) -> None:
    said = run(EVENTLET + SUBMIT, synced_dsn, tmp_path)
    assert "uses green threads of eventlet" in said
    assert "eventlet.monkey_patch() for psycopg" in said
