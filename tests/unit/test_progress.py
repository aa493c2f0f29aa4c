"""What a long command shows of its progress, and where."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from gproxy_storage.cli import main
from gproxy_storage.cli import progress as progress_module
from gproxy_storage.cli.progress import Progress, progress
from tests.support import PATIENCE_S


class Stream(io.StringIO):
    """Tells when something was written; a terminal or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self.written = threading.Event()

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Stream]:
    def put(is_terminal: bool) -> Stream:
        stream = Stream(is_terminal=is_terminal)
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return put


def test_a_line_at_times_without_a_terminal(
    stderr: Callable[[bool], Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.01)
    stream = stderr(False)
    with progress("writing", 1_500) as done:
        done(500)
        stream.written.clear()
        assert stream.written.wait(PATIENCE_S)
    lines = stream.getvalue().splitlines()

    assert lines[-1].startswith("writing: 500 of 1,500 values (33%), ")
    assert lines[-1].endswith(" left")
    assert "\r" not in stream.getvalue()


def test_a_short_command_writes_no_line(stderr: Callable[[bool], Stream]) -> None:
    stream = stderr(False)
    with progress("writing", 3) as done:
        done(3)

    assert stream.getvalue() == ""


def test_live_on_a_terminal(stderr: Callable[[bool], Stream]) -> None:
    stream = stderr(True)
    with progress("changing", 3, "tables") as done:
        done()
        assert stream.written.wait(PATIENCE_S)
        done(2)

    *shown, last = stream.getvalue().split("\r")
    assert any(text.startswith("changing: 1 of 3 tables (33%), ") for text in shown)
    assert (last.strip(), last[-1]) == ("changing: 3 of 3 tables (100%)", "\n")


def test_what_comes_meanwhile_counts() -> None:
    shown = Progress("writing", 1, "values")
    shown(2)
    assert str(shown) == "writing: 2 of 2 values (100%)"
    assert str(Progress("writing", 0, "values")) == "writing: 0 of 0 values (100%)"


def test_a_closed_stream_does_not_end_the_work(
    stderr: Callable[[bool], Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.001)
    stream = stderr(False)
    stream.close()
    with progress("writing", 3) as done:
        for _ in range(100):
            done()


def test_ctrl_c_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    for command in ("status", "sync"):
        monkeypatch.setattr(main.commands[command], "callback", interrupted)
        result = CliRunner().invoke(main, [command])
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == "Interrupted. What was done is kept: run it again to finish.\n"
