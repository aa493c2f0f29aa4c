"""A dry run tells what the run does, the same numbers, rows and keys, and does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import KeyringLost, WrongSecret
from gproxy_storage.key_management.outcome import Outcome
from gproxy_storage.secret import Secret
from tests import leaks
from tests.key_management.support import (
    NEW_SECRET,
    PASSWORD,
    SECRET,
    V2,
    V2_SECRET,
    fill,
    keyring_row,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.support import ONE_BACKEND

TABLES = {"users": "password", "user_keys": "api_key_ciphertext", "credentials": "secret_json"}


def content(dsn: str) -> list[Any]:
    return [
        query(dsn, f"SELECT id, {column} FROM {table} ORDER BY id")
        for table, column in TABLES.items()
    ] + [keyring_row(dsn), query(dsn, "SELECT id, api_key_digest FROM user_keys ORDER BY id")]


def same(dsn: str, operation: Callable[[bool], Outcome]) -> Outcome:
    """Expect the same of a dry run and a run, and nothing done by the first."""
    before = content(dsn)
    rehearsed = operation(True)
    assert content(dsn) == before
    done = operation(False)
    assert rehearsed.to_dict() == done.to_dict()
    assert done.changed is (content(dsn) != before)
    return done


def damaged(storage: Storage, dsn: str) -> int:
    """Fill a database, each kind of damage in it, and return how many values do not open."""
    rows_of_all_kinds(storage)
    for number in range(4):
        storage.users.create(f"user {number}", password=f"{PASSWORD} {number}")
    ids = [user.id for user in storage.users.list()]
    first = stored(dsn, "users.password", ids[0])
    store(dsn, "users.password", ids[1], "enc:v3:pending")
    store(dsn, "users.password", ids[2], "enc:v3:nothing")
    if first.startswith("enc:"):
        store(dsn, "users.password", ids[3], first)
        return 3
    return 2


@pytest.mark.parametrize("is_damaged", [False, True], ids=["sound", "damaged"])
def test_dry_runs_of_encrypt_and_decrypt_decide_as_the_runs(dsn: str, is_damaged: bool) -> None:
    with Storage.connect(dsn) as storage:
        keys = storage.encryption
        left = damaged(storage, dsn) if is_damaged else 0
        if not is_damaged:
            rows_of_all_kinds(storage)
        done = same(dsn, lambda dry: keys.encrypt(Secret(SECRET), dry_run=dry))
        assert (done.mode, done.unreadable.count) == (Mode.ENCRYPTED, left)
        done = same(dsn, lambda dry: keys.encrypt(Secret(SECRET), dry_run=dry))
        assert not done.changed
        done = same(dsn, lambda dry: keys.rotate_key(dry_run=dry))
        assert (done.changed, done.unreadable.count) == (True, left)
        same(dsn, lambda dry: keys.upgrade(dry_run=dry))
        done = same(dsn, lambda dry: keys.decrypt(dry_run=dry))
        assert done.mode is (Mode.DECRYPTING if is_damaged else Mode.PLAINTEXT)
        same(dsn, lambda dry: keys.decrypt(dry_run=dry))
        done = same(dsn, lambda dry: keys.encrypt(Secret(SECRET), dry_run=dry))
        assert done.mode is Mode.ENCRYPTED


def test_dry_runs_say_what_becomes_of_damaged_rows(encrypted: Storage, dsn: str) -> None:
    keys = encrypted.encryption
    left = damaged(encrypted, dsn)
    plaintext = encrypted.users.create("in the clear", password="x").id
    store(dsn, "users.password", plaintext, "of another program")
    for _ in range(2):
        assert same(dsn, lambda dry: keys.rotate_key(dry_run=dry)).unreadable.count >= left
    assert same(dsn, lambda dry: keys.encrypt(Secret(SECRET), dry_run=dry)).sealed >= 1
    assert same(dsn, lambda dry: keys.decrypt(dry_run=dry)).unreadable.count == left


def test_a_dry_run_of_upgrade_decides_as_the_run(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        rows_of_all_kinds(storage)
        pks = [storage.users.create(name, password="before").id for name in ("bob", "carol")]
    for pk in pks:
        store(dsn, "users.password", pk, V2)
    with Storage.connect(dsn, V2_SECRET) as storage:
        keys = storage.encryption
        store(dsn, "users.password", pks[1], f"{V2[:-2]}AA")
        done = same(dsn, lambda dry: keys.encrypt(Secret(V2_SECRET), dry_run=dry))
        assert done.mode is Mode.V2
        done = same(dsn, lambda dry: keys.upgrade(dry_run=dry))
        assert (done.mode, done.unreadable.count) == (Mode.MIGRATING, 1)
        same(dsn, lambda dry: keys.upgrade(dry_run=dry))
        query(dsn, "DELETE FROM users WHERE id = ?", (pks[1],))
        done = same(dsn, lambda dry: keys.upgrade(dry_run=dry))
        assert (done.mode, done.changed) == (Mode.ENCRYPTED, True)


@ONE_BACKEND
def test_what_a_run_refuses_its_dry_run_refuses(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        pk = storage.users.create("bob", password="before").id
        store(dsn, "users.password", pk, V2)
        for dry_run in (True, False):
            with pytest.raises(WrongSecret, match="none of 1 values"):
                storage.encryption.encrypt(Secret(NEW_SECRET), dry_run=dry_run)
        sealed = f"enc:v3:a738dbd331b00de7:{'A' * 32}:{'A' * 32}"
        store(dsn, "users.password", pk, sealed)
        for dry_run in (True, False):
            with pytest.raises(KeyringLost):
                storage.encryption.encrypt(Secret(SECRET), dry_run=dry_run)
    assert keyring_row(dsn) == (0, None, None, False)


@pytest.mark.parametrize("moved", ["forwards", "backwards"])
def test_a_digest_of_another_row(dsn: str, moved: str) -> None:
    """The column is unique: one row that has another's digest must not stop all."""
    with Storage.connect(dsn) as storage:
        user = storage.users.create("alice")
        made = [storage.keys.create(user) for _ in range(3)]
        for _, plaintext in made:
            leaks.register(plaintext)
        storage.encryption.encrypt(Secret(SECRET))
        keys = storage.encryption
        victim, holder = (made[0], made[2]) if moved == "forwards" else (made[2], made[0])
        digest = stored(dsn, "user_keys.api_key_digest", victim[0].id)
        store(dsn, "user_keys.api_key_digest", victim[0].id, "x")
        store(dsn, "user_keys.api_key_digest", holder[0].id, digest)
        done = same(dsn, lambda dry: keys.rotate_key(dry_run=dry))
        # Whose digest another row has that comes later, waits for the next run.
        assert done.sealed == (2 if moved == "forwards" else 3)
        if moved == "forwards":
            (error,) = done.unreadable.first
            assert f"its digest is that of row {holder[0].id}" in str(error)
            assert same(dsn, lambda dry: keys.rotate_key(dry_run=dry)).sealed == 1
        assert keys.is_clean(keys.check())
        for key, plaintext in made:
            found = storage.keys.authenticate(plaintext)
            assert found is not None
            assert found.id == key.id


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_a_column_that_is_too_narrow(dsn: str) -> None:
    """A value that fits in the clear may not fit sealed: a rotation skips and reports it."""
    with Storage.connect(dsn) as storage:
        fill(storage, 2)
        storage.users.create("short", password=PASSWORD)
        pk = storage.users.create("long", password="x").id
    store(dsn, "users.password", pk, f"$argon2id${'x' * 200}")
    Storage.connect(dsn, SECRET).close()
    query(dsn, "ALTER TABLE users MODIFY password VARCHAR(255)")
    try:
        with Storage.connect(dsn, SECRET) as storage:
            keys = storage.encryption
            assert keys.mode is Mode.MIGRATING
            for _ in range(2):
                done = same(dsn, lambda dry: keys.rotate_key(dry_run=dry))
                assert (done.mode, done.sealed) == (Mode.MIGRATING, 3)
                (error,) = done.unreadable.first
                assert "its column takes 255: run `gproxy-storage sync --widen`" in str(error)
    finally:
        query(dsn, "ALTER TABLE users MODIFY password LONGTEXT")
    with Storage.connect(dsn, SECRET) as storage:
        done = same(dsn, lambda dry: storage.encryption.encrypt(Secret(SECRET), dry_run=dry))
        assert (done.mode, done.sealed) == (Mode.ENCRYPTED, 1)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_dry_run_of_a_changed_secret(encrypted: Storage, dsn: str) -> None:
    change = encrypted.encryption.change_secret
    same(dsn, lambda dry: change(Secret(SECRET), Secret(NEW_SECRET), dry_run=dry))
    same(dsn, lambda dry: change(Secret(SECRET), Secret(NEW_SECRET), dry_run=dry))
