"""Servers that load the application, with its open Storage, and then fork: uWSGI and gunicorn."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Storage
from tests import leaks
from tests.contract.support import PATIENCE_S, with_options
from tests.processes import environment

PROCESSES = 4
LOOKUPS = 40  # a request
APPLICATION = "tests.fault.prefork_app:application"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def command(server: str, port: int) -> list[str]:
    bin_dir = Path(sys.executable).parent
    address = f"127.0.0.1:{port}"
    if server == "uwsgi":  # which forks in C and runs none of Python's hooks
        return [
            str(bin_dir / "uwsgi"), "--master", "--http-socket", address, "--enable-threads",
            "--processes", str(PROCESSES), "--virtualenv", sys.prefix, "--die-on-term",
            "--disable-logging", "--module", APPLICATION,
        ]  # fmt: skip
    return [
        str(bin_dir / "gunicorn"), "--preload", "--workers", str(PROCESSES), "--bind", address,
        APPLICATION,
    ]  # fmt: skip


@contextmanager
def serving(server: str, dsn: str, directory: Path) -> Iterator[int]:
    """Run the application under a server; yield its port."""
    port = free_port()
    log = directory / "log"
    settings = {"DSN": dsn, "DATA_DIR": str(directory), "PYTHONWARNINGS": "ignore"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command(server, port), env=environment(settings), stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        leaks.check(log.read_text(), "the server's log")


def ask(port: int, number: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/{number}/{number + LOOKUPS}"
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def answers(port: int) -> bool:
    try:
        ask(port, 0)
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def look_up(server: str, dsn: str, directory: Path, lookups: int) -> None:
    with serving(server, dsn, directory) as port, ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda number: ask(port, number), range(lookups // LOOKUPS)))

    assert [error for one in told for error in one["errors"]] == []
    assert sum(one["wrong"] for one in told) == 0
    assert len({one["pid"] for one in told}) > 1
    with Storage.connect(dsn, data_dir=directory) as storage:
        assert storage.usages.count() == len(told) + 1  # one of them whether it answers
    assert not any(one["is_master"] for one in told)


WITHOUT_TLS = {"postgres": {"sslmode": "disable"}, "mysql": {"ssl-mode": "DISABLED"}}
WITHOUT_TLS["mariadb"] = WITHOUT_TLS["mysql"]


@pytest.mark.parametrize("server_program", ["uwsgi", "gunicorn"])
def test_no_worker_gets_the_result_of_another(
    synced_dsn: str, tmp_path: Path, backend: str, server_program: str
) -> None:
    dsn = with_options(synced_dsn, **WITHOUT_TLS.get(backend, {}))
    look_up(server_program, dsn, tmp_path, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("server_program", ["uwsgi", "gunicorn"])
@pytest.mark.parametrize("backend", ["postgres", "mariadb"], indirect=True)
def test_twenty_thousand_lookups(
    synced_dsn: str, tmp_path: Path, backend: str, server_program: str
) -> None:
    look_up(server_program, with_options(synced_dsn, **WITHOUT_TLS[backend]), tmp_path, 20_000)
