"""Ten processes that start at once on an empty database all come up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.models import TABLES
from tests import leaks, servers
from tests.processes import Program, start_python
from tests.support import PATIENCE_S, SOME_BACKENDS

PROCESSES = 10

# Each line that it reads is a DSN to open. Reading the first one is where all wait for each other.
PROGRAM = """
import logging, os, sys
from gproxy_storage import Storage

logging.getLogger("gproxy_storage").addHandler(logging.NullHandler())
print("ready", flush=True)
for line in sys.stdin:
    with Storage.connect(line.strip()) as storage:
        storage.users.create(f"process {os.getpid()}")
        print(storage.users.count() > 0, not storage.plan(), flush=True)
"""


@contextmanager
def processes() -> Iterator[list[Program]]:
    """Ten processes that have imported the package and opened nothing yet."""
    with ExitStack() as stack:
        started = [stack.enter_context(start_python(["-c", PROGRAM])) for _ in range(PROCESSES)]
        try:
            for process in started:
                assert read_line(process) == "ready"
            yield started
            for process in started:
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(PATIENCE_S) == 0
        finally:
            for process in started:
                process.kill()


def read_line(process: Program) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.startswith("Traceback"):
        line += process.stdout.read()
    leaks.check(line, "output of a process that starts")
    return line.rstrip("\n")


def open_together(started: list[Program], dsn: str) -> None:
    for process in started:
        assert process.stdin is not None
        process.stdin.write(f"{dsn}\n")
        process.stdin.flush()
    assert [read_line(process) for process in started] == ["True True"] * PROCESSES


def check(dsn: str) -> None:
    with Storage.connect(dsn, sync=False) as storage:
        assert not storage.plan()
        assert set(storage.row_counts()) == {model._meta.table_name for model in TABLES}
        names = [user.name for user in storage.users.list()]
        assert len(set(names)) == PROCESSES


@contextmanager
def empty_database(server: servers.Server, directory: Path, number: int) -> Iterator[str]:
    if server.backend == "sqlite":
        yield servers.file_dsn(directory / f"{number}.db")
        return
    name = servers.database_name()
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture(scope="module")
def ready() -> Iterator[list[Program]]:
    with processes() as started:
        yield started


@SOME_BACKENDS
@pytest.mark.parametrize("number", range(2))
def test_programs_started_together_all_start(
    ready: list[Program], server: servers.Server, tmp_path: Path, number: int
) -> None:
    with empty_database(server, tmp_path, number) as dsn:
        open_together(ready, dsn)
        check(dsn)


@pytest.mark.slow
def test_they_all_come_up_from_nothing(server: servers.Server, tmp_path: Path) -> None:
    """Twenty rounds, the processes new in each."""
    for number in range(20):
        with empty_database(server, tmp_path, number) as dsn:
            with processes() as started:
                open_together(started, dsn)
            check(dsn)
