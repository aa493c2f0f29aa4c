"""psycopg2 with green threads, where a query must not block the whole process.

With a wait callback (psycogreen's, for example) psycopg2 cooperates, but refuses COPY; without one
each query blocks every green thread. PyMySQL uses Python's sockets, which gevent replaces.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

from psycopg2 import extensions

from .bulk import BulkTable, Kind, Row

_log = logging.getLogger(__name__)

# Only modules that are imported already are asked what they patched: importing them is slow.
_PATCHES = {
    "gevent.monkey": (
        "is_module_patched",
        "gevent",
        "install psycogreen, and call psycogreen.gevent.patch_psycopg()",
    ),
    "eventlet.patcher": (
        "is_monkey_patched",
        "eventlet",
        "call eventlet.monkey_patch() for psycopg, too",
    ),
}
_PATCHED_PARTS = ("socket", "threading", "thread")
_warned: list[str] = []


def is_green() -> bool:
    """Whether psycopg2 has a wait callback, and so cannot COPY."""
    return extensions.get_wait_callback() is not None


def warn_of_blocking() -> None:
    """Warn once if the process uses green threads and queries block all of them."""
    if _warned or is_green():
        return
    for module, (asks, name, remedy) in _PATCHES.items():
        is_patched = getattr(sys.modules.get(module), asks, None)
        if is_patched is not None and any(map(is_patched, _PATCHED_PARTS)):
            _warned.append(name)
            _log.warning(
                "this process uses green threads of %s, and each query on PostgreSQL blocks all of "
                "them: %s, before the storage is opened",
                *(name, remedy),
            )


def insert(table: BulkTable, rows: Sequence[Row]) -> tuple[str, list[Any]]:
    """Return an INSERT that stores the same as COPY of these rows, and its parameters.

    Floats are sent as text, which the column's type parses as it does COPY's: as a literal, -0.0
    would become 0.
    """
    row = f"({', '.join(['%s'] * len(table.columns))})"
    values = list(chain.from_iterable(rows))
    for column in table.of_kind(Kind.NUMBER):
        for at in range(column, len(values), len(table.columns)):
            if type(values[at]) is float:
                values[at] = repr(values[at])
    return f"INSERT INTO {table.into} VALUES {', '.join([row] * len(rows))}", values  # noqa: S608 - our names
