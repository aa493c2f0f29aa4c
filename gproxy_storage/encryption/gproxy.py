"""GPROXY's ledger of migrations, by which it is kept off a database whose format it misreads.

GPROXY takes ``enc:v3:`` for plaintext and would hash it again. A version that its migrator does
not know makes it refuse to start.
"""

from __future__ import annotations

import time

import peewee

from ..backends.base import Backend

LEDGER = "seaql_migrations"
VERSION = "m99999999_gproxy_storage_v3"


def prepare_ledger(database: Backend) -> None:
    """Create the ledger where it is missing, outside of a transaction: DDL may commit it."""
    if database.table_exists(LEDGER):
        return
    try:
        database.execute_sql(
            f"CREATE TABLE IF NOT EXISTS {LEDGER} "
            "(version VARCHAR(255) NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)"
        )
    except peewee.PeeweeException:
        # PostgreSQL's IF NOT EXISTS fails where another process creates it at the same time.
        if not database.table_exists(LEDGER):
            raise


def gproxy_uses(database: Backend) -> bool:
    """Tell whether GPROXY has migrated this database and was not kept off since."""
    if not database.table_exists(LEDGER):
        return False
    versions = {version for (version,) in database.query(f"SELECT version FROM {LEDGER}")}  # noqa: S608 - a constant
    return bool(versions) and VERSION not in versions


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
    if database.table_exists(LEDGER):
        database.execute_sql(f"DELETE FROM {LEDGER} WHERE version = {database.param}", (VERSION,))  # noqa: S608 - a constant
