"""PgBouncer in front of PostgreSQL: what a session sets is another client's a transaction later."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions

from gproxy_storage import Storage
from gproxy_storage.backends import postgres_session
from gproxy_storage.backends.postgres import PostgresBackend
from gproxy_storage.dsn import Dsn
from gproxy_storage.errors import ConnectError
from tests import servers
from tests.conftest import in_ci
from tests.contract.support import in_threads, quotas, until, with_options
from tests.contract.test_inherited_settings import POSTGRES, assert_nothing_differs, inherited
from tests.contract.test_scenario import played_in_memory
from tests.servers.install import apt_install
from tests.servers.process import free_port
from tests.servers.workspace import environment, make_directory, remove_directory, server_identity

pytestmark = pytest.mark.parametrize("backend", ["postgres"], indirect=True)

# psycopg2 reads it when it connects, and a pooler takes no options.
HOSTILE = {name: value for name, value in POSTGRES.items() if name not in postgres_session.STRINGS}

Pooler = Callable[[str], str]


def installed_pgbouncer() -> str:
    """Return the program's path, installed where that may be done; else a skip that says why."""
    path = environment()["PATH"]
    try:
        if shutil.which("pgbouncer", path=path) is None:
            apt_install("pgbouncer")
    except servers.NoServerError as error:
        if in_ci():
            pytest.fail(f"no PgBouncer, and CI is set: {error}")
        pytest.skip(f"no PgBouncer: {error}")
    program = shutil.which("pgbouncer", path=path)
    assert program is not None
    return program


@pytest.fixture
def pooler(database_dsn: str) -> Iterator[Pooler]:
    """Start PgBouncer in a pool mode before the database, and return the DSN through it."""
    program = installed_pgbouncer()
    direct = Dsn.parse(database_dsn)
    directory = make_directory("pgbouncer")
    started: list[subprocess.Popen[bytes]] = []

    def start(mode: str) -> str:
        port = free_port()
        (host,) = direct.hosts
        configuration = directory / "run" / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n{direct.database} = host={host.name} port={host.port} "
            f"user={servers.TEST_USER} password={servers.TEST_PASSWORD}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            f"unix_socket_dir =\npool_mode = {mode}\ndefault_pool_size = 3\n"
            "server_lifetime = 1\nserver_idle_timeout = 1\n"
        )
        configuration.chmod(0o644)
        started.append(
            subprocess.Popen(
                [program, str(configuration)],
                cwd=directory / "data",
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **server_identity(),
            )
        )
        pooled = direct.replace(hosts=(host._replace(name="127.0.0.1", port=port),)).reveal()
        until(lambda: answers(pooled))
        return pooled

    yield start
    for process in started:
        process.kill()
        process.wait()
    remove_directory(directory)


def answers(dsn: str) -> bool:
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError:
        return False
    return True


def test_nothing_differs_in_transaction_mode(
    server: servers.Server,
    database_dsn: str,
    pooler: Pooler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    played_in_memory()
    with inherited(server, database_dsn, HOSTILE):
        assert_nothing_differs(pooler("transaction"))


def test_many_threads_over_few_connections(pooler: Pooler, tmp_path: Path) -> None:
    with Storage.connect(pooler("transaction"), data_dir=tmp_path) as storage:
        alice = storage.users.create("alice")

        def write() -> None:
            for _ in range(10):
                storage.usages.record(user_id=alice.id, model="m", cost=1)

        with storage.sink() as sink:
            for _ in range(100):
                sink.submit_usage(user_id=alice.id, model="s", cost=1)
            in_threads(*[write] * 6)
            assert sink.flush(60)
        assert storage.usages.count() == 160
        assert [float(used) for *_, used in quotas(storage)] == [160]


def test_nothing_differs_in_session_mode(
    pooler: Pooler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_nothing_differs(pooler("session"))


def test_statement_mode_is_refused_at_the_start(pooler: Pooler) -> None:
    with pytest.raises(ConnectError, match="set its pool_mode to transaction or session"):
        Storage.connect(pooler("statement"))


def test_options_are_refused_by_name(pooler: Pooler) -> None:
    dsn = with_options(pooler("transaction"), options="-csearch_path%3Dpublic")
    with pytest.raises(ConnectError, match=r"options.*leave them out, or set them for the role"):
        Storage.connect(dsn)


def test_settings_come_with_each_transaction(
    server: servers.Server, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PgBouncer: a session that forgets all it was set to."""
    tune = PostgresBackend.tune

    def forgetful(self: Any, conn: Any) -> None:
        tune(self, conn)
        with conn.cursor(cursor_factory=extensions.cursor) as cursor:
            cursor.execute("RESET ALL")

    look = postgres_session._LOOK.replace("pg_backend_pid()", "0")
    monkeypatch.setattr(postgres_session, "_LOOK", look)
    monkeypatch.setattr(PostgresBackend, "tune", forgetful)
    monkeypatch.chdir(tmp_path)
    played_in_memory()
    with inherited(server, database_dsn, HOSTILE):
        assert_nothing_differs(database_dsn)
