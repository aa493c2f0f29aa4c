"""``gproxy-storage sync`` and ``status``: what they print, their exit codes, what they leave."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gproxy_storage.backends import Backend
from gproxy_storage.cli import main
from gproxy_storage.models import TABLES
from gproxy_storage.schema.sync import plan, sync
from tests import leaks
from tests.schema.offline import everything
from tests.support import SOME_BACKENDS, recorded, run_script

Command = Callable[..., Result]

only_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def command(database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command on the test's database, in a directory without settings."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def run(*arguments: str, dsn: str | None = database_dsn) -> Result:
        settings = {"GPROXY_DSN": dsn, "GPROXY_DATA_DIR": None, "DATABASE_SECRET_KEY": None}
        result = CliRunner(env=settings).invoke(main, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        leaks.check(result.output, "the output of a command")
        return result

    return run


def statements_in(result: Result) -> list[str]:
    lines = result.output.splitlines()
    assert all(line.startswith("-- ") or line.endswith(";") for line in lines)
    return [line.removesuffix(";") for line in lines if not line.startswith("-- ")]


# -- sync --dry-run -------------------------------------------------------------------------------


def test_a_dry_run_prints_the_sql_and_does_nothing(empty: Backend, command: Command) -> None:
    found = plan(empty)
    for _ in range(2):
        result = command("sync", "--dry-run")
        assert result.exit_code == 3
        assert statements_in(result) == [step.sql for step in found.steps]
    assert plan(empty) == found
    run_script(empty, statements_in(result))  # it is all that is needed
    result = command("sync", "--dry-run")
    assert (result.exit_code, result.output) == (0, "-- the schema is up to date\n")


@SOME_BACKENDS
def test_a_dry_run_as_json(empty: Backend, command: Command) -> None:
    result = command("sync", "--dry-run", "--json")
    assert result.exit_code == 3
    assert json.loads(result.output) == plan(empty).to_dict()
    sync(empty)
    result = command("sync", "--dry-run", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output) == {"steps": [], "drift": []}


@SOME_BACKENDS
def test_a_dry_run_of_a_rename(empty: Backend, command: Command) -> None:
    sync(empty)
    run_script(empty, "ALTER TABLE providers RENAME COLUMN routing_json TO dispatch_json")
    result = command("sync", "--dry-run")
    assert result.exit_code == 3
    (statement,) = statements_in(result)
    assert "RENAME COLUMN dispatch_json TO routing_json" in statement


def make_incompatible(database: Backend) -> str:
    sync(database)
    run_script(
        database,
        """
        DROP TABLE storage_state;
        CREATE VIEW storage_state AS SELECT 1 AS name;
        ALTER TABLE users DROP COLUMN password;
        ALTER TABLE users ADD COLUMN nickname VARCHAR(20)
        """,
    )
    return "storage_state: a view has the name of the table"


@SOME_BACKENDS
def test_a_dry_run_of_what_cannot_be_done(empty: Backend, command: Command) -> None:
    what = make_incompatible(empty)
    result = command("sync", "--dry-run")
    assert result.exit_code == 1
    assert f"-- incompatible: {what}\n" in result.output
    assert "-- missing: users: column password\n" in result.output
    result = command("sync", "--dry-run", "--json")
    assert result.exit_code == 1
    levels = {one["level"] for one in json.loads(result.output)["drift"]}
    assert levels == {"incompatible", "missing", "extra"}


# -- sync -----------------------------------------------------------------------------------------


@SOME_BACKENDS
def test_sync_prints_what_it_did(empty: Backend, command: Command) -> None:
    steps = plan(empty).steps
    result = command("sync")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[:-1] == [f"{step.sql};" for step in steps]
    assert lines[-1].startswith(f"{len(steps)} steps applied in ")
    result = command("sync")
    assert (result.exit_code, result.output) == (0, "The schema is up to date.\n")


@SOME_BACKENDS
def test_sync_as_json(empty: Backend, command: Command) -> None:
    steps = plan(empty).steps
    said = json.loads(command("sync", "--json").output)
    assert said["applied"] == [step.to_dict() for step in steps]
    assert said["elapsed_s"] > 0
    assert json.loads(command("sync", "--json").output)["applied"] == []


@SOME_BACKENDS
@pytest.mark.parametrize("arguments", [("sync",), ("sync", "--json")])
def test_sync_of_what_cannot_be_done(
    empty: Backend, command: Command, arguments: tuple[str, ...]
) -> None:
    what = make_incompatible(empty)
    with recorded(empty):
        result = command(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: schema sync of ")
    assert what in line


# -- a look changes nothing, on SQLite least of all -----------------------------------------------

LOOKS = (("sync", "--dry-run"), ("sync", "--dry-run", "--json"), ("status",), ("status", "--json"))


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@only_sqlite
@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_a_file_that_does_not_exist_is_not_made(
    command: Command, database_dsn: str, tmp_path: Path, look: tuple[str, ...]
) -> None:
    result = command(*look)
    assert result.exit_code == (3 if "sync" in look else 0), result.output
    assert "storage_state" in result.output
    if look == ("sync", "--dry-run"):
        assert statements_in(result) == [step.sql for step in everything("sqlite").steps]
    if "status" in look:
        assert "gproxy.db?mode=rwc" in result.output
    result = command(*look, dsn=None)  # neither the default file nor its directory
    assert result.exit_code == (3 if "sync" in look else 0), result.output
    assert list(tmp_path.rglob("*")) == [tmp_path / "cwd"]


@only_sqlite
def test_a_file_that_has_to_exist(command: Command, database_dsn: str, tmp_path: Path) -> None:
    result = command("sync", "--dry-run", dsn=database_dsn.replace("rwc", "rw"))
    assert result.exit_code == 1
    assert "there is no such file; add ?mode=rwc to create it" in result.output
    assert files(tmp_path) == {}


@only_sqlite
@pytest.mark.parametrize("kind", ["without content", "rollback journal", "write-ahead log"])
@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_a_file_that_exists_stays_as_it_is(
    command: Command, tmp_path: Path, kind: str, look: tuple[str, ...]
) -> None:
    path = tmp_path / "gproxy.db"
    path.touch()
    if kind != "without content":
        connection = sqlite3.connect(path)
        if kind == "write-ahead log":
            connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE somebody_elses (id INTEGER)")
        connection.close()
    before = files(tmp_path)
    assert command(*look).exit_code == (3 if "sync" in look else 0)
    assert files(tmp_path) == before


# -- status ---------------------------------------------------------------------------------------


@SOME_BACKENDS
def test_status_shows_drift(empty: Backend, command: Command) -> None:
    result = command("status")
    assert result.exit_code == 0
    assert f"tables   0 of {len(TABLES)}\n" in result.output
    assert "  missing       users: the table\n" in result.output
    assert result.output.endswith("or `gproxy-storage sync`, adds what is missing.\n")
    what = make_incompatible(empty)
    result = command("status")
    assert result.exit_code == 0
    assert f"tables   {len(TABLES) - 1} of {len(TABLES)}\n" in result.output  # a view is none
    assert f"  incompatible  {what}\n" in result.output
    assert "  extra         users: column nickname (" in result.output
    assert result.output.endswith("would fail: fix what is incompatible by hand.\n")
    said = json.loads(command("status", "--json").output)
    assert {"level": "missing", "table": "users", "what": "column password"} in said["drift"]
    assert said["backend"] == empty.name
    assert said["dsn"] == str(empty.dsn)


@SOME_BACKENDS
def test_status_without_drift(empty: Backend, command: Command) -> None:
    sync(empty)
    assert command("status").output.endswith("drift    none\n")
    assert json.loads(command("status", "--json").output)["drift"] == []
