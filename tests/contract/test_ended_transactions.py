"""A transaction that the database ends before its block does: nothing of the block is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.database import translated
from gproxy_storage.errors import ConflictError, ConnectError, StorageError, WriteError
from gproxy_storage.models import User, UserQuota
from tests import servers
from tests.contract.support import PATIENCE_S, Connections, in_threads, insert, names

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)


class Abort(Exception):  # noqa: N818 - not an error
    """Raised by a block that wants its transaction rolled back."""


def roll_back_by_itself(storage: Storage) -> None:
    """Fail a statement as SQLite does on a full disk, where it rolls back the transaction, too."""
    row = "('twice', '', '')"
    with translated(storage.database, writing=True):
        storage.database.execute_sql(
            f"INSERT OR ROLLBACK INTO storage_state (name, value, updated_at) VALUES {row}, {row}"
        )


def add_in_a_savepoint(storage: Storage, user: User) -> None:
    storage.quotas.add_cost(user, 1)


def add_bare(storage: Storage, user: User) -> None:
    with translated(storage.database, writing=True):
        UserQuota.update(cost_used=UserQuota.cost_used + 1).where(UserQuota.user == user).execute()


AddCost = Callable[[Storage, User], object]
Ending = Callable[[Callable[[Callable[[], object]], None]], None]


def in_deadlock(
    storage: Storage, work: Callable[[Callable[[], object]], None], add: AddCost
) -> None:
    """Run `work` twice at once; what it is given deadlocks with the other's, and fails in one."""
    users = [storage.users.create(name) for name in ("first", "second")]
    for user in users:
        storage.quotas.add_cost(user, 0)
    both = threading.Barrier(2)

    def rival(mine: User, others: User) -> Callable[[], None]:
        def deadlock() -> None:
            add(storage, mine)
            both.wait(PATIENCE_S)
            add(storage, others)

        return lambda: work(deadlock)

    in_threads(rival(users[0], users[1]), rival(users[1], users[0]))


@pytest.fixture(params=["in a savepoint", "bare"])
def bare(request: pytest.FixtureRequest) -> bool:
    """Whether the statement that fails is the block's own, and in no savepoint."""
    return bool(request.param == "bare")


@pytest.fixture
def run_ended(storage: Storage, backend: str, bare: bool) -> Ending:
    """Calls a test's function with a call that makes the database end the transaction."""
    if backend != "sqlite":
        return lambda work: in_deadlock(storage, work, add_bare if bare else add_in_a_savepoint)

    def fail() -> None:
        roll_back_by_itself(storage)

    return lambda work: work(fail if bare else lambda: storage.run_transaction(fail))


def test_a_block_that_caught_the_error_stores_nothing_and_raises(
    storage: Storage, backend: str, run_ended: Ending, bare: bool
) -> None:
    # There the transaction is kept and rolled back to the savepoint, or takes no more statements.
    is_kept = backend == "postgres" and not bare
    refusal = "was ended before the block|refused the statement"
    failures: list[StorageError] = []
    ended: list[WriteError] = []

    def work(fail: Callable[[], object]) -> None:
        name = threading.current_thread().name
        failed = False
        try:
            with storage.transaction():
                storage.users.create(f"before {name}")
                try:
                    fail()
                except StorageError as exc:
                    failed = True
                    failures.append(exc)
                    if not is_kept:
                        with pytest.raises(StorageError, match=refusal):
                            storage.users.create(f"after {name}")
                        with pytest.raises(StorageError, match=refusal):
                            storage.users.count()
                else:
                    raise Abort
        except Abort:
            assert not failed
        except WriteError as exc:
            ended.append(exc)

    run_ended(work)
    left = [name for name in names(storage) if name.startswith(("before", "after"))]

    # The first error is what is said, not that of the rollback after it.
    assert [type(exc) for exc in failures] == [ConflictError if backend == "sqlite" else WriteError]
    if is_kept:
        assert (ended, [name.split()[0] for name in left]) == ([], ["before"])
    else:
        assert left == []
        assert [exc.committed for exc in ended] == [False]
        assert "was ended before the block" in str(ended[0])
        assert isinstance(ended[0].__cause__, peewee.PeeweeException)
    assert not storage.database.in_transaction()
    assert storage.users.create("next").id


def test_the_error_of_a_block_is_its_own_and_not_the_rollbacks(
    storage: Storage, run_ended: Ending
) -> None:
    def work(fail: Callable[[], object]) -> None:
        with pytest.raises(Abort) as caught, storage.transaction():  # noqa: PT012 - the block is the subject
            storage.users.create(f"before {threading.current_thread().name}")
            try:
                fail()
            except StorageError as exc:
                raise Abort from exc
            raise Abort
        assert type(caught.value) is Abort

    run_ended(work)

    assert [name for name in names(storage) if name.startswith("before")] == []


@pytest.mark.parametrize("inner", [False, True], ids=["outermost", "in a savepoint"])
def test_the_error_of_a_block_is_its_own_where_its_connection_is_lost(
    storage: Storage, connections: Connections, inner: bool
) -> None:
    def lose() -> None:
        with pytest.raises(Abort), storage.transaction():  # noqa: PT012 - the block is the subject
            storage.users.create("alice")
            connections.kill_own(storage)
            raise Abort

    if inner:
        with pytest.raises(WriteError, match="was ended before the block"), storage.transaction():
            lose()
    else:
        lose()

    assert names(storage) == []


def test_a_statements_error_that_was_caught(storage: Storage, backend: str) -> None:
    """After it PostgreSQL takes no other statement, and would roll back at COMMIT in silence."""
    failures: list[StorageError] = []

    def block() -> None:
        with storage.transaction():
            storage.users.create("alice")
            with pytest.raises(ConflictError):
                storage.users.create("alice")  # in a savepoint
            for _ in range(2):
                with pytest.raises(StorageError) as caught, translated(database, writing=True):
                    database.execute_sql("INSERT INTO users (id) VALUES ('text')")
                failures.append(caught.value)

    database = storage.database
    if backend != "postgres":
        block()
        assert names(storage) == ["alice"]
        return
    with pytest.raises(WriteError, match="was ended before the block") as ended:
        block()
    assert (ended.value.committed, ended.value.__cause__) == (False, failures[0].__cause__)
    assert names(storage) == []


@only_servers
def test_a_callback_that_swallowed_it_is_run_again(
    storage: Storage, backend: str, bare: bool
) -> None:
    """The transaction is retried, for nothing of it is stored."""
    is_kept = backend == "postgres" and not bare
    add = add_bare if bare else add_in_a_savepoint
    calls: list[str] = []
    users = [storage.users.create(name) for name in ("first", "second")]
    for user in users:
        storage.quotas.add_cost(user, 0)
    both = threading.Barrier(2)

    def rival(mine: User, others: User) -> Callable[[], object]:
        def work() -> None:
            calls.append(mine.name)
            add(storage, mine)
            if calls.count(mine.name) == 1:
                both.wait(PATIENCE_S)
            try:
                add(storage, others)
            except StorageError:
                if is_kept:
                    raise

        return lambda: storage.run_transaction(work)

    in_threads(rival(users[0], users[1]), rival(users[1], users[0]))

    assert len(calls) == 3
    assert [storage.quotas.get(user).cost_used for user in users] == [2, 2]


def test_a_lost_connection_inside_of_a_block(storage: Storage, connections: Connections) -> None:
    def block() -> None:
        with storage.transaction():
            storage.users.create("alice")
            connections.kill_own(storage)
            with pytest.raises(ConnectError):
                storage.users.create("bob")
            with pytest.raises(WriteError, match="was ended before the block"):
                storage.users.create("carol")  # and not on another connection

    with pytest.raises(WriteError, match="was ended before the block"):
        block()

    assert names(storage) == []


def test_a_block_lost_at_commit_says_that_it_is_unknown(
    storage: Storage, connections: Connections
) -> None:
    with pytest.raises(WriteError, match="during COMMIT") as caught, storage.transaction():  # noqa: PT012 - the block is the subject
        storage.users.create("alice")
        connections.kill_own(storage)

    assert caught.value.committed is None
    assert names(storage) == []


@pytest.mark.parametrize("way", ["a block", "a batch", "a session"])
def test_a_transaction_begins_again_if_its_connection_was_lost_while_idle(
    storage: Storage, connections: Connections, way: str
) -> None:
    with storage.session():
        number = connections.own(storage)
    connections.kill(number)

    if way == "a block":
        with storage.transaction():
            insert(User, name="alice")
    elif way == "a batch":
        with storage.batch() as batch:
            batch.users.upsert("alice")
    else:
        with storage.session(), storage.transaction():
            storage.users.create("alice")

    assert names(storage) == ["alice"]
