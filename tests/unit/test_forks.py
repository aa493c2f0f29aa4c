"""A process is known by its pid, which a page that forks wipe tells without a system call."""

from __future__ import annotations

import os

import pytest

from gproxy_storage import forks
from gproxy_storage.forks import ForkGuard, current_pid, mark
from tests.support import Child


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("page", [True, False], ids=["with the page", "without it"])
def test_the_pid_is_that_of_the_process(
    hooks: bool, page: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not page:
        monkeypatch.setattr(forks, "_page", None)
    assert current_pid() == current_pid() == os.getpid()

    def in_child() -> str:
        def in_grandchild() -> str:
            return str(current_pid() == os.getpid())

        return f"{current_pid() == os.getpid()} {Child(in_grandchild, hooks=hooks).check()}"

    assert Child(in_child, hooks=hooks).check() == "True True"
    assert current_pid() == os.getpid()


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("page", [True, False], ids=["with a page", "without one"])
def test_a_mark_is_true_in_its_process_alone(
    hooks: bool, page: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not page:
        monkeypatch.setattr(forks, "_wiped_by_forks", lambda: None)
    here = mark()
    assert here[0]
    assert Child(lambda: f"{not here[0]} {bool(mark()[0])}", hooks=hooks).check() == "True True"
    assert here[0]


def test_a_guard_calls_once_in_each_child() -> None:
    calls: list[int] = []
    guard = ForkGuard(lambda: calls.append(os.getpid()))
    guard.check()
    assert calls == []

    def in_child() -> str:
        guard.check()
        guard.check()
        assert Child(in_grandchild).check() == "2"
        return str(len(calls))

    def in_grandchild() -> str:
        guard.check()
        return str(len(calls))

    assert Child(in_child).check() == "1"
    assert calls == []
