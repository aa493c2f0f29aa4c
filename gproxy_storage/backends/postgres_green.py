"""psycopg2 where green threads are used: in them a query must not hold up the whole process.

psycopg2 then waits through a callback (psycogreen's, say), and refuses to COPY; without one each
query blocks every green thread. PyMySQL goes through Python's sockets, which gevent replaces.
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

# What was patched is asked of modules that are there already: importing them would be ours to pay.
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
    """Whether psycopg2 waits through a callback, and cannot COPY."""
    return extensions.get_wait_callback() is not None


def warn_of_blocking() -> None:
    """Say once that queries block the whole process, where green threads are used and they do."""
    if _warned or is_green():
        return
    for module, (asks, name, remedy) in _PATCHES.items():
        is_patched = getattr(sys.modules.get(module), asks, None)
        if is_patched is not None and any(map(is_patched, _PATCHED_PARTS)):
            _warned.append(name)
            _log.warning(
                "this process uses green threads of %s, and each query on PostgreSQL holds up all "
                "of them: %s, before the storage is opened",
                *(name, remedy),
            )


def insert(table: BulkTable, rows: Sequence[Row]) -> tuple[str, list[Any]]:
    """Return the statement that stores what COPY of these rows would, and its parameters.

    Numbers with a fraction go as text, which the column's type reads, as it reads COPY's: as a
    literal, -0.0 would become 0.
    """
    row = f"({', '.join(['%s'] * len(table.columns))})"
    values = list(chain.from_iterable(rows))
    for place in table.of_kind(Kind.NUMBER):
        for at in range(place, len(values), len(table.columns)):
            if type(values[at]) is float:
                values[at] = repr(values[at])
    return f"INSERT INTO {table.into} VALUES {', '.join([row] * len(rows))}", values  # noqa: S608 - our names
