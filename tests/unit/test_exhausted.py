"""Errors of a database that is full or damaged: they take precedence, and count against no row."""

from __future__ import annotations

import sqlite3

import peewee
import psycopg2
import pymysql

from gproxy_storage.backends.failures import Failure
from gproxy_storage.backends.mysql import MySQLBackend
from gproxy_storage.backends.postgres import PostgresBackend
from gproxy_storage.backends.sqlite import SqliteBackend
from gproxy_storage.dsn import Dsn
from tests.cases import for_each


@for_each(
    "code",
    [3, 1021, 1026, 1030, 1037, 1038, 1041, 1114, 1194, 1206, 1226, 1317, 1812, 1878, 1969, 3019],
)
def test_codes_of_mysql_mean_exhausted(code: int) -> None:
    database = MySQLBackend(Dsn.parse("mysql://h/db"))
    assert database.classify(pymysql.err.OperationalError(code, "")) is Failure.EXHAUSTED


@for_each("state", ["53000", "53100", "53200", "53300", "53400", "57014", "58030"])
def test_states_of_postgres_mean_exhausted(state: str) -> None:
    database = PostgresBackend(Dsn.parse("postgres://h/db"))
    error = type("Error", (psycopg2.OperationalError,), {"pgcode": state})()
    assert database.classify(error) is Failure.EXHAUSTED


@for_each("name", ["FULL", "IOERR", "NOMEM", "CORRUPT", "NOTADB", "CANTOPEN"])
def test_later_errors_of_sqlite_do_not_hide_the_first(name: str) -> None:
    """It has rolled the transaction back, and the savepoint's end finds nothing."""
    first = sqlite3.OperationalError("the first")
    first.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}") | 13 << 8
    first.sqlite_errorname = f"SQLITE_{name}"
    later = peewee.OperationalError("no such savepoint: x")
    later.__cause__ = sqlite3.OperationalError("no such savepoint: x")
    later.__cause__.__context__ = first
    database = SqliteBackend(Dsn.parse("sqlite:x.db"))
    assert database.classify(later) is Failure.EXHAUSTED
    assert f"SQLITE_{name}" in str(database.translate(later, writing=True))
