"""Forks: a process is known by its pid, so that one that ran no hooks is noticed, too."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from typing import Any

_MADV_WIPEONFORK = 18  # <asm-generic/mman-common.h>; Python has no name for it


def _wiped_by_forks() -> mmap.mmap | None:
    """A page of memory that is zero in a child, whatever forked it (Linux 4.14)."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):
        return None
    return page


_page = _wiped_by_forks()
_pid = 0


def current_pid() -> int:
    """Return `os.getpid()`, asked once in each process: the system call costs ten times a read."""
    global _pid  # noqa: PLW0603 - of the process
    if _page is None:
        return os.getpid()
    if not _page[0]:
        _pid = os.getpid()
        _page[0] = 1
    return _pid


class ForkGuard:
    """Calls a function once in each child, before anything of its parent's is used there.

    uWSGI, for one, forks in C and runs none of the hooks of `os.register_at_fork`.

    Args:
        begin_in_child: called by whichever thread of the child comes first; the others wait.
    """

    def __init__(self, begin_in_child: Callable[[], None]) -> None:
        self._begin_in_child = begin_in_child
        self._pid = current_pid()
        self._locks: dict[int, threading.Lock] = {}  # another thread of a parent may hold its own

    def check(self) -> None:
        """Notice that this process is a child of the one that was checked last."""
        pid = current_pid()
        if pid != self._pid:
            with self._locks.setdefault(pid, threading.Lock()):
                if pid != self._pid:
                    self._begin_in_child()
                    self._pid = pid


def never_finalise(value: Any) -> None:
    """Keep an object that a fork copied from being finalised here, even by the process's end.

    A connection belongs to the parent: closed in the child, it would say goodbye to the server in
    the parent's name, or SQLite would undo the parent's transaction in the memory that they share.
    """
    import ctypes  # noqa: PLC0415 - only such a child pays for it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
