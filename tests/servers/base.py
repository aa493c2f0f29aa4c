"""What every backend's server offers to tests, and the words for not having one."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

TEST_USER: Final = "gproxy_test"

# The canary: needs percent-encoding in a DSN and is not ASCII, so a DSN that is put together or
# taken apart carelessly cannot connect; tests/leaks.py looks for it in everything that is printed.
TEST_PASSWORD: Final = "gproxy-canary/pä:ss@2f7"

DATABASE_PREFIX: Final = "gproxy_test_"
LEFTOVER_AGE_S: Final = 3600

_DATABASE_NAME = re.compile(rf"^{DATABASE_PREFIX}(?P<created>\d+)_(?P<pid>\d+)_\w+$")


class NoServerError(Exception):
    """A server cannot be had; the message is the reason, one line, without a password."""


@dataclass(frozen=True)
class Unavailable:
    """Why there is no server for a backend."""

    reason: str


@dataclass(frozen=True)
class Access:
    """How to reach a server as one of its users. The password is kept out of the repr."""

    user: str
    password: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    socket: str = ""
    database: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def dsn(self, scheme: str, socket_option: str) -> str:
        """Render as a DSN, everything percent-encoded that may need it."""
        login = quote(self.user, safe="")
        if self.password:
            login += ":" + quote(self.password, safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = dict(self.options)
        if self.socket:
            query[socket_option] = self.socket
        where = "" if self.socket else f"{host}:{self.port}"
        text = f"{scheme}://{login}@{where}/{quote(self.database, safe='')}"
        return f"{text}?{urlencode(query)}" if query else text


def parse_dsn(text: str, schemes: Iterable[str], port: int, socket_option: str) -> Access:
    """Take apart an administrator's DSN from the environment.

    Deliberately not `gproxy_storage.dsn`: the harness must not depend on what it tests.

    Raises:
        NoServerError: it is not such a DSN; the message does not quote it.
    """
    try:
        parts = urlsplit(text)
        found_port = parts.port or port
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise NoServerError("not a DSN of the form scheme://user:password@host:port/name") from None
    if parts.scheme not in schemes:
        raise NoServerError(f"the scheme must be one of {', '.join(schemes)}")
    if not parts.username:
        raise NoServerError("names no user")
    return Access(
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        host=parts.hostname or "127.0.0.1",
        port=found_port,
        socket=options.pop(socket_option, ""),
        database=unquote(parts.path.lstrip("/")),
        options=options,
    )


def database_name() -> str:
    """Return a new database name that says when and by which process it was made."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return f"{DATABASE_PREFIX}{int(time.time())}_{os.getpid()}_{worker}_{secrets.token_hex(3)}"


def is_leftover(name: str, now: float) -> bool:
    """Tell whether a database was left by a run that is over: old, and its process is gone."""
    match = _DATABASE_NAME.match(name)
    if match is None or now - int(match["created"]) < LEFTOVER_AGE_S:
        return False
    return not process_exists(int(match["pid"]))


def process_exists(pid: int) -> bool:
    """Tell whether a process with this id runs on this machine, under any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def is_listening(port: int) -> bool:
    """Tell whether anything accepts connections on a loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


class Server(ABC):
    """Administrative access to a running server.

    Holds no connection open: every call makes its own, so it may be used across forks, threads
    and restarts of the server.
    """

    backend: ClassVar[str]
    errors: ClassVar[tuple[type[Exception], ...]]
    scheme: ClassVar[str]
    socket_option: ClassVar[str]

    def __init__(self, access: Access, *, origin: str) -> None:
        self.access = access
        self.origin = origin
        self.version = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.version} from {self.origin}>"

    @property
    def host(self) -> str:
        """The address that tests connect to."""
        return self.access.host

    @property
    def port(self) -> int:
        """The TCP port that tests connect to."""
        return self.access.port

    @property
    def admin_dsn(self) -> str:
        """The administrator's DSN, password included."""
        return self.access.dsn(self.scheme, self.socket_option)

    def dsn(self, database: str) -> str:
        """Return the DSN of a database for the unprivileged test role."""
        role = Access(
            user=TEST_USER,
            password=TEST_PASSWORD,
            host=self.host,
            port=self.port,
            database=database,
            options=self.access.options,
        )
        return role.dsn(self.scheme, self.socket_option)

    @abstractmethod
    def open(self) -> None:
        """Check the administrator's rights, make the test role, drop leftovers of killed runs.

        Raises:
            NoServerError: not reachable, another kind of server, or not enough rights.
        """

    @abstractmethod
    def connect(self, database: str = "", *, autocommit: bool = True) -> Any:
        """Return a raw driver connection as administrator; the caller closes it."""

    def execute(
        self, sql: str, params: Sequence[object] = (), *, database: str = ""
    ) -> list[tuple[Any, ...]]:
        """Run one statement as administrator, committed at once, and return its rows."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def create_database(self, name: str) -> str:
        """Create an empty database that the test role owns, and return its DSN for that role.

        Args:
            name: from `database_name()`; the prefix is what the role's grants and the cleaning up
                after killed runs go by.
        """
        if not name.startswith(DATABASE_PREFIX):
            raise ValueError(f"a test database is named {DATABASE_PREFIX}..., not {name!r}")
        self._create(name)
        return self.dsn(name)

    @abstractmethod
    def _create(self, name: str) -> None: ...

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, after ending all connections to it."""

    def empty_database(self, name: str) -> bool:
        """Make a database again what `create_database` makes, where that is the quicker way.

        Returns:
            False where it is not, or where that cannot be said of what is in it: drop it.
        """
        return False

    @abstractmethod
    def databases(self) -> list[str]:
        """Return the names of all databases of tests, this run's and others'."""

    def drop_leftovers(self) -> None:
        """Drop the databases that killed runs left behind more than an hour ago."""
        now = time.time()
        for name in self.databases():
            if is_leftover(name, now):
                try:
                    self.drop_database(name)
                except self.errors:
                    if name in self.databases():  # else another session was faster
                        raise
