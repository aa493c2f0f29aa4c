"""The id of a database: what keeps a spool of one from being replayed into another."""

from __future__ import annotations

import uuid

from ..backends.base import Backend
from ..database import run_query, run_transaction
from ..errors import ConflictError

_NAME = "database_id"


def find_database_id(database: Backend) -> str | None:
    """Return the id; None where no sink was ever made on the database."""
    sql = f"SELECT value FROM storage_state WHERE name = {database.param}"  # noqa: S608 - a placeholder
    found = run_query(database, lambda: database.query(sql, (_NAME,)))
    return str(found[0][0]) if found else None


def database_id(database: Backend) -> str:
    """Return the id; draws and stores it at the first call on a database."""
    found = find_database_id(database)
    if found is not None:
        return found
    param = database.param
    sql = (
        "INSERT INTO storage_state (name, value, updated_at) "  # noqa: S608 - placeholders
        f"VALUES ({param}, {param}, {param})"
    )
    drawn = uuid.uuid4().hex
    values = (_NAME, drawn, database.now_to_db())
    try:
        run_transaction(database, lambda: database.execute_sql(sql, values))
    except ConflictError:  # another process was faster
        return find_database_id(database) or drawn
    return drawn
