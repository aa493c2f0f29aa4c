"""Users and API keys: creating, finding, logging in."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.digests import api_key_digest
from gproxy_storage.errors import ConflictError, InvalidValue, MissingReference, NotFoundError
from gproxy_storage.models import User, UserKey
from tests.contract.support import insert
from tests.support import assert_query_count

PASSWORD = "correct horse battery staple"


# -- users --------------------------------------------------------------------------------------


def test_a_user_is_created_and_found(storage: Storage) -> None:
    alice = storage.users.create("alice", is_admin=True)

    for found in (storage.users.get(alice.id), storage.users.find(name="alice")):
        assert found is not None
        assert (found.id, found.name) == (alice.id, "alice")
        assert (found.is_admin, found.enabled) == (True, True)
        assert found.created_at == found.updated_at == alice.created_at
        assert found.password is None
    assert storage.users.find(name="Alice") is None


def test_a_user_that_is_not_there(storage: Storage) -> None:
    with pytest.raises(NotFoundError, match="users has no row with id 7") as caught:
        storage.users.get(7)

    assert (caught.value.table, caught.value.key) == ("users", 7)
    assert storage.users.find(name="nobody") is None


def test_a_name_is_taken_once(storage: Storage) -> None:
    first = storage.users.create("alice")
    with pytest.raises(ConflictError, match="the same name in users exists"):
        storage.users.create("alice", password=PASSWORD)

    assert [user.id for user in storage.users.list()] == [first.id]


@pytest.mark.parametrize("name", ["", " ", "\t\n", "x" * 256, "a\0b", "\ud800", None, 7, b"alice"])
def test_what_is_no_name(storage: Storage, name: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        storage.users.create(name)  # type: ignore[arg-type]  # that is the question

    assert caught.value.argument == "name"
    assert storage.users.count() == 0


def test_filters(storage: Storage) -> None:
    for name, enabled, is_admin in [("a", True, True), ("b", False, False), ("c", True, False)]:
        storage.users.create(name, enabled=enabled, is_admin=is_admin)

    def names(**filters: object) -> str:
        listed = "".join(user.name for user in storage.users.list(**filters))  # type: ignore[arg-type]
        assert storage.users.count(**filters) == len(listed)  # type: ignore[arg-type]
        return listed

    assert names() == "abc"
    assert names(enabled=True) == "ac"
    assert names(enabled=False) == "b"
    assert names(enabled=True, is_admin=False) == "c"
    assert names(name="b") == "b"
    assert names(name="B") == ""
    assert names(name=["c", "a", "nobody"]) == "ac"
    assert names(name=("b",)) == names(name={"b"}) == names(name=frozenset("b")) == "b"
    assert names(name=[]) == ""
    assert names(name=[], enabled=True) == ""
    assert names(enabled=[True, False]) == "abc"
    assert names(name=None) == ""
    with pytest.raises(InvalidValue, match="enabled must be a bool"):
        storage.users.list(enabled="true")  # type: ignore[arg-type]  # that is the question
    with pytest.raises(InvalidValue, match="name must be a str"):
        storage.users.count(name=[1])  # type: ignore[list-item]  # that is the question


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.users.list(nam="alice"),
        lambda storage: storage.users.count(id=1),
        lambda storage: storage.users.find(id=1),
        lambda storage: storage.keys.list(user=1),
        lambda storage: storage.providers.list(label="x"),
        lambda storage: storage.credentials.list(name="x"),
        lambda storage: storage.usages.summarize(user=1),
        lambda storage: storage.usages.record(tokens=1),
    ],
)
def test_an_unknown_filter_is_never_ignored(
    storage: Storage, call: Callable[[Storage], object]
) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call(storage)


# -- passwords ----------------------------------------------------------------------------------


def test_logging_in(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    assert alice.password.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    found = storage.users.authenticate("alice", PASSWORD)
    assert found is not None
    assert found.id == alice.id
    for name, password in [
        ("alice", PASSWORD + " "),
        ("alice", PASSWORD.upper()),
        ("alice", ""),
        ("alice", alice.password),
        ("Alice", PASSWORD),
        ("nobody", PASSWORD),
        ("nobody", ""),
        ("alice", "\ud800"),
    ]:
        assert storage.users.authenticate(name, password) is None


def test_a_disabled_user_cannot_log_in(storage: Storage) -> None:
    storage.users.create("alice", password=PASSWORD, enabled=False)

    assert storage.users.authenticate("alice", PASSWORD) is None


def test_a_user_without_a_password_cannot_log_in(storage: Storage) -> None:
    storage.users.create("alice")
    with storage.session():
        insert(User, name="bob", password="")  # as GPROXY's seed may leave it

    for name in ("alice", "bob"):
        for password in ("", " ", "None"):
            assert storage.users.authenticate(name, password) is None


def test_a_hash_is_kept_as_it_is(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    bob = storage.users.create("bob", password=alice.password)

    assert bob.password == alice.password
    assert storage.users.authenticate("bob", PASSWORD) is not None


@pytest.mark.parametrize("password", ["", "   ", "\ud800", 7, b"bytes"])
def test_what_is_no_password(storage: Storage, password: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        storage.users.create("alice", password=password)  # type: ignore[arg-type]  # the question

    assert caught.value.argument == "password"
    assert caught.value.__cause__ is None
    assert storage.users.count() == 0


def test_a_login_is_one_query(storage: Storage) -> None:
    storage.users.create("alice", password=PASSWORD)
    for name in ("alice", "nobody"):
        with assert_query_count(storage.database, 1):
            storage.users.authenticate(name, PASSWORD)


# -- API keys -----------------------------------------------------------------------------------


def test_a_key_works_in_one_query(storage: Storage) -> None:
    alice = storage.users.create("alice")
    key, plaintext = storage.keys.create(alice, label="ci")
    storage.keys.create(alice)

    with assert_query_count(storage.database, 1):
        found = storage.keys.authenticate(plaintext)
        assert found is not None
        assert (found.id, found.label, found.user_id) == (key.id, "ci", alice.id)
        assert (found.user.id, found.user.name) == (alice.id, "alice")
    # Whether the keyring was changed, after which keys would have other digests.
    with assert_query_count(storage.database, 2):
        assert storage.keys.authenticate(plaintext[:-1]) is None


def test_a_key_has_gproxys_form(storage: Storage) -> None:
    alice = storage.users.create("alice")
    made = [storage.keys.create(alice) for _ in range(5)]

    assert len({plaintext for _, plaintext in made}) == 5
    for key, plaintext in made:
        assert re.fullmatch(r"sk-api01-[0-9a-f]{32}", plaintext)
        assert key.api_key_digest == api_key_digest(plaintext)


def test_a_key_works_only_if_it_and_its_user_are_enabled(storage: Storage) -> None:
    alice = storage.users.create("alice")
    key, plaintext = storage.keys.create(alice)

    def works(*, key_enabled: bool, user_enabled: bool) -> bool:
        with storage.session():
            UserKey.update(enabled=key_enabled).where(UserKey.id == key.id).execute()
            User.update(enabled=user_enabled).where(User.id == alice.id).execute()
        return storage.keys.authenticate(plaintext) is not None

    assert works(key_enabled=True, user_enabled=True)
    assert not works(key_enabled=False, user_enabled=True)
    assert not works(key_enabled=True, user_enabled=False)
    assert not works(key_enabled=False, user_enabled=False)


@pytest.mark.parametrize(
    "presented", ["", " ", "sk-api01-", "' OR 1=1 --", "%", "\0", "\ud800", "é", "x" * 100_000]
)
def test_what_is_no_key_is_just_wrong(storage: Storage, presented: str) -> None:
    storage.keys.create(storage.users.create("alice"))

    assert storage.keys.authenticate(presented) is None


@pytest.mark.parametrize("by_id", [False, True])
def test_a_key_of_nobody(storage: Storage, by_id: bool) -> None:
    alice = storage.users.create("alice")
    with storage.session():
        alice.delete_instance()
    with pytest.raises(MissingReference):
        storage.keys.create(alice.id if by_id else alice)

    assert storage.keys.list() == []


def test_filters_of_keys(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    first, _ = storage.keys.create(alice, label="ci")
    second, _ = storage.keys.create(alice)
    third, _ = storage.keys.create(bob, label="")

    assert storage.keys.list() == [first, second, third]
    assert storage.keys.list(user_id=alice.id) == [first, second]
    assert storage.keys.list(user_id=[bob.id, 10**9]) == [third]
    assert storage.keys.list(label=None) == [second]
    assert storage.keys.list(label="") == [third]
    assert storage.keys.list(label=[None, "ci"]) == [first, second]
    assert storage.keys.list(label=[None]) == [second]
    assert storage.keys.list(user_id=alice.id, label=[]) == []
    assert storage.keys.list(enabled=False) == []
