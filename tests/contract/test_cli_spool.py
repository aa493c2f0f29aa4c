"""The commands about spool files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gproxy_storage import Storage
from gproxy_storage.cli import main
from gproxy_storage.log_rows import USAGES
from gproxy_storage.models import Usage
from gproxy_storage.sink.batch import Batch
from gproxy_storage.sink.destination import database_id
from gproxy_storage.sink.records import Header
from gproxy_storage.sink.rejects import Reject, RejectsFile
from gproxy_storage.sink.spool import SpoolFile
from tests import servers
from tests.support import log_row

Command = Callable[..., Result]
WRITER = "w" * 32
AT = "2026-03-04T05:06:07.890123Z"
ROW = log_row(USAGES, at=AT, operation="a", protocol="b", cost=0.5, created_at=AT)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def command(synced_dsn: str, data_dir: Path) -> Command:
    """Run the command on the database, or another, and the data directory."""

    def run(*arguments: str, dsn: str = synced_dsn) -> Result:
        options = ["--data-dir", str(data_dir)]
        env = {"GPROXY_DSN": dsn}
        return CliRunner().invoke(main, [*options, *arguments], env=env, prog_name="gproxy-storage")

    return run


def identity(dsn: str, data_dir: Path) -> str:
    with Storage.connect(dsn, data_dir=data_dir) as storage:
        return database_id(storage.database)


def leave(data_dir: Path, database: str, *seqs: int, writer: str = WRITER) -> Path:
    """Write a spool file as a process leaves it, two usages a batch."""
    spool = SpoolFile.create(data_dir / "spool", Header(database, writer, None), None)
    for seq in seqs:
        batch = Batch(seq)
        batch.rows[0].extend([ROW] * 2)
        spool.append(batch, 10**9)
    spool.close()
    return spool.path


def printed(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_status_says_that_nothing_waits(command: Command, data_dir: Path) -> None:
    result = command("spool", "status")
    assert result.stdout == f"directory  {data_dir / 'spool'}\nnothing waits\n"
    assert not data_dir.exists()
    assert result.exit_code == 0
    assert printed(command("status", "--json"))["spool"]["files"] == []
    assert "spool" not in command("status").stdout


def test_what_waits_is_shown_and_replayed(
    command: Command, synced_dsn: str, data_dir: Path
) -> None:
    path = leave(data_dir, identity(synced_dsn, data_dir), 1, 2, 3)
    size = path.stat().st_size
    shown = command("spool", "status").stdout
    assert "6 rows in 3 batches" in shown
    assert "left by a process that ended" in shown
    assert f"  {path.name}  6 rows" in command("status").stdout
    assert command("spool", "status").exit_code == 3
    (file,) = printed(command("spool", "status", "--json"), 3)["files"]
    assert (file["rows"], file["batches"], file["in_use"], file["problem"]) == (6, 3, False, None)
    assert 0 < file["size_bytes"] < size

    done = printed(command("spool", "replay", "--json"))
    assert done == {"written": 6, "rejected": 0, "skipped": 0, "damaged": 0, "refused": []}
    assert not path.exists()
    assert command("spool", "status").exit_code == 0
    assert command("spool", "replay").stdout.startswith("0 rows stored")
    with Storage.connect(synced_dsn) as storage, storage.session():
        assert Usage.select().count() == 6


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_files_in_use_are_left_to_their_process(
    command: Command, synced_dsn: str, data_dir: Path
) -> None:
    path = leave(data_dir, identity(synced_dsn, data_dir), 1)
    spool = SpoolFile.adopt(path, identity(synced_dsn, data_dir), None)
    assert spool is not None
    assert "in use" in command("spool", "status").stdout
    assert printed(command("spool", "replay", "--json"))["written"] == 0
    spool.close()
    assert printed(command("spool", "replay", "--json"))["written"] == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_another_databases_file_is_refused(
    command: Command, synced_dsn: str, data_dir: Path
) -> None:
    identity(synced_dsn, data_dir)
    path = leave(data_dir, "0" * 32, 1)
    result = command("spool", "replay")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "for another database" in result.stderr
    assert path.exists()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_damage_and_rejects_are_shown(command: Command, synced_dsn: str, data_dir: Path) -> None:
    database = identity(synced_dsn, data_dir)
    path = leave(data_dir, database, 1, 2)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    rejects = RejectsFile(data_dir / "spool", Header(database, "x" * 32, None), None)
    rejects.keep(1, [Reject(0, 0, ROW, "no")])
    (data_dir / "spool" / "other.spool").write_bytes(b"rubbish")
    (data_dir / "spool" / "notes.txt").write_bytes(b"mine")
    (data_dir / "spool" / "y.rejects").mkdir()

    shown = command("spool", "status").stdout
    assert "2 rows in 1 batches" in shown
    report = printed(command("spool", "status", "--json"), 3)
    (file, other) = report["files"][::-1]
    damage = file["damages"][0]
    assert f"damaged: {damage['length']} bytes at offset {damage['offset']}" in shown
    assert "is not a spool file of this version" in other["problem"]
    assert "other.spool  is not a spool file" in shown
    for name in ("notes.txt", "y.rejects"):
        assert f"{name}  is not a sink's file and is left as it is" in shown
    assert [Path(found).name for found in report["others"]] == ["notes.txt", "y.rejects"]
    assert f"{rejects.path.name}  1 rows that the database refused" in shown

    result = command("spool", "replay")
    assert "2 rows stored, 0 rejected" in result.stdout
    assert "1 damaged parts skipped" in result.stdout
    assert result.exit_code == 1
    assert f"{path.stem}.damaged" in command("spool", "status").stdout
    assert command("spool", "status").exit_code == 0  # what is left does not wait
    assert (data_dir / "spool" / "other.spool").read_bytes() == b"rubbish"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_rows_behind_a_damaged_first_line_wait(
    command: Command, synced_dsn: str, data_dir: Path
) -> None:
    """They are shown, and stored by nobody: under which number is not known."""
    path = leave(data_dir, identity(synced_dsn, data_dir), 1, 2)
    content = path.read_bytes().replace(WRITER.encode(), b"v" + WRITER[1:].encode(), 1)
    path.write_bytes(content)
    (file,) = printed(command("spool", "status", "--json"), 3)["files"]
    assert (file["rows"], file["damages"]) == (4, [])
    assert "its first line is damaged" in file["problem"]
    assert "first line is damaged" in command("spool", "replay").stderr
    assert path.read_bytes() == content
    with Storage.connect(synced_dsn) as storage, storage.session():
        assert Usage.select().count() == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_was_cut_off_is_missed(command: Command, synced_dsn: str, data_dir: Path) -> None:
    path = leave(data_dir, identity(synced_dsn, data_dir), 1, 2)
    end = path.stat().st_size
    SpoolFile.adopt(path, identity(synced_dsn, data_dir), None).finish()  # type: ignore[union-attr]  # nobody has it
    with path.open("r+b") as file:
        file.truncate(end - 1)
        found = printed(command("spool", "status", "--json"), 3)["files"][0]["damages"]
        file.truncate(end - 1 - sum(damage["length"] for damage in found if not damage["missing"]))
    (damage,) = printed(command("spool", "status", "--json"), 3)["files"][0]["damages"]
    assert damage["missing"]
    assert f"missing: {damage['length']} bytes at offset" in command("spool", "status").stdout
    assert "1 damaged parts" in command("spool", "replay").stdout


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_pipe_blocks_nothing(command: Command, synced_dsn: str, data_dir: Path) -> None:
    path = leave(data_dir, identity(synced_dsn, data_dir), 1)
    for name in ("a.spool", "b.rejects"):
        os.mkfifo(path.parent / name)
    assert "a.spool  is not a spool file" in command("spool", "status").stdout
    result = command("spool", "replay")
    assert "2 rows stored" in result.stdout
    assert "not a regular file" in result.stderr


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_replay_names_sync_if_tables_are_missing(
    command: Command, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.db").touch()
    path = leave(data_dir, "0" * 32, 1)
    result = command("spool", "replay", dsn=servers.file_dsn(tmp_path / "new.db"))
    assert result.exit_code == 1
    assert "gproxy-storage sync" in result.stderr
    assert path.exists()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_replay_creates_no_database(
    command: Command, data_dir: Path, database_dsn: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.db"
    result = command("--dsn", f"sqlite://{missing}?mode=rwc", "spool", "replay")
    assert result.exit_code == 1
    assert "there is no file" in result.output or "cannot open" in result.output
    assert not missing.exists()
