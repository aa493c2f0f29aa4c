"""Access: permissions to use models and files, rate limits, and the questions a proxy asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, MissingReference, NotFoundError
from gproxy_storage.models import Provider, User, UserModelPermission
from tests.contract.support import in_threads, insert, refused_unasked
from tests.support import SQLITE_ALONE, assert_query_count


@pytest.fixture
def alice(storage: Storage) -> User:
    return storage.users.create("alice")


@pytest.fixture
def openai(storage: Storage) -> Provider:
    return storage.providers.upsert("openai", channel="openai")


# -- permissions to use models ------------------------------------------------------------------


@pytest.mark.parametrize("with_provider", [True, False])
def test_a_permission_is_granted_once(
    storage: Storage, alice: User, openai: Provider, with_provider: bool
) -> None:
    provider = openai if with_provider else None
    first = storage.access.models.grant(alice, "gpt-*", provider=provider)
    again = storage.access.models.grant(alice.id, "gpt-*", provider=provider and provider.id)

    assert again == first
    assert again.created_at == first.created_at
    assert (first.user_id, first.model_pattern) == (alice.id, "gpt-*")
    assert first.provider_id == (openai.id if with_provider else None)
    assert storage.access.models.list() == [first]


def test_a_permission_for_all_providers_is_another_one(
    storage: Storage, alice: User, openai: Provider
) -> None:
    bob = storage.users.create("bob")
    azure = storage.providers.upsert("azure", channel="openai")
    grant = storage.access.models.grant
    granted = [
        grant(alice, "gpt-*"),
        grant(alice, "gpt-*", provider=openai),
        grant(alice, "gpt-*", provider=azure),
        grant(alice, "GPT-*", provider=azure),
        grant(alice, "gpt-4 ", provider=azure),
        grant(bob, "gpt-*"),
    ]
    models = storage.access.models

    assert models.list() == list(models.iter()) == granted
    assert models.list(provider_id=None) == [granted[0], granted[5]]
    assert models.list(provider_id=[None, openai.id], user_id=alice.id) == granted[:2]
    assert models.list(model_pattern="gpt-*", limit=2, after_id=granted[0].id) == granted[1:3]
    assert models.count(user_id=alice.id) == 5
    assert models.count(user_id=[]) == 0


def test_revoking_takes_back_one_permission(
    storage: Storage, alice: User, openai: Provider
) -> None:
    models = storage.access.models
    everywhere = models.grant(alice, "gpt-*")
    models.grant(alice, "gpt-*", provider=openai)

    assert not models.revoke(alice, "gpt-4", provider=openai)
    assert models.revoke(alice, "gpt-*", provider=openai)
    assert models.list() == [everywhere]
    assert not models.revoke(alice, "gpt-*", provider=openai)
    assert models.revoke(alice.id, "gpt-*")
    assert models.list() == []


def test_permissions_are_deleted_by_id(storage: Storage, alice: User) -> None:
    models = storage.access.models
    first, second, third = (models.grant(alice, pattern) for pattern in ("a", "b", "c"))

    assert models.delete([]) == 0
    assert models.delete([first.id, third.id, 10**9]) == 2
    assert models.list() == [second]
    assert models.delete_all() == 1


def test_permissions_go_with_their_user_and_provider(
    storage: Storage, alice: User, openai: Provider
) -> None:
    everywhere = storage.access.models.grant(alice, "*")
    storage.access.models.grant(alice, "*", provider=openai)
    storage.access.files.grant(alice, openai)
    storage.access.limits.upsert(alice, "*", rpm=1)
    with storage.session():
        openai.delete_instance()
    assert storage.access.models.list() == [everywhere]
    assert storage.access.files.list() == []
    with storage.session():
        alice.delete_instance()
    assert storage.access.models.list() == []
    assert storage.access.limits.list() == []


def test_grants_at_once_make_one_row(storage: Storage, alice: User) -> None:
    def work() -> None:
        for _ in range(5):
            storage.access.models.grant(alice, "*")

    in_threads(*[work] * 4)

    assert storage.access.models.count() == 1


# -- may a user use a model? --------------------------------------------------------------------


FITS = [
    ("gpt-4", "gpt-4", True),
    ("gpt-4", "gpt-4.1", False),
    ("gpt-4", "GPT-4", False),
    ("gpt-4", "gpt-4 ", False),
    ("gpt-*", "gpt-4", True),
    ("*-mini", "gpt-4-mini", True),
    ("*", "x" * 1000, True),
    ("x" * 254 + "*", "x" * 300, True),
    ("*" + "x" * 254, "x" * 300, True),
    ("x" * 255, "x" * 255, True),
    ("x" * 255, "x" * 256, False),
    ("a_c", "abc", False),
    ("a%*", "abc", False),
    ("gpt-4", "' OR 1=1 --", False),
    ("gpt-4", "*", False),
    ("gpt-4*", "gpt-*", False),
    ("é*", "École", False),
    ("é*", "éa", True),
    ("😀*", "😁", False),
]


def test_permissions_apply_by_patterns(storage: Storage, alice: User, openai: Provider) -> None:
    for granted, model, allowed in FITS:
        storage.access.models.grant(alice, granted, provider=openai)
        assert storage.access.allows(alice, openai, model) is allowed, (granted, model)
        assert storage.access.models.revoke(alice, granted, provider=openai)


def test_a_permission_is_for_its_user_and_provider(
    storage: Storage, alice: User, openai: Provider
) -> None:
    bob = storage.users.create("bob", is_admin=True)
    azure = storage.providers.upsert("azure", channel="openai")
    storage.access.models.grant(alice, "gpt-*", provider=openai)
    storage.access.models.grant(alice, "o3")
    allows = storage.access.allows

    assert allows(alice, openai, "gpt-4")
    assert allows(alice.id, openai.id, "gpt-4")
    assert not allows(alice, azure, "gpt-4")
    assert allows(alice, azure, "o3")
    assert allows(alice, openai, "o3")
    assert not allows(bob, openai, "gpt-4")  # an admin, too, needs a permission
    assert not allows(10**9, openai, "gpt-4")
    assert not allows(alice, 10**9, "gpt-4")


def test_permissions_are_case_sensitive_on_every_collation(storage: Storage, alice: User) -> None:
    """A row that an index of another collation finds is compared again."""
    storage.access.models.grant(alice, "gpt-4")
    if storage.database.name in ("mysql", "mariadb"):
        with storage.session():
            storage.database.execute_sql("CREATE TEMPORARY TABLE loose LIKE user_model_permissions")
            storage.database.execute_sql(
                "ALTER TABLE loose CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
            )
            storage.database.execute_sql(
                "INSERT INTO loose (user_id, model_pattern, created_at) "
                "SELECT user_id, model_pattern, created_at FROM user_model_permissions"
            )
            try:
                UserModelPermission._meta.set_table_name("loose")
                assert (
                    UserModelPermission.select()
                    .where(UserModelPermission.model_pattern == "GPT-4")
                    .exists()
                )
                assert not storage.access.allows(alice, 1, "GPT-4")
                assert storage.access.allows(alice, 1, "gpt-4")
            finally:
                UserModelPermission._meta.set_table_name("user_model_permissions")


# -- files --------------------------------------------------------------------------------------


def test_permission_to_use_files(storage: Storage, alice: User, openai: Provider) -> None:
    bob = storage.users.create("bob", is_admin=True)
    files = storage.access.files
    first = files.grant(alice, openai)
    assert files.grant(alice.id, openai.id) == first
    second = files.grant(bob, openai)

    assert storage.access.allows_files(alice, openai)
    assert not storage.access.allows_files(alice, openai.id + 1)
    assert files.list(user_id=alice.id) == [first]
    assert files.list(provider_id=openai.id) == list(files.iter()) == [first, second]
    assert files.revoke(bob, openai)
    assert not files.revoke(bob, openai)
    assert not storage.access.allows_files(bob.id, openai.id)
    assert files.count() == 1
    assert files.delete(first.id) == 1
    assert not storage.access.allows_files(alice, openai)


# -- rate limits --------------------------------------------------------------------------------


def test_a_limit_is_set_in_place_of_another(storage: Storage, alice: User) -> None:
    limits = storage.access.limits
    first = limits.upsert(alice, "gpt-*", rpm=10, rpd=0, total_tokens=2**40)
    assert (first.rpm, first.rpd, first.total_tokens) == (10, 0, 2**40)

    second = limits.upsert(alice.id, "gpt-*", rpd=7)

    assert second.id == first.id
    assert (second.rpm, second.rpd, second.total_tokens) == (None, 7, None)
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    third = limits.update(second.id, rpm=3)
    assert (third.rpm, third.rpd) == (3, 7)
    assert limits.update(second.id, rpd=None).rpd is None
    assert limits.find(alice, "gpt-*") == limits.get(first.id) == first
    assert limits.find(alice, "gpt-4") is None
    with pytest.raises(NotFoundError):
        limits.update(10**9, rpm=1)


APPLIES = [
    ("gpt-4.1-mini", "gpt-4.1-mini"),
    ("gpt-4.1-nano", "gpt-4.1*"),
    ("gpt-4o-mini", "gpt-*"),
    ("o4-mini", "*4-mini"),
    ("o3-mini", "*-mini"),
    ("O3-MINI", "*"),
    ("claude", "*"),
]


def test_the_closest_limit_applies(storage: Storage, alice: User) -> None:
    for pattern in ("*-mini", "*", "gpt-4.1-mini", "gpt-*", "*4-mini", "gpt-4.1*", "gpt-5*"):
        storage.access.limits.upsert(alice, pattern, rpm=1)
    bob = storage.users.create("bob")
    for model, applies in APPLIES:
        storage.access.limits.upsert(bob, model, rpm=1)
        found = storage.access.rate_limit_for(alice, model)
        assert found is not None
        assert (found.user_id, found.model_pattern) == (alice.id, applies)


def test_without_a_limit_that_fits(storage: Storage, alice: User) -> None:
    storage.access.limits.upsert(alice, "gpt-*", rpm=1)

    assert storage.access.rate_limit_for(alice, "claude") is None
    assert storage.access.rate_limit_for(10**9, "gpt-4") is None


# -- what they cost, what they refuse -----------------------------------------------------------


def test_each_question_is_one_query(storage: Storage, alice: User, openai: Provider) -> None:
    for number in range(50):
        storage.access.models.grant(alice, f"gpt-{number}*")
        storage.access.limits.upsert(alice, f"gpt-{number}*")
    access = storage.access
    for question in (
        lambda: access.allows(alice, openai, "gpt-49-mini"),
        lambda: access.allows(alice, openai, "x" * 1000),
        lambda: access.allows_files(alice, openai),
        lambda: access.rate_limit_for(alice, "gpt-49-mini"),
        lambda: access.models.list(user_id=alice.id),
    ):
        with assert_query_count(storage.database, 1) as statements:
            question()
        assert not statements.locks


BAD_INPUT: list[tuple[Callable[..., object], str]] = [
    (lambda access, user, _: access.models.grant(user, ""), "model_pattern"),
    (lambda access, user, _: access.models.grant(user, "a*b"), "model_pattern"),
    (lambda access, user, _: access.models.grant(user, "x" * 256), "model_pattern"),
    (lambda access, user, _: access.models.grant(user, "a\0"), "model_pattern"),
    (lambda access, user, _: access.models.grant(user, None), "model_pattern"),
    (lambda access, user, _: access.models.grant("1", "a"), "user"),
    (lambda access, user, _: access.models.grant(None, "a"), "user"),
    (lambda access, user, _: access.models.grant(True, "a"), "user"),
    (lambda access, user, _: access.models.grant(User(name="new"), "a"), "user"),
    (lambda access, user, _: access.models.grant(user, "a", provider="1"), "provider"),
    (lambda access, user, _: access.models.grant(user, "a", provider=user), "provider"),
    (lambda access, user, _: access.models.grant(10**9, "a"), "user"),
    (lambda access, user, _: access.models.grant(user, "a", provider=10**9), "provider"),
    (lambda access, user, _: access.models.revoke("1", "a"), "user"),
    (lambda access, user, _: access.models.revoke(user, 7), "model_pattern"),
    (lambda access, user, _: access.models.delete("1"), "ids"),
    (lambda access, user, _: access.models.delete([None]), "ids"),
    (lambda access, user, _: access.files.grant(user, None), "provider"),
    (lambda access, user, _: access.files.grant(user, 10**9), "provider"),
    (lambda access, _, openai: access.files.grant(openai, openai), "user"),
    (lambda access, user, _: access.limits.upsert(user, "a*b", rpm=1), "model_pattern"),
    (lambda access, user, _: access.limits.upsert(user, "a", rpm=-1), "rpm"),
    (lambda access, user, _: access.limits.upsert(user, "a", rpm=2**31), "rpm"),
    (lambda access, user, _: access.limits.upsert(user, "a", rpd="1"), "rpd"),
    (lambda access, user, _: access.limits.upsert(user, "a", rpd=1.0), "rpd"),
    (lambda access, user, _: access.limits.upsert(user, "a", total_tokens=2**63), "total_tokens"),
    (lambda access, user, _: access.limits.upsert(10**9, "a", rpm=1), "user"),
    (lambda access, user, _: access.allows(user, 1, ""), "model"),
    (lambda access, user, _: access.allows(user, 1, "a\0"), "model"),
    (lambda access, user, _: access.allows(user, 1, "\ud800"), "model"),
    (lambda access, user, _: access.allows(user, 1, None), "model"),
    (lambda access, user, _: access.allows("1", 1, "a"), "user"),
    (lambda access, user, _: access.allows(user, None, "a"), "provider"),
    (lambda access, user, _: access.rate_limit_for(user, ""), "model"),
    (lambda access, user, _: access.rate_limit_for(None, "a"), "user"),
    (lambda access, user, _: access.allows_files(user, "1"), "provider"),
]


def test_bad_input_is_refused(storage: Storage, alice: User, openai: Provider) -> None:
    for number, (call, argument) in enumerate(BAD_INPUT):
        with pytest.raises(InvalidValue) as caught:
            call(storage.access, alice, openai)
        assert caught.value.argument == argument, number
    access = storage.access
    assert access.models.list() == access.files.list() == access.limits.list() == []


UNKNOWN: list[Callable[..., object]] = [
    lambda access: access.models.list(pattern="a"),
    lambda access: access.models.count(model="a"),
    lambda access: access.files.list(model_pattern="a"),
    lambda access: access.limits.iter(rpm=1),
    lambda access: access.limits.update(1, model_pattern="a"),
]


@SQLITE_ALONE
def test_an_unknown_argument_is_a_type_error(storage: Storage) -> None:
    for call in UNKNOWN:
        with refused_unasked(storage, kind=TypeError, match="unexpected keyword argument"):
            call(storage.access)


def test_a_reference_to_nothing_is_named(storage: Storage) -> None:
    with storage.session():
        alice = insert(User)
    with pytest.raises(MissingReference, match="provider points to a row of providers that"):
        storage.access.models.grant(alice, "a", provider=10**9)
