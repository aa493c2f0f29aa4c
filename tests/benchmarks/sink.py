"""The sink against its rivals: the bare driver, SQLAlchemy, Peewee, `usages.record` in a loop.

The same usages of 100 users into the same tables, with their foreign keys and indexes. Only the
sink and `record` add up quotas; only the sink numbers its batches. The sink's time is from the
first submit until flush returns. SQLAlchemy's insert is that of its Core, of many rows at once;
Peewee's is insert_many.
"""

from __future__ import annotations

import gc
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy

from gproxy_storage import Storage
from gproxy_storage.log_rows import USAGES
from gproxy_storage.models import Usage
from gproxy_storage.sink.sink import Sink
from tests.benchmarks import Figure, medians
from tests.processes import run_python

BATCHES = (100, 1000)
ROWS = 10_000
RECORDED = 200
ROUNDS = 7
USERS = 100
MEMORY_ROWS = {"sqlite": 1_000_000}  # elsewhere fewer: what is measured is our process
MEMORY_ROWS_OF_SERVERS = 100_000

# The goals, as rates: at least so many times the other's.
OF_INSERT_MANY = {
    "sqlite": (1.6, 2.3),
    "postgres": (1.5, 2.4),
    "mysql": (1.0, 1.5),
    "mariadb": (1.0, 1.5),
}
OF_DRIVER = {
    "sqlite": (0.75, 0.8),
    "postgres": (0.75, 0.9),
    "mysql": (0.45, 0.65),
    "mariadb": (0.45, 0.65),
}
MOST_US = {"usage": 8.0, "usage with its time": 8.0, "request": 30.0}

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with tempfile.TemporaryDirectory() as directory:
        with Storage.connect(dsn, data_dir=directory) as storage:
            users = [storage.users.create(f"user{number}").id for number in range(USERS)]
            for place, batch in enumerate(BATCHES):
                yield from _rates(backend, storage, users, batch, place)
            if backend == "sqlite":
                yield from _submitting(storage)
        yield _memory(backend, dsn, Path(directory))


# -- rates --------------------------------------------------------------------------------------


def _rates(
    backend: str, storage: Storage, users: list[int], batch: int, place: int
) -> Iterator[Figure]:
    rows = [_usage(users, number) for number in range(ROWS)]
    driver, core = _Driver(storage), _Core(storage)
    with storage.sink(flush_rows=batch) as sink:
        contenders: dict[str, Callable[[], object]] = {
            "sink": partial(_submit_all, sink, rows),
            "insert_many": partial(_insert_many, storage, rows, batch),
            driver.best: partial(driver.insert, rows, batch),
            "SQLAlchemy": partial(core.insert, rows, batch),
            "record": partial(_record, storage, rows[:RECORDED]),
        }
        taken = medians(contenders, ROUNDS)
    driver.close()
    core.close()
    taken["record"] *= ROWS / RECORDED
    goals = {
        "insert_many": OF_INSERT_MANY[backend][place],
        driver.best: OF_DRIVER[backend][place],
    }
    for name in ("record", "insert_many", "SQLAlchemy", driver.best):
        most = 1 / goals[name] if name in goals else None
        subject = f"sink, {batch} a flush"
        yield Figure(backend, subject, name, taken["sink"], taken[name], most, ROWS)


def _usage(users: list[int], number: int) -> dict[str, Any]:
    return {
        "user_id": users[number % len(users)],
        "operation": "generate",
        "protocol": "openai",
        "model": "gpt-4.1-mini",
        "input_tokens": number,
        "output_tokens": 345,
        "cache_read_input_tokens": 0,
        "cost": 0.25,
        "at": NOW,
    }


def _submit_all(sink: Sink, rows: list[dict[str, Any]]) -> None:
    submit = sink.submit_usage
    for row in rows:
        submit(**row)
    assert sink.flush(60)


def _insert_many(storage: Storage, rows: list[dict[str, Any]], batch: int) -> None:
    for part in _parts(rows, batch):
        named = [{**row, "created_at": NOW} for row in part]
        with storage.transaction():
            Usage.insert_many(named).execute()


def _record(storage: Storage, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        storage.usages.record(**row)


class _Driver:
    """The driver's fastest insert on a connection of its own, a transaction a batch."""

    def __init__(self, storage: Storage) -> None:
        self._database = storage.database
        self._connection = storage.database.open_connection()
        self.best = "COPY" if storage.database.name == "postgres" else "executemany"
        row = ", ".join([self._database.param] * len(USAGES.bulk.columns))
        self._sql = f"INSERT INTO {USAGES.bulk.into} VALUES ({row})"

    def insert(self, rows: list[dict[str, Any]], batch: int) -> None:
        at = self._database.time_to_db(NOW)
        for part in _parts(rows, batch):
            values = [self._values(row, at) for row in part]
            cursor = self._connection.cursor()
            cursor.execute("BEGIN")
            if self.best == "COPY":
                lines = ["\t".join(r"\N" if v is None else str(v) for v in row) for row in values]
                text = io.StringIO("\n".join(lines) + "\n")
                cursor.copy_expert(f"COPY {USAGES.bulk.into} FROM STDIN", text)
            else:
                cursor.executemany(self._sql, values)
            cursor.execute("COMMIT")
            cursor.close()

    @staticmethod
    def _values(row: dict[str, Any], at: Any) -> list[Any]:
        given = {**row, "at": at, "created_at": at}
        return [given.get(column) for column in USAGES.bulk.columns]

    def close(self) -> None:
        self._connection.close()


class _Core:
    """SQLAlchemy's engine on a connection with the settings of ours, a transaction a batch."""

    def __init__(self, storage: Storage) -> None:
        database = storage.database
        dialect = {"sqlite": "sqlite", "postgres": "postgresql+psycopg2"}
        self._at = database.time_to_db(NOW)
        self._insert = sqlalchemy.insert(
            sqlalchemy.table("usages", *map(sqlalchemy.column, USAGES.bulk.columns))
        )
        self._engine = sqlalchemy.create_engine(
            f"{dialect.get(database.name, 'mysql+pymysql')}://",
            creator=database.open_connection,
            poolclass=sqlalchemy.StaticPool,
        )

    def insert(self, rows: list[dict[str, Any]], batch: int) -> None:
        with self._engine.connect() as connection:
            for part in _parts(rows, batch):
                values = [{**row, "at": self._at, "created_at": self._at} for row in part]
                # Our connections are in autocommit mode.
                connection.exec_driver_sql("BEGIN")
                connection.execute(self._insert, values)
                connection.exec_driver_sql("COMMIT")

    def close(self) -> None:
        self._engine.dispose()


def _parts(rows: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    found = iter(rows)
    while part := list(islice(found, size)):
        yield part


# -- submitting ---------------------------------------------------------------------------------


def _submitting(storage: Storage) -> Iterator[Figure]:
    """What a submit takes its caller, in a loop, the writer at rest."""
    headers = {f"x-header-{number}": "value " * 10 for number in range(13)}
    with storage.sink(
        flush_rows=100_000, flush_after_s=3600, max_queue_rows=100_000, max_queue_bytes=2**40
    ) as sink:
        usage = partial(
            sink.submit_usage,
            user_id=None,
            model="gpt-4.1-mini",
            input_tokens=12,
            output_tokens=345,
            cost=0.25,
        )
        request = partial(
            sink.submit_upstream_request,
            request_method="POST",
            request_url="https://api.openai.com/v1/responses",
            request_headers=headers,
            request_body=b"x" * 1024,
            response_status=200,
            response_headers={},
            total_latency_ms=840,
        )
        with_time = partial(usage, at=NOW)
        for name, submit in (
            ("usage", usage),
            ("usage with its time", with_time),
            ("request", request),
        ):
            taken = _median_of_calls(submit)
            goal = MOST_US[name] / 1e6
            yield Figure("any", f"submit a {name}", "the goal", taken, goal, 1.0)


def _median_of_calls(call: Callable[[], object], calls: int = 20_000) -> float:
    times = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(calls):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    finally:
        gc.enable()
    return statistics.median(times)


# -- memory -------------------------------------------------------------------------------------

_MANY_ROWS = """
import sys
from pathlib import Path
from gproxy_storage import Storage
with Storage.connect(sys.argv[1], data_dir=sys.argv[2]) as storage:
    def peak():
        (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
        return int(line.split()[1]) * 1024
    with storage.sink(flush_rows=1000, max_queue_rows=10_000) as sink:
        submit = sink.submit_usage
        for number in range(20_000):
            submit(model="gpt-4.1-mini", input_tokens=number, cost=0.25)
        assert sink.flush(600)
        before = peak()
        for number in range(int(sys.argv[3])):
            submit(model="gpt-4.1-mini", input_tokens=number, cost=0.25)
        assert sink.flush(600)
    print(before, peak())
"""


def _memory(backend: str, dsn: str, directory: Path) -> Figure:
    """Peak memory after a million rows, against that after the first twenty thousand."""
    rows = MEMORY_ROWS.get(backend, MEMORY_ROWS_OF_SERVERS)
    done = run_python("-c", _MANY_ROWS, dsn, directory, str(rows), cwd=directory)
    if done.returncode:
        sys.exit(done.stderr)
    before, after = map(int, done.stdout.split())
    subject = f"peak memory, {rows:,} rows"
    return Figure(backend, subject, "20,000 rows", after, before, 1.25, memory=True)
