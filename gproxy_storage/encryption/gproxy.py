"""GPROXY's ledger of migrations, by which it is kept off a database whose format it misreads.

GPROXY takes ``enc:v3:`` for plaintext and would hash it again. A version that its migrator does
not know makes it refuse to start.
"""

from __future__ import annotations

import time

import peewee

from ..backends.base import Backend
from ..backends.catalog import CatalogRows
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
"""The versions that GPROXY knows; sync takes these steps where they are missing."""

_INDEX = ("providers", "idx_providers_channel")
"""One of the indexes that each start of GPROXY's adds where it is missing."""


def prepare_ledger(database: Backend) -> None:
    """Create the ledger where it is missing, outside of a transaction: DDL may commit it."""
    if _exists(_look(database)):
        return
    try:
        peewee.SchemaManager(Ledger, database).create_table(safe=True)
    except peewee.PeeweeException:
        # PostgreSQL's IF NOT EXISTS fails where another process creates it at the same time.
        if not _exists(_look(database)):
            raise


def gproxy_uses(database: Backend) -> bool:
    """Tell whether GPROXY has worked on this database and was not kept off since.

    That its steps are in the ledger does not say so: sync writes them, with 0 for their date.
    """
    found = _look(database)
    if VERSION in (found.versions or ()):
        return False
    if _INDEX in {(index.table, index.name) for index in found.indexes}:
        return True
    rows = database.query(f"SELECT version, applied_at FROM {LEDGER}") if _exists(found) else []  # noqa: S608 - a constant
    return any(version not in STEPS or applied_at for version, applied_at in rows)


def keep_off(database: Backend) -> None:
    """Record the version that GPROXY does not know; the ledger exists."""
    param = database.param
    known = database.query(
        f"SELECT version FROM {LEDGER} WHERE version = {param}",  # noqa: S608 - a constant
        (VERSION,),
    )
    if not known:
        database.execute_sql(
            f"INSERT INTO {LEDGER} (version, applied_at) VALUES ({param}, {param})",  # noqa: S608 - a constant
            (VERSION, int(time.time())),
        )


def let_in(database: Backend) -> None:
    """Remove the version again, if it is there."""
    if _exists(_look(database)):
        database.execute_sql(f"DELETE FROM {LEDGER} WHERE version = {database.param}", (VERSION,))  # noqa: S608 - a constant


def _look(database: Backend) -> CatalogRows:
    table, _ = _INDEX
    return database.read_catalog([LEDGER, table], [], [], LEDGER)


def _exists(found: CatalogRows) -> bool:
    return any(row.table == LEDGER for row in found.columns)
