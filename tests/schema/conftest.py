"""Databases for the tests of the schema: an empty one, and a synced one that is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.errors import SyncFailed
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.support import opened


@pytest.fixture
def empty(database_dsn: str) -> Iterator[Backend]:
    """A database with nothing in it, for one test."""
    with opened(database_dsn) as database:
        yield database


@pytest.fixture(scope="session")
def _kept(server: servers.Server) -> Iterator[str]:
    """The name of a database that is kept for the session, one for each backend."""
    name = servers.database_name()
    server.create_database(name)
    yield name
    server.drop_database(name)


@pytest.fixture
def synced(server: servers.Server, _kept: str) -> Iterator[Backend]:
    """A synced database without rows. A test may change its schema: it is synced, or recreated.

    A test that writes rows takes `empty` instead.
    """
    with opened(server.dsn(_kept)) as database:
        sync(database)
        yield database
        clean = _is_synced(database)
    if not clean and not server.empty_database(_kept):
        server.drop_database(_kept)
        server.create_database(_kept)


def _is_synced(database: Backend) -> bool:
    try:
        sync(database)  # adds what the test took away
    except SyncFailed:
        return False
    return not plan(database).drift
