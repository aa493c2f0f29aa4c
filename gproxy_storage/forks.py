"""Forks: a process is known by its pid, so that one that ran no hooks is noticed, too."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any


class ForkGuard:
    """Calls a function once in each child, before anything of its parent's is used there.

    uWSGI, for one, forks in C and runs none of the hooks of `os.register_at_fork`.

    Args:
        begin_in_child: called by whichever thread of the child comes first; the others wait.
    """

    def __init__(self, begin_in_child: Callable[[], None]) -> None:
        self._begin_in_child = begin_in_child
        self._pid = os.getpid()
        self._locks: dict[int, threading.Lock] = {}  # another thread of a parent may hold its own

    def check(self) -> None:
        """Notice that this process is a child of the one that was checked last."""
        pid = os.getpid()
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
