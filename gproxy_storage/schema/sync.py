"""Sync: make the database's schema the one the models declare, or stop."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.base import Backend
from ..database import session, translated
from ..errors import IncompatibleSchema
from .definitions import Definition, definitions

LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        applied: the SQL that was executed, in order; empty when nothing was missing.
    """

    applied: tuple[str, ...] = ()


def sync(database: Backend, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> SyncReport:
    """Create what is missing; take no lock when nothing is.

    Args:
        lock_timeout_s: seconds to wait for another process's sync, >= 0.
    Raises:
        SyncFailed: when the lock cannot be had.
        IncompatibleSchema: when a view stands where a table should.
    """
    with session(database), translated(database, writing=True):
        if not _missing(database):
            return SyncReport()
        applied: list[str] = []
        with database.sync_lock(lock_timeout_s):
            for definition in _missing(database):
                for sql in definition.create_sql:
                    database.execute_sql(sql)
                    applied.append(sql)
        return SyncReport(tuple(applied))


def _missing(database: Backend) -> list[Definition]:
    wanted = definitions(database)
    present = database.tables()
    views = [table.name for table in wanted if present.get(table.name) == "view"]
    if views:
        raise IncompatibleSchema(
            f"{database.dsn}: a view stands where a table should: {', '.join(views)}",
            drift=[f"{name} is a view" for name in views],
        )
    return [table for table in wanted if table.name not in present]
