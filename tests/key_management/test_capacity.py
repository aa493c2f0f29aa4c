"""Columns that sealed values do not fit in: refused before a value is written, and then widened."""

from __future__ import annotations

from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import InvalidValue
from tests import leaks, servers
from tests.key_management.commands import command, outcome
from tests.key_management.support import SECRET, keyring_row, stored
from tests.processes import run_python
from tests.support import opened, run_script

on_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)

COMMAND = "gproxy-storage sync --widen"
LONG_KEY = "canary-key-" + "k" * 189  # 200 characters, and 345 once it is sealed
leaks.register(LONG_KEY)


@pytest.fixture
def narrow(database_dsn: str, backend: str) -> str:
    """A plaintext database as GPROXY's tables are, with texts of 255 characters, and two keys."""
    with Storage.connect(database_dsn) as storage:
        alice = storage.users.create("alice", password="correct horse")
        storage.keys.create(alice)
        storage.keys.create(alice, api_key=LONG_KEY)
    change = "ALTER {} TYPE VARCHAR(255)" if backend == "postgres" else "MODIFY {} VARCHAR(255)"
    required = "" if backend == "postgres" else " NOT NULL"
    with opened(database_dsn) as database:
        run_script(
            database,
            [
                f"ALTER TABLE users {change.format('password')}",
                f"ALTER TABLE user_keys {change.format('api_key_ciphertext')}{required}",
            ],
        )
    return database_dsn


@on_servers
def test_encrypt_is_refused_before_it_writes(narrow: str, tmp_path: Path) -> None:
    before = keyring_row(narrow), stored(narrow, "user_keys.api_key_ciphertext", 1)
    for arguments in (("encrypt",), ("encrypt", "--dry-run")):
        done = command(narrow, *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "user_keys.api_key_ciphertext takes 255 characters, and 1 of its" in done.stderr
        assert "(rows 2)" in done.stderr
        assert COMMAND in done.stderr
    assert (keyring_row(narrow), stored(narrow, "user_keys.api_key_ciphertext", 1)) == before
    widened = run_python(
        "-m",
        "gproxy_storage",
        "sync",
        "--widen",
        settings={"GPROXY_DSN": narrow, "DATABASE_SECRET_KEY": SECRET},
        cwd=tmp_path,
    )
    assert widened.returncode == 0, widened.stderr
    assert keyring_row(narrow) == before[0]
    assert outcome(command(narrow, "encrypt", "--json", cwd=tmp_path))["sealed"] == 3
    with Storage.connect(narrow, SECRET) as storage:
        assert storage.encryption.mode is Mode.ENCRYPTED
        key = storage.keys.authenticate(LONG_KEY)
        assert key is not None
        assert storage.users.authenticate("alice", "correct horse") is not None


@on_servers
def test_what_fits_is_sealed_and_what_does_not_is_refused_whole(narrow: str) -> None:
    with Storage.connect(narrow, SECRET) as storage:
        bob = storage.users.create("bob", password="correct horse")
        _, plaintext = storage.keys.create(bob)
        leaks.register(plaintext)

        def create() -> None:
            storage.keys.create(bob, api_key=f"{LONG_KEY}2")

        def create_in_a_transaction() -> None:
            with storage.transaction():
                create()

        for call in (create, create_in_a_transaction):
            with pytest.raises(InvalidValue) as caught:
                call()
            assert COMMAND in str(caught.value)
        assert storage.keys.count() == 3
        assert storage.keys.authenticate(plaintext) is not None
        assert storage.users.authenticate("bob", "correct horse") is not None
