"""SQLite in the place of a server: databases are files of a directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .base import Access, Server
from .workspace import make_directory, remove_directory


def file_dsn(path: Path) -> str:
    """Return the DSN of a SQLite file that is created when missing."""
    return f"sqlite://{quote(str(path))}?mode=rwc"


class SQLiteServer(Server):
    """The same administrative calls on files; there is no role and no port."""

    backend = "sqlite"
    errors = (sqlite3.Error,)
    scheme = "sqlite"
    socket_option = ""

    def __init__(self) -> None:
        super().__init__(Access(user="", host=""), origin="the Python standard library")
        self.version = sqlite3.sqlite_version
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """Where the files lie, made at the first use."""
        if self._directory is None:
            self._directory = make_directory(self.backend)
        return self._directory

    @property
    def admin_dsn(self) -> str:
        return self.dsn("admin")

    def dsn(self, database: str) -> str:
        return file_dsn(self.directory / f"{database}.db")

    def open(self) -> None:
        """Nothing to check."""

    def close(self) -> None:
        """Delete the directory with all its files."""
        if self._directory is not None:
            remove_directory(self._directory)
            self._directory = None

    def connect(self, database: str = "", *, autocommit: bool = True) -> sqlite3.Connection:
        return sqlite3.connect(
            self.directory / f"{database or 'admin'}.db",
            isolation_level=None if autocommit else "DEFERRED",
        )

    def execute(
        self, sql: str, params: Sequence[object] = (), *, database: str = ""
    ) -> list[tuple[Any, ...]]:
        connection = self.connect(database)
        try:
            return connection.execute(sql, tuple(params)).fetchall()
        finally:
            connection.close()

    def _create(self, name: str) -> None:
        """An empty database is a file that does not exist yet."""

    def drop_database(self, name: str) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            (self.directory / f"{name}.db{suffix}").unlink(missing_ok=True)

    def databases(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("gproxy_test_*.db"))
