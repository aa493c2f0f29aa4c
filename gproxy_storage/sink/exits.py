"""What a process's sinks do when it forks or ends."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from typing import TYPE_CHECKING

from ..errors import StorageError
from .signals import pass_over_signals

if TYPE_CHECKING:
    from .sink import Sink

_log = logging.getLogger(__name__)

open_sinks: weakref.WeakSet[Sink] = weakref.WeakSet()
"""The sinks that are not closed."""

_still: list[Sink] = []


def close_all() -> None:
    """Drain what is open. `os._exit` and signals that kill pass by."""
    pass_over_signals()
    for sink in list(open_sinks):
        try:
            sink.close()
        except StorageError as exc:
            _log.error("at exit: %s", exc)


def _before_fork() -> None:
    for sink in list(open_sinks):
        sink.before_fork()
        _still.append(sink)


def _after_fork_in_parent() -> None:
    while _still:
        _still.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _still:
        _still.pop().after_fork_in_child()
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
