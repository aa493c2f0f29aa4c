"""Permissions to use models are unique by a lock; GPROXY takes none, and its duplicates are one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.errors import ConflictError, MissingReference, WriteError
from gproxy_storage.models import Provider, User, UserModelPermission
from tests import servers
from tests.cases import for_each
from tests.contract.support import NOW, PATIENCE_S, in_threads, insert, rows_of, until
from tests.support import Child, assert_query_count, recorded, run_script

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
only_mysql = pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)


@pytest.fixture
def alice(storage: Storage) -> User:
    return storage.users.create("alice")


@pytest.fixture
def openai(storage: Storage) -> Provider:
    return storage.providers.upsert("openai", channel="openai")


def written_by_gproxy(storage: Storage, user: User, *patterns: str) -> list[int]:
    """Insert permissions for every provider without a look at what is there."""
    with storage.session():
        return [
            insert(UserModelPermission, user=user, model_pattern=each, created_at=NOW).id
            for each in patterns
        ]


def stored_ids(storage: Storage) -> list[int]:
    with storage.session():
        return [row_id for (row_id,) in rows_of(UserModelPermission, "id")]


# -- duplicates that GPROXY wrote ---------------------------------------------------------------


def test_duplicates_are_listed_as_one(storage: Storage, alice: User, openai: Provider) -> None:
    models = storage.access.models
    bob = storage.users.create("bob")
    one, _, two, _, _ = written_by_gproxy(storage, alice, "a", "a", "b", "b", "a")
    three, _ = written_by_gproxy(storage, bob, "a", "a")
    four = models.grant(alice, "a", provider=openai).id

    def listed(**filters: object) -> list[int]:
        rows = models.list(**filters)  # type: ignore[arg-type]  # filters of several types
        unpaged = {name: value for name, value in filters.items() if name in FILTERS}
        if unpaged == filters:
            assert list(models.iter(**filters)) == rows  # type: ignore[arg-type]  # as above
            assert models.count(**filters) == len(rows)  # type: ignore[arg-type]  # as above
        return [row.id for row in rows]

    assert listed() == [one, two, three, four]
    assert listed(user_id=alice.id) == [one, two, four]
    assert listed(provider_id=None) == [one, two, three]
    assert listed(provider_id=openai.id) == [four]
    assert listed(provider_id=[None, openai.id], model_pattern="a") == [one, three, four]
    assert listed(limit=2) == [one, two]
    assert listed(after_id=one, limit=2) == [two, three]
    assert listed(after_id=two, user_id=[alice.id]) == [four]
    assert storage.access.allows(alice, openai, "b")


FILTERS = {"user_id", "provider_id", "model_pattern"}


def test_granting_a_duplicate_returns_its_first_row(storage: Storage, alice: User) -> None:
    first, *_ = rows = written_by_gproxy(storage, alice, "a", "a", "a")
    assert storage.access.models.grant(alice, "a").id == first
    with storage.batch() as batch:
        granted = batch.access.models.grant(alice, "a")
        new = batch.access.models.grant(alice, "b")
    assert granted.id == first
    assert stored_ids(storage) == [*rows, new.id]


def test_duplicates_are_revoked_together(storage: Storage, alice: User, openai: Provider) -> None:
    models = storage.access.models
    written_by_gproxy(storage, alice, "a", "a", "b")
    kept = models.grant(alice, "a", provider=openai)
    assert models.revoke(alice, "a")
    assert [row.model_pattern for row in models.list(provider_id=None)] == ["b"]
    assert not storage.access.allows(alice, openai.id + 1, "a")
    assert models.list(provider_id=openai.id) == [kept]
    assert not models.revoke(alice, "a")


@pytest.mark.parametrize("place", [0, 2], ids=["by the first", "by the last"])
def test_duplicates_are_deleted_together(
    storage: Storage, alice: User, openai: Provider, place: int
) -> None:
    models = storage.access.models
    rows = written_by_gproxy(storage, alice, "a", "a", "a", "b")
    other = models.grant(alice, "a", provider=openai)
    assert models.delete(rows[place]) == 1
    assert stored_ids(storage) == [rows[3], other.id]
    assert models.delete(rows[place]) == 0
    assert models.delete([rows[3], other.id, 10**9]) == 2


def test_two_rows_of_one_permission_are_one_deletion(storage: Storage, alice: User) -> None:
    rows = written_by_gproxy(storage, alice, "a", "a", "a", "b")
    assert storage.access.models.delete(rows[:2]) == 1
    assert stored_ids(storage) == rows[3:]


def test_all_are_deleted(storage: Storage, alice: User) -> None:
    written_by_gproxy(storage, alice, "a", "a", "b")
    assert storage.access.models.delete_all() == 2
    assert stored_ids(storage) == []


@for_each(
    "delete",
    [
        lambda models, alice, _: models.revoke(alice, "a"),
        lambda models, _, rows: models.delete(rows[0]),
        lambda models, _, rows: models.delete(rows[1]),
        lambda models, _, rows: models.delete(rows[:2]),
        lambda models, alice, _: (models.grant(alice, "a"), models.revoke(alice, "a")),
    ],
)
@for_each("again", [False, True])
def test_a_batch_deletes_them_together(
    storage: Storage, alice: User, delete: Callable[..., object], again: bool
) -> None:
    storage.access.models.delete_all()
    rows = written_by_gproxy(storage, alice, "a", "a", "b")
    with storage.batch() as batch:
        delete(batch.access.models, alice, rows)
        new = batch.access.models.grant(alice, "a") if again else None
    assert stored_ids(storage) == [rows[2], *([new.id] if new else [])]


# -- one row, also of concurrent grants -----------------------------------------------------------


def test_a_grant_takes_few_statements(storage: Storage, alice: User) -> None:
    with recorded(storage.database) as statements:
        storage.access.models.grant(alice, "a")
    assert len(statements) == 6  # BEGIN, a savepoint, and three: COMMIT is not recorded
    with assert_query_count(storage.database, 3) as statements:
        storage.access.models.grant(alice, "a")
    assert not any(sql.startswith("INSERT") for sql in statements.sent)


def test_a_batch_asks_no_more_for_more_permissions(storage: Storage, alice: User) -> None:
    counts = []
    for number in (2, 200):
        batch = storage.batch()
        for each in range(number):
            batch.access.models.grant(alice, f"{number}-{each}")
        with recorded(storage.database) as statements:
            batch.write()
        counts.append(len(statements))
    assert counts[0] == counts[1]
    assert storage.access.models.count() == 202


def test_a_user_deleted_meanwhile_is_a_missing_reference(storage: Storage, alice: User) -> None:
    storage.users.delete(alice.id)
    with pytest.raises(MissingReference, match="user points to a row of users") as caught:
        storage.access.models.grant(alice, "a")
    assert caught.value.argument == "user"
    with storage.transaction():  # which goes on
        with pytest.raises(MissingReference):
            storage.access.models.grant(alice.id, "a")
        storage.users.create("bob")
    assert storage.users.count() == 1


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_user_replaced_meanwhile_is_granted_the_permission(storage: Storage, alice: User) -> None:
    database = storage.database
    replaced = threading.Event()

    def replace() -> None:
        with storage.transaction():
            User.delete().where(User.id == alice.id).execute()
            insert(User, id=alice.id)
            replaced.set()
            until(lambda: database.query("SELECT 1 FROM pg_locks WHERE NOT granted"))

    def grant() -> None:
        assert replaced.wait(PATIENCE_S)
        storage.access.models.grant(alice.id, "a")

    in_threads(replace, grant)
    assert len(stored_ids(storage)) == 1


PROCESSES = 4
USERS = (1, 2, 3, 4, 5)


def grant_all(storage: Storage, number: int) -> str:
    """Grant the same permissions as the others; every third time by a batch, in its own order."""
    lost = 0
    for turn in range(12):
        users = USERS[number:] + USERS[:number]
        try:
            if turn % 3 == 0:
                with storage.batch() as batch:
                    for user in users:
                        batch.access.models.grant(user, f"{turn}*")
                        batch.access.models.grant(user, f"{turn}*", provider=1)
            else:
                for user in users:
                    storage.access.models.grant(user, f"{turn}*")
        except MissingReference:
            lost += 1
    return str(lost)


def replace_users(storage: Storage) -> str:
    """Delete users, and insert others with their ids."""
    for turn in range(25):
        user = USERS[turn % len(USERS)]

        def replace(user: int = user) -> None:
            User.delete().where(User.id == user).execute()
            insert(User, id=user)

        storage.run_transaction(replace)
    return ""


def test_processes_grant_the_same_while_users_are_deleted(storage: Storage) -> None:
    with storage.session():
        insert(Provider, id=1)
        for user in USERS:
            insert(User, id=user)
    ready, gate = os.pipe()

    def at_once(work: Callable[[], str]) -> Callable[[], str]:
        def run() -> str:
            os.close(gate)
            os.read(ready, 1)  # ends when the parent opens the gate by closing it
            said = work()
            storage.close()
            return said

        return run

    works: list[Callable[[], str]] = [lambda: replace_users(storage)]
    works += [lambda number=number: grant_all(storage, number) for number in range(PROCESSES)]  # type: ignore[misc]  # a default argument
    children = [Child(at_once(work)) for work in works]
    os.close(ready)
    os.close(gate)
    for child in children:
        child.check()

    with storage.session():
        twice = storage.database.query(
            "SELECT user_id, provider_id, model_pattern FROM user_model_permissions "
            "GROUP BY user_id, provider_id, model_pattern HAVING COUNT(*) > 1"
        )
        orphans = storage.database.query(
            "SELECT p.id FROM user_model_permissions p LEFT JOIN users u ON u.id = p.user_id "
            "WHERE u.id IS NULL"
        )
    assert (twice, orphans) == ([], [])
    assert storage.access.models.count() == len(stored_ids(storage)) > 0


# -- transactions of other isolation ------------------------------------------------------------


def repeatable_read(database: Backend) -> None:
    scope = "SESSION CHARACTERISTICS AS" if database.name == "postgres" else "SESSION"
    run_script(database, f"SET {scope} TRANSACTION ISOLATION LEVEL REPEATABLE READ")


@only_servers
def test_a_transaction_that_sees_the_past_is_refused(storage: Storage, alice: User) -> None:
    with storage.session():
        repeatable_read(storage.database)
        try:
            with pytest.raises(WriteError, match="this transaction is REPEATABLE READ"):
                storage.access.models.grant(alice, "a")
            with (
                pytest.raises(WriteError, match="under READ COMMITTED"),
                storage.batch() as batch,
            ):
                batch.access.models.grant(alice, "a")
        finally:
            storage.database.replace_connection()
    assert stored_ids(storage) == []


@only_servers
def test_a_transaction_sees_what_others_granted_since_it_began(
    storage: Storage, alice: User
) -> None:
    models = storage.access.models
    with storage.transaction():
        assert models.list() == []
        in_threads(lambda: models.grant(alice, "a"))
        (granted,) = models.list()
        assert models.grant(alice, "a") == granted


# -- tables of GPROXY's, where a collation takes several patterns for one ------------------------


@only_mysql
def test_patterns_that_a_collation_takes_for_one(database_dsn: str) -> None:
    with Storage.connect(database_dsn) as storage:
        run_script(
            storage.database,
            "ALTER TABLE user_model_permissions CONVERT TO CHARACTER SET utf8mb4 "
            "COLLATE utf8mb4_general_ci",
        )
        alice = storage.users.create("alice")
        openai = storage.providers.upsert("openai", channel="openai")
        models = storage.access.models
        lower, upper = models.grant(alice, "gpt"), models.grant(alice, "GPT")
        assert (upper.model_pattern, upper.id != lower.id) == ("GPT", True)
        assert models.list() == [lower, upper]
        assert models.count() == 2
        assert models.revoke(alice, "gpt")
        assert models.list() == [upper]
        assert models.delete(upper.id) == 1

        models.grant(alice, "gpt", provider=openai)
        with pytest.raises(ConflictError):  # GPROXY's own index knows one of them
            models.grant(alice, "GPT", provider=openai)
        with pytest.raises(ConflictError), storage.batch() as batch:
            batch.access.models.grant(alice, "GPT", provider=openai)
        assert [row.model_pattern for row in models.list()] == ["gpt"]
