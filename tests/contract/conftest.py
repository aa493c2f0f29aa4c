"""Fixtures of the contract: the storage that each backend's tests work on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy_storage import Storage
from tests import servers
from tests.contract.support import Connections
from tests.support import wipe_rows


@pytest.fixture
def storage(shared_database_dsn: str, tmp_path: Path) -> Iterator[Storage]:
    """An open storage with all tables and no rows."""
    # Comparing the schema for every test would take a third of the time of all.
    with Storage.connect(shared_database_dsn, data_dir=tmp_path / "data", sync=False) as opened:
        wipe_rows(opened.database)
        yield opened


@pytest.fixture
def connections(server: servers.Server) -> Connections:
    """The server's view of connections: which one a session has, and ending it."""
    return Connections(server)
