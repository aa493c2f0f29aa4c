"""The examples run, again and again, on every backend."""

from __future__ import annotations

import re
from pathlib import Path

from gproxy_storage import Dsn, Storage
from tests.processes import PLAINTEXT_WARNING, ROOT, run_python

QUICKSTART = ROOT / "examples" / "quickstart.py"


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
    assert lines[6] == "refused     ConflictError: a row with the same name in users exists\n"
    assert len(lines) == 7


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
