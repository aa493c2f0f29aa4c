"""What contract tests share: rows, threads, children, the server's connections."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.encrypted_fields import EncryptedField
from gproxy_storage.errors import InvalidValue
from gproxy_storage.fields import JSONField
from gproxy_storage.models import (
    ENCRYPTED_FIELDS,
    Credential,
    Provider,
    Table,
    User,
    UserKey,
    UserQuota,
)
from gproxy_storage.sink.rejects import read_rejects
from tests import leaks, servers
from tests.support import PATIENCE_S as PATIENCE_S  # noqa: PLC0414 - for those who import it from here
from tests.support import Child, assert_query_count, wipe_rows

T = TypeVar("T", bound=Table)

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
CANARY = "canary/row+é"
leaks.register(CANARY)

_numbers = count(1)


def wipe(storage: Storage) -> None:
    """Delete all rows but the keyring's."""
    wipe_rows(storage.database)


def with_options(dsn: str, **options: object) -> str:
    """Return the DSN with further parameters."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{dsn}{'&' if '?' in dsn else '?'}{query}"


# -- rows ---------------------------------------------------------------------------------------

_SAMPLES: dict[str, Callable[[], Any]] = {
    "DATETIME": lambda: NOW,
    "JSON": dict,
    "BOOL": lambda: True,
    "INT": lambda: 1,
    "BIGINT": lambda: 1,
    "DOUBLE": lambda: 1.0,
    "VARCHAR": lambda: f"name{next(_numbers)}",
    "TEXT": lambda: "text",
}


def insert(model: type[T], **given: Any) -> T:
    """Insert a row and return it: the values given, samples for what must not be NULL.

    A foreign key that is not given points to a new row. Needs a session.
    """
    values = dict(given)
    for field in model._meta.sorted_fields:
        if field.name in values or field.column_name in values or field.null:
            continue
        if isinstance(field, peewee.ForeignKeyField):
            values[field.name] = insert(field.rel_model)
        elif isinstance(field, EncryptedField):
            values[field.name] = _secret(field)
        elif not field.auto_increment:
            values[field.name] = _SAMPLES[field.field_type]()
    created: T = model.create(**values)
    return created


def opened(row: Table) -> dict[str, Any]:
    """Return a row's values, the encrypted ones opened."""
    names = {field.name for field in ENCRYPTED_FIELDS.get(type(row), ())} & row.__data__.keys()
    return {**row.__data__, **{name: getattr(row, name) for name in names}}


def rows_of(model: type[Table], *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows by primary key. Needs a session."""
    fields = [getattr(model, column) for column in columns]
    query: Any = model.select(*fields).order_by(model._meta.primary_key).tuples()
    return list(query)


PASSWORD = "correct horse"


def write_each_aggregate(storage: Any) -> tuple[Any, Any, str]:
    """Write a row of each aggregate by its repository, of a storage or a batch; not of the logs.

    Returns:
        The user, named "new", with `PASSWORD`; its key; the key's plaintext.
    """
    provider = storage.providers.create("new", channel="c")
    credential = storage.credentials.create(provider, kind="k", secret={"a": 1})
    storage.statuses.upsert(credential, "c", health_kind="ok")
    storage.catalog.upsert(provider, "m")
    user = storage.users.create("new", password=PASSWORD)
    key, plaintext = storage.keys.create(user)
    storage.access.models.grant(user, "x*")
    storage.access.files.grant(user, provider)
    storage.access.limits.upsert(user, "*", rpm=1)
    storage.files.upsert(
        user=user, user_key=key, provider=provider, credential=credential, file_id="f"
    )
    storage.claude_files.upsert(
        provider, "f", file_created_at="t", filename="n", mime_type="m", size_bytes=1, raw={}
    )
    return user, key, plaintext


PARENTS: dict[str, type[Table]] = {
    "user_id": User,
    "user_key_id": UserKey,
    "provider_id": Provider,
    "credential_id": Credential,
}
"""The parents of a usage, by column."""


def parents(storage: Storage) -> dict[str, Table]:
    """Insert a row of each, and return them by column."""
    with storage.session():
        return {column: insert(model) for column, model in PARENTS.items()}


def ids(rows: dict[str, Table]) -> dict[str, Any]:
    """Return the ids of rows by column."""
    return {column: row.get_id() for column, row in rows.items()}


@contextmanager
def refused_unasked(
    storage: Storage,
    argument: str | None = None,
    *,
    kind: type[Exception] = InvalidValue,
    match: str | None = None,
) -> Iterator[None]:
    """Expect a refusal for which no statement was sent: a test of it is SQLITE_ALONE.

    Args:
        argument: what the error names as its `argument`.
    """
    with assert_query_count(storage.database, 0), pytest.raises(kind, match=match) as caught:
        yield
    if argument is not None:
        assert getattr(caught.value, "argument", None) == argument


def names(storage: Storage) -> list[str]:
    """Return the users' names, by id."""
    return [user.name for user in storage.users.list()]


def quotas(storage: Storage) -> list[tuple[Any, ...]]:
    """Return user, quota and cost used of all quotas, by user."""
    with storage.session():
        return sorted(rows_of(UserQuota, "user_id", "quota", "cost_used"))


def row_count(storage: Storage, model: type[Table]) -> int:
    """Return how many rows a table has."""
    with storage.session():
        return int(model.select().count())


def rejects(storage: Storage) -> list[dict[str, Any]]:
    """Return the rows that sinks of this storage rejected."""
    return [found for path in storage.spool_dir.glob("*.rejects") for found in read_rejects(path)]


def spool_files(storage: Storage) -> list[str]:
    """Return the suffixes of the files of this storage's sinks: `.spool`, `.rejects`."""
    return sorted(path.suffix for path in storage.spool_dir.iterdir())


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread or process brings about."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.005)


def _secret(field: EncryptedField) -> Any:
    """Return a canary: found in any output, log or error, it fails the test."""
    text = f"{CANARY} {next(_numbers)}"
    return {"api_key": text} if isinstance(field, JSONField) else text


# -- threads ------------------------------------------------------------------------------------


def in_threads(*functions: Callable[[], object]) -> None:
    """Run the functions at once, each in a thread of its own; raise the first error of any."""
    errors: list[BaseException] = []
    ready = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        try:
            ready.wait(PATIENCE_S)
            function()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in functions]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError(f"a thread still runs after {PATIENCE_S:g} s")


# -- children -----------------------------------------------------------------------------------


def in_child(function: Callable[[], object]) -> str:
    """Run a function in a forked child and return its result as text; fail where it raised."""
    return Child(lambda: str(function())).check()


class Signal:
    """An event between processes, made before the fork."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def set(self) -> None:
        os.write(self._write, b"!")

    def wait(self) -> None:
        os.read(self._read, 1)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


# -- the server's connections -------------------------------------------------------------------

_OWN_ID = {
    "postgres": "SELECT pg_backend_pid()",
    "mysql": "SELECT CONNECTION_ID()",
    "mariadb": "SELECT CONNECTION_ID()",
}


@dataclass(frozen=True)
class Connections:
    """A server's connections, as its administrator sees them."""

    server: servers.Server

    def own(self, storage: Storage) -> Any:
        """Return what this thread's connection is known by: SQLite's is itself."""
        database = storage.database
        if self.server.backend == "sqlite":
            return database.connection()
        return database.query(_OWN_ID[self.server.backend])[0][0]

    def kill(self, number: Any) -> None:
        """End a connection from the server's side and wait until it is gone."""
        if self.server.backend == "sqlite":
            number.close()  # there is no server to lose, but a connection can break
            return
        if self.server.backend == "postgres":
            rows = self.server.execute("SELECT pg_terminate_backend(%s, 600000)", (number,))
            assert rows == [(True,)]
            return
        self.server.execute(f"KILL {number}")
        self.wait_until_gone(number)

    def kill_own(self, storage: Storage) -> None:
        """End this thread's session's connection."""
        self.kill(self.own(storage))

    def is_open(self, number: int) -> bool:
        """Tell whether a server still has a connection."""
        table, column = (
            (self.server.processlist, "id")
            if isinstance(self.server, servers.MySQLServer)
            else ("pg_stat_activity", "pid")
        )
        return bool(self.server.execute(f"SELECT 1 FROM {table} WHERE {column} = %s", (number,)))

    def wait_until_gone(self, number: int) -> None:
        """Wait until the server has ended a connection."""
        deadline = time.monotonic() + PATIENCE_S
        while self.is_open(number):
            assert time.monotonic() < deadline, "the server keeps the connection"
            time.sleep(0.005)  # the server tells nobody when it is done

    @contextmanager
    def rival(self, storage: Storage) -> Iterator[Any]:
        """A cursor of another client's, in a transaction of its own that is never committed."""
        dsn = storage.database.dsn
        connection = self.server.connect(dsn.database or Path(dsn.path).stem, autocommit=False)
        try:
            yield connection.cursor()
        finally:
            connection.rollback()
            connection.close()
