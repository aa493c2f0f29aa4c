"""Servers that are set up in unusual ways, private ones: the schema is the same on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.errors import ConflictError, MissingReference, NotFoundError, SyncFailed
from gproxy_storage.schema.sync import plan, sync
from gproxy_storage.storage import Storage
from tests import servers
from tests.conftest import in_ci
from tests.servers.mysql import PrivateMySQL
from tests.servers.postgres import PrivatePostgres, wheel_binaries
from tests.support import assert_query_count, opened, run_script, wipe_schema

pytestmark = pytest.mark.slow

STRANGE = {
    "mysql": (
        "--sql-mode=ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES",
        "--default-storage-engine=MyISAM",
        "--character-set-server=latin1",
        "--sql-require-primary-key=ON",
        "--sql-generate-invisible-primary-key=ON",
        "--explicit-defaults-for-timestamp=OFF",
        "--innodb-default-row-format=compact",
        "--default-time-zone=+05:30",
    ),
    "mariadb": (
        "--sql-mode=ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES",
        "--default-storage-engine=Aria",
        "--character-set-server=latin1",
        "--explicit-defaults-for-timestamp=OFF",
        "--innodb-default-row-format=compact",
        "--default-time-zone=+05:30",
        "--lower-case-table-names=1",
        "--plugin-load-add=metadata_lock_info",
    ),
}


HOSTILE = (  # not options of the command line, or in the way of the harness
    "foreign_key_checks = 0",
    "unique_checks = 0",
    "lc_messages = 'de_DE'",
    "sql_safe_updates = 1",
    "sql_select_limit = 1",
    "completion_type = CHAIN",
    "autocommit = 0",
)
READ_ONLY = {"mysql": "transaction_read_only = 1", "mariadb": "tx_read_only = 1"}


class LowerCaseMySQL(PrivateMySQL):
    """MySQL takes this option only when its data directory is made."""

    def _base(self) -> list[str]:
        return [*super()._base(), "--lower-case-table-names=1"]


@contextmanager
def running(make: Callable[[], servers.PrivateServer]) -> Iterator[servers.Server]:
    """A private server for the block; a skip where there is none, in CI a failure."""
    try:
        own = make().start()
    except servers.NoServerError as error:
        if in_ci():
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        yield own.server
    finally:
        own.close()


def assert_works(dsn: str) -> None:
    """Sync, sync again, and use it."""
    with opened(dsn) as database:
        assert sync(database)
        with assert_query_count(database, 3) as statements:
            assert not sync(database)
        assert not statements.locks
        assert not plan(database).drift
    with Storage.connect(dsn) as storage:
        alice = storage.users.create("Alice")
        assert storage.users.create("alice").id != alice.id
        assert storage.users.get(alice.id).name == "Alice"
        with pytest.raises(NotFoundError):
            storage.users.get(99)
        with pytest.raises(ConflictError) as conflict:
            storage.users.create("Alice")
        assert (conflict.value.table, conflict.value.fields) == ("users", ("name",))
        with pytest.raises(MissingReference):
            storage.keys.create(99)


MAKE: dict[str, Callable[[], servers.PrivateServer]] = {
    "mysql": lambda: LowerCaseMySQL(options=STRANGE["mysql"]),
    "mariadb": lambda: servers.private("mariadb", options=STRANGE["mariadb"]),
}


@pytest.mark.parametrize("backend_name", ["mysql", "mariadb"])
def test_unusual_server_settings_do_not_matter(backend_name: str) -> None:
    with running(MAKE[backend_name]) as server:
        dsn = server.create_database(servers.database_name())
        other_dsn = server.create_database(servers.database_name())
        for setting in (*HOSTILE, READ_ONLY[backend_name]):
            server.execute(f"SET GLOBAL {setting}")
        assert_works(other_dsn)
        for setting in (
            "tx_read_only" if backend_name == "mariadb" else "transaction_read_only",
            "autocommit",
            "completion_type",
            "sql_select_limit",
        ):
            server.execute(f"SET GLOBAL {setting} = DEFAULT")
        assert_works(dsn)
        # Where the case of names is ignored, the database is the same, and so is its lock.
        with opened(dsn) as database, opened(dsn) as other:
            other.database = database.database.upper()
            run_script(database, "ALTER TABLE users DROP COLUMN password")
            assert held_lock_is_seen(database, other)
            assert sync(other)
            wipe_schema(other)
            run_script(other, "CREATE TABLE USERS (ID BIGINT AUTO_INCREMENT PRIMARY KEY)")
            assert {one.table for one in plan(database).incompatible} == {"users"}
        if backend_name == "mariadb":
            assert_says_who_holds_a_table(server)


def held_lock_is_seen(database: Backend, other: Backend) -> bool:
    """Whether a sync cannot begin while one of the same database, written otherwise, goes on."""
    refused = False

    def hook(name: str) -> None:
        nonlocal refused
        if name == "locked":
            try:
                sync(other, lock_timeout_s=0)
            except SyncFailed as error:
                refused = "waiting for the sync lock" in str(error)

    assert sync(database, hook=hook)
    run_script(database, "ALTER TABLE users DROP COLUMN password")
    return refused


def assert_says_who_holds_a_table(server: servers.Server) -> None:
    """With the plugin that can tell, and a user who may ask."""
    name = servers.database_name()
    server.create_database(name)
    access = replace(server.access, database=name)
    holder = server.connect(name, autocommit=False)
    with opened(access.dsn(server.scheme, server.socket_option)) as database:
        sync(database)
        run_script(database, "ALTER TABLE users DROP COLUMN password")
        with holder.cursor() as cursor:
            cursor.execute("SELECT id FROM users")
        with pytest.raises(SyncFailed, match=rf"\(connection {holder.thread_id()}, user root\)"):
            sync(database, lock_timeout_s=0.1)
    holder.close()


def test_sync_works_on_the_newest_postgres() -> None:
    with running(lambda: PrivatePostgres(binaries=wheel_binaries())) as server:
        assert_works(server.create_database(servers.database_name()))
