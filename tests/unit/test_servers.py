"""The harness without servers: names, DSNs, directories, the guardian."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests import servers
from tests.cases import for_each
from tests.servers import base, install, process, workspace
from tests.support import PATIENCE_S


def test_database_names_are_unique_and_say_who_made_them() -> None:
    names = {servers.database_name() for _ in range(100)}
    assert len(names) == 100
    assert all(f"_{os.getpid()}_" in name for name in names)
    assert max(map(len, names)) <= 63  # PostgreSQL cuts longer ones short


def test_leftovers_are_old_and_their_process_has_ended() -> None:
    now = 1_800_000_000.0
    gone = _ended_process()
    assert base.is_leftover(f"gproxy_test_1799990000_{gone}_main_ab12cd", now)
    assert not base.is_leftover(f"gproxy_test_1799999000_{gone}_main_ab12cd", now)
    assert not base.is_leftover(f"gproxy_test_1799990000_{os.getpid()}_main_ab12cd", now)
    assert not base.is_leftover("gproxy_test_data_of_somebody", now)
    assert not base.is_leftover(f"x_gproxy_test_1799990000_{gone}_main_ab12cd", now)


def test_a_dsn_is_unchanged_by_rendering_and_parsing() -> None:
    options = {"sslmode": "disable"}
    access = base.Access("ä@b", "p/w:%", "::1", 5433, database="n/ä", options=options)
    text = access.dsn("postgres", "host")
    assert base.parse_dsn(text, ["postgres"], 5432, "host") == access
    assert access.password not in repr(access)


def test_a_socket_dsn_is_unchanged_too() -> None:
    access = base.Access("root", socket="/run/x.sock", port=3306, database="mysql")
    text = access.dsn("mysql", "socket")
    assert base.parse_dsn(text, ["mysql"], 3306, "socket") == access


@for_each(
    ("text", "reason"),
    [
        ("postgres://u:p4ssw0rd@h:x/d", "not a DSN"),
        ("oracle://u:p4ssw0rd@h/d", "scheme must be one of postgres"),
        ("postgres://:p4ssw0rd@h/d", "names no user"),
        ("postgres://u:p4ssw0rd@h/d?sslmode", "not a DSN"),
    ],
)
def test_a_bad_dsn_is_refused_without_its_password(text: str, reason: str) -> None:
    with pytest.raises(servers.NoServerError, match=reason) as caught:
        base.parse_dsn(text, ["postgres"], 5432, "host")
    assert "p4ssw0rd" not in str(caught.value)


def test_the_canary_must_be_encoded_in_a_dsn() -> None:
    dsn = base.Access(servers.TEST_USER, servers.TEST_PASSWORD, port=1).dsn("mysql", "socket")
    assert servers.TEST_PASSWORD not in dsn
    assert unquote(urlsplit(dsn).password or "") == servers.TEST_PASSWORD


def test_only_named_databases_are_created() -> None:
    found = servers.available("sqlite")
    assert isinstance(found, servers.Server)
    with pytest.raises(ValueError, match="gproxy_test_"):
        found.create_database("production")


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS)
def test_a_dsn_from_the_environment_is_not_passed_over(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = "postgres" if backend == "postgres" else "mysql"
    port = process.free_port()
    variable = f"GPROXY_TEST_{backend.upper()}_DSN"
    monkeypatch.setenv(variable, f"{scheme}://root:p4ssw0rd@127.0.0.1:{port}/x")
    monkeypatch.setattr(servers, "_found", {})
    found = servers.available(backend)
    assert isinstance(found, servers.Unavailable)
    assert found.reason.startswith(f"{variable}: ")
    assert "refused" in found.reason
    assert "p4ssw0rd" not in found.reason


def test_all_reasons_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing listens, nothing is installed, nothing can be."""
    monkeypatch.setattr(servers, "_found", {})
    monkeypatch.delenv("GPROXY_TEST_MARIADB_DSN", raising=False)
    monkeypatch.setenv("GPROXY_TEST_PRIVATE", "1")
    monkeypatch.setenv("GPROXY_TEST_SERVERS_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("tests.servers.mariadb._installed", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = servers.available("mariadb")
    assert found == servers.Unavailable(
        "no private one: no mariadb-server-core, and no apt-get to install it"
    )


def test_a_directory_that_cannot_be_written_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPROXY_TEST_SERVERS_DIR", str(tmp_path / "file" / "x"))
    with pytest.raises(servers.NoServerError, match="cannot write to"):
        install.pip_install("nothing", "nothing")


@pytest.fixture
def base_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(workspace, "BASE", tmp_path)
    return tmp_path


@pytest.fixture
def sleeper(base_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process at work in the directory of a run that is over."""
    abandoned = base_dir / f"{workspace.PREFIX}{_ended_process()}-1-mysql-xyz" / "data"
    abandoned.mkdir(parents=True)
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(3600)"]
    with subprocess.Popen(command, cwd=abandoned, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_what_killed_runs_left_is_reaped(sleeper: subprocess.Popen[bytes], base_dir: Path) -> None:
    own = workspace.make_directory("postgres")
    (base_dir / "gproxy-srv-of-somebody").mkdir()
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3600)"], cwd=base_dir
    )
    try:
        reaped = workspace.reap()
        assert [path.name.split("-", 4)[-1] for path in reaped] == ["mysql-xyz"]
        assert sleeper.wait(PATIENCE_S) == -9
        assert stranger.poll() is None, "a stranger was killed"
    finally:
        stranger.kill()
        stranger.wait()
    assert sorted(path.name for path in base_dir.iterdir()) == sorted(
        [own.name, "gproxy-srv-of-somebody"]
    )


def _guard(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    task = {"command": command, "log": str(directory / "log"), "cwd": str(directory)}
    task |= {"env": {}, "user": None, "group": None}  # type: ignore[dict-item]  # of several types
    guardian = Path(process.__file__).with_name("guardian.py")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(guardian), json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )


def test_the_guardian_passes_signals_on(tmp_path: Path) -> None:
    script = "trap 'echo caught; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    (tmp_path / "log").touch()
    with _guard(["/bin/sh", "-c", script], tmp_path) as guardian:
        assert guardian.stdin is not None
        _wait_for(lambda: "ready" in (tmp_path / "log").read_text())
        guardian.stdin.write(b"15\n")
        assert guardian.wait(PATIENCE_S) == 0
    assert (tmp_path / "log").read_text() == "ready\ncaught\n"


def test_the_guardian_kills_when_its_owner_has_ended(tmp_path: Path) -> None:
    with _guard(["/bin/sleep", "3600"], tmp_path) as guardian:
        assert guardian.stdin is not None
        assert guardian.stdout is not None
        pid = int(guardian.stdout.readline())
        assert base.process_exists(pid)
        guardian.stdin.close()  # as the kernel does, however the owner went
        assert guardian.wait(PATIENCE_S) == 1
        assert not base.process_exists(pid)


def test_a_program_that_cannot_be_started_is_a_reason(tmp_path: Path) -> None:
    with _guard(["/nonexistent/mysqld"], tmp_path) as guardian:
        assert guardian.stderr is not None
        assert guardian.stdout is not None
        assert guardian.stdout.readline() == b""
        assert b"/nonexistent/mysqld" in guardian.stderr.read()


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    assert all(20000 <= process.free_port() < 32000 for _ in range(20))


def _ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


def _wait_for(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
