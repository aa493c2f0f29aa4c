"""Fixtures of the tests of encryption: one database a backend, made new for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gproxy_storage import Storage
from gproxy_storage.schema.sync import sync
from tests import servers
from tests.key_management.support import SECRET, reset
from tests.support import opened


@pytest.fixture(scope="session")
def _encryption_dsn(server: servers.Server) -> Iterator[str]:
    name = servers.database_name()
    dsn = server.create_database(name)
    with opened(dsn) as database:
        sync(database)
    yield dsn
    server.drop_database(name)


@pytest.fixture
def dsn(_encryption_dsn: str) -> str:
    """A synced database without a keyring."""
    # Making the tables for each test would take most of the time of all.
    reset(_encryption_dsn)
    return _encryption_dsn


@pytest.fixture
def encrypted(dsn: str) -> Iterator[Storage]:
    """An open storage, encrypted, without rows."""
    with Storage.connect(dsn, SECRET) as storage:
        yield storage
