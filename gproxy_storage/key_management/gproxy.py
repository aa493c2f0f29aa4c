"""GPROXY's ledger of migrations, which serves to block GPROXY from a database in format v3.

GPROXY would take ``enc:v3:`` for plaintext and hash it again. A version in the ledger that its
migrator does not know makes it refuse to start.
"""

from __future__ import annotations

import time

import peewee

from ..backends.base import Backend
from ..backends.schema_rows import SchemaNames, SchemaRows
from ..models import Ledger

LEDGER = Ledger._meta.table_name
VERSION = "m99999999_gproxy_storage_v3"

STRIP_RULES = "m20260420_000001_strip_realtime_routing_rules"
STEPS = (
    "m20260416_000001_rename_dispatch_to_routing",
    "m20260417_000001_drop_models_alias_of",
    STRIP_RULES,
    "m20260424_000001_add_update_channel",
)
"""The versions that GPROXY knows; sync runs these migrations if they are missing."""

_INDEX = ("providers", "idx_providers_channel")
"""One of the indexes that GPROXY adds at each start if it is missing."""


def prepare_ledger(database: Backend) -> None:
    """Create the ledger if it is missing; outside of a transaction, which DDL might commit."""
    if _exists(_look(database)):
        return
    try:
        peewee.SchemaManager(Ledger, database).create_table(safe=True)
    except peewee.PeeweeException:
        # PostgreSQL's IF NOT EXISTS fails if another process creates it at the same time.
        if not _exists(_look(database)):
            raise


def gproxy_uses(database: Backend) -> bool:
    """Tell whether GPROXY has used this database and was not blocked since.

    Its migrations in the ledger do not prove it: sync records them, too, with the date 0.
    """
    found = _look(database)
    if VERSION in (found.versions or ()):
        return False
    if _INDEX in {(index.table, index.name) for index in found.indexes}:
        return True
    rows = database.query(f"SELECT version, applied_at FROM {LEDGER}") if _exists(found) else []  # noqa: S608 - a constant
    return any(version not in STEPS or applied_at for version, applied_at in rows)


def block(database: Backend) -> None:
    """Record a version that GPROXY does not know, so that it does not start; the ledger exists."""
    if not list(Ledger.select().where(Ledger.version == VERSION).execute(database)):
        Ledger.insert(version=VERSION, applied_at=int(time.time())).execute(database)


def unblock(database: Backend) -> None:
    """Remove that version again, if it is there."""
    if _exists(_look(database)):
        Ledger.delete().where(Ledger.version == VERSION).execute(database)


def _look(database: Backend) -> SchemaRows:
    table, _ = _INDEX
    return database.read_schema(SchemaNames([LEDGER, table], [], [], LEDGER))


def _exists(found: SchemaRows) -> bool:
    return any(row.table == LEDGER for row in found.columns)
