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
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import KeyringLost, SchemaError, WrongSecret
from gproxy_storage.secret import Secret
from tests import leaks
from tests.encryption.support import (
    DOCUMENT,
    NEW_SECRET,
    SECRET,
    credential,
    keyring_row,
    query,
    rows_of_all_kinds,
)
from tests.processes import start_python
from tests.support import assert_query_count, recorded

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


def test_a_changed_secret(encrypted: Storage, dsn: str, api_key: str) -> None:
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


def test_encryption_switched_on(dsn: str) -> None:
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
        assert stale.ask("read").startswith("SecretChanged: ")

    assert encrypted.credentials.list()[0].secret_json == {"written": 1}


def test_who_sees_the_decryption_goes_on(encrypted: Storage, dsn: str, api_key: str) -> None:
    with process(dsn, DATABASE_SECRET_KEY=SECRET) as other:
        encrypted.encryption._change(lambda keyring: keyring.with_mode(Mode.DECRYPTING))
        assert other.ask("write", {"written": 1}) == 1
        encrypted.encryption.decrypt()
        assert other.ask("write", {"written": 2}) == 1
        assert other.ask("login", api_key) is True

    assert encrypted.credentials.list()[0].secret_json == {"written": 2}


def test_an_older_row_put_back(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    old = keyring_row(dsn)
    encrypted.encryption.rotate_key()
    query(dsn, "UPDATE encryption_keys SET generation = ?, kdf = ?, sealed = ?", old[:3])
    row.secret_json = {"lost": 1}
    with pytest.raises(WrongSecret, match=r"older row \(generation 1 after 3\)") as caught:
        encrypted.run_transaction(row.save)
    assert caught.value.table == "encryption_keys"

    # A start finds values under keys that the row has not.
    encrypted.close()
    with Storage.connect(dsn, SECRET) as storage:
        assert not storage.encryption.is_clean(storage.encryption.check())


def test_an_emptied_row_switches_nothing_off(encrypted: Storage, dsn: str) -> None:
    row = credential(encrypted)
    query(
        dsn,
        "UPDATE encryption_keys SET generation = 99, kdf = NULL, sealed = NULL, decrypted = ?",
        (True,),
    )
    row.secret_json = {"lost": 1}
    with pytest.raises(KeyringLost, match="under this process"):
        encrypted.run_transaction(row.save)


def test_a_missing_row(encrypted: Storage, dsn: str) -> None:
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
    """The keys that sealed them are dropped, and the rows sealed anew, in between."""
    credential(encrypted)
    (row,) = encrypted.credentials.list()
    encrypted.encryption.rotate_key()
    with recorded(encrypted.database) as statements:
        assert row.secret_json == DOCUMENT
    assert len(statements) == 0

    # Fetched before `encrypt` ended, and made an attribute after it.
    row.__data__["secret_json"].stored = json.dumps(DOCUMENT)
    assert row.secret_json == DOCUMENT
