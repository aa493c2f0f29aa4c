"""Values that others damaged, moved or planted: each its own error, which says where."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import (
    CryptoError,
    MalformedEnvelope,
    PlaintextFound,
    Tampered,
    UnknownKey,
)
from gproxy_storage.key_management.outcome import KEPT
from gproxy_storage.models import User
from tests.key_management.support import (
    PASSWORD,
    all_of,
    clean,
    fill,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.support import ONE_BACKEND, assert_query_count

OTHER_KID = "a738dbd331b00de7"


def flipped(token: str) -> str:
    return token[:-1] + ("A" if token[-1] not in "ABCD" else "z")


TEXTS: dict[str, tuple[Callable[[str], str], type[CryptoError]]] = {
    "truncated": (lambda token: token.rpartition(":")[0], MalformedEnvelope),
    "cut short": (lambda token: token[:-7], Tampered),
    "a bit flipped": (lambda token: flipped(token[:-9]) + token[-9:], Tampered),
    "another kid": (
        lambda token: ":".join([*token.split(":")[:2], OTHER_KID, *token.split(":")[3:]]),
        UnknownKey,
    ),
    "pending": (lambda _: "enc:v3:pending", MalformedEnvelope),
    "another version": (lambda token: token.replace("v3", "v4"), MalformedEnvelope),
    "format v2": (lambda token: "enc:v2:" + token.split(":", 3)[3], UnknownKey),
    "plaintext": (lambda _: "plaintext", PlaintextFound),
}


@ONE_BACKEND
@pytest.mark.parametrize("damage", TEXTS)
def test_a_damaged_text_is_refused(encrypted: Storage, dsn: str, damage: str) -> None:
    spoil, error = TEXTS[damage]
    alice = encrypted.users.create("alice", password=PASSWORD)
    bob = encrypted.users.create("bob", password=PASSWORD)
    token = stored(dsn, "users.password", alice.id)
    store(dsn, "users.password", alice.id, spoil(token))

    first, second = encrypted.users.list()  # works despite it
    assert second.password == bob.password
    with pytest.raises(error) as caught:
        _ = first.password
    assert type(caught.value) is error
    found = caught.value
    assert (found.table, found.column, found.pk) == ("users", "password", alice.id)
    kids = {"another kid": OTHER_KID, "cut short": token.split(":")[2]}
    if damage in kids:
        assert found.kid == kids[damage]
    assert f"users.password, row {alice.id}" in str(found)
    assert token.rpartition(":")[2][:12] not in str(found)
    assert all_of(encrypted.encryption.check()) == clean(2) | (
        {"plaintext": 1} if error is PlaintextFound else {"unreadable": 1}
    )

    # It is overwritten unopened, and deleted unopened.
    first.enabled = False
    encrypted.run_transaction(first.save)
    first.password = "another"
    encrypted.run_transaction(first.save)
    assert encrypted.users.get(alice.id).password == "another"
    store(dsn, "users.password", alice.id, spoil(token))
    with encrypted.session():
        (again,) = User.select().where(User.id == alice.id)
        assert again.delete_instance() == 1


def test_a_value_moved_to_another_row_or_column_does_not_open(encrypted: Storage, dsn: str) -> None:
    row, alice, key, _ = rows_of_all_kinds(encrypted)
    bob = encrypted.users.create("bob", password=PASSWORD)
    bobs = stored(dsn, "users.password", bob.id)
    store(dsn, "users.password", alice.id, bobs)
    store(dsn, "user_keys.api_key_ciphertext", key.id, bobs)
    parts = dict(zip(("kid", "nonce", "ciphertext"), bobs.split(":")[2:], strict=True))
    store(dsn, "credentials.secret_json", row.id, json.dumps({"$gproxy_enc": "v3", **parts}))

    for read in (
        lambda: encrypted.users.get(alice.id).password,
        lambda: encrypted.keys.list()[0].api_key_ciphertext,
        lambda: encrypted.credentials.list()[0].secret_json,
    ):
        with pytest.raises(Tampered, match="moved from another place") as caught:
            read()
        assert caught.value.kid == encrypted._keyring_manager.keyring.active_kid
    assert all_of(encrypted.encryption.check()) == clean(4) | {"unreadable": 3}


@ONE_BACKEND
def test_of_many_bad_values_the_first_are_kept(encrypted: Storage, dsn: str) -> None:
    fill(encrypted, KEPT + 3)
    query(dsn, "UPDATE credentials SET secret_json = ?", ('{"$gproxy_enc": "v3"}',))
    checked = encrypted.encryption.check()["credentials.secret_json"]

    for found in (encrypted.encryption.rotate_key().unreadable, checked.unreadable):
        assert found.count == KEPT + 3
        assert [error.pk for error in found.first] == list(range(1, KEPT + 1))


JSON: dict[str, tuple[str, type[CryptoError]]] = {
    "no JSON object of ours": ('{"$gproxy_enc": "v3"}', MalformedEnvelope),
    "pending": ('{"$gproxy_enc": "pending"}', MalformedEnvelope),
    "another version": ('{"$gproxy_enc": "v9", "kid": "x"}', MalformedEnvelope),
    "marked inside": ('{"a": {"$gproxy_enc": "v3"}}', MalformedEnvelope),
    "plaintext": ('{"api_key": "plaintext"}', PlaintextFound),
    "null": ("null", PlaintextFound),
}


@ONE_BACKEND
@pytest.mark.parametrize("damage", JSON)
def test_damaged_json_is_refused(encrypted: Storage, dsn: str, damage: str) -> None:
    value, error = JSON[damage]
    row, *_ = rows_of_all_kinds(encrypted)
    store(dsn, "credentials.secret_json", row.id, value)
    (read,) = encrypted.credentials.list()
    with pytest.raises(error) as caught:
        _ = read.secret_json

    found = caught.value
    assert (found.table, found.column, found.pk) == ("credentials", "secret_json", row.id)
    read.secret_json = {"api_key": "new"}
    encrypted.run_transaction(read.save)
    assert encrypted.credentials.list()[0].secret_json == {"api_key": "new"}


def test_a_digest_that_does_not_fit(encrypted: Storage, dsn: str) -> None:
    _, _, key, plaintext = rows_of_all_kinds(encrypted)
    store(dsn, "user_keys.api_key_digest", key.id, "0" * 64)

    assert encrypted.keys.authenticate(plaintext) is None
    assert all_of(encrypted.encryption.check()) == clean(3) | {"digest_mismatches": 1}
    assert not encrypted.encryption.is_clean(encrypted.encryption.check())


def test_a_placeholder_is_never_seen(encrypted: Storage, dsn: str) -> None:
    """It stands in the row for the time of one transaction."""
    with encrypted.transaction():
        alice = encrypted.users.create("alice", password=PASSWORD)
        with assert_query_count(encrypted.database, 1):
            assert encrypted.users.get(alice.id).password == alice.password
    assert [user.name for user in encrypted.users.list()] == ["alice"]
    assert stored(dsn, "users.password", alice.id).startswith("enc:v3:")
