"""Users and API keys: creating, finding, logging in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto import passwords
from gproxy_storage.errors import ConflictError, CryptoError, InvalidValue, NotFoundError
from gproxy_storage.models import User, UserKey
from tests.cases import for_each
from tests.contract.support import in_threads, insert, refused_unasked, wipe
from tests.support import SQLITE_ALONE, assert_query_count

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


def test_the_repr_names_the_row_and_shows_no_secret(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    key, plaintext = storage.keys.create(alice, label="laptop")
    openai = storage.providers.create("openai", channel="c")
    secret = storage.credentials.create(openai, kind="k", secret={"api_key": "canary"}, name="main")

    assert repr(alice) == f"<User id={alice.id} name='alice'>"
    assert repr(storage.users.get(alice.id)) == repr(alice)
    assert repr(key) == f"<UserKey id={key.id} label='laptop'>"
    assert repr(secret) == f"<Credential id={secret.id} name='main'>"
    assert repr(storage.catalog.create(openai, "gpt")).endswith(
        f" provider_id={openai.id} model_id='gpt'>"
    )
    assert repr(storage.usages.record(cost=1, user_id=alice.id)).startswith("<Usage trace_id=")
    assert len(repr(storage.users.create("x" * 255))) < 130
    assert repr(User(name="new")) == "<User id=None name='new'>"
    with storage.session(), assert_query_count(storage.database, 1):
        partial = UserKey.select(UserKey.id, UserKey.api_key_digest).get()
        assert repr(partial) == f"<UserKey id={key.id}>"
    for shown in (repr(alice), repr(key), repr(secret), repr(partial)):
        assert plaintext not in shown
        assert "argon2" not in shown


def test_a_user_that_is_not_there(storage: Storage) -> None:
    with pytest.raises(NotFoundError, match="users has no row with id 7") as caught:
        storage.users.get(7)

    assert (caught.value.table, caught.value.key) == ("users", 7)
    assert storage.users.find(name="nobody") is None


def test_a_name_is_taken_once(storage: Storage) -> None:
    first = storage.users.create("alice")
    with pytest.raises(
        ConflictError,
        match=r"^a row of users with name 'alice' exists: use upsert, or another name$",
    ):
        storage.users.create("alice", password=PASSWORD)

    assert [user.id for user in storage.users.list()] == [first.id]


@for_each("name", ["", " ", "\t\n", "x" * 256, "a\0b", "\ud800", None, 7, b"alice"])
def test_what_is_no_name_is_refused(storage: Storage, name: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        storage.users.create(name)  # type: ignore[arg-type]  # that is the question

    assert caught.value.argument == "name"
    assert storage.users.count() == 0


def test_filters_select_users(storage: Storage) -> None:
    for name, enabled, is_admin in [("a", True, True), ("b", False, False), ("c", True, False)]:
        storage.users.create(name, enabled=enabled, is_admin=is_admin)

    def names(**filters: object) -> str:
        listed = "".join(user.name for user in storage.users.list(**filters))  # type: ignore[arg-type]  # one name or several
        assert storage.users.count(**filters) == len(listed)  # type: ignore[arg-type]  # one name or several
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
    with assert_query_count(storage.database, 0), pytest.raises(InvalidValue, match="enabled"):
        storage.users.iter(enabled="true")  # type: ignore[arg-type]  # before a row is asked for
    with pytest.raises(InvalidValue, match="name must be a str"):
        storage.users.count(name=[1])  # type: ignore[list-item]  # that is the question


@SQLITE_ALONE
@for_each(
    "call",
    [
        lambda storage: storage.users.list(nam="alice"),
        lambda storage: storage.users.count(email=1),
        lambda storage: storage.users.find(id=1),
        lambda storage: storage.keys.list(user=1),
        lambda storage: storage.providers.iter(label="x"),
        lambda storage: storage.credentials.list(name="x"),
        lambda storage: storage.usages.summarize(user=1),
        lambda storage: storage.usages.record(tokens=1),
    ],
)
def test_an_unknown_filter_is_never_ignored(
    storage: Storage, call: Callable[[Storage], object]
) -> None:
    with refused_unasked(storage, kind=TypeError, match="unexpected keyword argument"):
        call(storage)


# -- passwords ----------------------------------------------------------------------------------


def test_a_login_needs_the_name_and_the_password(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    assert str(alice.password).startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    found = storage.users.authenticate("alice", PASSWORD)
    assert found is not None
    assert found.id == alice.id
    for name, password in [
        ("alice", PASSWORD + " "),
        ("alice", PASSWORD.upper()),
        ("alice", ""),
        ("alice", str(alice.password)),
        ("Alice", PASSWORD),
        ("nobody", PASSWORD),
        ("nobody", ""),
        ("alice", "\ud800"),
    ]:
        assert storage.users.authenticate(name, password) is None


COSTLY = f"$argon2id$v=19$m=1048576,t=2,p=1${'A' * 22}${'A' * 43}"


def test_a_hash_that_costs_too_much_is_refused(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)

    for write in (
        lambda: storage.users.create("mallory", password=COSTLY),
        lambda: storage.users.upsert("mallory", password=COSTLY),
        lambda: storage.users.upsert("alice", password=COSTLY),
        lambda: storage.users.update(alice.id, password=COSTLY),
        lambda: storage.batch().users.create("mallory", password=COSTLY),
        lambda: storage.batch().users.update(alice.id, password=COSTLY),
    ):
        with pytest.raises(InvalidValue, match="m=1048576 KiB; 8 to 262144 are accepted") as caught:
            write()
        assert caught.value.argument == "password"
    assert storage.users.count() == 1
    assert storage.users.authenticate("alice", PASSWORD)


def test_a_costly_hash_that_another_program_wrote_is_never_computed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice = storage.users.create("alice")
    with storage.session():
        storage.database.execute_sql(
            f"UPDATE users SET password = {storage.database.param}", (COSTLY,)
        )
    verified: list[str] = []
    verify = passwords._hasher().verify

    class Hasher:
        def verify(self, stored: str, password: bytes) -> bool:
            verified.append(stored)
            return verify(stored, password)

    monkeypatch.setattr(passwords, "_hasher", Hasher)
    for _ in range(3):
        assert storage.users.authenticate("alice", PASSWORD) is None

    assert COSTLY not in verified
    assert len(verified) == 3
    (record,) = (each for each in caplog.records if each.name.startswith("gproxy_storage.repos"))
    assert f"user 'alice' (id {alice.id}) is a hash of m=1048576 KiB" in record.getMessage()
    assert "AAAA" not in record.getMessage()


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


@SQLITE_ALONE
@for_each("password", ["", "   ", "\ud800", 7, b"bytes"])
def test_what_is_no_password_is_refused(storage: Storage, password: object) -> None:
    with assert_query_count(storage.database, 0), pytest.raises(InvalidValue) as caught:
        storage.users.create("alice", password=password)  # type: ignore[arg-type]  # the question

    assert caught.value.argument == "password"
    assert caught.value.__cause__ is None
    assert storage.users.count() == 0


def test_a_login_is_one_query(storage: Storage) -> None:
    storage.users.create("alice", password=PASSWORD)
    for name in ("alice", "nobody"):
        with assert_query_count(storage.database, 1):
            storage.users.authenticate(name, PASSWORD)


@SQLITE_ALONE
@for_each(
    ("name", "password", "argument"),
    [(["alice"], PASSWORD, "name"), (None, PASSWORD, "name"), ("alice", None, "password")],
)
def test_what_is_no_login_is_refused(
    storage: Storage, name: Any, password: Any, argument: str
) -> None:
    storage.users.upsert("alice", password=PASSWORD)
    with refused_unasked(storage, argument):
        storage.users.authenticate(name, password)


def test_every_failed_login_costs_one_hash(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.users.create("alice", password=PASSWORD, enabled=False)
    storage.users.create("bob")
    assert storage.users.authenticate("nobody", PASSWORD) is None  # what is made once is made
    hasher = passwords._hasher()
    verified: list[str] = []

    class Counting:
        def verify(self, hashed: str, password: Any) -> bool:
            verified.append(hashed)
            return hasher.verify(hashed, password)

    monkeypatch.setattr(passwords, "_hasher", Counting)
    for name in ("alice", "bob", "nobody", "x" * 300, "a\0b", "\ud800"):
        assert storage.users.authenticate(name, PASSWORD) is None
        assert len(verified) == 1
        verified.clear()


# -- changing -----------------------------------------------------------------------------------


def test_an_update_changes_what_is_given(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    changed = storage.users.update(alice.id, name="alicia", is_admin=True)

    assert storage.users.list() == [changed]
    (stored,) = storage.users.list()
    assert (stored.name, stored.is_admin, stored.enabled) == ("alicia", True, True)
    assert stored.password == alice.password
    assert stored.created_at == alice.created_at
    assert stored.updated_at == changed.updated_at > alice.updated_at
    assert storage.users.update(alice.id, enabled=False).enabled is False


def test_a_name_that_another_has(storage: Storage) -> None:
    storage.users.create("alice")
    bob = storage.users.create("bob")
    with pytest.raises(ConflictError) as caught:
        storage.users.update(bob.id, name="alice", is_admin=True)

    assert (caught.value.table, caught.value.fields) == ("users", ("name",))
    stored = storage.users.get(bob.id)
    assert (stored.name, stored.is_admin) == ("bob", False)


def test_the_present_password_keeps_its_hash(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    for password in ("", PASSWORD, alice.password):
        for changed in (
            storage.users.update(alice.id, password=password),
            storage.users.upsert("alice", password=password),
        ):
            assert changed.password == alice.password
    assert storage.users.upsert("alice").password == alice.password
    assert storage.users.get(alice.id).password == alice.password


def test_what_is_stored_and_no_hash_is_replaced(storage: Storage) -> None:
    with storage.session():
        alice = insert(User, name="alice", password="plain")

    changed = storage.users.update(alice.id, password="plain")
    assert str(changed.password).startswith("$argon2id$")
    assert storage.users.authenticate("alice", "plain") == alice


def test_another_password_changes_the_hash(storage: Storage) -> None:
    alice = storage.users.create("alice", password=PASSWORD)
    given = passwords.hash_password("given as a hash")

    changed = storage.users.update(alice.id, password="another")
    assert str(changed.password).startswith("$argon2id$")
    assert storage.users.authenticate("alice", "another") == alice
    assert storage.users.authenticate("alice", PASSWORD) is None
    assert storage.users.update(alice.id, password=given).password == given
    assert storage.users.upsert("alice", password="a third").password != given
    assert storage.users.authenticate("alice", "a third") == alice
    assert storage.users.update(alice.id, password=None).password is None
    assert storage.users.authenticate("alice", "a third") is None


def test_an_empty_password_of_a_user_without_one_stays_none(storage: Storage) -> None:
    alice = storage.users.create("alice")

    assert storage.users.update(alice.id, password="").password is None
    assert storage.users.authenticate("alice", "") is None


@for_each("password", [" ", "\ud800", 7])
def test_a_password_that_an_update_refuses(storage: Storage, password: Any) -> None:
    wipe(storage)
    alice = storage.users.create("alice", password=PASSWORD)
    for change in (
        lambda: storage.users.update(alice.id, name="bob", password=password),
        lambda: storage.users.upsert("alice", password=password, is_admin=True),
        lambda: storage.users.upsert("carol", password=password),
        lambda: storage.users.upsert("carol", password=""),
    ):
        with pytest.raises(InvalidValue) as caught:
            change()
        assert caught.value.argument == "password"
    (stored,) = storage.users.list()
    assert (stored.name, stored.password, stored.is_admin) == ("alice", alice.password, False)


def test_a_hash_that_cannot_be_opened_can_be_replaced(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = storage.users.create("alice", password=PASSWORD)

    class Unreadable:
        @property
        def password(self) -> str:
            raise CryptoError("damaged")

    monkeypatch.setattr(storage.users, "get", lambda user_id: Unreadable())
    assert storage.users.update(alice.id, password=PASSWORD).password != alice.password


def test_upsert_creates_and_then_changes(storage: Storage) -> None:
    first = storage.users.upsert("alice", password=PASSWORD, is_admin=True)
    second = storage.users.upsert("alice", enabled=False)

    assert storage.users.list() == [second] == [first]
    stored = storage.users.get(first.id)
    assert (stored.enabled, stored.is_admin) == (False, False)
    assert stored.created_at == first.created_at < stored.updated_at
    assert storage.users.upsert("bob").password is None


def test_upserts_of_one_name_at_once_make_one_user(storage: Storage) -> None:
    def work() -> None:
        for _ in range(5):
            storage.users.upsert("alice", is_admin=True)

    in_threads(*[work] * 4)

    assert [(user.name, user.is_admin) for user in storage.users.list()] == [("alice", True)]
