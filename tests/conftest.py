"""Options and fixtures of all tests: backends, databases, the leak guard."""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Iterator
from pathlib import Path

import hypothesis
import pytest

from gproxy_storage import Storage
from gproxy_storage.schema.sync import sync
from gproxy_storage.sink.sink import Sink
from tests import leaks, servers
from tests.support import PATIENCE_S, opened, wipe_rows

pytest_plugins = ["pytester"]

# Examples take as long as a busy machine lets them; CI must fail the same way when run again.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)


def in_ci() -> bool:
    """Whether a missing server is a failure rather than a skip."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


hypothesis.settings.load_profile("ci" if in_ci() else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gproxy-storage")
    group.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME[,NAME]",
        help=f"run tests of these backends only: {', '.join(servers.BACKENDS)}; repeatable",
    )
    group.addoption(
        "--slow", action="store_true", help="run tests marked slow, too; -m slow runs only those"
    )


def _restore_signals() -> None:
    """Have Ctrl-C and SIGHUP do what tests expect, also where this run ignores them.

    So do a shell's jobs in the background, and `nohup`; programs that are started inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # ignored here, and default in programs


def pytest_configure(config: pytest.Config) -> None:
    _restore_signals()
    leaks.install(config)
    unknown = set(selected_backends(config)) - set(servers.BACKENDS)
    if unknown:
        raise pytest.UsageError(
            f"--backend: {sorted(unknown)[0]!r} is none of {', '.join(servers.BACKENDS)}"
        )


def pytest_unconfigure() -> None:
    servers.stop_all()


def selected_backends(config: pytest.Config) -> list[str]:
    """The names of the backends that are to be tested."""
    names = [name for option in config.getoption("--backend") for name in option.split(",")]
    return names or list(servers.BACKENDS)


def _backend_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("backend") if callspec else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    selected = {None, *selected_backends(config)}
    slow = config.getoption("--slow") or "slow" in config.getoption("-m")

    def wanted(item: pytest.Item) -> bool:
        backend = _backend_of(item)
        if backend == "sqlite" and "private_server" in getattr(item, "fixturenames", ()):
            return False  # it has none
        return backend in selected and (slow or "slow" not in item.keywords)

    dropped = [item for item in items if not wanted(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    # One backend after the other, so that what a session keeps of each is made once.
    order = ["", *servers.BACKENDS]
    kept = [item for item in items if wanted(item)]
    items[:] = sorted(kept, key=lambda item: order.index(_backend_of(item) or ""))


def pytest_sessionstart(session: pytest.Session) -> None:
    """With pytest-xdist, find or start the servers once, for all of its workers."""
    config = session.config
    if config.getoption("numprocesses", None) and not config.option.collectonly:
        selected = selected_backends(config)
        servers.share(selected)
        _require_in_ci(selected)


def pytest_collection_finish(session: pytest.Session) -> None:
    """In CI, stop before the first test when a server is missing, and say all that are."""
    if not session.config.option.collectonly:
        _require_in_ci(
            {
                _backend_of(item)
                for item in session.items
                if "server" in getattr(item, "fixturenames", ())
            }
        )


def _require_in_ci(needed: Container[str | None]) -> None:
    if not in_ci():
        return
    found = {name: servers.available(name) for name in servers.BACKENDS if name in needed}
    missing = [
        f"  {name}: {answer.reason}"
        for name, answer in found.items()
        if isinstance(answer, servers.Unavailable)
    ]
    if missing:
        pytest.exit("no server, and CI is set:\n" + "\n".join(missing), returncode=1)


@pytest.fixture(scope="session", params=servers.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend; a test that requests it, or what needs it, runs once for each.

    `@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)` narrows it.
    """
    return str(request.param)


@pytest.fixture(scope="session")
def server(backend: str) -> servers.Server:
    """Administrative access to the backend's server; without one, a skip that says why."""
    found = servers.available(backend)
    if isinstance(found, servers.Unavailable):
        pytest.skip(f"no {backend} server: {found.reason}")
    return found


@pytest.fixture(autouse=True)
def patient_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a sink waits as long as a busy machine needs, so that no row is left in the spool."""
    monkeypatch.setattr(Sink.close, "__defaults__", (PATIENCE_S,))


@pytest.fixture(scope="session")
def _emptied_databases(server: servers.Server) -> Iterator[list[str]]:
    """Databases of tests that are over, which are empty again."""
    names: list[str] = []
    yield names
    for name in names:
        server.drop_database(name)


@pytest.fixture
def database_dsn(
    server: servers.Server, _emptied_databases: list[str], tmp_path: Path
) -> Iterator[str]:
    """The DSN of an empty database for one test, which nobody else uses meanwhile."""
    if server.backend == "sqlite":
        yield servers.file_dsn(tmp_path / "gproxy.db")
        return
    if _emptied_databases:
        name = _emptied_databases.pop()
    else:
        name = servers.database_name()
        server.create_database(name)
    yield server.dsn(name)
    if server.empty_database(name):
        _emptied_databases.append(name)
    else:
        server.drop_database(name)


@pytest.fixture(scope="session")
def shared_database_dsn(server: servers.Server) -> Iterator[str]:
    """The DSN of one synced database a backend and session (or xdist worker).

    Its tests leave the schema and the keyring as they are, and wipe the rows before they begin:
    making the tables takes a server longer than most tests take.
    """
    name = servers.database_name()
    dsn = server.create_database(name)
    Storage.connect(dsn).close()  # which writes the keyring's row, too
    yield dsn
    server.drop_database(name)


@pytest.fixture
def synced_dsn(server: servers.Server, request: pytest.FixtureRequest) -> str:
    """The DSN of a synced database without rows: a server's shared one, or a file of SQLite's.

    For tests that leave connections open or kill processes, too.
    """
    own = server.backend == "sqlite"  # where making the tables takes a moment
    dsn: str = request.getfixturevalue("database_dsn" if own else "shared_database_dsn")
    with opened(dsn) as database:
        sync(database) if own else wipe_rows(database)
    return dsn


@pytest.fixture
def private_server(backend: str) -> Iterator[servers.PrivateServer]:
    """A running, durable server of each backend but SQLite; the test may kill and restart it."""
    try:
        own = servers.private(backend, durable=True).start()
    except servers.NoServerError as error:
        if in_ci():
            pytest.fail(f"no private {backend} server, and CI is set: {error}")
        pytest.skip(f"no private {backend} server: {error}")
    yield own
    own.close()
