"""The encrypted attributes of a row: what saving stores, what reading opens, what stays closed."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import Any

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.backends.failures import RedactedError
from gproxy_storage.encrypted_fields import Sealed
from gproxy_storage.errors import (
    ConflictError,
    InvalidValue,
    MissingReference,
    Tampered,
    WriteError,
)
from gproxy_storage.models import Credential, Provider, User, UserKey
from gproxy_storage.secret import SecretText
from tests.cases import for_each
from tests.key_management.support import (
    DOCUMENT,
    NOW,
    PASSWORD,
    credential,
    rows_of_all_kinds,
    stored,
)
from tests.support import ONE_BACKEND, assert_query_count, recorded


def user(name: str, password: str | None) -> User:
    return User(
        name=name, password=password, enabled=True, is_admin=False, created_at=NOW, updated_at=NOW
    )


def test_what_is_stored_is_sealed_and_bound_to_the_row(encrypted: Storage, dsn: str) -> None:
    row, alice, key, api_key = rows_of_all_kinds(encrypted)
    kid = encrypted._keyring_manager.keyring.active_kid

    assert stored(dsn, "users.password", alice.id).startswith(f"enc:v3:{kid}:")
    assert stored(dsn, "user_keys.api_key_ciphertext", key.id).startswith(f"enc:v3:{kid}:")
    assert json.loads(stored(dsn, "credentials.secret_json", row.id)).keys() == {
        *("$gproxy_enc", "kid", "nonce", "ciphertext")
    }
    assert stored(dsn, "user_keys.api_key_digest", key.id).startswith("v3:")
    found = encrypted.keys.authenticate(api_key)
    assert found is not None
    assert encrypted.keys.get(found.id).api_key_ciphertext == api_key
    assert encrypted.users.authenticate("alice", PASSWORD)
    assert row.secret_json == encrypted.credentials.list()[0].secret_json == DOCUMENT


def test_reading_rows_opens_nothing(encrypted: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    credential(encrypted)
    opened: list[object] = []
    monkeypatch.setattr(Sealed, "open", lambda *arguments: opened.append(arguments))
    (row,) = encrypted.credentials.list()

    assert (row.kind, row.enabled) == ("api_key", True)
    assert opened == []


def test_inserting_is_two_statements_in_one_transaction(encrypted: Storage, dsn: str) -> None:
    with encrypted.session():
        with recorded(encrypted.database) as statements:
            alice = encrypted.users.create("alice", password=PASSWORD)
        words = [sql.split()[0] for sql in statements.sent]
        assert [word for word in words if word not in ("SAVEPOINT", "RELEASE")] == [
            *("BEGIN", "SELECT", "INSERT", "UPDATE")
        ]
        alice.password = "another"
        with recorded(encrypted.database) as statements:
            alice.save()
        assert [sql.split()[0] for sql in statements.sent] == ["BEGIN", "SELECT", "UPDATE"]
        alice.enabled = False
        with assert_query_count(encrypted.database, 2):  # BEGIN and UPDATE: no secret, no lock
            encrypted.run_transaction(alice.save)
        assert alice.password == "another"


def test_a_second_secret_in_a_transaction_needs_no_second_lock(encrypted: Storage) -> None:
    with recorded(encrypted.database) as statements, encrypted.transaction():
        for number in range(3):
            user(f"user {number}", PASSWORD).save(force_insert=True)

    assert sum("FROM encryption_keys" in sql for sql in statements.sent) == 1


def test_a_rollback_to_a_savepoint_takes_the_shared_lock_again(encrypted: Storage) -> None:
    with recorded(encrypted.database) as statements, encrypted.transaction():
        with pytest.raises(ConflictError), encrypted.transaction():
            encrypted.run_transaction(lambda: [user("x", PASSWORD).save(True) for _ in "12"])
        user("bob", PASSWORD).save(force_insert=True)

    assert sum("FROM encryption_keys" in sql for sql in statements.sent) == 2
    assert [row.name for row in encrypted.users.list()] == ["bob"]


def test_null_and_empty_are_different(encrypted: Storage, dsn: str) -> None:
    with encrypted.session():
        nobody, empty = user("nobody", None), user("empty", "")
        for row in (nobody, empty):
            row.save(force_insert=True)
        read = {row.name: row.password for row in encrypted.users.list()}
        nulls = [row.name for row in User.select().where(User.password.is_null())]

    assert read == {"nobody": None, "empty": ""}
    assert nulls == ["nobody"]
    assert stored(dsn, "users.password", nobody.id) is None
    assert stored(dsn, "users.password", empty.id).startswith("enc:v3:")


def test_a_row_with_a_given_key_is_sealed_at_once(encrypted: Storage) -> None:
    with encrypted.session(), recorded(encrypted.database) as statements:
        row = user("alice", PASSWORD)
        row.id = 77
        row.save(force_insert=True)

    assert [sql.split()[0] for sql in statements.sent] == ["BEGIN", "SELECT", "INSERT"]
    assert encrypted.users.get(77).password == PASSWORD


@ONE_BACKEND
@for_each(
    "value",
    ["enc:", "enc:v3:pending", "a\0b", "a\ud800b", 7, b"bytes"],
)
def test_what_may_not_be_sealed(encrypted: Storage, value: Any) -> None:
    with encrypted.session(), pytest.raises(InvalidValue, match="password") as caught:
        user("alice", value).save(force_insert=True)

    assert str(value) not in str(caught.value) or value == "enc:"
    assert encrypted.users.count() == 0


@ONE_BACKEND
@for_each(
    "value",
    [{"$gproxy_enc": "v3"}, {"a": [{"$gproxy_enc": 1}]}, {"a": float("nan")}, {"a": "\ud800"},
     {"a": "\0"}, {1: "a"}, {"a": 2**64}, {"a": {1, 2}}],
)  # fmt: skip
def test_what_json_may_not_be_sealed(encrypted: Storage, value: Any) -> None:
    provider = encrypted.providers.upsert("openai", channel="openai")
    with pytest.raises(InvalidValue, match="secret"):
        encrypted.credentials.create(provider, kind="api_key", secret=value)

    assert encrypted.credentials.list() == []


def test_a_row_that_was_not_stored_can_be_saved_again(encrypted: Storage) -> None:
    with encrypted.session():
        first = user("alice", PASSWORD)
        first.save(force_insert=True)
        second = user("alice", PASSWORD)
        with pytest.raises(ConflictError):
            encrypted.run_transaction(lambda: second.save(force_insert=True))
        assert second.get_id() is None
        assert second.password == PASSWORD
        second.name = "bob"
        second.save(force_insert=True)

    assert encrypted.users.get(second.id).password == PASSWORD


def test_another_rows_value_does_not_open(encrypted: Storage) -> None:
    with encrypted.session():
        alice, bob = (encrypted.users.create(name, password=PASSWORD) for name in ("alice", "bob"))
        alice.password = bob.__data__["password"]
        for use in (lambda: alice.password, alice.save):
            with pytest.raises(Tampered) as caught:
                use()
        error = caught.value

        assert (error.table, error.column, error.pk) == ("users", "password", alice.id)
        assert error.kid == encrypted._keyring_manager.keyring.active_kid
        new = user("carol", None)
        new.password = bob.__data__["password"]
        with pytest.raises(InvalidValue, match="primary key"):
            new.save(force_insert=True)
    assert encrypted.users.count() == 2


def test_reading_a_secret_without_its_rows_key_raises(encrypted: Storage) -> None:
    encrypted.users.create("alice", password=PASSWORD)
    with encrypted.session():
        (row,) = User.select(User.name, User.password)
        with pytest.raises(InvalidValue, match="primary key"):
            row.password  # noqa: B018 - reading it opens it
        found: list[Any] = list(User.select(User.id, User.password).tuples())
        ((pk, sealed),) = found

        assert sealed.open(User.password, pk) == encrypted.users.get(pk).password


def test_each_read_returns_a_new_document(encrypted: Storage) -> None:
    row = credential(encrypted)
    row.secret_json["api_key"] = "changed"

    assert row.secret_json == DOCUMENT


def test_joined_rows_open_with_their_own_bindings(encrypted: Storage) -> None:
    _, _, _, api_key = rows_of_all_kinds(encrypted)
    with encrypted.session(), assert_query_count(encrypted.database, 1):
        (row,) = UserKey.select(UserKey, User).join(User)

        assert row.api_key_ciphertext == api_key
        assert str(row.user.password).startswith("$argon2id$")


def test_rows_show_and_lend_no_secret(encrypted: Storage) -> None:
    credential(encrypted)
    (row,) = encrypted.credentials.list()
    sealed = row.__data__["secret_json"]
    for shown in (repr(row), str(row), repr(row.__data__), f"{sealed} {sealed!r} {sealed:>40}"):
        assert "canary" not in shown
        assert "ciphertext" not in shown
    for lend in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            lend(sealed)


def test_a_failed_insert_shows_no_secret(encrypted: Storage) -> None:
    with encrypted.session(), pytest.raises(MissingReference) as caught:
        encrypted.credentials.create(2**40, kind="api_key", secret=DOCUMENT)

    assert "canary" not in str(caught.value)


def test_in_the_clear_statements_and_errors_show_no_secret(dsn: str) -> None:
    """The database is plaintext: its own words would show the row."""
    with Storage.connect(dsn) as storage, storage.session():
        storage.users.create("alice", password=PASSWORD)
        row = user("alice", PASSWORD)
        with pytest.raises(ConflictError) as caught:
            storage.run_transaction(lambda: row.save(force_insert=True))
        assert caught.value.fields == ("name",)
        with pytest.raises(MissingReference):
            storage.credentials.create(2**40, kind="api_key", secret=DOCUMENT)

        # Every link of the chain, with what it holds.
        link: BaseException | None = caught.value
        while link is not None:
            assert "canary" not in f"{link!r} {vars(link)} {getattr(link, 'cursor', None)!r}"
            link = link.__cause__ or link.__context__


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_an_error_that_a_block_caught_shows_no_secret_at_its_end(encrypted: Storage) -> None:
    """PostgreSQL quotes the value; the block's own error has the statement's as its cause."""
    sql, secret = "INSERT INTO users (id) VALUES (%s)", SecretText(PASSWORD)
    with pytest.raises(WriteError) as ended, encrypted.transaction():
        with pytest.raises(peewee.DatabaseError):
            encrypted.database.execute_sql(sql, [secret])

    assert isinstance(ended.value.__cause__, RedactedError)
    assert "canary" not in "".join(traceback.format_exception(ended.value))


def test_the_columns_of_all_rows_at_once(encrypted: Storage) -> None:
    """A row of each table in one transaction, changed in the next."""
    row, alice, _, _ = rows_of_all_kinds(encrypted)
    row.secret_json = {"api_key": "changed"}
    alice.password = "changed"
    with encrypted.transaction():
        row.save()
        alice.save()

    with encrypted.session():
        assert Credential.get_by_id(row.id).secret_json == {"api_key": "changed"}
        assert User.get_by_id(alice.id).password == "changed"
        assert Provider.select().count() == 1
