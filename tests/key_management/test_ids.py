"""Rows with ids below 1, as dumps and other programs make them: every command covers them."""

from __future__ import annotations

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.envelope import Form
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import KeyringLost, WrongSecret
from gproxy_storage.key_management.scan import total
from gproxy_storage.models import Credential, User, UserKey
from gproxy_storage.secret import Secret
from tests import leaks
from tests.key_management.support import (
    NEW_SECRET,
    NOW,
    PASSWORD,
    SECRET,
    V2,
    V2_SECRET,
    all_of,
    clean,
    document,
    query,
    store,
    stored,
)
from tests.support import ONE_BACKEND

IDS = (-(2**63), -1, 0)
ROWS = 3 * len(IDS)


def api_key(number: int) -> str:
    return f"canary/key+é {number}"


leaks.register("canary/key+é")


def fill(storage: Storage, secret_of: tuple[int, ...] = IDS) -> None:
    """Save a row with each id into each table with secrets."""
    given = {"enabled": True, "created_at": NOW, "updated_at": NOW}
    with storage.transaction():
        provider = storage.providers.upsert("openai", channel="openai")
        for number in secret_of:
            name, text = f"user {number}", f"{PASSWORD} {number}"
            user = User(id=number, name=name, password=text, is_admin=False, **given)
            user.save(force_insert=True)
            key = UserKey(id=number, user=number, api_key_ciphertext=api_key(number), **given)
            key.save(force_insert=True)
            row = Credential(
                id=number, provider=provider, kind="k", secret_json=document(number), **given
            )
            row.save(force_insert=True)
            # The id that the row was given is its own, and its value opens.
            assert (user.id, key.id, row.id) == (number, number, number)
            assert (user.password, row.secret_json) == (text, document(number))


def check_rows(storage: Storage) -> None:
    for number in IDS:
        assert storage.users.get(number).password == f"{PASSWORD} {number}"
        assert storage.credentials.get(number).secret_json == document(number)
        found = storage.keys.authenticate(api_key(number))
        assert found is not None
        assert found.id == number
    assert [row.id for row in storage.credentials.iter()] == list(IDS)


def test_encrypt_rotate_check_and_decrypt(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        fill(storage)
        done = storage.encryption.encrypt(Secret(SECRET))
        assert (done.mode, done.sealed) == (Mode.ENCRYPTED, ROWS)
        assert "canary" not in str(stored(dsn, "credentials.secret_json", -1))
        assert all_of(storage.encryption.check()) == clean(ROWS)
        check_rows(storage)
        done = storage.encryption.rotate_key()
        assert (done.sealed, done.keys_dropped) == (ROWS, 1)
    with Storage.connect(dsn, SECRET) as storage:
        assert all_of(storage.encryption.check()) == clean(ROWS)
        assert total(storage.encryption.scan()).forms == {Form.V3: ROWS}
        check_rows(storage)
        done = storage.encryption.decrypt()
        assert (done.mode, done.sealed) == (Mode.PLAINTEXT, ROWS)
        check_rows(storage)
    with Storage.connect(dsn) as storage:
        assert all_of(storage.encryption.check()) == clean(ROWS) | {"plaintext": ROWS}
        check_rows(storage)


def test_what_does_not_open_is_found(encrypted: Storage, dsn: str) -> None:
    fill(encrypted)
    store(dsn, "users.password", 0, stored(dsn, "users.password", -1))
    assert all_of(encrypted.encryption.check()) == clean(ROWS) | {"unreadable": 1}
    done = encrypted.encryption.rotate_key()

    assert done.sealed == ROWS - 1
    assert [error.pk for error in done.unreadable.first] == [0]


@pytest.mark.parametrize("number", IDS)
def test_a_start_finds_values_in_rows_with_any_id(dsn: str, number: int) -> None:
    with Storage.connect(dsn) as storage:
        fill(storage, (number,))
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.MIGRATING
        storage.encryption.encrypt(Secret(SECRET))
    query(dsn, "UPDATE encryption_keys SET sealed = NULL, kdf = NULL")
    for secret in (None, SECRET):
        with pytest.raises(KeyringLost):
            Storage.connect(dsn, secret)


@ONE_BACKEND
@pytest.mark.parametrize("number", IDS)
def test_gproxys_values_are_upgraded(dsn: str, number: int) -> None:
    with Storage.connect(dsn) as storage:
        fill(storage, (number,))
    store(dsn, "users.password", number, V2)
    with pytest.raises(WrongSecret, match="none of 1 values"):
        Storage.connect(dsn, NEW_SECRET)
    with Storage.connect(dsn, V2_SECRET) as storage:
        assert storage.encryption.mode is Mode.V2
        done = storage.encryption.upgrade()
        assert (done.mode, done.sealed) == (Mode.ENCRYPTED, 3)
        assert storage.encryption.is_clean(storage.encryption.check())
