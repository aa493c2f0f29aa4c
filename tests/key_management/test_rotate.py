"""rotate-key during reads and writes with a stale keyring, killed, and twice at once."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import ConfigError, InvalidValue
from gproxy_storage.key_management import changes
from gproxy_storage.key_management.scan import InUse
from gproxy_storage.models import Credential
from gproxy_storage.secret import Secret
from tests import leaks
from tests.contract.support import in_threads
from tests.key_management.commands import command, killed_at, load, outcome
from tests.key_management.load import Done
from tests.key_management.support import (
    SECRET,
    V2,
    V2_SECRET,
    all_of,
    clean,
    document,
    fill,
    keyring_row,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.support import ONE_BACKEND, Statements, recorded


def check_load(storage: Storage, done: list[Done]) -> None:
    """Expect no failed read, no lost write."""
    assert [error for one in done for error in one.errors] == []
    assert all(one.reads and one.writes and one.logins for one in done)
    versions = {number: version for one in done for number, version in one.versions.items()}
    with storage.session():
        for row in Credential.select().where(Credential.id.in_(list(versions))):
            assert row.secret_json == document(row.id, versions[row.id])


def rotate_under_load(storage: Storage, dsn: str, rows: int, directory: Path) -> None:
    fill(storage, rows)
    user = storage.users.create("alice")
    _, api_key = storage.keys.create(user)
    old = storage._keyring_manager.keyring.active_kid
    with load(storage, dsn, rows, api_key, SECRET) as done:
        result = outcome(command(dsn, "rotate-key", "--json", cwd=directory))
    check_load(storage, done)

    assert (result["mode"], result["keys_dropped"], result["unreadable"]) == ("encrypted", 1, 0)
    # What was written meanwhile is under the new key already.
    assert 0 < result["sealed"] <= rows + 1
    storage.close()
    with Storage.connect(dsn, SECRET) as after:
        assert all_of(after.encryption.check()) == clean(rows + 1)
        kids = {kid for column in after.encryption.scan().values() for kid in column.kids}
        assert kids == after._keyring_manager.keyring.kids
        assert old not in kids


@ONE_BACKEND
def test_under_load(encrypted: Storage, dsn: str, tmp_path: Path) -> None:
    rotate_under_load(encrypted, dsn, 600, tmp_path)


@pytest.mark.slow
def test_ten_thousand_rows_under_load(encrypted: Storage, dsn: str, tmp_path: Path) -> None:
    rotate_under_load(encrypted, dsn, 10_000, tmp_path)


def killed_and_run_again(storage: Storage, dsn: str, rows: int, rounds: int) -> None:
    fill(storage, rows)
    storage.close()
    draw = random.Random(7)
    statements = 8 + 5 * -(-rows // 200)
    for _ in range(rounds):
        killed = killed_at(
            draw.randrange(2, statements),
            lambda: Storage.connect(dsn, SECRET, sync=False),
            lambda again: again.encryption.rotate_key(),
        )
        with Storage.connect(dsn, SECRET, sync=False) as again:
            assert all_of(again.encryption.check()) == clean(rows)
            if killed:
                assert not again.encryption.rotate_key().unreadable
            assert len(again._keyring_manager.keyring.kids) == 1
            assert again.encryption.mode is Mode.ENCRYPTED
            assert all_of(again.encryption.check()) == clean(rows)


@ONE_BACKEND
def test_killed_and_run_again(encrypted: Storage, dsn: str) -> None:
    killed_and_run_again(encrypted, dsn, 250, 2)


@pytest.mark.slow
def test_killed_at_ten_points_of_many_rows(encrypted: Storage, dsn: str) -> None:
    killed_and_run_again(encrypted, dsn, 10_000, 10)


@pytest.mark.slow
def test_two_concurrent_rotations_both_finish(encrypted: Storage, dsn: str, tmp_path: Path) -> None:
    fill(encrypted, 2_000)
    encrypted.close()
    results = []

    def rotate() -> None:
        results.append(outcome(command(dsn, "rotate-key", "--json", cwd=tmp_path)))

    in_threads(rotate, rotate)

    assert [result["unreadable"] for result in results] == [0, 0]
    with Storage.connect(dsn, SECRET) as storage:
        assert all_of(storage.encryption.check()) == clean(2_000)
        assert len(storage._keyring_manager.keyring.kids) == 1


def updates(statements: Statements) -> int:
    """Count the statements that write values."""
    return sum("encryption_keys" not in sql for sql in statements.sent if sql.startswith("UPDATE"))


def test_many_rows_are_written_by_one_statement(encrypted: Storage) -> None:
    fill(encrypted, 450)
    rows_of_all_kinds(encrypted)
    for operation in (encrypted.encryption.rotate_key, encrypted.encryption.decrypt):
        with encrypted.session(), recorded(encrypted.database) as statements:
            assert operation().sealed == 453
        assert updates(statements) == 3 + 2  # of credentials, users and keys
    for row in encrypted.credentials.list()[:450]:
        assert row.secret_json == document(row.id)


def test_long_values_are_written_by_more_statements(
    encrypted: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(encrypted, 10)
    monkeypatch.setattr(type(encrypted.database), "_max_characters", 600)
    with encrypted.session(), recorded(encrypted.database) as statements:
        assert encrypted.encryption.rotate_key().sealed == 10
    assert updates(statements) == 4  # each of three values, the last of one
    assert all_of(encrypted.encryption.check()) == clean(10)


def test_a_digest_is_written_after_the_row_that_had_it(encrypted: Storage, dsn: str) -> None:
    """The column is unique, and within one statement a database updates in an order of its own."""
    user = encrypted.users.create("alice")
    (first, one), (second, other) = (encrypted.keys.create(user) for _ in range(2))
    leaks.register(one)
    leaks.register(other)
    digest = stored(dsn, "user_keys.api_key_digest", second.id)
    store(dsn, "user_keys.api_key_digest", second.id, "x")
    store(dsn, "user_keys.api_key_digest", first.id, digest)
    with encrypted.session(), recorded(encrypted.database) as statements:
        assert encrypted.encryption.rotate_key().sealed == 2
    assert updates(statements) == 2
    assert all_of(encrypted.encryption.check()) == clean(2)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_an_error_of_the_server_shows_no_value(encrypted: Storage, dsn: str) -> None:
    """PostgreSQL's own quotes the row; the guard against leaks looks at what is raised here."""
    fill(encrypted, 3)
    table = "ALTER TABLE credentials"
    query(dsn, f"{table} ADD CONSTRAINT never CHECK (kind = '') NOT VALID")
    try:
        with pytest.raises(InvalidValue) as caught:
            encrypted.encryption.decrypt()
    finally:
        query(dsn, f"{table} DROP CONSTRAINT never")
    leaks.check("".join(traceback.format_exception(caught.value)), "the error")
    assert encrypted.encryption.decrypt().mode is Mode.PLAINTEXT


def test_an_unreadable_row_keeps_its_key(encrypted: Storage, dsn: str) -> None:
    fill(encrypted, 3)
    # The value of another row, under a key that is known.
    query(
        dsn,
        "UPDATE credentials SET secret_json = ? WHERE id = 2",
        query(dsn, "SELECT secret_json FROM credentials WHERE id = 1")[0],
    )
    first = encrypted.encryption.rotate_key()

    assert (first.sealed, first.keys_dropped) == (2, 0)
    (error,) = first.unreadable.first
    assert (error.table, error.column, error.pk) == ("credentials", "secret_json", 2)
    assert len(encrypted._keyring_manager.keyring.kids) == 2
    query(dsn, "DELETE FROM credentials WHERE id = 2")
    second = encrypted.encryption.rotate_key()  # takes the first one up
    assert (second.sealed, second.keys_dropped, second.unreadable.count) == (0, 1, 0)


def swapped(dsn: str, first: int, second: int) -> None:
    """Give a credential the value of another row, under a key that is known."""
    (value,) = query(dsn, "SELECT secret_json FROM credentials WHERE id = ?", (first,))
    query(dsn, "UPDATE credentials SET secret_json = ? WHERE id = ?", (*value, second))


def test_damaged_rows_do_not_stop_rotations(encrypted: Storage, dsn: str) -> None:
    """Each makes a new key for all others; what is damaged keeps its own, and no other."""
    fill(encrypted, 5)
    swapped(dsn, 1, 2)
    old = encrypted._keyring_manager.keyring.active_kid
    seen = {old}
    for dropped in (0, 1, 1):
        rehearsed = encrypted.encryption.rotate_key(dry_run=True)
        done = encrypted.encryption.rotate_key()
        assert (done.mode, done.sealed, done.keys_dropped) == (Mode.ENCRYPTED, 4, dropped)
        assert rehearsed.to_dict() == done.to_dict()
        assert [error.pk for error in done.unreadable.first] == [2]
        assert done.keys_kept == [old]
        active = encrypted._keyring_manager.keyring.active_kid
        assert active not in seen
        seen.add(active)
        kids = encrypted.encryption.scan()["credentials.secret_json"].kids
        assert kids == {active: 4, old: 1}
    # What it was is still what its key opens.
    query(dsn, "DELETE FROM credentials WHERE id = 2")
    done = encrypted.encryption.rotate_key()
    assert (done.sealed, done.keys_dropped, done.keys_kept) == (0, 1, [])
    assert done.notes == ["this finishes an earlier rotation; the next one creates a new key"]
    done = encrypted.encryption.rotate_key()
    assert (done.sealed, done.keys_dropped) == (4, 1)
    assert done.unreadable.count == 0


@ONE_BACKEND
def test_an_interrupted_rotation_is_finished_despite_damaged_rows(
    encrypted: Storage, dsn: str
) -> None:
    fill(encrypted, 250)
    swapped(dsn, 1, 2)
    encrypted.close()
    assert killed_at(
        13,  # in the first batch's transaction
        lambda: Storage.connect(dsn, SECRET, sync=False),
        lambda again: again.encryption.rotate_key(),
    )
    with Storage.connect(dsn, SECRET) as storage:
        begun = storage._keyring_manager.keyring.active_kid
        rehearsed = storage.encryption.rotate_key(dry_run=True)
        done = storage.encryption.rotate_key()
        assert rehearsed.to_dict() == done.to_dict()
        assert (done.sealed, done.keys_dropped, done.unreadable.count) == (249, 0, 1)
        assert storage._keyring_manager.keyring.active_kid == begun
        assert storage.encryption.rotate_key().sealed == 249
        assert storage._keyring_manager.keyring.active_kid != begun


MALFORMED = {
    "that names its key": ('{{"$gproxy_enc": "v3", "kid": "{kid}"}}', True),
    "that names none": ('{{"$gproxy_enc": "v3", "kid": "?"}}', True),
    "that was never written": ('{{"$gproxy_enc": "pending"}}', False),
    "under a key that is nowhere": (
        '{{"$gproxy_enc": "v3", "kid": "a738dbd331b00de7", "nonce": "'
        + "A" * 32
        + '", "ciphertext": "'
        + "A" * 32
        + '"}}',
        False,
    ),
}


@ONE_BACKEND
@pytest.mark.parametrize("damage", MALFORMED)
def test_a_key_stays_as_long_as_a_row_may_need_it(
    encrypted: Storage, dsn: str, damage: str
) -> None:
    fill(encrypted, 2)
    kid = encrypted._keyring_manager.keyring.active_kid
    value, needs_its_key = MALFORMED[damage]
    query(dsn, "UPDATE credentials SET secret_json = ? WHERE id = 2", (value.format(kid=kid),))
    done = encrypted.encryption.rotate_key()

    assert (done.sealed, done.unreadable.count) == (1, 1)
    assert done.keys_kept == ([kid] if needs_its_key else [])


def test_a_rotation_while_a_value_can_not_be_migrated(dsn: str) -> None:
    """Mode encrypted is out of reach; keys can be changed all the same."""
    with Storage.connect(dsn) as storage:
        fill(storage, 3)
        storage.users.create("alice", password="before")
    store(dsn, "users.password", _user(dsn), V2)
    with Storage.connect(dsn, V2_SECRET) as storage:
        store(dsn, "users.password", _user(dsn), f"{V2[:-2]}AA")
        assert storage.encryption.upgrade().mode is Mode.MIGRATING
        for _ in range(2):
            rehearsed = storage.encryption.rotate_key(dry_run=True)
            done = storage.encryption.rotate_key()
            assert rehearsed.to_dict() == done.to_dict()
            assert (done.mode, done.sealed, done.keys_dropped) == (Mode.MIGRATING, 3, 1)
        change = storage.encryption.change_secret(Secret(V2_SECRET), Secret(SECRET))
        assert (change.mode, change.changed) == (Mode.MIGRATING, True)
        assert storage._keyring_manager.keyring.has_v2


def _user(dsn: str) -> int:
    ((pk,),) = query(dsn, "SELECT id FROM users")
    return int(pk)


def test_a_rotation_keeps_times_and_digests(encrypted: Storage, dsn: str) -> None:
    rows_of_all_kinds(encrypted)
    columns = "SELECT updated_at FROM {} ORDER BY id"
    before = [query(dsn, columns.format(name)) for name in ("users", "user_keys", "credentials")]
    digests = query(dsn, "SELECT api_key_digest FROM user_keys")
    assert encrypted.encryption.rotate_key().sealed == 3

    after = [query(dsn, columns.format(name)) for name in ("users", "user_keys", "credentials")]
    assert after == before
    assert query(dsn, "SELECT api_key_digest FROM user_keys") == digests


def test_another_rotation_ends_between_the_scan_and_the_end(
    encrypted: Storage, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(encrypted, 3)
    scan: Callable[[Backend, Keyring], InUse] = vars(changes)["scan_others"]

    def scan_late(database: Backend, keyring: Keyring) -> InUse:
        monkeypatch.setattr(changes, "scan_others", scan)
        found = scan(database, keyring)
        assert outcome(command(dsn, "rotate-key", "--json", cwd=tmp_path))["keys_dropped"] == 1
        return found

    monkeypatch.setattr(changes, "scan_others", scan_late)

    assert encrypted.encryption.rotate_key().keys_dropped == 0
    assert len(encrypted._keyring_manager.keyring.kids) == 1
    assert all_of(encrypted.encryption.check()) == clean(3)


def test_inside_a_transaction_keys_are_not_changed(encrypted: Storage) -> None:
    keys, secret = encrypted.encryption, Secret(SECRET)
    for change in (keys.rotate_key, keys.decrypt, lambda: keys.encrypt(secret)):
        with encrypted.transaction(), pytest.raises(ConfigError, match="leave it first"):
            change()


def test_a_database_in_the_clear_has_no_keys(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        with pytest.raises(ConfigError, match="mode encrypted"):
            storage.encryption.rotate_key()
    assert keyring_row(dsn) == (0, None, None, False)


def test_a_dry_run_changes_nothing(encrypted: Storage, dsn: str) -> None:
    fill(encrypted, 3)
    row = keyring_row(dsn)
    found = encrypted.encryption.rotate_key(dry_run=True)

    assert (found.changed, found.sealed) == (True, 3)
    assert keyring_row(dsn) == row
