"""Real database servers for tests: found, or else started.

For each backend, in this order: the administrator's DSN in `GPROXY_TEST_POSTGRES_DSN`,
`GPROXY_TEST_MYSQL_DSN` or `GPROXY_TEST_MARIADB_DSN`; a server on the usual local port that lets us
in; a private server, started here and stopped with the test session. `GPROXY_TEST_PRIVATE=1`
passes over the local ports.

    found = servers.available("postgres")
    if isinstance(found, servers.Unavailable): ...found.reason...
    dsn = found.create_database(servers.database_name())

    with servers.private("mysql", durable=True) as mysql:     # for tests that stop and kill it
        mysql.kill()
        mysql.restart()
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from . import mariadb, mysql, postgres
from .base import (
    TEST_PASSWORD,
    TEST_USER,
    NoServerError,
    Server,
    Unavailable,
    database_name,
)
from .mysql import MySQLServer
from .process import PrivateServer
from .sqlite import SQLiteServer, file_dsn
from .workspace import reap

__all__ = [
    "BACKENDS",
    "SERVER_BACKENDS",
    "TEST_PASSWORD",
    "TEST_USER",
    "MySQLServer",
    "NoServerError",
    "PrivateServer",
    "Server",
    "Unavailable",
    "available",
    "database_name",
    "file_dsn",
    "private",
    "share",
    "stop_all",
]

BACKENDS: Final = ("sqlite", "postgres", "mysql", "mariadb")
SERVER_BACKENDS: Final = BACKENDS[1:]


_FROM_DSN: Final[dict[str, Callable[[str, str], Server]]] = {
    "postgres": postgres.from_dsn,
    "mysql": mysql.from_dsn,
    "mariadb": mariadb.from_dsn,
}
_LOCAL: Final[dict[str, Callable[[], Iterator[Server]]]] = {
    "postgres": postgres.local_servers,
    "mysql": mysql.local_servers,
    "mariadb": mariadb.local_servers,
}

_owner: Final = os.getpid()
_lock = threading.RLock()
_sqlite: Final = SQLiteServer()
_found: dict[str, Server | Unavailable] = {}
_started: list[PrivateServer] = []


def available(backend: str) -> Server | Unavailable:
    """Return administrative access to a backend's server, or why there is none.

    The first call of a process looks, and may install and start a server, which takes from some
    milliseconds to half a minute; later calls return the same answer.
    """
    with _lock:
        if backend not in _found:
            reap()
            try:
                _found[backend] = _find(backend)
            except NoServerError as error:
                _found[backend] = Unavailable(str(error))
        return _found[backend]


def share(backends: Iterable[str]) -> None:
    """Find or start these servers, and hand them to the processes started from now on."""
    for backend in backends:
        found = available(backend)
        if isinstance(found, Server) and backend in SERVER_BACKENDS:
            os.environ[_variable(backend)] = found.admin_dsn


def private(backend: str, *, durable: bool = False, options: Sequence[str] = ()) -> PrivateServer:
    """Return a private server of a backend, not yet started; `with` starts and deletes it.

    Args:
        durable: keep the server's own durability settings (see PrivateServer).
        options: further command-line options of the server.
    Raises:
        NoServerError: its programs are not installed and cannot be.
    """
    kinds: dict[str, Callable[..., PrivateServer]] = {
        "postgres": postgres.PrivatePostgres,
        "mysql": mysql.PrivateMySQL,
        "mariadb": mariadb.PrivateMariaDB,
    }
    with _lock:
        reap()
        return kinds[backend](durable=durable, options=options)


def stop_all() -> None:
    """Stop the private servers that `available` started; call it when the tests are over.

    Does nothing in a fork, whose parent still uses them.
    """
    if os.getpid() != _owner:
        return
    with _lock:
        _found.clear()
        while _started:
            _started.pop().close()
        _sqlite.close()


def _variable(backend: str) -> str:
    return f"GPROXY_TEST_{backend.upper()}_DSN"


def _find(backend: str) -> Server:
    if backend == "sqlite":
        return _sqlite
    variable = _variable(backend)
    if dsn := os.environ.get(variable):
        try:
            return _FROM_DSN[backend](dsn, variable)
        except NoServerError as error:
            reason = str(error)
            raise NoServerError(
                reason if reason.startswith(variable) else f"{variable}: {reason}"
            ) from error
    notes = []
    if os.environ.get("GPROXY_TEST_PRIVATE", "0") in ("", "0"):
        for server in _LOCAL[backend]():
            try:
                server.open()
            except NoServerError as error:
                notes.append(str(error))
            else:
                return server
        if not notes:
            notes.append("none on the usual local ports")
    try:
        own = private(backend)
        _started.append(own.start())
    except NoServerError as error:
        notes.append(f"no private one: {error}")
        raise NoServerError("; ".join(dict.fromkeys(notes))) from error
    return own.server
