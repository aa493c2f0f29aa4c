"""Keys that the database generates, in tables whose rows came with given keys, as GPROXY's do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError
from gproxy_storage.models import (
    ClaudeFile,
    Credential,
    CredentialStatus,
    DownstreamRequest,
    LLMModel,
    Provider,
    Table,
    UpstreamRequest,
    Usage,
    User,
    UserCredentialFile,
    UserFilePermission,
    UserKey,
    UserModelPermission,
    UserQuota,
    UserRateLimit,
)
from gproxy_storage.sink.rejects import read_rejects
from tests.contract.support import (
    PATIENCE_S,
    in_threads,
    insert,
    rows_of,
    write_each_aggregate,
)
from tests.support import Child, recorded, run_script

GENERATED: tuple[type[Table], ...] = (
    Provider,
    Credential,
    CredentialStatus,
    User,
    UserKey,
    LLMModel,
    UserModelPermission,
    UserFilePermission,
    UserRateLimit,
    UserQuota,
    Usage,
    UpstreamRequest,
    DownstreamRequest,
    UserCredentialFile,
    ClaudeFile,
)
REQUEST: dict[str, Any] = {"request_method": "GET"}

only_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


def occupy(storage: Storage, *models: type[Table], rows: int = 3) -> dict[type[Table], int]:
    """Give tables rows with the keys that come next, as if others chose them; return the last."""
    last: dict[type[Table], int] = {}

    def choose(model: type[Table]) -> None:
        key: Any = model._meta.primary_key
        first = insert(model).get_id()
        for row_id in range(first + 1, first + rows + 1):
            insert(model, **{key.name: row_id})

    for model in models:
        storage.run_transaction(partial(choose, model))
    with storage.session():
        for model in models:
            key: Any = model._meta.primary_key
            last[model] = rows_of(model, key.name)[-1][0]
            if storage.database.name == "postgres":  # where parents got generated keys since
                storage.database.query(
                    "SELECT setval(pg_get_serial_sequence(%s, %s), %s)",
                    (model._meta.table_name, key.name, last[model] - rows),
                )
    return last


@pytest.fixture
def occupied(storage: Storage) -> dict[type[Table], int]:
    """Every table with taken keys ahead, and the last of them."""
    return occupy(storage, *GENERATED)


def write_everything(storage: Any, usages: Any) -> None:
    """Write a row of each table by its repository, of a storage or a batch."""
    user, _, _ = write_each_aggregate(storage)
    usages(user)
    storage.upstream_requests.record(**REQUEST)
    storage.downstream_requests.record(**REQUEST, request_path="/")


def check_written(occupied: dict[type[Table], int]) -> None:
    """Each table has one row more, above the taken keys."""
    for model, last in occupied.items():
        key: Any = model._meta.primary_key
        new = [row_id for (row_id,) in rows_of(model, key.name) if row_id > last]
        assert len(new) == 1, model


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a transaction"])
def test_every_repository_inserts_above_taken_ids(
    storage: Storage, occupied: dict[type[Table], int], nested: bool
) -> None:
    def everything() -> None:
        write_everything(storage, lambda user: storage.usages.record(user_id=user.id, cost=0.5))

    if nested:
        with storage.transaction():
            before = storage.users.create("before")
            everything()
            assert storage.users.get(before.id).name == "before"
            storage.users.delete(before.id)
    else:
        everything()
    with storage.session():
        check_written(occupied)


def test_upserts_find_keys_that_are_free(
    storage: Storage, occupied: dict[type[Table], int]
) -> None:
    for _ in range(2):
        user = storage.users.upsert("new", password="correct horse")
        provider = storage.providers.upsert("new", channel="c")
        storage.catalog.upsert(provider, "m")
        storage.quotas.set(user, quota=1.0)
    written = (User, Provider, LLMModel, UserQuota)
    with storage.session():
        check_written({model: occupied[model] for model in written})


def test_a_batch_finds_keys_that_are_free(
    storage: Storage, occupied: dict[type[Table], int]
) -> None:
    with storage.batch() as batch:
        write_everything(batch, lambda user: batch.quotas.set(user, quota=1.0))
        batch.usages.record(cost=0.0)
    with storage.session():
        check_written(occupied)


def test_a_batch_of_many_rows(storage: Storage) -> None:
    last = occupy(storage, Provider, rows=20)[Provider]
    with storage.batch() as batch:
        for number in range(50):
            batch.providers.upsert(f"new{number}", channel="c")
    ids = sorted(provider.id for provider in storage.providers.list(channel="c"))
    assert len(ids) == 50
    assert ids[0] > last


def test_a_sink_stores_every_row_once_and_rejects_none(storage: Storage) -> None:
    occupy(storage, Usage, UpstreamRequest, UserQuota, rows=20)
    user = storage.users.create("alice")
    with storage.session():
        before = {model: model.select().count() for model in (Usage, UpstreamRequest)}
    with storage.sink(flush_rows=1000, flush_after_s=3600) as sink:
        for _ in range(50):
            sink.submit_usage(user_id=user.id, cost=0.5)
            sink.submit_upstream_request(**REQUEST)
        assert sink.flush(PATIENCE_S)
        stats = sink.stats()
    assert (stats.written, stats.rejected, stats.spooled) == (100, 0, 0)
    with storage.session():
        for model, rows in before.items():
            assert model.select().count() == rows + 50
    assert storage.quotas.get(user).cost_used == 25.0


def test_bisection_gives_no_row_up_for_a_taken_key(storage: Storage) -> None:
    """A row that is at fault itself makes the sink insert the others one after the other."""
    occupy(storage, Usage, rows=20)
    taken = storage.downstream_requests.record(**REQUEST, request_path="/").trace_id
    with storage.sink(flush_rows=1000, flush_after_s=3600) as sink:
        for _ in range(5):
            sink.submit_usage(model="kept")
        for trace_id in (taken, taken + 1, taken + 2, taken + 3):
            sink.submit_downstream_request(**REQUEST, request_path="/", trace_id=trace_id)
        assert sink.flush(PATIENCE_S)
        stats = sink.stats()
    assert (stats.written, stats.rejected, stats.spooled) == (8, 1, 0)
    assert storage.usages.count(model="kept") == 5
    (path,) = storage.spool_dir.glob("*.rejects")
    (reject,) = read_rejects(path)
    assert (reject["table"], reject["place"]) == ("downstream_requests", 0)
    path.unlink()


def test_a_key_that_the_caller_chose_is_the_callers_conflict(storage: Storage) -> None:
    last = occupy(storage, DownstreamRequest)[DownstreamRequest]
    first_user = storage.users.create("first")
    record = storage.downstream_requests.record
    calls: tuple[Callable[[], object], ...] = (
        lambda: record(**REQUEST, request_path="/", trace_id=last),
        lambda: storage.run_transaction(lambda: insert(User, id=first_user.id)),
    )
    for call in calls:
        with recorded(storage.database) as statements, pytest.raises(ConflictError):
            call()
        inserts = [sql for sql in statements.sent if sql.startswith("INSERT")]
        assert len(inserts) <= 2
    assert record(**REQUEST, request_path="/").trace_id == last + 1


def test_another_unique_value_is_no_taken_key(storage: Storage) -> None:
    occupy(storage, User)
    storage.users.create("alice")
    with recorded(storage.database) as statements, pytest.raises(ConflictError) as caught:
        storage.users.create("alice")
    assert caught.value.fields == ("name",)
    assert len([sql for sql in statements.sent if sql.startswith("INSERT")]) == 1


def test_models_of_the_callers_own(storage: Storage, occupied: dict[type[Table], int]) -> None:
    storage.run_transaction(lambda: insert(Provider))
    with storage.transaction():
        storage.run_transaction(lambda: insert(User))
    with storage.session():
        insert(LLMModel, provider=Provider.get())
        insert(UserKey, user=User.get())
        check_written({model: occupied[model] for model in (Provider, User, LLMModel, UserKey)})


# -- rivals -------------------------------------------------------------------------------------


def test_processes_and_threads_that_meet_it_at_once(storage: Storage) -> None:
    last = occupy(storage, User, rows=40)[User]

    def create(name: str) -> None:
        for number in range(10):
            storage.users.create(f"{name} {number}")

    def child(name: str) -> str:
        create(name)
        return name

    children = (
        []
        if storage.database.name == "sqlite"
        else [Child(partial(child, f"child {number}")) for number in range(3)]
    )
    in_threads(*(lambda number=number: create(f"thread {number}") for number in range(3)))
    for one in children:
        one.check()
    ids = [user.id for user in storage.users.list(after_id=last)]
    assert len(ids) == 10 * (3 + len(children))
    assert storage.users.create("last").id > max(ids)


def test_keys_go_on_being_chosen_meanwhile(storage: Storage) -> None:
    last = occupy(storage, User)[User]

    def choose() -> None:
        with storage.session():
            for row_id in range(last + 1, last + 60, 2):
                try:
                    insert(User, id=row_id)
                except Exception as exc:
                    if storage.database.translate(exc, writing=True) is None:
                        raise  # else the others had it

    def create() -> None:
        for _ in range(10):
            storage.run_transaction(lambda: insert(User))

    in_threads(choose, create, create)
    ids = [user.id for user in storage.users.list()]
    assert storage.users.create("last").id not in ids


# -- InnoDB's counter -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_a_key_that_is_generated_before_the_counter_passes_it_is_passed(storage: Storage) -> None:
    """As where another connection has inserted it explicitly a moment ago."""
    first = storage.users.create("first").id

    def generate_first_again() -> None:
        storage.database.execute_sql("SET insert_id = %s", (first,))  # by the next insert only

    with storage.session():
        generate_first_again()
        assert storage.users.create("created").id > first
        generate_first_again()
        with storage.batch() as batch:
            in_batch = batch.users.create("in a batch")
        assert in_batch.id > first
        generate_first_again()
        with pytest.raises(ConflictError, match="name"):
            storage.users.create("created")
        with pytest.raises(ConflictError, match="primary key"), storage.transaction():
            insert(User, id=first)


# -- PostgreSQL's sequences ---------------------------------------------------------------------


def _sequence(storage: Storage, sql: str) -> int:
    with storage.session():
        return int(storage.database.query(sql)[0][0])


@only_postgres
@pytest.mark.parametrize("ahead", [10, 100_000], ids=["by a little", "by far"])
def test_a_sequence_never_goes_back(storage: Storage, ahead: int) -> None:
    """One that was restarted says that it has generated nothing yet."""
    with storage.session():
        last = storage.users.create("first").id
        key: Any = User.id
        run_script(storage.database, f"ALTER SEQUENCE users_id_seq RESTART {last + ahead}")
        with storage.transaction():
            storage.database.will_insert_id(key, last + 5)
        assert insert(User).id > last + ahead - 1
        now = _sequence(storage, "SELECT last_value FROM users_id_seq")
        with storage.transaction():
            storage.database.will_insert_id(key, now + ahead)
        assert insert(User).id == now + ahead + 1


@only_postgres
def test_taken_keys_that_are_met_while_rows_are_sorted_out(
    database_dsn: str, tmp_path: Path
) -> None:
    with Storage.connect(database_dsn, data_dir=tmp_path) as storage:
        run_script(storage.database, "ALTER TABLE usages ADD CHECK (model <> 'bad')")
        occupy(storage, Usage, rows=20)
        with storage.sink(flush_rows=1000, flush_after_s=3600) as sink:
            for model in ("bad", *["kept"] * 7):
                sink.submit_usage(model=model)
            assert sink.flush(PATIENCE_S)
            stats = sink.stats()
        assert (stats.written, stats.rejected, stats.spooled) == (7, 1, 0)
        assert storage.usages.count(model="kept") == 7


@only_postgres
def test_whatever_the_constraint_and_the_sequence_are_named(database_dsn: str) -> None:
    with Storage.connect(database_dsn) as storage:
        run_script(
            storage.database,
            [
                'ALTER TABLE users RENAME CONSTRAINT users_pkey TO "PK of users"',
                "ALTER TABLE providers ALTER id DROP DEFAULT",
                "DROP SEQUENCE providers_id_seq",
                "ALTER TABLE providers ALTER id ADD GENERATED BY DEFAULT AS IDENTITY",
                "ALTER TABLE models ALTER id DROP DEFAULT",
                "DROP SEQUENCE models_id_seq",
                'CREATE SEQUENCE "somebody\'s own"',
                "ALTER TABLE models ALTER id SET DEFAULT nextval('\"somebody''s own\"')",
            ],
        )
        with storage.session():
            users = [insert(User) for _ in range(3)]
            providers = [insert(Provider) for _ in range(3)]
            models = [insert(LLMModel, provider=provider) for provider in providers]
            taken: dict[type[Table], int] = {
                User: users[-1].id,
                Provider: providers[-1].id,
                LLMModel: models[-1].id,
            }
            for sequence in ("users_id_seq", "providers_id_seq", '"somebody\'s own"'):
                storage.database.query("SELECT setval(%s, 1)", (sequence,))
        storage.users.create("new")
        provider = storage.providers.create("new", channel="c")
        storage.catalog.upsert(provider, "m")
        with storage.session():
            check_written(taken)


@only_postgres
def test_a_user_who_may_not_set_the_sequence(database_dsn: str) -> None:
    """A short way needs no right but that to insert; else the conflict is what there is to say."""
    with Storage.connect(database_dsn) as storage:
        last = occupy(storage, User)[User]
        run_script(storage.database, "REVOKE UPDATE ON SEQUENCE users_id_seq FROM CURRENT_USER")
        assert storage.users.create("near").id == last + 1
        with storage.session():
            insert(User, id=last + 2)
            insert(User, id=last + 5000)
        with pytest.raises(ConflictError) as caught:
            storage.users.create("far")
        assert caught.value.fields == ("id",)
