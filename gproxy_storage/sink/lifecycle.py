"""What a process's sinks do when it forks, is told to end by a signal, or ends."""

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
    """What is drained at exit, and quiesced before a fork."""

    def close(self) -> None:
        """Drain the queue."""

    def before_fork(self) -> None:
        """Take all locks."""

    def after_fork_in_parent(self) -> None:
        """Release them."""

    def after_fork_in_child(self) -> None:
        """Begin anew."""


open_sinks: weakref.WeakSet[OpenSink] = weakref.WeakSet()
"""The sinks that are not closed."""

_quiesced: list[OpenSink] = []
_asked: list[bool] = []
_ending: list[bool] = []

# -- exit -----------------------------------------------------------------------------------------


def close_all() -> None:
    """Drain the open sinks. `os._exit` and signals that kill the process do not come by here."""
    _ending.append(True)  # a further signal must not interrupt this
    for sink in list(open_sinks):
        try:
            sink.close()
        except StorageError as exc:
            _log.error("at exit: %s", exc)


# -- signals --------------------------------------------------------------------------------------


def raise_exit_on_signals() -> None:
    """Have SIGTERM and SIGHUP raise SystemExit in this process, unless it handles them.

    By default they end a process at once, and what its queue holds is lost. A handler, or the
    wish to ignore them, is left as it is, whether it came before or comes later. Only the main
    thread may set one. Asked again, nothing changes: what came later may have been the default.
    """
    if _asked:
        return
    with suppress(ValueError):  # not the main thread, to which eventlet gives another identity
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL and not _is_caught(number):
                signal.signal(number, _raise_exit)
        _asked.append(True)


def _raise_exit(number: int, _frame: FrameType | None) -> None:
    if _ending:
        return
    raise SystemExit(128 + number)


def _is_caught(number: int) -> bool:
    """Whether a handler in C stands behind what Python takes for the default: uWSGI's, say."""
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
        # Its children end without atexit. Registered later than it forgets its parent's.
        util.register_after_fork(
            open_sinks, lambda _: util.Finalize(None, close_all, exitpriority=1)
        )


# Before the database closes its connections, after it opened up again: hooks before a fork run in
# reverse order, and `database.py`, which this package imports, registered first.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(close_all)
