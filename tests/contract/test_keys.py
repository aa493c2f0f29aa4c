"""API keys: made, imported, presented, revoked."""

from __future__ import annotations

import re

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.digests import api_key_digest
from gproxy_storage.errors import ConflictError, InvalidValue, MissingReference
from gproxy_storage.models import User, UserKey
from gproxy_storage.repositories.keys import key_select
from tests.cases import for_each
from tests.contract.support import opened, refused_unasked
from tests.support import SQLITE_ALONE, assert_query_count


def test_a_key_works_in_one_query(storage: Storage) -> None:
    alice = storage.users.create("alice")
    key, plaintext = storage.keys.create(alice, label="ci")
    storage.keys.create(alice)

    with assert_query_count(storage.database, 1):
        found = storage.keys.authenticate(plaintext)
        assert found is not None
        assert (found.id, found.label, found.user_id) == (key.id, "ci", alice.id)
        assert (found.user.id, found.user.name) == (alice.id, "alice")
    with assert_query_count(storage.database, 2):  # and whether the keyring has changed
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


@for_each(
    "presented", ["", " ", "sk-api01-", "' OR 1=1 --", "%", "\0", "\ud800", "é", "x" * 100_000]
)
def test_what_is_no_key_is_just_wrong(storage: Storage, presented: str) -> None:
    storage.keys.create(storage.users.upsert("alice"))

    assert storage.keys.authenticate(presented) is None


@pytest.mark.parametrize("by_id", [False, True])
def test_a_key_needs_an_existing_user(storage: Storage, by_id: bool) -> None:
    alice = storage.users.create("alice")
    with storage.session():
        alice.delete_instance()
    with pytest.raises(MissingReference):
        storage.keys.create(alice.id if by_id else alice)

    assert storage.keys.list() == []


def test_filters_select_keys(storage: Storage) -> None:
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


# -- the row that a login gives -----------------------------------------------------------------


def test_a_login_gives_both_rows_without_their_secrets(storage: Storage) -> None:
    alice = storage.users.create("alice", password="correct horse", is_admin=True)
    key, plaintext = storage.keys.create(alice, label="ci")

    found = storage.keys.authenticate(plaintext)

    assert found is not None
    for row, stored in ((found, key), (found.user, alice)):
        secrets = {"api_key_ciphertext": None, "password": None}
        expected = {name: secrets.get(name, each) for name, each in opened(stored).items()}
        assert {name: row.__data__.get(name) for name in expected} == expected
        assert not row.is_dirty()
    assert type(found.enabled) is type(found.user.is_admin) is bool
    found.label = "changed"
    with storage.session():
        found.save()
    assert storage.keys.get(key.id).api_key_ciphertext == plaintext
    assert storage.keys.get(key.id).label == "changed"


def test_a_login_sends_no_secret_column_and_digests_only(storage: Storage) -> None:
    _, plaintext = storage.keys.create(storage.users.create("alice"))
    with assert_query_count(storage.database, 1) as statements:
        storage.keys.authenticate(plaintext)
    (sql,) = statements.sent

    assert "ciphertext" not in sql
    assert "password" not in sql
    for count in (1, 2):
        lookup = key_select(count, enabled=True)
        assert lookup.bind(["digest"] * count) == ["digest"] * count
        assert lookup.sql.count(storage.database.param) == count


def test_a_key_is_found_under_either_of_two_digests(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a database that is being encrypted."""
    key, plaintext = storage.keys.create(storage.users.create("alice"))
    right = api_key_digest(plaintext)
    keyring = storage.database.keyring_manager.keyring
    for digests in [("v3:other", right), (right, "v3:other")]:
        monkeypatch.setattr(
            type(keyring), "lookup_digests", lambda self, api_key, found=digests: found
        )
        with assert_query_count(storage.database, 1):
            found = storage.keys.authenticate(plaintext)
        assert found == key
        assert storage.keys.find(plaintext) == key
    monkeypatch.setattr(type(keyring), "lookup_digests", lambda self, api_key: ("v3:a", "v3:b"))
    assert storage.keys.authenticate(plaintext) is None


@SQLITE_ALONE
@for_each("presented", [None, 7, b"sk-api01-", ["sk-api01-"]])
def test_a_key_that_is_no_text_is_refused(storage: Storage, presented: object) -> None:
    for call in (storage.keys.authenticate, storage.keys.find):
        with refused_unasked(storage, "api_key"):
            call(presented)  # type: ignore[arg-type]  # that is the question


# -- changing -----------------------------------------------------------------------------------


def test_a_key_made_elsewhere_is_imported_once(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    key, plaintext = storage.keys.create(alice, api_key="custom key é", enabled=False)

    assert plaintext == "custom key é"
    assert storage.keys.authenticate(plaintext) is None
    storage.keys.enable(key.id)
    assert storage.keys.authenticate(plaintext) == key
    with pytest.raises(ConflictError) as caught:
        storage.keys.create(bob, api_key="custom key é")
    assert (caught.value.table, caught.value.fields) == ("user_keys", ("api_key_digest",))
    assert "custom" not in str(caught.value)


@for_each("api_key", ["", "  ", "\ud800", 7, "a\0b"])
def test_what_is_no_key_is_not_imported(storage: Storage, api_key: object) -> None:
    alice = storage.users.upsert("alice")
    with pytest.raises(InvalidValue) as caught:
        storage.keys.create(alice, api_key=api_key)  # type: ignore[arg-type]  # the question

    assert caught.value.argument in ("api_key", "api_key_ciphertext")
    assert storage.keys.count() == 0


def test_a_revoked_key_is_found_but_does_not_work(storage: Storage) -> None:
    key, plaintext = storage.keys.create(storage.users.create("alice"))
    revoked = storage.keys.revoke(key.id)

    assert (revoked, revoked.enabled) == (key, False)
    assert revoked.updated_at > key.updated_at
    assert storage.keys.authenticate(plaintext) is None
    with assert_query_count(storage.database, 1):
        found = storage.keys.find(plaintext)
        assert found is not None
        assert (found, found.enabled, found.user.name) == (key, False, "alice")
    assert storage.keys.find("sk-api01-unheard of") is None
    assert storage.keys.update(key.id, label="old").label == "old"
    assert storage.keys.delete(key.id) == 1
    assert storage.keys.find(plaintext) is None
