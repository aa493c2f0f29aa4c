"""The command: what it prints, its exit codes, and that looking changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gproxy_storage import Dsn, Storage, __version__
from gproxy_storage.cli import main
from gproxy_storage.errors import ConfigError, StorageError
from gproxy_storage.key_management.gproxy import LEDGER
from gproxy_storage.models import TABLES
from tests import leaks, servers
from tests.processes import PLAINTEXT_WARNING, run_python
from tests.support import ONE_BACKEND, SOME_BACKENDS

Command = Callable[..., Result]

NAMES = [model._meta.table_name for model in TABLES]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and an environment without settings."""
    for name in ("GPROXY_DSN", "GPROXY_DATA_DIR", "GPROXY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DATABASE_SECRET_KEY", "DATABASE_SECRET_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


@pytest.fixture
def command(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process, the DSN, if any, from the environment."""

    def run(*arguments: str, dsn: str | None = None) -> Result:
        env = {"GPROXY_DSN": dsn} if dsn else {}
        result = CliRunner().invoke(main, arguments, env=env, prog_name="gproxy-storage")
        leaks.check(result.output, "the command's output")
        assert Storage._open is None
        return result

    return run


def failure(result: Result, *words: str, code: int = 1) -> None:
    """Expect one line on stderr that holds these words, nothing else, and this exit code."""
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    for word in words:
        assert word in line


# -- status -------------------------------------------------------------------------------------


@SOME_BACKENDS
def test_status_of_an_empty_database(
    command: Command, database_dsn: str, backend: str, server: servers.Server
) -> None:
    result = command("status", dsn=database_dsn)

    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"backend  {backend} ")
    assert server.version.startswith(lines[0].split()[-1])
    assert lines[1] == f"dsn      {Dsn.parse(database_dsn)}"
    assert lines[2] == f"tables   0 of {len(TABLES)}"
    assert [line.split() for line in lines[3 : 3 + len(TABLES)]] == [
        [name, "missing"] for name in NAMES
    ]
    assert lines[-1] == "Opening the storage, or `gproxy-storage sync`, adds what is missing."


def test_status_of_a_full_database(command: Command, synced_dsn: str) -> None:
    with Storage.connect(synced_dsn) as storage:
        storage.keys.create(storage.users.create("alice"))
    result = command("status", dsn=synced_dsn)

    assert (result.exit_code, result.stderr) == (0, "")
    assert f"tables   {len(TABLES)} of {len(TABLES)}" in result.stdout
    assert result.stdout.splitlines()[-1] == "drift    none"
    counts = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()[3:-1]}
    assert counts == dict.fromkeys(NAMES, "0") | {
        "users": "1",
        "user_keys": "1",
        "encryption_keys": "1",
    }


@SOME_BACKENDS
def test_status_as_json(
    command: Command, database_dsn: str, backend: str, server: servers.Server
) -> None:
    found = json.loads(command("status", "--json", dsn=database_dsn).stdout)
    assert found["tables"] == dict.fromkeys(NAMES)
    assert found["drift"]
    with Storage.connect(database_dsn) as storage:
        storage.users.create("alice")
    result = command("status", "--json", dsn=database_dsn)

    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert server.version.startswith(found.pop("server_version"))
    assert found == {
        "backend": backend,
        "dsn": str(Dsn.parse(database_dsn)),
        "tables": dict.fromkeys(NAMES, 0) | {"users": 1, "encryption_keys": 1},
        "drift": [],
        "spool": {
            "directory": "data/spool",
            "files": [],
            "rejects": {},
            "damaged": [],
            "others": [],
        },
    }


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["sync", "--dry-run"]])
def test_looking_creates_nothing(command: Command, directory: Path, arguments: list[str]) -> None:
    command(*arguments)
    command(*arguments, dsn="sqlite://new.db?mode=rwc")
    command(*arguments, dsn="sqlite://missing.db")

    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("synced", [False, True])
def test_looking_changes_nothing(
    command: Command, directory: Path, journal: str, synced: bool
) -> None:
    path = directory / "x.db"
    if synced:
        Storage.connect(f"sqlite://{path}?mode=rwc").close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"PRAGMA journal_mode = {journal}")
        raw.execute("CREATE TABLE other (id INTEGER)")
    content = path.read_bytes()
    for arguments in (["status"], ["sync", "--dry-run"]):
        assert command(*arguments, dsn=f"sqlite://{path}?mode=rwc").exit_code == (
            0 if synced or arguments == ["status"] else 3
        )

    assert path.read_bytes() == content
    assert list(directory.iterdir()) == [path]


def test_looking_at_a_database_in_memory(command: Command) -> None:
    result = command("status", "--json", dsn="sqlite::memory:")

    assert json.loads(result.stdout)["dsn"] == "sqlite::memory:"


# -- sync ---------------------------------------------------------------------------------------


@SOME_BACKENDS
def test_dry_run_then_sync_then_dry_run(command: Command, database_dsn: str) -> None:
    planned = command("sync", "--dry-run", dsn=database_dsn)
    assert (planned.exit_code, planned.stderr) == (3, "")
    assert "CREATE TABLE" in planned.stdout
    with Storage.connect(database_dsn, sync=False) as storage:
        assert set(storage.row_counts().values()) == {None}

    done = command("sync", dsn=database_dsn)
    assert (done.exit_code, done.stderr) == (0, "")
    statements = [
        line for line in done.stdout.splitlines() if line.startswith(("CREATE ", "INSERT "))
    ]
    assert len(statements) >= len(TABLES)
    assert all(line.rstrip(";") in planned.stdout for line in statements)
    assert f"{len(statements)} steps applied" in done.stdout

    again = command("sync", "--dry-run", dsn=database_dsn)
    assert (again.exit_code, again.stderr) == (0, "")
    assert command("sync", dsn=database_dsn).stdout == "The schema is up to date.\n"


@ONE_BACKEND
def test_sync_as_json(command: Command, database_dsn: str) -> None:
    planned = command("sync", "--dry-run", "--json", dsn=database_dsn)
    assert planned.exit_code == 3
    assert json.loads(planned.stdout)["steps"]
    report = json.loads(command("sync", "--json", dsn=database_dsn).stdout)

    assert {step["table"] for step in report["applied"]} == {*NAMES, LEDGER}
    assert report["elapsed_s"] >= 0
    assert json.loads(command("sync", "--json", dsn=database_dsn).stdout)["applied"] == []


@SOME_BACKENDS
def test_what_cannot_be_synced(command: Command, database_dsn: str) -> None:
    with Storage.connect(database_dsn, sync=False) as storage, storage.session():
        storage.database.execute_sql("CREATE TABLE users (id TEXT, name INTEGER)")

    planned = command("sync", "--dry-run", dsn=database_dsn)
    assert planned.exit_code == 1
    assert "users" in planned.stdout
    failure(command("sync", dsn=database_dsn), "users", "incompatible", "nothing was changed")
    shown = command("status", dsn=database_dsn)
    assert shown.exit_code == 0
    assert "Opening the storage would fail" in shown.stdout


# -- settings -----------------------------------------------------------------------------------


def test_the_default_is_a_file_in_the_data_directory(command: Command, directory: Path) -> None:
    assert command("sync").exit_code == 0

    assert (directory / "data").stat().st_mode & 0o777 == 0o700
    assert (directory / "data/gproxy.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (directory / "data").iterdir()] == ["gproxy.db"]


def test_options_go_before_the_environment(command: Command, directory: Path) -> None:
    (directory / "other.toml").write_text('[global]\ndsn = "sqlite://toml.db?mode=rwc"\n')
    elsewhere = "sqlite://environment.db?mode=rwc"
    assert command("--dsn", "sqlite://option.db?mode=rwc", "sync", dsn=elsewhere).exit_code == 0
    assert command("--data-dir", "here", "sync").exit_code == 0
    assert command("--config", "other.toml", "sync").exit_code == 0

    assert sorted(path.name for path in directory.iterdir()) == [
        *("here", "option.db", "other.toml", "toml.db"),
    ]


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("oracle://u:hunter2xyz@h/d", ["GPROXY_DSN", "scheme"]),
        (
            "postgres://u:hunter2xyz@h/d?sslmod=x",
            ["GPROXY_DSN", "sslmod", "did you mean 'sslmode'"],
        ),
        ("sqlite://missing.db", ["GPROXY_DSN", "no such file", "?mode=rwc"]),
        ("sqlite://missing/x.db", ["GPROXY_DSN", "no directory missing"]),
    ],
)
@pytest.mark.parametrize("name", ["status", "sync"])
def test_an_error_is_one_line(command: Command, dsn: str, words: list[str], name: str) -> None:
    result = command(name, dsn=dsn)

    failure(result, *words)
    assert "hunter2xyz" not in result.output


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["--dsn", "oracle://u:hunter2xyz@h/d", "sync"], "--dsn: scheme: "),
        (["--dsn", "sqlite://missing.db", "sync"], "--dsn: cannot open sqlite:"),
        (["--dsn", "", "sync"], "--dsn: text: it is empty"),
        (["--data-dir", "/proc", "sync"], "data_dir: cannot open sqlite:///proc/gproxy.db"),
        (["--data-dir", "/proc/x", "sync"], "data_dir: the directory /proc/x cannot be created"),
    ],
)
def test_an_error_names_its_option(command: Command, arguments: list[str], setting: str) -> None:
    result = command(*arguments)

    failure(result, setting)
    assert "hunter2xyz" not in result.output


def test_debug_shows_where(command: Command) -> None:
    result = command("--debug", "status", dsn="oracle://h/d")

    assert isinstance(result.exception, ConfigError)
    assert result.exit_code == 1


def test_a_secret_that_cannot_be_used(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_SECRET_KEY", " ")
    for arguments in (["status"], ["sync"], ["sync", "--dry-run"]):
        failure(command(*arguments, dsn="sqlite::memory:"), "DATABASE_SECRET_KEY", "blank")


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["status", "--nothing"], ["--dsn"], ["status", "more"], ["sync", "x"]],
)
def test_a_wrong_command_line(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(("Usage: ", "Error: Option '--dsn' requires an argument"))
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", [["status"], ["encryption", "check"]])
def test_an_option_of_the_group_after_the_command(command: Command, name: list[str]) -> None:
    result = command(*name, "--dsn", "sqlite::memory:")

    assert (result.exit_code, result.stdout) == (2, "")
    said = "Error: No such option '--dsn'. It goes before the command: gproxy-storage --dsn ..."
    assert result.stderr.splitlines()[-1] == said


def test_help_and_version(command: Command) -> None:
    assert command("--version").stdout == f"gproxy-storage, version {__version__}\n"
    for arguments in ([], ["status"], ["sync"]):
        assert command(*arguments, "--help").stdout == command(*arguments, "-h").stdout != ""
    assert "Exit codes: 0 done, 1 it failed and says why, 2" in command("--help").stdout
    for group in ([], ["encryption"], ["spool"]):  # each command's one line is shown whole
        assert "..." not in command(*group, "--help").stdout.partition("\nCommands:")[2]


# -- as a process -------------------------------------------------------------------------------


@ONE_BACKEND
def test_the_module_is_the_command(command: Command, database_dsn: str, directory: Path) -> None:
    settings = {"GPROXY_DSN": database_dsn}
    done = run_python("-m", "gproxy_storage", "sync", settings=settings, cwd=directory)
    assert (done.returncode, done.stderr) == (0, PLAINTEXT_WARNING)
    done = run_python("-m", "gproxy_storage", "status", settings=settings, cwd=directory)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == command("status", dsn=database_dsn).stdout


def test_a_process_that_fails(directory: Path) -> None:
    settings = {"GPROXY_DSN": "sqlite://missing.db"}
    done = run_python("-m", "gproxy_storage", "sync", settings=settings, cwd=directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1

    debug = run_python("-m", "gproxy_storage", "--debug", "sync", settings=settings, cwd=directory)
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback")
    assert "ConnectError: GPROXY_DSN: cannot open sqlite://missing.db" in debug.stderr

    usage = run_python("-m", "gproxy_storage", "nothing", cwd=directory)
    assert usage.returncode == 2
    assert usage.stderr.startswith("Usage: python -m gproxy_storage")
    assert list(directory.iterdir()) == []


def test_every_error_ends_in_one_place() -> None:
    """Whatever a command raises of ours is shown in one line, however many it has."""

    class LinesError(StorageError):
        def __str__(self) -> str:
            return "one\n  two"

    @main.command("fail")
    def fail() -> None:
        raise LinesError

    try:
        failure(CliRunner().invoke(main, ["fail"]), "one two")
    finally:
        del main.commands["fail"]
