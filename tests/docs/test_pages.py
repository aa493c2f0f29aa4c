"""The code of README.md and of every page under docs/ runs, and does what the page says."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from gproxy_storage.cli.main import main as command_line
from tests import leaks, servers
from tests.conftest import in_ci, selected_backends
from tests.docs.pages import DOCS, OTHER_PAGES, PAGES, READ, RUN, blocks, page_name
from tests.processes import ROOT, TIMEOUT_S, environment

MOST_NOT_RUN = 5
"""So many blocks at most may be excused from running."""

BLOCKS = [block for page in PAGES for block in blocks(page)]
PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "python": ast.parse,
    "toml": tomllib.loads,
}
SQL_PAGES = {"postgres": "postgresql-setup", "mysql": "mysql-setup", "mariadb": "mysql-setup"}

_DSN = re.compile(r"(?P<scheme>postgres|mysql|mariadb)://gproxy:secret@127\.0\.0\.1:\d+/\w+")


@contextmanager
def databases(page: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Make a database for each DSN that the page's code shows, and map them."""
    shown = {
        match[0]: match["scheme"]
        for block in blocks(page)
        if block.not_run is None
        for match in _DSN.finditer(block.code)
    }
    made: list[tuple[servers.Server, str]] = []
    dsns = {}
    try:
        for dsn, backend in shown.items():
            if backend not in selected_backends(request.config):
                pytest.skip(f"it uses {backend}, which --backend leaves out")
            server = servers.available(backend)
            if isinstance(server, servers.Unavailable):
                (pytest.fail if in_ci() else pytest.skip)(f"no {backend} server: {server.reason}")
            made.append((server, servers.database_name()))
            dsns[dsn] = server.create_database(made[-1][1])
        yield dsns
    finally:
        for server, name in made:
            server.drop_database(name)


def play(page: Path, dsns: dict[str, str], directory: Path) -> tuple[int, str]:
    """Run a page's blocks in a directory; return the exit code and what was said."""
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",  # what a command prints on its two streams keeps its order
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.docs.player", str(page)],
        cwd=directory,
        env=environment(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as player:
        try:
            said, _ = player.communicate(json.dumps(dsns), timeout=TIMEOUT_S)
        except BaseException:
            os.killpg(player.pid, signal.SIGKILL)  # with what its shell has started
            raise
    leaks.check(said, f"what {page.name} printed")
    return player.returncode, said


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_code_of_a_page_runs(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not any(block.runs for block in blocks(page)):
        return
    with databases(page, request) as dsns:
        status, said = play(page, dsns, tmp_path)
    assert status == 0, said


def test_every_block_names_its_language() -> None:
    unknown = [f"{each}: {each.language!r}" for each in BLOCKS if each.language not in RUN | READ]
    assert not unknown, f"none of {sorted(RUN | READ)}"


def test_few_blocks_are_excused_from_running() -> None:
    excused = [each for each in BLOCKS if each.not_run is not None]
    reasons = [f"{each}: {each.not_run}" for each in excused]
    assert len(excused) <= MOST_NOT_RUN, reasons
    assert all(each.language in RUN for each in excused), reasons
    assert all(len(each.not_run or "") > 10 for each in excused), reasons


def test_what_does_not_run_parses() -> None:
    for block in BLOCKS:
        if block.language in PARSERS and not block.runs:
            try:
                PARSERS[block.language](block.code)
            except (SyntaxError, ValueError) as error:
                pytest.fail(f"{block}: {error}")


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
def test_sql_for_administrators_parses(backend: str, server: servers.Server) -> None:
    page = DOCS / "how-to" / f"{SQL_PAGES[backend]}.md"
    codes = [block.code for block in blocks(page) if block.language == "sql"]
    assert codes
    for code in codes:
        if backend == "postgres":  # it parses all of a block before it executes any of it
            server.execute(f"DO $page$ BEGIN RETURN;\n{code}\nEND $page$")
        else:
            for statement in re.findall(r"[^;\s][^;]*", code):
                server.execute("PREPARE page FROM %s", (statement,))


# -- what pages name exists ----------------------------------------------------------------------

TEXTS = {page: page.read_text() for page in [*PAGES, *OTHER_PAGES] if page.exists()}


def found(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield what the pattern's group matches on any page, with the page's name."""
    for page, text in TEXTS.items():
        for match in re.finditer(pattern, text, re.MULTILINE):
            yield page_name(page), match[1]


def test_commands_exist() -> None:
    for page, words in found(r"(?:^\$ |`)gproxy-storage ([a-z][a-z -]*)"):
        command: click.Command = command_line
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, f"{page}: gproxy-storage {words}"
            command = command.commands[word]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    unknown = [each for each in found(r"(?:^\$ |`)make ([a-z]+)") if each[1] not in targets]
    assert not unknown


def test_files_that_are_linked_exist() -> None:
    # those within docs/ are checked where the documentation is built
    for page, text in TEXTS.items():
        if not page.is_relative_to(DOCS):
            for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
                assert (page.parent / link).exists(), f"{page_name(page)}: {link}"
