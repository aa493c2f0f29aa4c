"""MariaDB: administrative access, and a private server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .base import NoServerError
from .install import apt_install
from .mysql import (
    MySQLServer,
    admin_access,
    local_access,
    network_options,
    root_access,
    write_init_file,
)
from .process import PrivateServer
from .workspace import run_as_server, version_of


class MariaDBServer(MySQLServer):
    """Administrative access to a MariaDB server; says so when it finds MySQL."""

    backend = "mariadb"
    product = "MariaDB"
    processlist = "information_schema.processlist"


def from_dsn(text: str, origin: str) -> MariaDBServer:
    """Open the server that a DSN from the environment names."""
    server = MariaDBServer(admin_access(text), origin=origin)
    server.open()
    return server


def local_servers() -> Iterator[MariaDBServer]:
    """Yield the servers that may be MariaDB on this machine; none is opened yet."""
    for access, origin in local_access():
        yield MariaDBServer(access, origin=origin)


class PrivateMariaDB(PrivateServer):
    """A private MariaDB, from installed programs, or else from Debian's packages when root."""

    backend = "mariadb"

    def __init__(self, *, durable: bool = False, options: Sequence[str] = ()) -> None:
        super().__init__(durable=durable, options=options)
        self._mariadbd, self._install_db = find_programs()

    def _make_server(self) -> MariaDBServer:
        access = root_access(self.admin_password, port=self.port)
        return MariaDBServer(access, origin=f"a private server ({self._mariadbd})")

    def _prepare(self) -> None:
        command = [self._install_db, "--no-defaults", f"--datadir={self.data_dir}"]
        command += ["--skip-test-db", "--auth-root-authentication-method=normal"]
        run_as_server(command, log=self.log)
        write_init_file(self.run_dir / "init.sql", self.admin_password)

    def _command(self) -> list[str]:
        fast = ["--innodb-flush-method=nosync", "--innodb-doublewrite=OFF"]
        return [
            self._mariadbd,
            "--no-defaults",
            f"--datadir={self.data_dir}",
            *network_options(self),
            *([] if self.durable else ["--innodb-flush-log-at-trx-commit=2", *fast]),
            *self.options,
        ]


def find_programs() -> tuple[str, str]:
    """Return the paths of the server and of the program that creates its data directory.

    Raises:
        NoServerError: not installed, and Debian's packages cannot be.
    """
    found = _installed()
    if found is None:
        # the core packages bring the programs and start no service; my_print_defaults is in
        # the client's
        apt_install("mariadb-server-core", "mariadb-client-core")
        found = _installed()
    if found is None:
        raise NoServerError("mariadb-server-core is installed, but mariadbd does not run")
    return found


def _installed() -> tuple[str, str] | None:
    for name in ("mariadbd", "/usr/sbin/mariadbd", "mysqld", "/usr/sbin/mysqld"):
        server = shutil.which(name)
        if server and "mariadb" in version_of(Path(server)).lower():
            for install in ("mariadb-install-db", "mysql_install_db"):
                creator = shutil.which(install)
                if creator:
                    return server, creator
    return None
