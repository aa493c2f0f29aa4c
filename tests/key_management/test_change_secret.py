"""change-secret: one row is written; killed at any point, the old or the new secret opens."""

from __future__ import annotations

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import ConfigError, SecretError, WrongSecret
from gproxy_storage.secret import Secret
from tests.key_management.commands import count_steps, killed_at
from tests.key_management.support import (
    DOCUMENT,
    NEW_SECRET,
    SECRET,
    all_of,
    clean,
    credential,
    document,
    fill,
    keyring_row,
)
from tests.support import ONE_BACKEND, SOME_BACKENDS, recorded

OLD, NEW = Secret(SECRET), Secret(NEW_SECRET)


def opens(dsn: str, secret: str) -> bool:
    try:
        with Storage.connect(dsn, secret, sync=False) as storage:
            return storage.encryption.is_clean(storage.encryption.check())
    except WrongSecret:
        return False


@SOME_BACKENDS
def test_one_row_is_written(encrypted: Storage, dsn: str) -> None:
    fill(encrypted, 10_000)
    before = keyring_row(dsn)
    with recorded(encrypted.database) as statements:
        outcome = encrypted.encryption.change_secret(OLD, NEW)
    encrypted.close()

    written = [sql for sql in statements.sent if sql.split()[0] in ("INSERT", "UPDATE", "DELETE")]
    assert [sql.split()[:2] for sql in written] == [["UPDATE", "encryption_keys"]]
    assert not any("credentials" in sql for sql in statements.sent)
    assert (outcome.mode, outcome.sealed) == (Mode.ENCRYPTED, 0)
    after = keyring_row(dsn)
    assert after[0] == before[0] + 1
    assert after[1] != before[1]
    with Storage.connect(dsn, NEW_SECRET) as storage:
        assert all_of(storage.encryption.check()) == clean(10_000)
        assert storage.credentials.list()[-1].secret_json == document(10_000)
    assert not opens(dsn, SECRET)


@ONE_BACKEND
def test_killed_at_any_statement(encrypted: Storage, dsn: str) -> None:
    credential(encrypted)
    encrypted.close()
    seen = set()
    for step in range(1, 40):
        was = keyring_row(dsn)
        killed = killed_at(
            step,
            lambda: Storage.inspect(dsn),
            lambda storage: storage.encryption.change_secret(OLD, NEW),
        )
        works = (opens(dsn, SECRET), opens(dsn, NEW_SECRET))
        assert works in ((True, False), (False, True)), f"killed before statement {step}"
        seen.add(works)
        if works[1]:
            # Run again, it says so; and back, for the next step.
            with Storage.inspect(dsn) as storage:
                notes = storage.encryption.change_secret(OLD, NEW).notes
                assert notes == ["the new secret is already in effect"]
                storage.encryption.change_secret(NEW, OLD)
        else:
            assert keyring_row(dsn) == was
        if not killed:
            break

    assert not killed
    assert step > 5
    assert seen == {(True, False), (False, True)}


def test_the_transaction_is_short(encrypted: Storage) -> None:
    """Nothing is derived while the keyring is locked: five statements and their commit."""
    steps: list[int] = []
    count_steps(encrypted.database, steps.append)
    encrypted.encryption.change_secret(OLD, NEW, dry_run=True)
    looked = len(steps)
    encrypted.encryption.change_secret(OLD, NEW)

    assert looked == 1
    assert len(steps) - looked <= 10


def test_a_wrong_or_repeated_secret_changes_nothing(encrypted: Storage, dsn: str) -> None:
    change = encrypted.encryption.change_secret
    row = keyring_row(dsn)
    with pytest.raises(SecretError, match="the present one"):
        change(OLD, OLD)
    with pytest.raises(WrongSecret):
        change(NEW, Secret("neither of the two secrets"))
    with pytest.raises(WrongSecret):
        change(NEW, NEW)
    assert change(NEW, OLD).notes == ["the new secret is already in effect"]
    assert change(OLD, NEW, dry_run=True).changed
    assert keyring_row(dsn) == row


def test_a_plaintext_database_has_none(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        with pytest.raises(ConfigError, match="encryption encrypt"):
            storage.encryption.change_secret(OLD, NEW)


def test_this_storage_goes_on_under_the_new_secret(encrypted: Storage) -> None:
    row = credential(encrypted)
    encrypted.encryption.change_secret(OLD, NEW)
    row.secret_json = {"api_key": "later"}
    encrypted.run_transaction(row.save)

    assert encrypted.credentials.list()[0].secret_json == {"api_key": "later"} != DOCUMENT
