"""Ctrl-C at any step of a command: nothing is kept or half-done, and it can be run again."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.keyring_manager import KeyringManager
from gproxy_storage.secret import Secret
from gproxy_storage.unlocked import Unlocked
from tests.fault.test_interrupts import Interruption
from tests.key_management.support import (
    NEW_SECRET,
    SECRET,
    document,
    fill,
    keyring_row,
    rows_of_all_kinds,
)
from tests.support import ONE_BACKEND

OLD, NEW = Secret(SECRET), Secret(NEW_SECRET)
ROWS = 4

STRIDE = 1_511
"""One of so many steps is interrupted; a soak takes other ones each time."""

Operation = Callable[[Storage], object]

CALLS: dict[str, tuple[Operation, Operation]] = {
    "rotate-key": (
        lambda storage: storage.encryption.rotate_key(),
        lambda storage: storage.encryption.rotate_key(),
    ),
    "encrypt and decrypt": (
        lambda storage: storage.encryption.decrypt(),
        lambda storage: storage.encryption.encrypt(OLD),
    ),
    "decrypt and encrypt": (
        lambda storage: storage.encryption.encrypt(OLD),
        lambda storage: storage.encryption.decrypt(),
    ),
    "change-secret": (
        lambda storage: storage.encryption.change_secret(OLD, NEW),
        lambda storage: storage.encryption.change_secret(NEW, OLD),
    ),
}
"""What is interrupted, and what is done after it was run again."""


def check(storage: Storage, dsn: str, api_key: str, where: str | None) -> None:
    """Expect that nothing is held, and that all is as the database says."""
    database = storage.database
    assert not database.in_transaction(), where
    assert database.is_closed(), where
    assert database.pool._slots == len(database.pool._idle), where
    for number in range(1, ROWS + 1):
        assert storage.credentials.get(number).secret_json == document(number), where
    assert storage.keys.authenticate(api_key), where
    assert storage.encryption.is_clean(storage.encryption.check()), where
    mode = storage.encryption.mode
    row = storage._keyring_manager.state.row
    assert row is not None
    assert (*row[:3], row.decrypted) == keyring_row(dsn), where
    # What is written now opens under what the database has.
    user = storage.users.create(f"user {where}"[:200], password="$argon2id$not-so")
    assert storage.users.get(user.id).password, where
    storage.users.delete(user.id)
    assert storage.encryption.mode is mode, where


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finaliser
@ONE_BACKEND
@pytest.mark.parametrize("name", CALLS)
def test_whatever_step_is_interrupted(dsn: str, name: str) -> None:
    operation, back = CALLS[name]
    with Storage.connect(dsn) as storage:
        fill(storage, ROWS)
        api_key = rows_of_all_kinds(storage)[3]
        if name != "decrypt and encrypt":
            storage.encryption.encrypt(OLD)
        at = random.randrange(1, STRIDE)
        while True:
            interruption = Interruption(at)
            interruption.run(partial(operation, storage))
            if interruption.where is None:
                break
            check(storage, dsn, api_key, interruption.where)
            operation(storage)
            check(storage, dsn, api_key, interruption.where)
            back(storage)
            at += STRIDE
        assert at > STRIDE  # it was interrupted at least once
        assert storage.encryption.mode in (Mode.ENCRYPTED, Mode.PLAINTEXT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finaliser
@ONE_BACKEND
@pytest.mark.parametrize("change", ["the first keyring", "another secret"])
def test_an_interruption_just_after_the_commit(
    dsn: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has no secret to open the row with but the one that it was given."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    first = change == "the first keyring"
    with Storage.connect(dsn, None if first else SECRET) as storage:
        fill(storage, ROWS)
        keys = storage.encryption
        with monkeypatch.context() as patch:
            patch.setattr(KeyringManager, "adopt", interrupt if first else _second(interrupt))
            with pytest.raises(KeyboardInterrupt):
                keys.encrypt(OLD) if first else keys.change_secret(OLD, NEW)
        assert keyring_row(dsn)[0] == (1 if first else 2)
        assert storage.encryption.mode is (Mode.MIGRATING if first else Mode.ENCRYPTED)
        assert storage.credentials.get(1).secret_json == document(1)
        row = storage.credentials.get(2)
        row.secret_json = document(2, 1)
        storage.run_transaction(row.save)
        done = storage.encryption.encrypt(OLD if first else NEW)
        assert (done.mode, done.unreadable.count) == (Mode.ENCRYPTED, 0)
    with Storage.connect(dsn, SECRET if first else NEW_SECRET) as storage:
        assert storage.credentials.get(2).secret_json == document(2, 1)


def _second(interrupt: Callable[..., None]) -> Callable[[KeyringManager, Unlocked], None]:
    """Return what adopts the first state, of before the change, and then interrupts."""
    adopt, calls = KeyringManager.adopt, []

    def adopting(manager: KeyringManager, state: Unlocked) -> None:
        calls.append(state)
        if len(calls) > 1:
            interrupt()
        adopt(manager, state)

    return adopting
