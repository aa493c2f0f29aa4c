"""The README's code runs and prints what it says."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from gproxy_storage import Storage, errors

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def fresh_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("GPROXY_", "DATABASE_SECRET")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_session_and_the_code_after_it(fresh_directory: Path) -> None:
    (session,) = blocks("pycon")
    test = doctest.DocTestParser().get_doctest(session, {}, "README", str(README), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, clear_globs=False)
    assert runner.tries > 5
    assert runner.failures == 0

    names = test.globs
    with Storage.open() as storage:
        names["storage"] = storage
        for code in blocks("python"):
            exec(code, names)  # the README's own
        assert [user.name for user in storage.users.list()] == ["alice", "bob", "carol"]
        assert storage.usages.summarize().cost == Decimal("0.06")
        assert storage.upstream_requests.count() == 1
    assert (fresh_directory / "data" / "gproxy.db").stat().st_mode & 0o777 == 0o600


def test_commands_exist(fresh_directory: Path) -> None:
    commands = re.findall(
        r"^\$ gproxy-storage ([a-z]+)", "\n".join(blocks("console")), re.MULTILINE
    )
    assert commands
    for command in commands:
        subprocess.run([sys.executable, "-m", "gproxy_storage", command, "--help"], check=True)


def test_make_targets_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z]+)", README.read_text()))
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_every_error_is_named() -> None:
    text = README.read_text()
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.StorageError):
            assert f"`{name}`" in text or f"`{name}`s" in text, name
