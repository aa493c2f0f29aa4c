"""Processes that were there before: a changed secret, a switched mode, an older row put back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.kdf import Kdf
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keys import Key
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import (
    KeyringLost,
    SchemaError,
    SecretChanged,
    UnknownKey,
    WrongSecret,
)
from gproxy_storage.secret import Secret, SecretText
from gproxy_storage.unlocked import KeyringRow, Unlocked
from tests import leaks
from tests.key_management.support import (
    DOCUMENT,
    NEW_SECRET,
    PASSWORD,
    SECRET,
    begin_decrypting,
    credential,
    keyring_row,
    query,
    rows_of_all_kinds,
    stored,
)
from tests.processes import start_python
from tests.support import ONE_BACKEND, Child, assert_query_count, recorded

# A process that does one thing a line, on a storage that it opened at its start.
PROGRAM = """
import json, logging, os, sys
from gproxy_storage import Storage
from gproxy_storage.models import Credential

logging.getLogger("gproxy_storage").addHandler(logging.NullHandler())
with Storage.open() as storage:
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            with storage.session():
                if name == "read":
                    said = storage.credentials.list()[0].secret_json
                elif name == "write":
                    row = storage.credentials.list()[0]
                    row.secret_json = arguments[0]
                    said = storage.run_transaction(row.save)
                elif name == "login":
                    said = storage.keys.authenticate(arguments[0]) is not None
        except Exception as exc:
            said = f"{type(exc).__name__}: {exc}"
        print(json.dumps(said), flush=True)
"""


class Process:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, *question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def process(dsn: str, **settings: str) -> Iterator[Process]:
    with start_python(["-c", PROGRAM], {"GPROXY_DSN": dsn, **settings}) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield Process(started)
            assert started.stdin is not None
            started.stdin.close()
            leaks.check(started.stdout.read(), "the rest of the output")
        finally:
            started.kill()


@pytest.fixture
def api_key(encrypted: Storage) -> str:
    return rows_of_all_kinds(encrypted)[3]


def test_a_process_with_an_old_secret_reads_and_does_not_write(
    encrypted: Storage, dsn: str, api_key: str
) -> None:
    """What needs no look at the keyring goes on; what does, says what to do."""
    with process(dsn, DATABASE_SECRET_KEY=SECRET) as stale:
        encrypted.encryption.change_secret(Secret(SECRET), Secret(NEW_SECRET))
        assert stale.ask("read") == DOCUMENT
        assert stale.ask("login", api_key) is True
        said = stale.ask("write", {"lost": 1})
        assert said.startswith("SecretChanged: ")
        assert "restart it with the new DATABASE_SECRET_KEY" in said
        assert stale.ask("login", "sk-api01-unknown").startswith("SecretChanged: ")

    assert encrypted.credentials.list()[0].secret_json == DOCUMENT


def test_a_secret_from_a_file_is_read_again(
    encrypted: Storage, dsn: str, api_key: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    with process(dsn, DATABASE_SECRET_KEY_FILE=str(file)) as stale:
        encrypted.encryption.change_secret(Secret(SECRET), Secret(NEW_SECRET))
        assert stale.ask("write", {"lost": 1}).startswith("SecretChanged: ")
        file.write_text(f"{NEW_SECRET}\n")
        assert stale.ask("write", {"written": 1}) == 1
        encrypted.encryption.rotate_key()
        assert stale.ask("read") == {"written": 1}
        file.unlink()
        assert stale.ask("write", {"written": 2}) == 1

    assert encrypted.credentials.list()[0].secret_json == {"written": 2}


def test_a_process_without_the_secret_stops_when_encryption_is_switched_on(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        _, _, _, api_key = rows_of_all_kinds(storage)
        with process(dsn) as stale:
            storage.encryption.encrypt(Secret(SECRET))
            for question in (("read",), ("write", {"lost": 1}), ("login", api_key)):
                assert stale.ask(*question).startswith("SecretChanged: "), question
        assert storage.credentials.list()[0].secret_json == DOCUMENT


def test_rotated_and_decrypted_and_encrypted(encrypted: Storage, dsn: str, api_key: str) -> None:
    with process(dsn, DATABASE_SECRET_KEY=SECRET) as stale:
        encrypted.encryption.rotate_key()
        assert stale.ask("read") == DOCUMENT
        assert stale.ask("login", api_key) is True
        assert stale.ask("write", {"written": 1}) == 1
        encrypted.encryption.decrypt()
        # Emptied between two looks, as somebody else could have done it: not believed.
        assert stale.ask("write", {"lost": 1}).startswith("KeyringLost: ")
        encrypted.encryption.encrypt(Secret(SECRET))
        assert stale.ask("read") == {"written": 1}  # under another keyring, which its secret opens

    assert encrypted.credentials.list()[0].secret_json == {"written": 1}


def test_who_sees_the_decryption_goes_on(encrypted: Storage, dsn: str, api_key: str) -> None:
    with process(dsn, DATABASE_SECRET_KEY=SECRET) as other:
        begin_decrypting(encrypted)
        assert other.ask("write", {"written": 1}) == 1
        encrypted.encryption.decrypt()
        assert other.ask("write", {"written": 2}) == 1
        assert other.ask("login", api_key) is True

    assert encrypted.credentials.list()[0].secret_json == {"written": 2}


def row_of(storage: Storage, generation: int, *, related: bool, secret: str) -> KeyringRow:
    """Return a row as the database might have it: of its keyring or another, under a secret."""
    present = storage._keyring_manager.keyring
    keyring = present.with_new_key().without_keys(present.kids)
    if not related:
        keyring = Keyring.create(Mode.ENCRYPTED)
    state = Unlocked(keyring, KeyringRow(generation - 1, None, None, False))
    kdf = Kdf.new()
    if related and secret == SECRET:  # a backup, from before or after a rotation
        before = storage._keyring_manager.state.row
        assert before is not None
        kdf = Kdf.parse(before.kdf or "")
    under = state.under(kdf, kdf.derive(Secret(secret)), Secret(secret))
    row = under.resealed(state.keyring).row
    assert row is not None
    return row


def put(dsn: str, row: KeyringRow) -> None:
    """Store that row, as in a database that was restored or recreated."""
    query(
        dsn,
        "UPDATE encryption_keys SET generation = ?, kdf = ?, sealed = ?, decrypted = ?",
        (*row[:2], row.sealed and SecretText(row.sealed), row.decrypted),
    )


@pytest.mark.parametrize("generation", [2, 3, 9], ids=["lower", "same", "higher"])
@pytest.mark.parametrize("related", [True, False], ids=["restored", "recreated"])
def test_another_keyring_under_the_same_secret(
    encrypted: Storage,
    dsn: str,
    generation: int,
    related: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Known by its content, for its number may be the same: whatever is written opens after."""
    encrypted.encryption.rotate_key()
    assert keyring_row(dsn)[0] == 3
    provider = encrypted.providers.upsert("openai", channel="openai")
    old = encrypted._keyring_manager.keyring
    put(dsn, row_of(encrypted, generation, related=related, secret=SECRET))
    caplog.clear()
    user = encrypted.users.create("alice", password=PASSWORD)
    _, api_key = encrypted.keys.create(user)
    leaks.register(api_key)
    created = encrypted.credentials.create(provider, kind="k", secret=DOCUMENT)
    now = encrypted._keyring_manager.keyring

    assert encrypted.credentials.get(created.id).secret_json == DOCUMENT
    assert now.active_kid != old.active_kid
    assert (now.lookup_digests("x") == old.lookup_digests("x")) is related
    assert (now.spool == old.spool) is related
    is_a_change = related and generation >= 3
    assert ("holds another keyring" in caplog.text) is not is_a_change
    # What the database does not have opens nothing, but what was read under it before.
    binding = Binding("users", "password", 1)
    sealed = old.seal_text(PASSWORD, binding)
    if is_a_change:
        assert now.open_text(sealed, binding) == PASSWORD
    else:
        with pytest.raises(UnknownKey):
            now.open_text(sealed, binding)
    encrypted.close()
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.credentials.get(created.id).secret_json == DOCUMENT
        assert storage.users.get(user.id).password == user.password
        assert storage.keys.authenticate(api_key) is not None
        assert storage.encryption.is_clean(storage.encryption.check())


def test_readers_find_another_keyring(encrypted: Storage, dsn: str) -> None:
    """By a key that they do not have, or a digest that is nowhere."""
    provider = encrypted.providers.upsert("openai", channel="openai")
    stale = encrypted._keyring_manager.state
    row = row_of(encrypted, 1, related=False, secret=SECRET)
    put(dsn, row)
    _, api_key = encrypted.keys.create(encrypted.users.create("alice"))
    leaks.register(api_key)
    created = encrypted.credentials.create(provider, kind="k", secret=DOCUMENT)
    for read in (
        lambda: encrypted.credentials.get(created.id).secret_json == DOCUMENT,
        lambda: encrypted.keys.authenticate(api_key) is not None,
        lambda: encrypted.keys.find(api_key) is not None,
    ):
        encrypted._keyring_manager.state = stale
        assert read()
        assert encrypted._keyring_manager.state.is_of(row)


@ONE_BACKEND
@pytest.mark.parametrize("generation", [1, 2, 9], ids=["same", "next", "higher"])
def test_another_keyring_under_another_secret(
    encrypted: Storage, dsn: str, generation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = credential(encrypted)
    old = keyring_row(dsn)
    put(dsn, row_of(encrypted, generation, related=False, secret=NEW_SECRET))
    derived = []
    derive = Kdf.derive

    def counted(self: Kdf, secret: Secret) -> Key:
        derived.append(self)
        return derive(self, secret)

    monkeypatch.setattr(Kdf, "derive", counted)
    row.secret_json = {"lost": 1}
    for _ in range(3):
        with pytest.raises(SecretChanged, match="restart it with the new DATABASE_SECRET_KEY"):
            encrypted.run_transaction(row.save)
        with pytest.raises(SecretChanged):
            encrypted.keys.authenticate("sk-api01-unknown")

    assert len(derived) == 1  # it takes long, and gives the same again
    put(dsn, KeyringRow(*old))
    assert encrypted.run_transaction(row.save) == 1


@ONE_BACKEND
def test_a_damaged_row_of_the_same_generation(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    sealed = keyring_row(dsn)[2]
    query(dsn, "UPDATE encryption_keys SET sealed = ?", (SecretText(f"{sealed[:-4]}AAAA"),))
    row.secret_json = {"lost": 1}
    with pytest.raises(WrongSecret, match="the keyring row is damaged"):
        encrypted.run_transaction(row.save)


@ONE_BACKEND
def test_a_row_whose_kdf_alone_is_another(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    query(dsn, "UPDATE encryption_keys SET kdf = ?", (str(Kdf.new()),))
    row.secret_json = {"lost": 1}
    with pytest.raises(SecretChanged):
        encrypted.run_transaction(row.save)


@pytest.mark.parametrize("generation", [0, 1])
def test_a_plaintext_process_over_an_encrypted_database(dsn: str, generation: int) -> None:
    with Storage.connect(dsn) as storage:
        row = credential(storage)
        assert keyring_row(dsn)[0] == 0
        state = Unlocked(Keyring.create(Mode.ENCRYPTED), KeyringRow(generation, None, None, False))
        kdf = Kdf.new()
        under = state.under(kdf, kdf.derive(Secret(SECRET)), Secret(SECRET))
        sealed = under.keyring.seal(
            kdf=str(kdf), generation=generation, key=kdf.derive(Secret(SECRET))
        )
        put(dsn, KeyringRow(generation, str(kdf), sealed, False))
        row.secret_json = {"lost": 1}
        with pytest.raises(SecretChanged):
            storage.run_transaction(row.save)
        with pytest.raises(SecretChanged):
            storage.keys.find("sk-api01-unknown")
    assert "lost" not in str(stored(dsn, "credentials.secret_json", row.id))


def test_a_database_recreated_in_the_clear(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    for generation in (0, 1, 9):
        put(dsn, KeyringRow(generation, None, None, False))
        row.secret_json = {"lost": 1}
        with pytest.raises(KeyringLost, match="recreated"):
            encrypted.run_transaction(row.save)


def test_a_keyring_locked_by_a_transaction_does_not_change(encrypted: Storage, dsn: str) -> None:
    """Another thread may look at the keyring as it was, late: it must not decide for this one."""
    row = credential(encrypted)
    stale = encrypted._keyring_manager.state
    encrypted.encryption.rotate_key()
    with encrypted.transaction():
        locked = encrypted._keyring_manager.lock_shared()
        encrypted._keyring_manager.adopt(stale)
        assert encrypted._keyring_manager.lock_shared() is locked
        row.secret_json = {"written": 1}
        row.save()
    assert encrypted._keyring_manager.keyring.active_kid == stale.keyring.active_kid
    encrypted.close()
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.credentials.list()[0].secret_json == {"written": 1}


def test_an_emptied_row_switches_nothing_off(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    query(
        dsn,
        "UPDATE encryption_keys SET generation = 99, kdf = NULL, sealed = NULL, decrypted = ?",
        (True,),
    )
    row.secret_json = {"lost": 1}
    with pytest.raises(KeyringLost, match="while this process ran"):
        encrypted.run_transaction(row.save)


def test_a_missing_keyring_row_stops_writes(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    query(dsn, "DELETE FROM encryption_keys")
    row.secret_json = {"lost": 1}
    with pytest.raises(SchemaError, match="the row of encryption_keys is missing"):
        encrypted.run_transaction(row.save)

    assert encrypted.credentials.list()[0].secret_json == DOCUMENT


def test_hits_stay_one_query(encrypted: Storage, api_key: str) -> None:
    with encrypted.session():
        with assert_query_count(encrypted.database, 1):
            assert encrypted.keys.authenticate(api_key)
        with assert_query_count(encrypted.database, 1):
            assert encrypted.credentials.list()[0].secret_json == DOCUMENT


def test_values_read_before_and_opened_after(encrypted: Storage) -> None:
    """The keys that sealed them are dropped, and the rows sealed again, in between."""
    credential(encrypted)
    (row,) = encrypted.credentials.list()
    encrypted.encryption.rotate_key()
    with recorded(encrypted.database) as statements:
        assert row.secret_json == DOCUMENT
    assert len(statements) == 0

    # Fetched before `encrypt` ended, and made an attribute after it.
    row.__data__["secret_json"].stored = json.dumps(DOCUMENT)
    assert row.secret_json == DOCUMENT


@pytest.mark.parametrize("hooks", [True, False])
def test_parent_and_child_each_follow_the_keyring(
    encrypted: Storage, dsn: str, hooks: bool
) -> None:
    """A child has the state of its parent, whatever forked it, and no lock of it."""
    provider = encrypted.providers.upsert("openai", channel="openai")
    put(dsn, row_of(encrypted, 1, related=False, secret=SECRET))

    def create() -> str:
        return str(encrypted.credentials.create(provider.id, kind="k", secret=DOCUMENT).id)

    ids = [int(Child(create, hooks=hooks).check()), int(create())]
    encrypted.close()
    with Storage.connect(dsn, SECRET) as storage:
        assert [storage.credentials.get(pk).secret_json for pk in ids] == [DOCUMENT, DOCUMENT]
