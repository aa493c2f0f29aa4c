"""A server that only reads, after a failover: another may lead behind the same address by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymysql
import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import Failure, postgres_session
from gproxy_storage.backends.mysql import MySQLBackend
from gproxy_storage.backends.sqlite import SqliteBackend
from gproxy_storage.dsn import Dsn
from gproxy_storage.errors import WriteError
from tests import servers
from tests.cases import for_each
from tests.contract.support import Connections, names, until

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
ONLY_READS = {
    "postgres": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


@pytest.fixture
def storage(synced_dsn: str, tmp_path: Any) -> Any:
    with Storage.connect(synced_dsn, data_dir=tmp_path) as opened:
        yield opened


@pytest.fixture
def connections(server: servers.Server) -> Connections:
    return Connections(server)


def give_way(storage: Storage) -> None:
    """Make this thread's connection one to a server that only reads; new ones may write."""
    with storage.session():
        storage.database.execute_sql(ONLY_READS[storage.database.name])


def in_a_transaction(storage: Storage) -> None:
    storage.run_transaction(lambda: [storage.users.count(), storage.users.create("alice")])


def in_a_batch(storage: Storage) -> None:
    with storage.batch() as batch:
        batch.users.upsert("alice")


WAYS: list[Callable[[Storage], object]] = [
    lambda storage: storage.users.create("alice"),
    lambda storage: storage.users.create("alice", password="pa"),  # a statement with a secret
    in_a_transaction,
    in_a_batch,
]


@only_servers
@pytest.mark.parametrize("write", WAYS, ids=["row", "secret", "transaction", "batch"])
@pytest.mark.parametrize("held", [False, True], ids=["", "in a session"])
def test_a_connection_that_only_reads_is_replaced(
    storage: Storage, connections: Connections, write: Callable[[Storage], object], held: bool
) -> None:
    with storage.session():
        give_way(storage)
        old = connections.own(storage)
        if held:
            write(storage)
    if not held:
        write(storage)

    assert names(storage) == ["alice"]
    connections.wait_until_gone(old)


@only_servers
def test_a_block_of_the_caller_raises_and_leaves_no_such_connection(
    storage: Storage, connections: Connections
) -> None:
    give_way(storage)

    def write() -> None:
        with storage.transaction():
            storage.users.create("alice")

    with pytest.raises(WriteError, match="cannot be written: the server at this address") as caught:
        write()
    assert caught.value.committed is False
    write()
    assert names(storage) == ["alice"]


@only_servers
def test_a_sink_is_not_stopped_by_one(storage: Storage) -> None:
    with storage.sink() as sink:
        sink.submit_usage(model="first")
        assert sink.flush(60)
        give_way(storage)
        sink.submit_usage(model="second")
        until(lambda: storage.usages.count(model="second") == 1)
        assert sink.stats().rejected == 0


@only_servers
def test_one_that_goes_on_reading_only_is_named(
    storage: Storage, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0
    connect: Any = type(storage.database)._connect

    def connecting(self: Any) -> Any:
        nonlocal opened
        opened += 1
        return connect(self)

    monkeypatch.setattr(type(storage.database), "_connect", connecting)
    if backend == "postgres":
        name = "default_transaction_read_only"
        monkeypatch.setitem(postgres_session.SETTINGS, name, "on")
    else:
        name = "transaction_read_only" if backend == "mysql" else "tx_read_only"
        storage.database._settings = {**storage.database._settings, name: 1}  # type: ignore[attr-defined]  # MySQL's
    storage.database.pool.close_idle()

    with pytest.raises(WriteError) as caught:
        storage.users.create("alice")

    assert "standby" in str(caught.value)
    assert "file" not in str(caught.value)
    assert opened == 2
    assert storage.users.list() == []  # reading goes on


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_a_server_that_is_set_to_read_only(
    private_server: servers.PrivateServer, tmp_path: Any
) -> None:
    server = private_server.server
    dsn = server.create_database(servers.database_name())
    with Storage.connect(dsn, data_dir=tmp_path) as storage, storage.sink() as sink:
        storage.users.create("before")
        server.execute("SET GLOBAL read_only = 1")
        with pytest.raises(WriteError, match="is read-only: it is a standby"):
            storage.users.create("refused")
        sink.submit_usage(model="waits")
        until(lambda: sink.stats().away)
        server.execute("SET GLOBAL read_only = 0")
        storage.users.create("after")
        until(lambda: storage.usages.count() == 1)
        assert names(storage) == ["before", "after"]
        assert sink.stats().rejected == 0


# -- what the answers mean ----------------------------------------------------------------------


@for_each(
    ("code", "said", "failure"),
    [
        (1290, "The MySQL server is running with the --read-only option so it cannot", "READ_ONLY"),
        (1290, "... with the --super-read-only option so it cannot", "READ_ONLY"),
        (1290, "... with the --secure-file-priv option so it cannot", "OTHER"),
        (1290, "... with the --skip-grant-tables option so it cannot", "OTHER"),
        (1792, "Cannot execute statement in a READ ONLY transaction.", "READ_ONLY"),
        (1836, "Running in read-only mode", "READ_ONLY"),
        (1874, "InnoDB is in read only mode.", "READ_ONLY"),
        (1047, "WSREP has not yet prepared node for application use", "LOST"),
        (1047, "Unknown command", "OTHER"),
        (3032, "The server is currently in offline mode", "LOST"),
    ],
)
def test_answers_of_mysql_and_mariadb(code: int, said: str, failure: str) -> None:
    backend = MySQLBackend(Dsn.parse("mysql://u@h/d"))

    found = backend.classify(pymysql.OperationalError(code, said))

    assert found is Failure[failure]
    assert backend.must_replace(found) == (failure == "READ_ONLY")


def test_a_file_is_no_server(tmp_path: Any) -> None:
    backend = SqliteBackend(Dsn.parse(f"sqlite://{tmp_path}/x.db"))

    assert not backend.must_replace(Failure.READ_ONLY)
    assert "permissions" in backend.only_reads
