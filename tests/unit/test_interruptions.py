"""An OSError of a signal handler is no answer of the system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gproxy_storage.backends.sqlite_files import OpenFile, file_id, known_id
from gproxy_storage.interruptions import raise_interruption
from gproxy_storage.setting_files import read_file
from gproxy_storage.sink.records import Header
from gproxy_storage.sink.spool import SpoolFile


def test_what_a_system_call_returned_is_ignored() -> None:
    raise_interruption(OSError(errno.EIO, "no"))
    raise_interruption(PermissionError(errno.EACCES, "no"))
    try:
        Path("/nonexistent/file").stat()
    except OSError as exc:
        raise_interruption(exc)


def test_what_a_handler_raised_passes() -> None:
    limit = TimeoutError("a soft time limit")
    with pytest.raises(TimeoutError) as caught:
        raise_interruption(limit)

    assert caught.value is limit


def test_a_time_limit_reaches_the_caller_from_wherever_files_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    open_file = OpenFile(str(path), file_id(str(path)))

    def interrupt(*_: object, **__: object) -> None:
        raise TimeoutError("a soft time limit")

    monkeypatch.setattr(os, "stat", interrupt)
    monkeypatch.setattr(os, "open", interrupt)
    for look in (
        open_file.is_current,
        lambda: known_id(str(path)),
        lambda: read_file(path),
        lambda: SpoolFile.create(tmp_path, Header("database", "writer", None), None),
    ):
        with pytest.raises(TimeoutError, match="soft time limit"):
            look()
