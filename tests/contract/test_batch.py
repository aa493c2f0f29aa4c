"""WriteBatch: what it writes, in how many statements, what it refuses, two of them at once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.batch import BatchReport, WriteBatch
from gproxy_storage.errors import ConflictError, InvalidValue, MissingReference, NotFoundError
from gproxy_storage.models import DownstreamRequest, LLMModel, Provider, Usage, User, UserKey
from tests.contract.support import NOW, in_threads, insert
from tests.support import assert_query_count, recorded


def test_a_whole_installation_at_once(storage: Storage) -> None:
    with storage.batch() as batch:
        openai = batch.providers.upsert("openai", channel="openai", settings={"a": 1})
        credential = batch.credentials.create(openai, kind="api_key", secret={"key": "s"})
        batch.statuses.upsert(credential, "chat", health_kind="ok")
        batch.catalog.upsert(openai, "gpt-4.1", pricing={"input": 1})
        alice = batch.users.create("alice", password="correct horse")
        key, plaintext = batch.keys.create(alice, label="ci")
        batch.access.models.grant(alice, "gpt-*", provider=openai)
        batch.access.files.grant(alice, openai)
        batch.access.limits.upsert(alice, "*", rpm=10)
        batch.quotas.set(alice, quota=5.0)
        batch.files.upsert(
            user=alice, user_key=key, provider=openai, credential=credential, file_id="f"
        )
        batch.settings.update(port=80)
        batch.usages.record(user_id=alice.id, user_key_id=key.id, provider_id=openai.id, cost=0.5)
        assert storage.providers.count() == storage.users.count() == 0

    found = storage.keys.authenticate(plaintext)
    assert found is not None
    assert (found.id, found.user.id) == (key.id, alice.id)
    assert storage.users.authenticate("alice", "correct horse") is not None
    assert storage.credentials.get(credential.id).secret_json == {"key": "s"}
    assert storage.credentials.get(credential.id).provider_id == openai.id
    assert storage.access.allows(alice, openai, "gpt-4.1")
    assert storage.access.allows_files(alice, openai)
    assert storage.quotas.remaining(alice) == 4.5
    assert storage.files.find(alice, openai, "f") is not None
    assert storage.settings.get().port == 80
    (usage,) = storage.usages.list()
    assert (usage.user_id, usage.user_key_id, usage.provider_id) == (alice.id, key.id, openai.id)


def test_the_report_and_the_next_batch(storage: Storage) -> None:
    batch = storage.batch()
    assert batch.write() == BatchReport(0, {}, {})
    openai = batch.providers.upsert("openai", channel="old")
    batch.providers.upsert("openai", channel="openai")
    batch.catalog.upsert(openai, "gpt")
    batch.access.models.revoke(batch.users.create("alice"), "none")
    assert len(batch) == 5

    assert batch.write() == BatchReport(5, {"providers": 1, "users": 1, "models": 1}, {})
    assert len(batch) == 0
    assert storage.providers.get(openai.id).channel == "openai"
    batch.providers.delete(openai.id)  # the id is the real one by now
    assert batch.write() == BatchReport(1, {}, {"providers": 1})
    assert storage.catalog.count() == 0


def test_an_exception_discards(storage: Storage) -> None:
    batch = storage.batch()

    def work() -> None:
        with batch:
            batch.providers.upsert("openai", channel="openai")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert len(batch) == 0
    assert storage.providers.count() == 0


def test_after_an_error_nothing_is_written_and_all_is_kept(storage: Storage) -> None:
    batch = storage.batch()
    openai = batch.providers.upsert("openai", channel="openai")
    batch.catalog.upsert(openai, "gpt")
    batch.users.create("alice")
    storage.users.create("alice")
    with pytest.raises(ConflictError):
        batch.write()
    assert storage.providers.count() == storage.catalog.count() == 0
    assert len(batch) == 3

    storage.users.delete_all()
    batch.write()
    assert storage.catalog.list()[0].provider_id == openai.id


def test_an_error_leaves_the_callers_transaction_as_it_was(storage: Storage) -> None:
    with storage.transaction():
        storage.users.create("alice")
        batch = storage.batch()
        batch.users.create("bob")
        batch.users.create("alice")
        with pytest.raises(ConflictError, match="name 'alice' exists"):
            batch.write()
        storage.users.create("carol")
    assert [user.name for user in storage.users.list()] == ["alice", "carol"]


def test_in_the_callers_transaction(storage: Storage) -> None:
    def work() -> None:
        with storage.transaction():
            with storage.batch() as batch:
                batch.providers.upsert("openai", channel="openai")
            assert storage.providers.count() == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert storage.providers.count() == 0


def test_created_at_and_id_survive(storage: Storage) -> None:
    with storage.session():
        old = {"created_at": NOW, "updated_at": NOW}
        openai, alice = insert(Provider, name="openai", **old), insert(User, name="alice", **old)
        gpt = insert(LLMModel, provider=openai, model_id="gpt", **old)
    with storage.batch() as batch:
        for row in (
            batch.providers.upsert("openai", channel="openai"),
            batch.users.upsert("alice", is_admin=True),
            batch.catalog.upsert(openai, "gpt", enabled=False),
        ):
            assert row.id < 0
    for found, before in (
        (storage.providers.get(openai.id), openai),
        (storage.users.get(alice.id), alice),
        (storage.catalog.get(gpt.id), gpt),
    ):
        assert found.created_at == before.created_at
        assert found.updated_at > before.updated_at


def test_generated_ids_continue_after_a_batch(storage: Storage) -> None:
    trace_id = 5_000_000_000 + len(storage.database.name)
    with storage.batch() as batch:
        batch.downstream_requests.record(request_method="GET", request_path="/", trace_id=trace_id)
        batch.downstream_requests.record(request_method="GET", request_path="/")
        batch.providers.upsert("a", channel="c")
    assert storage.providers.create("b", channel="c").id > storage.providers.list()[0].id
    later = storage.downstream_requests.record(request_method="GET", request_path="/")
    assert later.trace_id > trace_id
    storage.downstream_requests.delete_all()


def test_ids_that_others_were_given_before_the_callers_own(storage: Storage) -> None:
    """They are written after the caller's own of the same run, and may be one of a later run."""
    first = storage.downstream_requests.record(request_method="GET", request_path="/").trace_id
    batch = storage.batch()
    record = partial(batch.downstream_requests.record, request_method="GET", request_path="/")
    for number in (None, None, 10):
        record(trace_id=number and first + number)
    batch.settings.update(port=80)
    record(trace_id=first + 12)
    assert batch.write().written == {"downstream_requests": 4, "global_settings": 1}
    assert storage.downstream_requests.count() == 5
    storage.downstream_requests.delete_all()


def test_rows_are_referred_to_by_name(storage: Storage) -> None:
    storage.providers.create("openai", channel="openai")
    with recorded(storage.database) as statements, storage.batch() as batch:
        batch.users.create("alice")
        batch.access.models.grant(batch.user("alice"), "*", provider=batch.provider("openai"))
    assert storage.access.models.count() == 1
    assert not any(sql.startswith("SAVEPOINT") for sql in statements.sent)  # at the first attempt

    batch.keys.create(batch.user("nobody"))
    with pytest.raises(NotFoundError, match="users has no row with name 'nobody'"):
        batch.write()


# -- the order of calls counts, as it does without a batch --------------------------------------


def test_a_deletion_includes_rows_written_before_it(storage: Storage) -> None:
    batch = storage.batch()
    openai = batch.providers.create("openai", channel="openai")
    credential = batch.credentials.create(openai, kind="k", secret={})
    batch.statuses.upsert(credential, "chat", health_kind="ok")
    batch.usages.record(provider_id=openai.id, credential_id=credential.id)
    batch.providers.delete(openai.id)
    kept = batch.providers.create("kept", channel="openai")

    assert batch.write() == BatchReport(
        6,
        {"providers": 2, "credentials": 1, "credential_statuses": 1, "usages": 1},
        {"providers": 1},
    )
    rows = {table: rows for table, rows in storage.row_counts().items() if rows}
    assert rows.items() >= {"usages": 1, "providers": 1}.items()
    assert "credentials" not in rows
    assert "credential_statuses" not in rows
    (usage,) = storage.usages.list()
    assert (usage.provider_id, usage.credential_id) == (None, None)
    assert (openai.get_id(), credential.get_id()) == (None, None)
    assert storage.providers.get(kept.id).name == "kept"


def test_a_row_deleted_and_written_again_is_a_new_one(storage: Storage) -> None:
    before = storage.providers.create("openai", channel="openai")
    storage.catalog.create(before, "gpt")
    with storage.batch() as batch:
        batch.providers.delete(before.id)
        after = batch.providers.upsert("openai", channel="new")

    assert after.id > before.id
    assert storage.providers.list() == [after]
    assert storage.catalog.count() == 0


def test_a_user_deleted_and_written_again_has_the_password_that_is_given(storage: Storage) -> None:
    alice = storage.users.create("alice", password="correct horse")
    with storage.batch() as batch:
        batch.users.delete(alice.id)
        batch.users.upsert("alice", password="correct horse")

    assert storage.users.authenticate("alice", "correct horse") is not None


def test_a_row_that_was_renamed_is_known_by_its_new_name(storage: Storage) -> None:
    old = storage.providers.create("old", channel="c")
    with storage.batch() as batch:
        batch.catalog.create(batch.provider("old"), "first")
        batch.providers.update(old.id, name="new")
        batch.catalog.create(batch.provider("new"), "second")
        other = batch.providers.upsert("old", channel="c")
    assert [row.provider_id for row in storage.catalog.list()] == [old.id, old.id]
    assert [(row.id, row.name) for row in storage.providers.list()] == [
        (old.id, "new"),
        (other.id, "old"),
    ]


@pytest.mark.parametrize("by", ["row", "id"])
def test_what_was_deleted_before_cannot_be_referred_to(storage: Storage, by: str) -> None:
    stored = storage.providers.create("openai", channel="openai")
    batch = storage.batch()
    row = batch.providers.upsert("openai", channel="openai")
    batch.providers.delete(stored.id)
    batch.providers.upsert("openai", channel="openai")
    batch.catalog.upsert(row if by == "row" else stored.id, "gpt")
    with pytest.raises(MissingReference, match="provider points to a row of providers") as caught:
        batch.write()
    assert caught.value.argument == "provider"
    assert storage.providers.list() == [stored]


def test_a_file_moved_to_another_key_outlives_the_first(storage: Storage) -> None:
    with storage.session():
        first, second = insert(UserKey), insert(UserKey)
    openai = storage.providers.create("openai", channel="openai")
    credential = storage.credentials.create(openai, kind="k", secret={})
    given: dict[str, Any] = {
        "user": first.user_id,
        "provider": openai,
        "credential": credential,
        "file_id": "f",
    }
    file = storage.files.upsert(user_key=first, **given)
    with storage.batch() as batch:
        batch.files.upsert(user_key=second, **given)
        batch.keys.delete(first.id)

    assert [(row.id, row.user_key_id) for row in storage.files.list()] == [(file.id, second.id)]


def test_a_file_goes_with_what_it_was_moved_to(storage: Storage) -> None:
    with storage.session():
        key = insert(UserKey)
    openai = storage.providers.create("openai", channel="openai")
    first, second, third = (
        storage.credentials.create(openai, kind="k", secret={}) for _ in range(3)
    )
    given: dict[str, Any] = {"user": key.user_id, "user_key": key, "provider": openai}
    file = storage.files.upsert(**given, credential=first, file_id="f")
    with storage.batch() as batch:
        batch.files.upsert(**given, credential=second, file_id="f")
        batch.credentials.delete(second.id)
        batch.files.upsert(**given, credential=third, file_id="f")

    (found,) = storage.files.list()
    assert found.credential_id == third.id
    assert found.id > file.id
    assert found.created_at > file.created_at


@pytest.mark.parametrize("stored", [True, False])
def test_a_row_is_created_once(storage: Storage, stored: bool) -> None:
    batch = storage.batch()
    (storage if stored else batch).providers.create("openai", channel="openai")
    batch.providers.create("openai", channel="openai")
    with pytest.raises(ConflictError) as caught:
        batch.write()
    assert (caught.value.table, caught.value.fields) == ("providers", ("name",))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_error_is_that_of_the_first_call_that_fails(storage: Storage, place: int) -> None:
    """Whatever the order in which tables are written."""
    storage.users.create("alice")
    faults: list[tuple[Callable[[Any], object], type[Exception]]] = [
        (lambda batch: batch.catalog.upsert(10**9, "m"), MissingReference),
        (lambda batch: batch.users.create("alice"), ConflictError),
        (lambda batch: batch.keys.create(batch.user("nobody")), NotFoundError),
    ]
    batch = storage.batch()
    batch.providers.upsert("openai", channel="openai")
    for call, _ in (*faults[place:], *faults[:place]):
        call(batch)
    with pytest.raises(faults[place][1]):
        batch.write()
    assert storage.providers.count() == 0


def test_a_row_of_another_batch_or_of_a_discarded_one_is_no_parent(storage: Storage) -> None:
    other, batch = storage.batch(), storage.batch()
    openai = other.providers.upsert("openai", channel="openai")
    batch.providers.upsert("anthropic", channel="anthropic")
    batch.catalog.upsert(openai, "gpt")
    with pytest.raises(MissingReference, match="another batch has not written"):
        batch.write()
    other.write()
    assert [row.name for row in storage.providers.list()] == ["openai"]


def test_costs_add_up(storage: Storage) -> None:
    alice = storage.users.create("alice")
    storage.quotas.set(alice, quota=9.0, cost_used=1.0)
    with storage.batch() as batch:
        bob = batch.users.create("bob")
        for _ in range(100):
            batch.usages.record(user_id=alice.id, cost=0.25)
            batch.usages.record(user_id=bob.id, cost=0.5)
        batch.quotas.add_cost(bob, 0.5)

    assert [(row.user_id, row.quota, row.cost_used) for row in storage.quotas.list()] == [
        (alice.id, Decimal(9), Decimal(26)),
        (bob.id, Decimal(0), Decimal("50.5")),
    ]


def test_what_is_set_counts_with_the_costs_after_it(storage: Storage) -> None:
    alice, bob = (storage.users.create(name) for name in ("alice", "bob"))
    storage.quotas.set(alice, quota=9, cost_used=8)
    with storage.batch() as batch:
        for user in (alice, bob):
            batch.quotas.add_cost(user, 1)
            batch.quotas.set(user, cost_used=4)
            batch.usages.record(user_id=user.id, cost=2)
            batch.quotas.set(user, quota=7)
    found = [(row.quota, row.cost_used) for row in storage.quotas.list()]
    assert found == [(Decimal(7), Decimal(6))] * 2


# -- statements ---------------------------------------------------------------------------------


def test_many_rows_are_few_statements(storage: Storage) -> None:
    openai = storage.providers.create("openai", channel="openai")
    rows = 600

    def upsert(enabled: bool) -> WriteBatch:
        batch = storage.batch()
        for number in range(rows):
            batch.catalog.upsert(openai, f"model {number:03}", enabled=enabled)
            batch.usages.record(provider_id=openai.id)
        return batch

    for enabled in (True, False):
        batch = upsert(enabled)
        # BEGIN, the provider, three times: models and their ids; usages.
        with assert_query_count(storage.database, 1 + 1 + 3 * 2 + 3):
            batch.write()
        assert storage.catalog.count(enabled=enabled) == rows
    assert storage.usages.count() == 2 * rows
    batch = storage.batch()
    batch.catalog.delete([row.id for row in storage.catalog.list()])
    with assert_query_count(storage.database, 1 + 2):
        assert batch.write().deleted == {"models": rows}


def test_calls_that_are_made_by_themselves_take_few_statements(storage: Storage) -> None:
    openai = storage.providers.create("openai", channel="openai")
    models = [storage.catalog.create(openai, f"model {number}").id for number in range(10)]
    batch = storage.batch()
    for model in models:
        batch.catalog.disable(model)
    with assert_query_count(storage.database, 1 + 2 * 10):  # a row is read and updated
        assert batch.write().written == {"models": 10}
    for model in models:
        batch.catalog.delete(model)
    assert len(batch) == 10
    with assert_query_count(storage.database, 1 + 1):
        assert batch.write() == BatchReport(10, {}, {"models": 10})


def test_users_are_locked_first_if_writes_and_other_calls_interleave(storage: Storage) -> None:
    """Two batches that lock rows in orders of their own would deadlock."""
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    limit = storage.access.limits.upsert(bob, "*")
    batch = storage.batch()
    batch.quotas.set(bob, quota=1)
    batch.access.limits.delete(limit.id)
    batch.quotas.set(alice, quota=1)
    with recorded(storage.database) as statements:
        batch.write()
    _, first, *_ = statements.sent
    assert first.startswith("SELECT")
    assert "users" in first
    assert (" FOR " in first) == bool(storage.database.exclusive_lock)  # else there is one writer


def test_logs_of_parents_that_are_gone_take_no_more_statements(storage: Storage) -> None:
    openai = storage.providers.create("openai", channel="openai")
    batch = storage.batch()
    for number in range(200):
        batch.usages.record(provider_id=openai.id, user_id=10**9 + number, cost=1)
    with assert_query_count(storage.database, 1 + 2 + 1):  # BEGIN, providers, users, usages
        batch.write()
    assert storage.usages.count(provider_id=openai.id, user_id=None) == 200
    assert storage.quotas.count() == 0


def test_large_bodies_are_not_one_statement(storage: Storage) -> None:
    """MariaDB refuses one of 16 MiB."""
    batch = storage.batch()
    for _ in range(10):
        batch.upstream_requests.record(request_method="POST", request_body=b"\0" * 2**21)
    with assert_query_count(storage.database, 1 + 10):
        batch.write()
    assert storage.upstream_requests.count() == 10


def test_secrets_are_written_a_row_a_statement(storage: Storage) -> None:
    """What seals them must know each row."""
    storage.users.create("user 0")
    with recorded(storage.database) as statements, storage.batch() as batch:
        for number in range(5):
            batch.keys.create(batch.users.upsert(f"user {number}"))
    writes = [sql for sql in statements.sent if sql.startswith(("INSERT", "UPDATE"))]

    assert len(writes) == 10
    # BEGIN, who is there, the shared lock
    assert len(statements) == 10 + 1 + 1 + 1


def test_rows_go_in_the_order_of_their_keys(storage: Storage) -> None:
    names = ["b", "a", "é", "C"]
    with storage.batch() as batch:
        for name in names:
            provider = batch.providers.upsert(name, channel="c")
            batch.users.upsert(name)
            for number in (2, 1):
                batch.catalog.upsert(provider, f"model {number}")

    ordered = sorted(names)
    assert [row.name for row in storage.providers.list()] == ordered
    assert [row.name for row in storage.users.list()] == ordered
    found = [(row.provider_id, row.model_id) for row in storage.catalog.list()]
    assert found == sorted(found)


def test_two_writers_do_not_fail_each_other(storage: Storage) -> None:
    rounds, names = 4, [f"name {number:02}" for number in range(30)]

    def work(order: int) -> None:
        for _ in range(rounds):
            with storage.batch() as batch:
                for name in names[::order]:
                    provider = batch.providers.upsert(name, channel=str(order))
                    batch.catalog.upsert(provider, "gpt")
                    batch.users.upsert(name, enabled=order > 0)

    in_threads(lambda: work(1), lambda: work(-1))

    assert sorted(row.name for row in storage.providers.list()) == names
    assert storage.catalog.count() == storage.users.count() == len(names)
    assert len({row.channel for row in storage.providers.list()}) == 1


# -- bad input is refused when it is recorded ---------------------------------------------------


BAD_INPUT: list[tuple[Callable[[Any], object], str]] = [
    (lambda batch: batch.providers.upsert("", channel="c"), "name"),
    (lambda batch: batch.providers.upsert("x" * 256, channel="c"), "name"),
    (lambda batch: batch.providers.create("a", channel="a\0"), "channel"),
    (lambda batch: batch.providers.update("1", channel="c"), "id"),
    (lambda batch: batch.providers.update(1, label=7), "label"),
    (lambda batch: batch.providers.delete("1"), "ids"),
    (lambda batch: batch.credentials.create(1, kind="k", secret={"a": {1}}), "secret"),
    (lambda batch: batch.credentials.create("1", kind="k", secret={}), "provider"),
    (lambda batch: batch.credentials.update(1, enabled="no"), "enabled"),
    (lambda batch: batch.statuses.upsert(1, "c", health_kind="h", checked_at="now"), "checked_at"),
    (lambda batch: batch.users.create("a", password=""), "password"),
    (lambda batch: batch.users.create("a", is_admin=1), "is_admin"),
    (lambda batch: batch.keys.create(User(name="new")), "user"),
    (lambda batch: batch.catalog.upsert(1, "m", pricing="{}"), "pricing"),
    (lambda batch: batch.access.models.grant(1, "a*b"), "model_pattern"),
    (lambda batch: batch.access.models.revoke(1, 7), "model_pattern"),
    (lambda batch: batch.access.limits.upsert(1, "a", rpm=2**31), "rpm"),
    (lambda batch: batch.quotas.set(1, quota=float("nan")), "quota"),
    (lambda batch: batch.quotas.add_cost(1, float("inf")), "cost"),
    (lambda batch: batch.quotas.add_cost(1, -1.0), "cost"),
    (lambda batch: batch.usages.record(cost=-1), "cost"),
    (lambda batch: batch.usages.record(user_id="1"), "user_id"),
    (lambda batch: batch.usages.record(at=NOW.replace(tzinfo=None)), "at"),
    (lambda batch: batch.settings.update(port=70_000), "port"),
    (lambda batch: batch.provider(""), "name"),
]


def test_bad_input(storage: Storage) -> None:
    batch = storage.batch()
    for number, (call, argument) in enumerate(BAD_INPUT):
        with pytest.raises(InvalidValue) as caught:
            call(batch)
        assert caught.value.argument == argument, number
    assert len(batch) == 0


NOT_FOR_A_BATCH: list[tuple[Callable[[Any], object], str]] = [
    (lambda batch: batch.providers.upsert("a", chanel="c"), "unexpected keyword"),
    (lambda batch: batch.providers.delete_all(), r"record delete_all\(\) of providers: call"),
    (lambda batch: batch.usages.delete_all(), r"record delete_all\(\) of usages"),
    (lambda batch: batch.usages.delete_before(NOW), r"record delete_before\(\) of usages"),
    (lambda batch: batch.upstream_requests.clear_bodies(1), r"record clear_bodies\(\) of upstream"),
    (lambda batch: batch.upstream_requests.clear_all_bodies(), r"record clear_all_bodies\(\)"),
    (lambda batch: batch.quotas.reconcile(1), r"record reconcile\(\) of user_quotas"),
    (lambda batch: batch.access.models.delete_all(), r"delete_all\(\) of user_model_permissions"),
    (lambda batch: batch.users._write(int), "record this verb of users"),
]


def test_what_a_batch_cannot_do(storage: Storage) -> None:
    batch = storage.batch()
    for call, refused in NOT_FOR_A_BATCH:
        with pytest.raises(TypeError, match=refused):
            call(batch)
    assert len(batch) == 0


NOT_THERE: list[tuple[Callable[[Any], object], type[Exception]]] = [
    (lambda batch: batch.catalog.upsert(10**9, "m"), MissingReference),
    (lambda batch: batch.keys.create(10**9), MissingReference),
    (lambda batch: batch.quotas.add_cost(10**9, 1.0), MissingReference),
    (lambda batch: batch.credentials.update(10**9, enabled=True), NotFoundError),
    (lambda batch: batch.keys.revoke(10**9), NotFoundError),
]


def test_a_reference_to_a_missing_row_writes_nothing(storage: Storage) -> None:
    for call, error in NOT_THERE:
        batch = storage.batch()
        batch.providers.upsert("openai", channel="openai")
        call(batch)
        with pytest.raises(error):
            batch.write()
    assert storage.providers.count() == 0


def test_what_shows_no_secret(storage: Storage) -> None:
    batch = storage.batch()
    batch.users.create("alice", password="correct horse battery staple")
    batch.credentials.create(1, kind="k", secret={"key": "correct horse"})
    shown = repr(batch) + repr(batch._calls.recorded)

    assert "horse" not in shown
    assert "argon2" not in shown


def test_rows_of_logs_are_appended(storage: Storage) -> None:
    rows: list[Any] = []
    with storage.batch() as batch:
        for number in range(3):
            rows.append(batch.usages.record(model=str(number), at=NOW))
            batch.downstream_requests.record(request_method="GET", request_path="/", at=NOW)
        batch.usages.delete(rows[1].trace_id)
        batch.usages.delete([10**9])
        dropped = batch.users.create("dropped")
        batch.users.delete(dropped.id)
    assert [row.get_id() for row in rows] == [None] * 3
    assert dropped.get_id() is None
    with storage.session():
        assert [row.model for row in Usage.select().order_by(Usage.trace_id)] == ["0", "2"]
        assert DownstreamRequest.select().count() == 3
