"""Signals that end a process, so that its sinks are drained before."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_STATUS = Path("/proc/self/status")

_asked: list[bool] = []
_ending: list[bool] = []


def raise_exit_on_signals() -> None:
    """Have SIGTERM and SIGHUP raise SystemExit in this process, unless it has other plans.

    By default they end a process at once, and what its queue holds is lost. A handler, or the
    wish to ignore them, is left as it is, whether it came before or comes later. Only the main
    thread may set one. Asked again, nothing changes: what came later may have been the default.
    """
    if _asked or threading.current_thread() is not threading.main_thread():
        return
    _asked.append(True)
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL and not _is_caught(number):
            with suppress(ValueError):  # an interpreter beside the main one
                signal.signal(number, _raise_exit)


def pass_over_signals() -> None:
    """From now on do not interrupt the end, which drains the sinks, by such a signal again."""
    _ending.append(True)


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
