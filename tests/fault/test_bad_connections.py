"""What cannot be connected to: one line that says what to do, no password, nothing created."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gproxy_storage import Dsn, Storage
from gproxy_storage.backends.sqlite_paths import inspection_dsn
from gproxy_storage.errors import ConfigError, ConnectError, DSNError, StorageError
from gproxy_storage.secret import Secret
from tests import servers
from tests.contract.support import in_threads, with_options
from tests.servers.process import free_port
from tests.support import PATIENCE_S, everything_in_frames

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
WRONG = "wr0ng-canary/pä:ss"


def refused(dsn: str, *expected: str, kind: type[StorageError] = ConnectError) -> StorageError:
    """Expect that a DSN is refused in one line that holds these words and no password."""
    with pytest.raises(kind) as caught:
        Storage.connect(dsn).close()
    error = caught.value
    message = str(error)
    assert type(error) is kind
    assert message == " ".join(message.split())
    for words in expected:
        assert words in message
    for secret in (servers.TEST_PASSWORD, "wr0ng-canary"):  # its rest, in bytes, is escaped
        assert secret not in f"{error!r} {vars(error)} {everything_in_frames(error)}"
    if isinstance(error, ConnectError):
        assert error.dsn == str(Dsn.parse(dsn))
        assert error.dsn in message
    assert Storage._open is None
    return error


def altered(dsn: str, **changes: object) -> str:
    """Return the DSN with other parts."""
    return Dsn.parse(dsn).replace(**changes).reveal()


# -- servers ------------------------------------------------------------------------------------


def at_port(dsn: str, port: int, **options: object) -> str:
    """Return the DSN of a loopback port."""
    parsed = Dsn.parse(dsn)
    moved = parsed.replace(hosts=tuple(host._replace(port=port) for host in parsed.hosts))
    return with_options(moved.reveal(), **options) if options else moved.reveal()


@only_servers
def test_a_server_that_is_down(shared_database_dsn: str) -> None:
    refused(
        at_port(shared_database_dsn, free_port()),
        "refused",
        "check that the server runs and that host and port are right",
    )


@only_servers
def test_a_host_that_does_not_exist(shared_database_dsn: str) -> None:
    host = Dsn.parse(shared_database_dsn).hosts[0]._replace(name="no-such-host.invalid")
    refused(
        altered(shared_database_dsn, hosts=(host,)),
        "no-such-host.invalid",
        "check that the server runs and that host and port are right",
    )


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("password", [Secret(WRONG), None], ids=["wrong", "none"])
def test_a_wrong_password(shared_database_dsn: str, password: Secret | None) -> None:
    refused(
        altered(shared_database_dsn, password=password),
        "Access denied",
        "check the user and the password",
    )


@pytest.fixture(scope="module")
def scram_dsn() -> Iterator[str]:
    """A database of a PostgreSQL that asks for passwords, which one on the usual port may not."""
    try:
        own = servers.private("postgres")
    except servers.NoServerError as error:
        pytest.skip(f"no private postgres: {error}")
    with own:
        yield own.server.create_database(servers.database_name())


def test_postgres_with_a_wrong_password(scram_dsn: str) -> None:
    with Storage.connect(scram_dsn) as storage:
        storage.users.create("alice")
    refused(
        altered(scram_dsn, password=Secret(WRONG)),
        "password authentication failed",
        "check the user and the password",
    )


def test_postgres_without_a_password(
    scram_dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    refused(altered(scram_dsn, password=None), "no password supplied", "into the DSN")


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_an_unknown_user(shared_database_dsn: str) -> None:
    refused(
        altered(shared_database_dsn, user="gproxy_test_nobody"),
        "gproxy_test_nobody",
        "does not exist" if _trusts(shared_database_dsn) else "password",
    )


def _trusts(dsn: str) -> bool:
    """Tell whether the server lets anybody in who it knows, without asking for the password."""
    try:
        Storage.connect(altered(dsn, password=Secret(WRONG)), sync=False).close()
    except ConnectError:
        return False
    return True


@only_servers
def test_a_database_that_does_not_exist(shared_database_dsn: str) -> None:
    name = servers.database_name()
    refused(altered(shared_database_dsn, database=name), name, "; create ", ", or correct ")


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_a_database_that_the_user_may_not_see(shared_database_dsn: str) -> None:
    refused(altered(shared_database_dsn, database="mysql"), "denied", "grant the user access")


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which each connection gets an answer, and then is closed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        # Else the end of the listener is not noticed by who waits in accept().
        listener.settimeout(0.1)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                with closing(peer):
                    answer(peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join(PATIENCE_S)


@only_servers
def test_a_port_that_never_answers(shared_database_dsn: str) -> None:
    """Long before a statement's time-out of two minutes, which a thread here is not given."""
    given_up = threading.Event()

    def hold(peer: socket.socket) -> None:
        given_up.wait(PATIENCE_S)

    def connect(port: int) -> None:
        refused(
            at_port(shared_database_dsn, port, connect_timeout=0.3),  # PostgreSQL's least is 2
            "check that the server runs and that host and port are right",
        )
        given_up.set()

    with listening(hold) as port:
        in_threads(lambda: connect(port))


@only_servers
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00", b"\x01\x00\x00\x00\xff"], ids=ascii
)
def test_a_port_of_something_else(shared_database_dsn: str, said: bytes) -> None:
    def answer(peer: socket.socket) -> None:
        peer.sendall(said)

    with listening(answer) as port:
        refused(
            at_port(shared_database_dsn, port),
            "check that the server runs and that host and port are right",
        )


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("parameter", ["ssl-ca", "ssl-cert"])
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not PEM"])
def test_a_file_that_is_no_certificate_is_named(
    shared_database_dsn: str, tmp_path: Path, parameter: str, content: str | None
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    dsn = with_options(shared_database_dsn, **{parameter: path})
    error = refused(dsn, parameter, "files in PEM form", kind=DSNError)

    assert isinstance(error, DSNError)
    assert parameter in error.part


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_root_certificate_that_is_missing(shared_database_dsn: str, tmp_path: Path) -> None:
    dsn = with_options(shared_database_dsn, sslmode="verify-full", sslrootcert=tmp_path / "ca.pem")
    refused(dsn, "ca.pem")


# -- files --------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["", "?mode=rw", "?mode=ro"])
def test_a_missing_file(directory: Path, mode: str) -> None:
    refused(f"sqlite://missing.db{mode}", "there is no such file", "add ?mode=rwc to create it")

    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("mode", ["rwc", "rw", "ro"])
def test_a_missing_directory(directory: Path, mode: str) -> None:
    refused(f"sqlite://missing/x.db?mode={mode}", "no directory missing", "create it")

    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("mode", ["rwc", "rw", "ro"])
def test_a_directory_in_the_files_place(directory: Path, mode: str) -> None:
    (directory / "x.db").mkdir()
    refused(f"sqlite://x.db?mode={mode}", "the path is a directory", "name a file in it")

    assert list((directory / "x.db").iterdir()) == []


@pytest.mark.parametrize("mode", ["rwc", "rw", "ro"])
def test_a_fifo_in_the_files_place(directory: Path, mode: str) -> None:
    os.mkfifo(directory / "x.db")
    refused(f"sqlite://x.db?mode={mode}", "the path is not a regular file", "name one")
    dsn = Dsn.parse(f"sqlite://x.db?mode={mode}")
    assert inspection_dsn(dsn) == dsn  # at once

    assert [path.name for path in directory.iterdir()] == ["x.db"]


@pytest.mark.parametrize("mode", ["rwc", "rw", "ro"])
@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough for a header of one" * 20, b"SQLite format 3"]
)
def test_a_file_that_is_no_database(directory: Path, mode: str, content: bytes) -> None:
    path = directory / "x.db"
    path.write_bytes(content)
    refused(f"sqlite://x.db?mode={mode}", "the file is not a SQLite database")

    assert path.read_bytes() == content
    assert list(directory.iterdir()) == [path]


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_a_directory_that_cannot_be_written(place: str) -> None:
    refused(f"sqlite://{place}/gproxy.db?mode=rwc", f"the directory {place} cannot be written")


def test_a_file_in_a_directorys_place(directory: Path) -> None:
    (directory / "file").touch()
    refused("sqlite://file/x.db?mode=rwc", "there is no directory file")

    assert [path.name for path in directory.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", ["rwc", "rw", "ro"])
def test_a_name_that_is_too_long(directory: Path, mode: str) -> None:
    refused(f"sqlite://{'x' * 300}.db?mode={mode}", "too long")

    assert list(directory.iterdir()) == []


def test_a_dangling_link_is_refused(directory: Path) -> None:
    (directory / "x.db").symlink_to("missing/y.db")
    refused("sqlite://x.db?mode=rwc")

    assert [path.name for path in directory.iterdir()] == ["x.db"]


def test_a_broken_database_stays_as_it_is(directory: Path) -> None:
    path = directory / "x.db"
    with Storage.connect("sqlite://x.db?mode=rwc") as storage:
        storage.users.create("alice")
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(StorageError):
        Storage.connect("sqlite://x.db")

    path.write_bytes(whole)
    with Storage.connect("sqlite://x.db") as storage:
        assert storage.users.count() == 1


@pytest.mark.parametrize("path", ["/tmp/../{}/x.db", "//{}//x.db", "///{}/x.db"])
def test_extra_slashes_in_a_path_are_ignored(directory: Path, path: str) -> None:
    full = path.format(str(directory).lstrip("/"))
    with Storage.connect(f"sqlite://{full}?mode=rwc") as storage:
        storage.users.create("alice")
    with closing(sqlite3.connect(directory / "x.db")) as raw:
        assert raw.execute("SELECT name FROM users").fetchall() == [("alice",)]


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "q?.db", "h#.db", "é😀.db", "a&b=c", "x;y"])
def test_any_name_of_a_file(directory: Path, name: str) -> None:
    dsn = Dsn.for_file(directory / name)
    with Storage.connect(dsn) as storage:
        storage.users.create("alice")

    assert [path.name for path in directory.iterdir()] == [name]
    assert (directory / name).stat().st_mode & 0o777 == 0o600


# -- the data directory -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/gproxy", "/sys/gproxy"])
def test_a_data_directory_that_cannot_be_made(directory: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data_dir: the directory {place} cannot be"):
        Storage.open(data_dir=place)

    assert list(directory.iterdir()) == []


def test_a_data_directory_that_is_a_file(directory: Path) -> None:
    (directory / "data").touch()
    with pytest.raises(ConfigError, match=r"^GPROXY_DATA_DIR: the directory data cannot be"):
        Storage.open()

    assert [path.name for path in directory.iterdir()] == ["data"]
