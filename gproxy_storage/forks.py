"""Forks: detected by the process's pid, so that forks without hooks are noticed, too."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from typing import Any

_MADV_WIPEONFORK = 18  # <asm-generic/mman-common.h>; Python has no name for it


def _wiped_by_forks() -> mmap.mmap | None:
    """Return a page of memory that any fork zeroes in the child; None before Linux 4.14."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):
        return None
    return page


_page = _wiped_by_forks()
_pid = 0


def current_pid() -> int:
    """Return `os.getpid()`, cached per process: the system call takes ten times as long."""
    global _pid  # noqa: PLW0603 - of the process
    if _page is None:
        return os.getpid()
    if not _page[0]:
        _pid = os.getpid()
        _page[0] = 1
    return _pid


class _PidMark:
    """A mark by a system call."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _: int) -> int:
        return os.getpid() == self._pid


def mark() -> mmap.mmap | _PidMark:
    """Return a mark of this process: its item 0 is true here, and false in each child.

    To read it takes half the time of `current_pid`.
    """
    page = _wiped_by_forks()
    if page is None:
        return _PidMark()
    page[0] = 1
    return page


class ForkGuard:
    """Calls a function once in each child, before the child uses anything of its parent's.

    For example uWSGI forks in C and runs no hooks of `os.register_at_fork`.

    Args:
        begin_in_child: called by the first thread of the child; the others wait.
    """

    def __init__(self, begin_in_child: Callable[[], None]) -> None:
        self._begin_in_child = begin_in_child
        self._pid = current_pid()
        # By pid: a thread of the parent may have held the parent's lock during the fork.
        self._locks: dict[int, threading.Lock] = {}

    def check(self) -> None:
        """Call the function if this process is a child of the one that was checked last."""
        if _page is not None and _page[0] and _pid == self._pid:
            return  # as below, without a call: each statement checks several times
        pid = current_pid()
        if pid != self._pid:
            with self._locks.setdefault(pid, threading.Lock()):
                if pid != self._pid:
                    self._begin_in_child()
                    self._pid = pid


def never_finalise(value: Any) -> None:
    """Prevent an object that a fork copied from being finalised here, even at exit.

    A connection belongs to the parent: closing it in the child would end the parent's session on
    the server, or make SQLite undo the parent's transaction in their shared memory.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
