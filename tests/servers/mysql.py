"""MySQL: administrative access (MariaDB's builds on it), and a private server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import pymysql

from gproxy_storage.backends.mysql_connection import Connection

from .base import (
    DATABASE_PREFIX,
    TEST_PASSWORD,
    TEST_USER,
    Access,
    NoServerError,
    Server,
    is_listening,
    parse_dsn,
)
from .install import run_installer, servers_dir
from .process import PrivateServer
from .workspace import run_as_server, version_of

SCHEMES: Final = ("mysql", "mariadb")
PORT: Final = 3306
SCRIPT: Final = Path(__file__).with_name("mysql97.sh")
SCRIPT_PORT: Final = 3397
SCRIPT_SOCKET: Final = Path("/tmp/mysql97.sock")
_SOCKETS: Final = (Path("/var/run/mysqld/mysqld.sock"), Path("/tmp/mysql.sock"))
_PATTERN: Final = DATABASE_PREFIX.replace("_", r"\_") + "%"
_HOSTS: Final = ("%", "localhost", "127.0.0.1")
_LOGIN_ERRORS: Final = (pymysql.err.MySQLError, OSError, RuntimeError)


class MySQLServer(Server):
    """Administrative access to a MySQL server; says so when it finds MariaDB."""

    backend = "mysql"
    errors = (pymysql.err.MySQLError,)
    scheme = "mysql"
    socket_option = "socket"
    product: ClassVar[str] = "MySQL"
    # In information_schema its texts are utf8mb3: a query fails that shows an emoji
    # of another session's statement.
    processlist: ClassVar[str] = "performance_schema.processlist"

    def open(self) -> None:
        try:
            connection = self.connect()
        except _LOGIN_ERRORS as error:
            raise NoServerError(f"{self.origin}: {_one_line(error)}") from error
        try:
            with connection.cursor() as cursor:
                self._look(cursor)
                self._make_role(cursor)
        except pymysql.err.MySQLError as error:
            raise NoServerError(
                f"{self.origin}: the user {self.access.user!r} may not make the test user"
                f" (it needs CREATE USER, and ALL with GRANT OPTION on `{_PATTERN}`.*):"
                f" {_one_line(error)}"
            ) from error
        finally:
            connection.close()
        self._try_role()
        self.drop_leftovers()

    def _look(self, cursor: Any) -> None:
        cursor.execute("SELECT VERSION(), @@port")
        self.version, self._real_port = cursor.fetchone()
        product = "MariaDB" if "mariadb" in self.version.lower() else "MySQL"
        if product != self.product:
            raise NoServerError(f"{self.origin}: is {product} {self.version}, not {self.product}")

    _real_port = 0

    @property
    def port(self) -> int:
        # a socket says nothing about the port, and the port of a DSN may be forwarded
        return self._real_port if self.access.socket else self.access.port

    def _make_role(self, cursor: Any) -> None:
        cursor.execute("SELECT GET_LOCK('gproxy_test_setup', 30)")
        for host in _HOSTS:
            role = (TEST_USER, host)
            login = (*role, TEST_PASSWORD)
            cursor.execute("CREATE USER IF NOT EXISTS %s@%s IDENTIFIED BY %s", login)
            cursor.execute("ALTER USER %s@%s IDENTIFIED BY %s", login)
            cursor.execute(
                f"GRANT ALL PRIVILEGES ON `{_PATTERN.replace('%', '%%')}`.* TO %s@%s", role
            )

    def _try_role(self) -> None:
        """Find out now whether the test role can log in over TCP."""
        role = Access(TEST_USER, TEST_PASSWORD, self.host, self.port, options=self.access.options)
        try:
            _connect(role, "", autocommit=True).close()
        except _LOGIN_ERRORS as error:
            raise NoServerError(
                f"{self.origin}: the test role cannot log in: {_one_line(error)}"
            ) from error

    def connect(self, database: str = "", *, autocommit: bool = True) -> Any:
        return _connect(self.access, database or self.access.database, autocommit=autocommit)

    def _create(self, name: str) -> None:
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def drop_database(self, name: str) -> None:
        # an open transaction of a forgotten connection would hold up DROP DATABASE
        rows = self.execute(f"SELECT id FROM {self.processlist} WHERE db = %s", (name,))
        for (connection_id,) in rows:
            try:
                self.execute(f"KILL {int(connection_id)}")
            except pymysql.err.MySQLError as error:
                if error.args[0] != pymysql.constants.ER.NO_SUCH_THREAD:
                    raise
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def databases(self) -> list[str]:
        rows = self.execute("SHOW DATABASES")
        return [name for (name,) in rows if name.startswith(DATABASE_PREFIX)]


def _connect(access: Access, database: str, *, autocommit: bool) -> Any:
    return Connection(
        host=access.host,
        port=access.port,
        unix_socket=access.socket or None,
        user=access.user,
        # as bytes: PyMySQL would send text as latin-1, which the server does not know it by
        password=access.password.encode(),
        database=database or None,
        charset="utf8mb4",
        autocommit=autocommit,
        connect_timeout=10,
        # MySQL's default is a year, should a forgotten transaction be in the way of a DROP
        init_command="SET SESSION lock_wait_timeout = 30",
        ssl_ca=access.options.get("ssl-ca"),
    )


def _one_line(error: Exception) -> str:
    text = error.args[1] if len(error.args) > 1 else error
    return " ".join(str(text).split())


def from_dsn(text: str, origin: str) -> MySQLServer:
    """Open the server that a DSN from the environment names."""
    server = MySQLServer(admin_access(text), origin=origin)
    server.open()
    return server


def admin_access(text: str) -> Access:
    """Take a DSN from the environment apart; of options only the known ones."""
    access = parse_dsn(text, SCHEMES, PORT, MySQLServer.socket_option)
    unknown = sorted(set(access.options) - {"ssl-ca"})
    if unknown:
        raise NoServerError(f"does not know the option {unknown[0]}")
    return access


def root_access(password: str = "", *, port: int = 0, socket: str = "") -> Access:
    """Say how root logs in; a DSN names a database, and `mysql` is always there."""
    return Access("root", password, port=port, socket=socket, database="mysql")


def local_access() -> Iterator[tuple[Access, str]]:
    """Yield the usual ways into a server on the usual port, each with its name."""
    if is_listening(PORT):
        yield root_access(port=PORT), f"127.0.0.1:{PORT} as root"
    for path in _SOCKETS:
        if path.exists():
            yield root_access(socket=str(path)), f"{path} as root"


def local_servers() -> Iterator[MySQLServer]:
    """Yield the servers that may be MySQL on this machine; none is opened yet."""
    if is_listening(SCRIPT_PORT):
        yield MySQLServer(root_access(port=SCRIPT_PORT), origin=f"127.0.0.1:{SCRIPT_PORT} as root")
    for access, origin in local_access():
        yield MySQLServer(access, origin=origin)


class PrivateMySQL(PrivateServer):
    """A private MySQL, from an installed mysqld or else from the one that mysql97.sh unpacks."""

    backend = "mysql"

    def __init__(self, *, durable: bool = False, options: Sequence[str] = ()) -> None:
        super().__init__(durable=durable, options=options)
        self._mysqld = find_mysqld()

    def _make_server(self) -> MySQLServer:
        access = root_access(self.admin_password, port=self.port)
        program = next(word for word in self._mysqld if word.endswith("mysqld"))
        return MySQLServer(access, origin=f"a private server ({program})")

    def _prepare(self) -> None:
        run_as_server([*self._base(), "--initialize-insecure"], log=self.log)
        write_init_file(self.run_dir / "init.sql", self.admin_password)

    def _base(self) -> list[str]:
        return [*self._mysqld, f"--datadir={self.data_dir}", "--secure-file-priv=NULL"]

    def _command(self) -> list[str]:
        fast = ["--innodb-flush-method=nosync", "--innodb-doublewrite=OFF", "--skip-log-bin"]
        return [
            *self._base(),
            *network_options(self),
            "--mysqlx=OFF",
            *([] if self.durable else ["--innodb-flush-log-at-trx-commit=2", *fast]),
            *self.options,
        ]


def network_options(server: PrivateServer) -> list[str]:
    """Return the options that MySQL and MariaDB share."""
    return [
        "--bind-address=127.0.0.1",
        f"--port={server.port}",
        f"--socket={server.run_dir / 'sock'}",
        f"--pid-file={server.run_dir / 'pid'}",
        f"--init-file={server.run_dir / 'init.sql'}",
        "--skip-name-resolve",
        "--max-connections=200",
    ]


def write_init_file(path: Path, password: str) -> None:
    """Write what the server runs before it takes connections: root logs in over TCP."""
    path.write_text(
        "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n"
        f"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    path.chmod(0o644)  # its directory is the account's alone


def find_mysqld() -> list[str]:
    """Return the command line that runs MySQL's server without a configuration file.

    Raises:
        NoServerError: none is installed, and mysql97.sh cannot unpack one.
    """
    for name in ("mysqld", "/usr/sbin/mysqld"):
        found = shutil.which(name)
        version = version_of(Path(found)) if found else ""
        if found and version and "mariadb" not in version.lower():
            return [found, "--no-defaults"]
    prefix = _script_prefix()
    if not (prefix / "VERSION").is_file():
        run_installer(SCRIPT, "install", MYSQL97_PREFIX=str(prefix))
    root = prefix / "root"
    for lib in root.glob("usr/lib/*-linux-gnu"):
        for loader in lib.glob("ld-linux-*.so.*"):
            unpacked = [str(loader), "--inhibit-cache", "--library-path", str(lib)]
            program = [str(root / "usr/sbin/mysqld"), "--no-defaults", f"--basedir={root / 'usr'}"]
            return [*unpacked, *program]
    raise NoServerError(f"no C library in {root}; delete {prefix} and try again")


def _script_prefix() -> Path:
    """Return where mysql97.sh has unpacked MySQL, or where it can."""
    chosen = os.environ.get("MYSQL97_PREFIX")
    if chosen:
        return Path(chosen)
    default = Path("/opt/mysql97")
    if os.geteuid() == 0 or (default / "VERSION").is_file():
        return default
    return servers_dir() / "mysql97"
