"""The handling of open sinks at forks, termination signals and exit."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from ..errors import StorageError

_log = logging.getLogger(__name__)

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_STATUS = Path("/proc/self/status")


class OpenSink(Protocol):
    """A sink that is drained at exit and quiesced before forks."""

    def close(self) -> None:
        """Drain the queue."""

    def before_fork(self) -> None:
        """Take all locks."""

    def after_fork_in_parent(self) -> None:
        """Release the locks."""

    def after_fork_in_child(self) -> None:
        """Start with an empty queue."""


open_sinks: weakref.WeakSet[OpenSink] = weakref.WeakSet()
"""The sinks that are not closed."""

_quiesced: list[OpenSink] = []
_handlers_set: list[bool] = []
_ending: list[bool] = []

# -- exit -----------------------------------------------------------------------------------------


def close_all() -> None:
    """Drain the open sinks; not called by `os._exit` or signals that kill the process."""
    _ending.append(True)  # a further signal must not interrupt this
    for sink in list(open_sinks):
        try:
            sink.close()
        except StorageError as exc:
            _log.error("at exit: %s", exc)


# -- signals --------------------------------------------------------------------------------------


def raise_exit_on_signals() -> None:
    """Make SIGTERM and SIGHUP raise SystemExit in this process, unless it handles or ignores them.

    By default they end a process at once, and the rows in its queue are lost. Another handler, set
    before or later, is left in place. Only the main thread can set handlers. Later calls change
    nothing, even if the default was restored in between.
    """
    if _handlers_set:
        return
    with suppress(ValueError):  # not the main thread, to which eventlet gives another identity
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL and not _is_caught(number):
                signal.signal(number, _raise_exit)
        _handlers_set.append(True)


def _raise_exit(number: int, _frame: FrameType | None) -> None:
    if _ending:
        return
    raise SystemExit(128 + number)


def _is_caught(number: int) -> bool:
    """Whether a handler in C is set that Python does not know of, for example uWSGI's."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


# -- fork -----------------------------------------------------------------------------------------


def _before_fork() -> None:
    for sink in list(open_sinks):
        sink.before_fork()
        _quiesced.append(sink)


def _after_fork_in_parent() -> None:
    while _quiesced:
        _quiesced.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _quiesced:
        _quiesced.pop().after_fork_in_child()
    util = sys.modules.get("multiprocessing.util")
    if util is not None and open_sinks:
        # Its children end without atexit, and clear their parent's finalizers after this hook.
        # So the finalizer is registered by a hook of its own, which runs later.
        util.register_after_fork(
            open_sinks, lambda _: util.Finalize(None, close_all, exitpriority=1)
        )


# Sinks are quiesced before the database closes its connections, and continue after it: hooks before
# a fork run in reverse order, and `database.py`, which this package imports, registers first.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(close_all)
