"""The examples run, again and again, on every backend."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Dsn, Storage
from gproxy_storage.crypto.passwords import hash_password
from tests.processes import PLAINTEXT_WARNING, ROOT, run_python
from tests.support import ONE_BACKEND, SOME_BACKENDS

EXAMPLES = ROOT / "examples"
QUICKSTART = EXAMPLES / "quickstart.py"
USERS_FROM_CSV = EXAMPLES / "users_from_csv.py"
USAGE_REPORT = EXAMPLES / "usage_report.py"
DISABLE_KEY = EXAMPLES / "disable_leaked_key.py"


def summary(calls: int) -> str:
    return (
        f"usage       {calls} calls, {12 * calls} tokens in, {340 * calls} out, "
        f"cost {0.01 * calls:.2f}\n"
    )


def check(printed: str, dsn: str, run: int) -> None:
    lines = printed.splitlines(keepends=True)
    assert lines[0].startswith(f"opened      {dsn} (")
    assert re.fullmatch(r"user        alice \(id \d+\)\n", lines[1])
    assert re.fullmatch(r"provider    openai \(id \d+\), with a credential\n", lines[2])
    assert re.fullmatch(r"API key     sk-api01-\w{3}\.\.\. \(shown once, .*\)\n", lines[3])
    assert lines[4] == "login       by key: alice; by a wrong key: None\n"
    assert lines[5] == summary(run)
    assert lines[6] == (
        "refused     ConflictError: a row of users with name 'alice' exists: "
        "use upsert, or another name\n"
    )
    assert len(lines) == 7


@SOME_BACKENDS
def test_the_quickstart_runs_twice(database_dsn: str, tmp_path: Path) -> None:
    for run in (1, 2):
        done = run_python(QUICKSTART, database_dsn, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, PLAINTEXT_WARNING)
        check(done.stdout, str(Dsn.parse(database_dsn)), run)

    with Storage.connect(database_dsn) as storage:
        counts = {name: rows for name, rows in storage.row_counts().items() if rows}
    assert counts == {
        "providers": 1,
        "credentials": 1,
        "users": 1,
        "user_keys": 2,
        "user_quotas": 1,
        "usages": 2,
        "encryption_keys": 1,
    }


def test_without_settings_it_makes_a_private_file(tmp_path: Path) -> None:
    for run in (1, 2):
        done = run_python(QUICKSTART, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, PLAINTEXT_WARNING)
        check(done.stdout, "sqlite://data/gproxy.db?mode=rwc", run)

    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["gproxy.db"]
    assert (tmp_path / "data/gproxy.db").stat().st_mode & 0o777 == 0o600


def test_what_fails_is_one_line(tmp_path: Path) -> None:
    done = run_python(QUICKSTART, "sqlite://missing.db", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*add \?mode=rwc to create it\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


# -- users from CSV, leaked keys ----------------------------------------------------------------

PASSWORD = "correct horse battery staple"


@ONE_BACKEND
def test_users_from_csv_and_a_key_that_leaks(database_dsn: str, tmp_path: Path) -> None:
    stored = hash_password("other")
    file = tmp_path / "users.csv"
    file.write_text(
        "\ufeffname,password,admin,label\r\n"
        f'alice,{PASSWORD},yes,ci\r\n\r\n"b, ""ob""\n2",,no,\r\né😀,"{stored}",,\r\n',
        newline="",
    )
    done = run_python(USERS_FROM_CSV, "--dsn", database_dsn, file, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, PLAINTEXT_WARNING)
    head, *printed = csv.reader(done.stdout.splitlines(keepends=True))
    assert head == ["name", "api_key"]
    assert [name for name, _ in printed] == ["alice", 'b, "ob"\n2', "é😀"]

    leaked = printed[0][1]
    with Storage.connect(database_dsn) as storage:
        assert [user.is_admin for user in storage.users.list()] == [True, False, False]
        for name, api_key in printed:
            key = storage.keys.authenticate(api_key)
            assert key is not None
            assert (key.user.name, key.label) == (name, "ci" if name == "alice" else None)
        alice = storage.users.authenticate("alice", PASSWORD)
        assert alice is not None
        assert storage.users.authenticate("é😀", "other") is not None
        key = storage.keys.authenticate(leaked)
        assert key is not None
        storage.usages.record(user_id=alice.id, user_key_id=key.id, cost=0.5)

    known = rf"key {key.id} \(ci\) of alice \(id {alice.id}\): {{}}; 1 calls so far, cost 0.50\n"
    for said in ("disabled", "was disabled already"):
        done = run_python(DISABLE_KEY, "--dsn", database_dsn, cwd=tmp_path, stdin=f"{leaked}\n")
        assert (done.returncode, done.stderr) == (0, PLAINTEXT_WARNING)
        assert re.fullmatch(known.format(said), done.stdout)
    with Storage.connect(database_dsn) as storage:
        assert storage.keys.authenticate(leaked) is None
        assert storage.keys.authenticate(printed[1][1]) is not None


@ONE_BACKEND
def test_bad_lines_are_named_and_no_user_is_created(database_dsn: str, tmp_path: Path) -> None:
    with Storage.connect(database_dsn) as storage:
        storage.users.create("taken")
    lines = "name,admin\ngood,no\ngood,no\nx,maybe\nx\n ,no\ntaken,\nlast,yes\n"
    done = run_python(USERS_FROM_CSV, "--dsn", database_dsn, "-", cwd=tmp_path, stdin=lines)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.removeprefix(PLAINTEXT_WARNING).splitlines() == [
        "line 3: a row of users with name 'good' exists: use upsert, or another name",
        "line 4: admin must be yes, no or empty",
        "line 5: 1 cells instead of 2",
        "line 6: name must be a str that is not blank",
        "line 7: a row of users with name 'taken' exists: use upsert, or another name",
        "nobody was created",
    ]
    with Storage.connect(database_dsn) as storage:
        assert [user.name for user in storage.users.list()] == ["taken"]
        assert storage.keys.count() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: it must name `name`"),
        ("nam\nx\n", "line 1: it must name `name`"),
        ("name,name\nx,y\n", "line 1: it must name `name`"),
        ('name\n"x\n', "error: unexpected end of data"),
    ],
)
def test_what_is_no_csv(tmp_path: Path, text: str, said: str) -> None:
    done = run_python(USERS_FROM_CSV, "-", cwd=tmp_path, stdin=text)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.removeprefix(PLAINTEXT_WARNING).startswith(said)
    assert done.stderr.endswith("\nnobody was created\n")


def test_a_key_is_never_taken_from_the_command_line(tmp_path: Path) -> None:
    done = run_python(DISABLE_KEY, "sk-api01-leaked", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "sk-api01" not in done.stderr
    for stdin, said in [("\n", "no key was given"), ("sk-api01-x\n", "has no such key")]:
        done = run_python(DISABLE_KEY, cwd=tmp_path, stdin=stdin)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "sk-api01" not in done.stderr


@pytest.mark.parametrize(
    "script", sorted(EXAMPLES.glob("*.py")), ids=lambda script: str(script.stem)
)
def test_help_of_every_example_changes_nothing(script: Path, tmp_path: Path) -> None:
    done = run_python(script, "--help", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "--dsn" in done.stdout or script == QUICKSTART
    assert "the database" in done.stdout
    assert list(tmp_path.iterdir()) == []


@ONE_BACKEND
def test_the_usage_report(database_dsn: str, tmp_path: Path) -> None:
    with Storage.connect(database_dsn) as storage:
        alice, bob = storage.users.create("alice"), storage.users.create("bob")
        for user_id, month, cost in (
            *((alice.id, 1, 1000.25), (alice.id, 1, 2000.5), (alice.id, 2, 0.5)),
            *((bob.id, 2, 0.125), (None, 1, 4.0)),
        ):
            at = datetime(2026, month, 28, 23, 59, 59, 999_999, UTC)
            storage.usages.record(user_id=user_id, at=at, cost=cost, input_tokens=700)

    def run(*arguments: str) -> str:
        done = run_python(USAGE_REPORT, "--dsn", database_dsn, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, PLAINTEXT_WARNING)
        return done.stdout

    assert run() == (
        "user               month    calls  input_tokens  output_tokens      cost\n"
        "(deleted or none)  2026-01      1           700              0      4.00\n"
        "alice              2026-01      2         1,400              0  3,000.75\n"
        "alice              2026-02      1           700              0      0.50\n"
        "bob                2026-02      1           700              0      0.12\n"
        "total                           5         3,500              0  3,005.38\n"
    )
    february = ("--since", "2026-02-01", "--until", "2026-02-28")
    rows: list[dict[str, Any]] = [
        {"user": name, "month": "2026-02", "calls": 1, "input_tokens": 700, "output_tokens": 0}
        for name in ("alice", "bob")
    ]
    for row, text in zip(rows, ("0.5", "0.125"), strict=True):
        row["cost"] = text
    assert json.loads(run("--json", *february)) == rows
    assert list(csv.DictReader(run("--csv", *february).splitlines())) == [
        {name: str(value) for name, value in row.items()} for row in rows
    ]
