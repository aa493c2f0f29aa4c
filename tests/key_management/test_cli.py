"""The commands: what they print, their exit codes, and that no secret leaves by them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gproxy_storage import Storage
from gproxy_storage.cli import main
from tests import leaks
from tests.key_management.commands import command
from tests.key_management.support import (
    NEW_SECRET,
    SECRET,
    all_of,
    begin_decrypting,
    clean,
    fill,
    keyring_row,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.processes import ROOT, environment
from tests.support import ONE_BACKEND, PATIENCE_S

Command = Callable[..., Result]

COLUMNS = ("credentials.secret_json", "users.password", "user_keys.api_key_ciphertext")
OPERATIONS = {
    "encrypt": [],
    "change-secret": [],
    "rotate-key": [],
    "upgrade": ["--yes"],
    "decrypt": ["--yes"],
}


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process, on the test's database, under the tests' secrets."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, **settings: str | None) -> Result:
        assert not any("canary" in argument for argument in arguments)
        env = {
            "GPROXY_DSN": dsn,
            "DATABASE_SECRET_KEY": SECRET,
            "DATABASE_SECRET_KEY_FILE": None,
            "NEW_DATABASE_SECRET_KEY": NEW_SECRET,
            "NEW_DATABASE_SECRET_KEY_FILE": None,
            **settings,
        }
        result = CliRunner(env=env).invoke(main, ["encryption", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        leaks.check(result.output, "the command's output")
        return result

    return invoke


def test_all_commands_one_after_the_other(run: Command, dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        rows_of_all_kinds(storage)
    said = run("status", DATABASE_SECRET_KEY=None)
    assert [line.split()[1] for line in said.stdout.splitlines()[:3]] == ["plaintext", "0", "none"]
    said = run("check", DATABASE_SECRET_KEY=None)
    lines = said.stdout.splitlines()
    assert (said.exit_code, said.stderr, lines[0]) == (0, "", "mode plaintext")
    assert lines[-1] == "The database is not encrypted: 3 values are in the clear."
    assert run("encrypt", "--dry-run").exit_code == 3
    said = run("encrypt")
    assert said.stdout.splitlines()[0] == "mode encrypted: 3 values written"
    assert said.stdout.splitlines()[-1].startswith("keep a copy of the secret away from")
    assert run("encrypt", "--dry-run").exit_code == 0

    said = run("check")
    assert (said.exit_code, said.stdout.splitlines()[-1]) == (0, "All values open.")
    assert "users.password: 1 values, 0 unreadable, 0 plaintext" in said.stdout
    assert run("rotate-key", "--dry-run").exit_code == 3
    assert "1 unused keys dropped" in run("rotate-key").stdout
    said = run("change-secret", "--dry-run")
    assert (said.exit_code, said.stdout) == (3, "mode encrypted: the secret would be changed\n")
    said = run("change-secret")
    assert said.exit_code == 0
    assert said.stdout.startswith("mode encrypted: the secret was changed: set the new one")
    said = run("change-secret")
    assert said.stdout.splitlines() == [
        "mode encrypted: the secret is unchanged",
        "the new secret is already in effect",
    ]
    assert run("check").exit_code == 1
    assert run("check", DATABASE_SECRET_KEY=NEW_SECRET).exit_code == 0
    assert run("upgrade", "--yes", DATABASE_SECRET_KEY=NEW_SECRET).exit_code == 0
    assert run("decrypt", "--yes", "--dry-run", DATABASE_SECRET_KEY=NEW_SECRET).exit_code == 3
    assert run("decrypt", "--yes", DATABASE_SECRET_KEY=NEW_SECRET).exit_code == 0
    assert keyring_row(dsn)[2:] == (None, True)


def test_status_needs_no_secret(run: Command, encrypted: Storage) -> None:
    rows_of_all_kinds(encrypted)
    kid = encrypted._keyring_manager.keyring.active_kid
    encrypted.close()
    for secret, mode in ((None, None), (NEW_SECRET, None), (SECRET, "encrypted")):
        found = json.loads(run("status", "--json", DATABASE_SECRET_KEY=secret).stdout)
        assert found == {
            "mode": mode,
            "generation": 1,
            "kdf": "argon2id$19$19456,2,1",
            "active_key": kid if mode else None,
            "kept_keys": [],
            "columns": {name: {"values": {"v3": 1}, "keys": {kid: 1}} for name in COLUMNS},
        }
    assert "sealed: set DATABASE_SECRET_KEY" in run("status", DATABASE_SECRET_KEY=None).stdout


def test_check_counts_what_is_wrong(run: Command, encrypted: Storage, dsn: str) -> None:
    _, alice, key, _ = rows_of_all_kinds(encrypted)
    encrypted.close()
    store(dsn, "users.password", alice.id, "enc:v3:pending")
    store(dsn, "user_keys.api_key_digest", key.id, "x")
    said = run("check")
    assert said.exit_code == 1
    assert f"users.password, row {alice.id} is malformed" in said.stderr
    assert f"user_keys.api_key_ciphertext, row {key.id}: the digest" in said.stderr
    found = json.loads(run("check", "--json").stdout)
    assert (found["mode"], found["clean"]) == ("encrypted", False)
    assert found["columns"]["users.password"] == clean(1) | {"unreadable": 1}
    assert found["columns"]["user_keys.api_key_ciphertext"] == clean(1) | {"digest_mismatches": 1}

    assert {(one["table"], one["column"], one["id"]) for one in found["problems"]} == {
        ("users", "password", alice.id),
        ("user_keys", "api_key_ciphertext", key.id),
    }

    said = run("rotate-key", "--json")
    assert said.exit_code == 1
    result = json.loads(said.stdout)
    assert (result["unreadable"], len(result["errors"])) == (1, 1)
    assert f"users.password, row {alice.id}" in result["errors"][0]
    assert result["rows"] == [{"table": "users", "column": "password", "id": alice.id}]


def test_check_names_rows_in_the_clear(run: Command, encrypted: Storage, dsn: str) -> None:
    _, alice, *_ = rows_of_all_kinds(encrypted)
    encrypted.close()
    store(dsn, "users.password", alice.id, "written by another program")
    said = run("check")
    assert (said.exit_code, said.stdout.splitlines()[-1]) == (1, "Something is wrong: see above.")
    assert f"users.password, row {alice.id} is in the clear" in said.stderr
    found = json.loads(run("check", "--json").stdout)
    assert found["columns"]["users.password"] == clean(1) | {"plaintext": 1}
    assert found["problems"] == [
        {"table": "users", "column": "password", "id": alice.id, "problem": "is in the clear"}
    ]


@ONE_BACKEND
def test_check_of_a_database_on_the_way(run: Command, dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        rows_of_all_kinds(storage)
    with Storage.connect(dsn, SECRET) as storage:
        bob = storage.users.create("bob", password="before")
    said = run("check")
    assert said.exit_code == 0
    assert said.stdout.splitlines()[-1] == "All sealed values open, and 3 values are in the clear."
    assert f"users.password, row {bob.id} is" not in said.stderr
    assert said.stderr.count("is in the clear") == 3
    with Storage.connect(dsn, SECRET) as storage:
        begin_decrypting(storage)
    said = run("check")
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.splitlines()[-1] == "All sealed values open, and 3 values are in the clear."


def test_a_damaged_row_and_what_status_says(run: Command, encrypted: Storage, dsn: str) -> None:
    fill(encrypted, 3)
    old = encrypted._keyring_manager.keyring.active_kid
    encrypted.close()
    (other,) = query(dsn, "SELECT secret_json FROM credentials WHERE id = 1")
    query(dsn, "UPDATE credentials SET secret_json = ? WHERE id = 2", other)
    for arguments, would in ((("rotate-key", "--dry-run"), "would be "), (("rotate-key",), "")):
        said = run(*arguments)
        assert said.exit_code == 1
        assert said.stdout.splitlines() == [
            f"mode encrypted: 2 values {would}written",
            f"key {old} {would}kept for values that do not open",
        ]
        assert f"1 values {would}left as they are:" in said.stderr
        assert "credentials.secret_json, row 2 does not open" in said.stderr
    said = run("status")
    found = json.loads(run("status", "--json").stdout)
    assert found["kept_keys"] == [old]
    assert f"key         {found['active_key']} is in force" in said.stdout
    assert f"key         {old} is kept for values under it" in said.stdout
    said = run("decrypt", "--yes")
    assert said.exit_code == 1
    assert "the keyring is kept, for not all values open" in said.stdout
    assert "credentials.secret_json, row 2" in said.stderr
    assert keyring_row(dsn)[2] is not None


@ONE_BACKEND
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_dry_run_changes_nothing(run: Command, encrypted: Storage, dsn: str, name: str) -> None:
    _, alice, *_ = rows_of_all_kinds(encrypted)
    encrypted.close()
    before = keyring_row(dsn), stored(dsn, "users.password", alice.id)
    said = run(name, "--dry-run", "--json", *OPERATIONS[name])

    assert said.exit_code == (3 if json.loads(said.stdout)["changed"] else 0)
    assert (keyring_row(dsn), stored(dsn, "users.password", alice.id)) == before


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["check", *OPERATIONS])
def test_looking_makes_no_file(run: Command, tmp_path: Path, name: str) -> None:
    arguments = [] if name == "check" else ["--dry-run", *OPERATIONS[name]]
    run(name, *arguments, GPROXY_DSN=f"sqlite://{tmp_path}/new.db?mode=rwc")

    assert list(tmp_path.glob("new*")) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_wrong_or_missing_secret(run: Command, encrypted: Storage, name: str) -> None:
    encrypted.close()
    for secret in ("another secret that is long", None, " "):
        said = run(
            name, *OPERATIONS[name], DATABASE_SECRET_KEY=secret, NEW_DATABASE_SECRET_KEY="x" * 16
        )
        assert (said.exit_code, said.stdout) == (1, "")
        assert said.stderr.startswith("Error: ")
        assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_change_secret_reads_the_new_secret_from_each_source(
    run: Command, encrypted: Storage, dsn: str, tmp_path: Path
) -> None:
    encrypted.close()
    (tmp_path / "new").write_text(f"{NEW_SECRET}\n")
    file = str(tmp_path / "new")
    for settings in (
        {"NEW_DATABASE_SECRET_KEY": None},
        {"NEW_DATABASE_SECRET_KEY_FILE": file},
        {"NEW_DATABASE_SECRET_KEY": SECRET},
        {"NEW_DATABASE_SECRET_KEY": " "},
    ):
        said = run("change-secret", **settings)
        assert (said.exit_code, said.stdout) == (1, "")
    said = run("change-secret", NEW_DATABASE_SECRET_KEY=None, NEW_DATABASE_SECRET_KEY_FILE=file)
    assert said.exit_code == 0
    Storage.connect(dsn, NEW_SECRET).close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_decrypting_asks(run: Command, encrypted: Storage, dsn: str) -> None:
    encrypted.close()
    row = keyring_row(dsn)
    said = run("decrypt")

    assert said.exit_code == 2
    assert "--yes" in said.stderr
    assert keyring_row(dsn) == row


def test_keygen_makes_good_secrets() -> None:
    made = {CliRunner().invoke(main, ["keygen"]).stdout.strip() for _ in range(5)}

    assert len(made) == 5
    assert all(len(secret) == 43 for secret in made)
    said = json.loads(CliRunner().invoke(main, ["keygen", "--json"]).stdout)
    assert [(name, len(secret)) for name, secret in said.items()] == [("secret", 43)]


def test_as_a_process_without_a_terminal(encrypted: Storage, dsn: str, tmp_path: Path) -> None:
    fill(encrypted, 300)
    encrypted.close()
    done = command(dsn, "rotate-key", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "mode encrypted: 300 values written\n1 unused keys dropped\n"


# Only a terminal that is the session's own turns Ctrl-C into a signal.
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


CTRL_C = b"\x03"


def at_a_terminal(
    dsn: str, *arguments: str, answers: list[tuple[str, bytes]], secret: str | None = SECRET
) -> tuple[str, int]:
    """Run a command at a terminal of its own; send keys each time it has shown a text."""
    leader, follower = pty.openpty()
    settings = {"GPROXY_DSN": dsn, "TERM": "xterm"}
    if secret is not None:
        settings["DATABASE_SECRET_KEY"] = secret
    with subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, "-m", "gproxy_storage", "encryption", *arguments],
        env=environment(settings),
        cwd=ROOT,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    ) as process:
        os.close(follower)
        shown, seen, deadline = "", 0, time.monotonic() + PATIENCE_S
        waiting = list(answers)
        while time.monotonic() < deadline:
            if not select.select([leader], [], [], 1)[0]:
                continue
            try:
                piece = os.read(leader, 4096)
            except OSError:  # it has ended
                break
            shown += piece.decode(errors="replace")
            if waiting and waiting[0][0] in shown[seen:]:
                os.write(leader, waiting.pop(0)[1])
                seen = len(shown)
        else:
            process.kill()
        code = process.wait()
    os.close(leader)
    leaks.check(shown, "the terminal")
    return shown, code


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_progress_on_a_terminal_and_ctrl_c(encrypted: Storage, dsn: str, tmp_path: Path) -> None:
    """The terminal's own key; what is done stays, and a second run finishes."""
    fill(encrypted, 15_000)
    encrypted.close()
    shown, code = at_a_terminal(dsn, "rotate-key", answers=[("%), ", CTRL_C)])

    assert re.search(r"writing: [\d,]+ of 15,000 values \(\d+%\), [\d,]+/s, .* left", shown)
    assert "Interrupted. What was done is kept: run it again to finish." in shown
    assert "Traceback" not in shown
    assert code == 130
    with Storage.connect(dsn, SECRET) as storage:
        # One, where the key was pressed at the last moment: the terminal may lag behind.
        assert len(storage._keyring_manager.keyring.kids) in {1, 2}
    assert command(dsn, "rotate-key", cwd=tmp_path).returncode == 0
    with Storage.connect(dsn, SECRET) as storage:
        assert all_of(storage.encryption.check()) == clean(15_000)
        assert len(storage._keyring_manager.keyring.kids) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_confirming_at_a_terminal(encrypted: Storage, dsn: str) -> None:
    fill(encrypted, 3)
    encrypted.close()
    shown, code = at_a_terminal(dsn, "decrypt", answers=[("in the clear?", b"n\n")])
    assert (code, keyring_row(dsn)[3]) == (1, False)
    shown, code = at_a_terminal(dsn, "decrypt", answers=[("in the clear?", b"y\n")])
    assert (code, keyring_row(dsn)[3]) == (0, True)
    assert "mode plaintext: 3 values written" in shown
    assert query(dsn, "SELECT count(*) FROM credentials") == [(3,)]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_secret_to_encrypt_with_is_asked_for_twice(dsn: str) -> None:
    """One that was mistyped would seal the database for good."""
    Storage.connect(dsn).close()
    first, again = "DATABASE_SECRET_KEY: ", "Repeat for confirmation: "
    typed, mistyped = f"{SECRET}\n".encode(), f"{SECRET}x\n".encode()
    shown, code = at_a_terminal(
        dsn,
        "encrypt",
        answers=[(first, typed), (again, mistyped), (first, CTRL_C)],
        secret=None,
    )
    assert (code, keyring_row(dsn)[2]) == (1, None)
    assert "do not match" in shown

    shown, code = at_a_terminal(
        dsn, "encrypt", answers=[(first, typed), (again, typed)], secret=None
    )
    assert code == 0, shown
    Storage.connect(dsn, SECRET).close()
