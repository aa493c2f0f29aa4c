"""Private servers: stopping, killing, restarting, and not outliving their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import servers
from tests.servers import base, postgres, workspace
from tests.support import PATIENCE_S

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)


@pytest.mark.slow
def test_acknowledged_rows_survive_stops_and_kills(private_server: servers.PrivateServer) -> None:
    name = servers.database_name()
    own = private_server
    own.server.create_database(name)
    own.server.execute("CREATE TABLE t (id int PRIMARY KEY)", database=name)
    written = 0
    for stop in (own.stop, lambda: own.stop(immediate=True), own.kill, own.kill, own.kill):
        pid, port = own.pid, own.port
        for _ in range(50):
            own.server.execute("INSERT INTO t VALUES (%s)", (written,), database=name)
            written += 1
        stop()
        assert not own.running
        assert not base.process_exists(pid)
        assert not workspace.processes_in(own.directory)
        with pytest.raises(Exception, match=r"refused|connect"):
            own.server.execute("SELECT 1")
        own.start()
        assert own.port == port
        assert own.server.execute("SELECT count(*) FROM t", database=name) == [(written,)]


@pytest.mark.slow
def test_a_server_that_ended_can_be_started_again(
    private_server: servers.PrivateServer,
) -> None:
    own = private_server
    os.kill(own.pid, signal.SIGKILL)
    while own.running:
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="not running"):
        own.pid  # noqa: B018 - the subject
    own.start()
    assert own.server.execute("SELECT 1") == [(1,)]


@pytest.mark.slow
def test_a_closed_server_leaves_nothing(private_server: servers.PrivateServer) -> None:
    directory, pid = private_server.directory, private_server.pid
    private_server.restart()
    assert private_server.pid != pid
    private_server.close()
    assert not directory.exists()
    private_server.close()


OWNER = """
import sys, time
from tests import servers
own = servers.private(sys.argv[1]).start()
print(own.pid, own.directory, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@only_servers
def test_a_server_does_not_outlive_a_killed_owner(backend: str) -> None:
    command = [sys.executable, "-c", OWNER, backend]
    repository = Path(servers.__file__).parents[2]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        if not line:
            pytest.skip(f"no private {backend} server")
        pid, directory = int(line.split()[0]), Path(line.split()[1])
        assert base.process_exists(pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while workspace.processes_in(directory):
        assert time.monotonic() < deadline, "the server outlives its owner"
        time.sleep(0.05)
    assert directory in workspace.reap()
    assert not directory.exists()


@pytest.mark.slow
def test_the_postgres_of_the_wheel_starts() -> None:
    """Also where PostgreSQL is installed: elsewhere it is what tests run on."""
    try:
        binaries = postgres.wheel_binaries()
    except servers.NoServerError as error:
        pytest.skip(str(error))
    with postgres.PrivatePostgres(binaries=binaries) as own:
        assert own.server.version.startswith("18.")
        name = servers.database_name()
        own.server.create_database(name)
        assert own.server.databases() == [name]


def test_a_server_that_does_not_start_says_why() -> None:
    try:
        own = servers.private("postgres", options=["-c", "no_such_setting=1"])
    except servers.NoServerError as error:
        pytest.skip(str(error))
    with pytest.raises(servers.NoServerError, match="no_such_setting"):
        own.start()
    with pytest.raises(RuntimeError, match="never started"):
        own.directory  # noqa: B018 - the subject
