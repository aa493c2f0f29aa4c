"""encrypt and decrypt: from plaintext and back, under load, and what stays in SQLite's files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.envelope import Form
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import KeyringLost, MalformedEnvelope, PlaintextFound, Tampered
from gproxy_storage.key_management.gproxy import STEPS
from gproxy_storage.key_management.scan import total
from gproxy_storage.secret import Secret
from tests.contract.support import in_threads
from tests.key_management.commands import command, killed_at, load, outcome
from tests.key_management.support import (
    DOCUMENT,
    NEW_SECRET,
    SECRET,
    all_of,
    clean,
    credential,
    fill,
    keyring_row,
    ledger,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.key_management.test_rotate import check_load
from tests.support import ONE_BACKEND


def encrypt_under_load(dsn: str, rows: int, directory: Path) -> None:
    """The storages start on plaintext, with the secret at hand, as a deployment does."""
    with Storage.connect(dsn) as storage:
        fill(storage, rows)
        _, api_key = storage.keys.create(storage.users.create("alice"))
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.MIGRATING
        with load(storage, dsn, rows, api_key, SECRET) as done:
            result = outcome(command(dsn, "encrypt", "--json", cwd=directory))
        check_load(storage, done)

    assert (result["mode"], result["unreadable"]) == ("encrypted", 0)
    assert 0 < result["sealed"] <= rows + 1
    with Storage.connect(dsn, SECRET) as storage:
        assert all_of(storage.encryption.check()) == clean(rows + 1)
        assert total(storage.encryption.scan()).forms == {Form.V3: rows + 1}


def check_files(dsn: str, directory: Path) -> None:
    """Expect nothing in SQLite's files of what was plaintext; the load ended, so once more."""
    outcome(command(dsn, "encrypt", "--json", cwd=directory))
    path = Path(dsn.partition("://")[2].partition("?")[0])
    for file in (path, path.with_name(f"{path.name}-wal")):
        if file.exists():
            assert b"canary/bulk" not in file.read_bytes(), file.name


@ONE_BACKEND
def test_under_load(dsn: str, backend: str, tmp_path: Path) -> None:
    encrypt_under_load(dsn, 600, tmp_path)
    if backend == "sqlite":
        check_files(dsn, tmp_path)


@pytest.mark.slow
def test_ten_thousand_rows_under_load(dsn: str, backend: str, tmp_path: Path) -> None:
    encrypt_under_load(dsn, 10_000, tmp_path)
    if backend == "sqlite":
        check_files(dsn, tmp_path)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_files_hold_no_plaintext_at_once(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        fill(storage, 500)
    path = Path(dsn.partition("://")[2].partition("?")[0])
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA secure_delete = off")  # which some builds have on
        raw.execute("DELETE FROM credentials WHERE id > 100")
    assert "canary/bulk+é 500" in path.read_bytes().decode(errors="replace")
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.encrypt(Secret(SECRET)).notes == []
        files = list(path.parent.glob(f"{path.name}*"))
        assert len(files) > 1  # the log is there, too
        assert not any(b"canary/bulk" in file.read_bytes() for file in files)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_reader_that_prevents_scrubbing_is_reported(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        fill(storage, 5)
    with Storage.connect(dsn, SECRET) as storage:
        reader = storage.database.open_connection()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM users").fetchone()
        outcome = storage.encryption.encrypt(Secret(SECRET))
        reader.close()

        (note,) = outcome.notes
        assert "VACUUM" in note
        assert outcome.mode is Mode.ENCRYPTED


def test_a_keyring_is_made_where_there_is_none(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        _, _, _, api_key = rows_of_all_kinds(storage)
        assert storage.encryption.encrypt(Secret(SECRET), dry_run=True).sealed == 3
        assert keyring_row(dsn) == (0, None, None, False)
        result = storage.encryption.encrypt(Secret(SECRET))

        assert (result.mode, result.sealed) == (Mode.ENCRYPTED, 3)
        assert storage.keys.authenticate(api_key)
        assert all_of(storage.encryption.check()) == clean(3)
        again = storage.encryption.encrypt(Secret(SECRET))
        assert (again.sealed, again.keys_dropped) == (0, 0)


@ONE_BACKEND
@pytest.mark.parametrize("operation", ["encrypt", "decrypt"])
def test_killed_and_run_again(dsn: str, operation: str) -> None:
    def run(storage: Storage) -> object:
        keys = storage.encryption
        return keys.encrypt(Secret(SECRET)) if operation == "encrypt" else keys.decrypt()

    with Storage.connect(dsn) as storage:
        fill(storage, 250)
    with Storage.connect(dsn, SECRET) as storage:
        if operation == "decrypt":
            storage.encryption.encrypt(Secret(SECRET))
    for step in (2, 5, 12, 14, 11):  # the second batch is all that is left to the last
        assert killed_at(step, lambda: Storage.connect(dsn, SECRET, sync=False), run)
        with Storage.connect(dsn, SECRET, sync=False) as storage:
            found = all_of(storage.encryption.check())
            assert (found["rows"], found["unreadable"]) == (250, 0)
    with Storage.connect(dsn, SECRET, sync=False) as storage:
        run(storage)
        found = all_of(storage.encryption.check())
        assert found == clean(250) | {"plaintext": 250 if operation == "decrypt" else 0}


def test_plaintext_that_resembles_a_sealed_value_is_sealed(encrypted: Storage, dsn: str) -> None:
    """Case counts, also where the database's own comparisons ignore it."""
    kid = encrypted._keyring_manager.keyring.active_kid
    user = encrypted.users.create("alice", password="before")
    value = f"enc:v3:{kid}:".upper() + f"enc:v3:{kid}:"
    store(dsn, "users.password", user.id, value)
    result = encrypted.encryption.encrypt(Secret(SECRET))

    assert (result.mode, result.sealed) == (Mode.ENCRYPTED, 1)
    assert encrypted.users.get(user.id).password == value


def test_decrypting_and_back(encrypted: Storage, dsn: str) -> None:
    row, alice, _, api_key = rows_of_all_kinds(encrypted)
    assert encrypted.encryption.decrypt(dry_run=True).sealed == 3
    result = encrypted.encryption.decrypt()

    assert (result.mode, result.sealed, result.unreadable.count) == (Mode.PLAINTEXT, 3, 0)
    assert keyring_row(dsn)[1:] == (None, None, True)
    assert ledger(dsn) == set(STEPS)
    assert stored(dsn, "users.password", alice.id).startswith("$argon2id$")
    assert DOCUMENT["api_key"] in stored(dsn, "credentials.secret_json", row.id)
    assert encrypted.keys.authenticate(api_key)
    assert encrypted.encryption.decrypt().notes == ["the database is not encrypted"]

    assert encrypted.encryption.encrypt(Secret(SECRET)).mode is Mode.ENCRYPTED
    assert keyring_row(dsn)[3] is False
    assert encrypted.keys.authenticate(api_key)


def test_decrypting_stops_at_what_does_not_open(encrypted: Storage, dsn: str) -> None:
    fill(encrypted, 3)
    (other,) = query(dsn, "SELECT secret_json FROM credentials WHERE id = 1")
    query(dsn, "UPDATE credentials SET secret_json = ? WHERE id = 2", other)
    result = encrypted.encryption.decrypt()

    assert result.mode is Mode.DECRYPTING
    assert [type(error) for error in result.unreadable.first] == [Tampered]
    assert keyring_row(dsn)[2] is not None
    assert encrypted.encryption.encrypt(Secret(SECRET)).mode is Mode.ENCRYPTED  # turned round
    assert all_of(encrypted.encryption.check()) == clean(3) | {"unreadable": 1}
    query(dsn, "DELETE FROM credentials WHERE id = 2")
    assert encrypted.encryption.decrypt().mode is Mode.PLAINTEXT


@pytest.mark.slow
def test_two_decrypts_at_once(encrypted: Storage, dsn: str, tmp_path: Path) -> None:
    fill(encrypted, 1_000)
    encrypted.close()

    def decrypt() -> None:
        assert outcome(command(dsn, "decrypt", "--yes", "--json", cwd=tmp_path))["unreadable"] == 0

    in_threads(decrypt, decrypt)
    with Storage.connect(dsn) as storage:
        assert all_of(storage.encryption.check()) == clean(1_000) | {"plaintext": 1_000}


def test_encrypting_does_not_replace_a_lost_keyring(encrypted: Storage, dsn: str) -> None:
    credential(encrypted)
    encrypted.close()
    query(dsn, "UPDATE encryption_keys SET sealed = NULL, kdf = NULL")
    with Storage.inspect(dsn) as storage:
        with pytest.raises(KeyringLost, match="restore"):
            storage.encryption.encrypt(Secret(SECRET))
    assert keyring_row(dsn)[2] is None


def test_plaintext_written_past_the_package_is_found_and_sealed(
    encrypted: Storage, dsn: str
) -> None:
    alice = encrypted.users.create("alice", password="before")
    store(dsn, "users.password", alice.id, "by another program")
    with pytest.raises(PlaintextFound) as caught:
        _ = encrypted.users.get(alice.id).password
    assert (caught.value.table, caught.value.column, caught.value.pk) == (
        *("users", "password"),
        alice.id,
    )
    assert not encrypted.encryption.is_clean(encrypted.encryption.check())
    assert encrypted.encryption.encrypt(Secret(SECRET)).sealed == 1

    assert encrypted.users.get(alice.id).password == "by another program"
    assert encrypted.encryption.is_clean(encrypted.encryption.check())


def test_a_malformed_value_is_left_and_counted(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        fill(storage, 2)
        pk = storage.users.create("alice", password="before").id
    with Storage.connect(dsn, SECRET) as storage:
        store(dsn, "users.password", pk, "enc:v3:pending")
        result = storage.encryption.encrypt(Secret(SECRET))

        assert [type(error) for error in result.unreadable.first] == [MalformedEnvelope]
        assert (result.mode, result.sealed) == (Mode.ENCRYPTED, 2)
        found = all_of(storage.encryption.check())
        assert found == clean(3) | {"unreadable": 1}


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)  # MySQL refuses it
def test_a_value_that_cannot_be_written_again_is_left_and_counted(dsn: str) -> None:
    """JSON's reader takes a number beyond a double; no JSON can be written of it."""
    with Storage.connect(dsn) as storage:
        fill(storage, 2)
    with Storage.connect(dsn, SECRET) as storage:
        store(dsn, "credentials.secret_json", 1, '{"canary": 1e999}')
        result = storage.encryption.encrypt(Secret(SECRET))

        (error,) = result.unreadable.first
        assert type(error) is MalformedEnvelope
        assert (error.table, error.column, error.pk) == ("credentials", "secret_json", 1)
        assert "cannot be rewritten" in str(error)
        assert (result.mode, result.sealed) == (Mode.MIGRATING, 1)
        assert stored(dsn, "credentials.secret_json", 1) == '{"canary": 1e999}'


def test_the_secret_of_another_database(dsn: str) -> None:
    """Nothing there is to compare it with: what is new is under it."""
    with Storage.connect(dsn) as storage:
        fill(storage, 2)
        assert storage.encryption.encrypt(Secret(NEW_SECRET)).mode is Mode.ENCRYPTED
    Storage.connect(dsn, NEW_SECRET).close()
