"""Names that are read out of a message are ours, in whatever language; values never are."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg2
import pymysql
import pytest

from gproxy_storage.backends.base import Backend
from gproxy_storage.backends.mysql import MySQLBackend
from gproxy_storage.backends.postgres import PostgresBackend
from gproxy_storage.backends.sqlite import SqliteBackend
from gproxy_storage.dsn import Dsn
from gproxy_storage.models import INDEX_COLUMNS, NAMES
from tests import leaks
from tests.cases import for_each

SECRET = 'canary/in a message\'s "place"'
leaks.register(SECRET)


def named(backend: Backend) -> Backend:
    backend.names = NAMES
    backend.index_columns = INDEX_COLUMNS
    return backend


def said(backend: Backend, error: Exception) -> tuple[str, tuple[Any, ...]]:
    """Return what an error becomes, and everything that it carries."""
    found = backend.translate(error, writing=True)
    assert found is not None
    assert SECRET not in f"{found} {found!r} {vars(found)}"
    return str(found), tuple(vars(found).values())


@pytest.fixture
def mysql() -> Backend:
    return named(MySQLBackend(Dsn.parse("mysql://u@h/d")))


@pytest.fixture
def sqlite(tmp_path: Any) -> Backend:
    return named(SqliteBackend(Dsn.parse(f"sqlite://{tmp_path}/x.db")))


CONFLICTS = [
    "Duplicate entry '{}' for key 'users.uq_users_name'",
    "Duplicate entry '{}' for key 'uq_users_name'",
    "Doppelter Eintrag '{}' für Schlüssel 'uq_users_name'",
    "Duplicata du champ '{}' pour la clef 'users.uq_users_name'",
    "Дублирующаяся запись '{}' по ключу 'uq_users_name'",
]
ELSEWHERE = [
    "'{}' は索引 'uq_users_name' で重複しています.",  # not the last word
    "Duplicate entry '{}'",
    "Doppelter Eintrag '{}'",
    "{}",
    "Duplicate entry '{}' for key '{}'",
    "Duplicate entry 'x' for key 'somebody_elses'",
]


@for_each("message", CONFLICTS)
def test_a_conflict_in_each_language(mysql: Backend, message: str) -> None:
    _, found = said(mysql, pymysql.IntegrityError(1062, message.format(SECRET)))

    assert found == ("users", ("name",))


@for_each("message", ELSEWHERE)
@for_each("value", [SECRET, f"{SECRET}' for key 'other", "secret", ""])
def test_a_conflict_without_a_name_of_ours(mysql: Backend, message: str, value: str) -> None:
    text, _ = said(mysql, pymysql.IntegrityError(1062, message.replace("{}", value)))

    assert text in (
        "a row with the same unique value exists",
        "a row with the same name in users exists",
    )


@for_each(
    "message",
    [
        "Incorrect integer value: '{}' for column 'model' at row 1",
        "Falscher integer-Wert: '{}' für Feld 'model' in Zeile 1",
        "{} for column 'secret' at row 1",
        "Column '{}' cannot be null",
        "CONSTRAINT `secret` failed for {}",
    ],
)
def test_a_value_that_does_not_fit(mysql: Backend, message: str) -> None:
    text, _ = said(mysql, pymysql.DataError(1366, message.format(SECRET)))

    assert text in (
        "a value does not fit its column",
        "a value does not fit its column (model)",
    )


def test_the_message_of_a_missing_reference_shows_no_value(mysql: Backend) -> None:
    message = "... fails (`d`.`x`, CONSTRAINT `{}` FOREIGN KEY"
    text, _ = said(mysql, pymysql.IntegrityError(1452, message.format(SECRET)))

    assert text == "a reference points to a row that does not exist"


@for_each(
    ("message", "expected"),
    [
        ("UNIQUE constraint failed: users.name", "a row with the same name in users exists"),
        ("UNIQUE constraint failed: {}", "a row with the same unique value exists"),
        ("UNIQUE constraint failed: index '{}'", "a row with the same unique value exists"),
        ("{}", "a row with the same unique value exists"),
    ],
)
def test_messages_of_sqlite(sqlite: Backend, message: str, expected: str) -> None:
    error = sqlite3.IntegrityError(message.format(SECRET))
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_UNIQUE

    assert said(sqlite, error)[0] == expected


class _Diag:
    table_name = "users"
    column_name = None
    message_primary = ""

    def __init__(self, constraint: str, detail: str) -> None:
        self.constraint_name = constraint
        self.message_detail = detail


class _Violation(psycopg2.IntegrityError):
    pgcode = "23505"
    diag: Any = None


@for_each(
    ("detail", "expected"),
    [
        ("Key (name)=({}) already exists.", "a row with the same name in users exists"),
        ("Schlüssel »(name)=({})« existiert bereits.", "a row with the same name in users exists"),
        ("({})=(x)", "a row with the same theirs exists"),
        ("Key (lower(name))=({}) already exists.", "a row with the same theirs exists"),
        ("{}", "a row with the same theirs exists"),
    ],
)
def test_details_of_postgres(detail: str, expected: str) -> None:
    backend = named(PostgresBackend(Dsn.parse("postgres://u@h/d")))
    error = _Violation("x")
    error.diag = _Diag("theirs", detail.format(SECRET))

    assert said(backend, error)[0] == expected


def test_a_database_without_our_tables_believes_no_name(tmp_path: Any) -> None:
    backend = SqliteBackend(Dsn.parse(f"sqlite://{tmp_path}/x.db"))

    assert backend.known_name("users.name") is None
