"""What we use of Peewee and PyMySQL that is not public: here a change of it is noticed."""

from __future__ import annotations

import inspect
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pymysql
import pytest

SETUP = Path(__file__).parents[2] / "setup.cfg"


class Noted(peewee.FieldDatabaseHook, peewee.IntegerField):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        super().__init__()

    def _db_hook(self, database: peewee.Database | None) -> None:
        self.told.append(database)


class Row(peewee.Model):
    number = Noted()
    unique = peewee.IntegerField(unique=True)

    class Meta:
        legacy_table_names = False


@pytest.fixture
def database() -> Iterator[Any]:
    # Any: the subject is what its type does not say.
    made = peewee.SqliteDatabase(":memory:", autoconnect=False)
    yield made
    if not made.is_closed():
        made.close()
    Row._meta.set_database(None)  # type: ignore[arg-type]  # as at the start


def test_a_connection_is_made_by_two_private_calls(database: Any) -> None:
    conn = database._connect()

    assert isinstance(conn, sqlite3.Connection)
    assert conn.isolation_level is None  # autocommit: BEGIN is Peewee's
    conn.close()
    for made in (peewee.PostgresqlDatabase("name"), peewee.MySQLDatabase("name")):
        assert made.server_version is None
    assert peewee.MySQLDatabase("name").mariadb is False


def test_a_version_is_read_from_the_connection() -> None:
    class Connection:
        server_version = "11.4.2-MariaDB-log"

    made: Any = peewee.MySQLDatabase("name")
    made._set_server_version(Connection)

    assert made.server_version == (11, 4, 2)


def test_the_state_of_a_thread(database: Any) -> None:
    state, conn = database._state, database._connect()
    assert (state.closed, state.conn, state.transactions) == (True, None, [])
    state.set_connection(conn)
    assert (state.closed, state.conn) == (False, conn)
    assert not database.is_closed()
    assert database.connection() is conn
    with database.atomic():
        assert len(state.transactions) == 1
        assert database.in_transaction()
    state.reset()
    assert (state.closed, state.conn) == (True, None)
    conn.close()


def test_the_end_of_a_transaction_asks_for_it_by_a_method(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which we override, for a child made by fork inside the transaction."""
    database.connect()
    block = database.atomic()
    block.__enter__()

    def refuse() -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(database, "pop_transaction", refuse)
        with pytest.raises(ZeroDivisionError):
            block.__exit__(None, None, None)
    assert database.connection().in_transaction  # neither COMMIT nor ROLLBACK was sent
    block.__exit__(None, None, None)


def test_statements_take_their_cursor_from_a_method(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which we override, to say what to do where no session is open."""

    def refuse(**_: object) -> None:
        raise ZeroDivisionError

    database.connect()
    monkeypatch.setattr(database, "cursor", refuse)
    for statement in (
        lambda: database.execute_sql("SELECT 1"),
        database.begin,
        database.commit,
        database.rollback,
    ):
        with pytest.raises(ZeroDivisionError):
            statement()


def test_hooks_see_every_query(database: Any) -> None:
    seen = []
    database.query_hooks.append(lambda event: seen.append(event.sql))
    database.connect()
    database.execute_sql("SELECT 1")

    assert seen == ["SELECT 1"]


def test_a_field_knows_its_database(database: Any) -> None:
    hook = Row._meta.fields["number"]
    assert isinstance(hook, Noted)
    hook.told.clear()
    database.bind([Row], bind_refs=False, bind_backrefs=False)
    assert Row._meta.database is database
    Row._meta.set_database(None)  # type: ignore[arg-type]  # the subject

    assert hook.told == [database, None]
    with pytest.raises(peewee.PeeweeException):
        list(Row.select())


def test_a_wrapped_error_keeps_the_drivers(database: Any) -> None:
    with database.bind_ctx([Row]), database.connection_context():
        Row.create_table()
        Row.create(number=1, unique=1)
        with pytest.raises(peewee.IntegrityError) as caught:
            Row.create(number=1, unique=1)

    error = caught.value.__cause__ or caught.value.__context__
    assert isinstance(error, sqlite3.IntegrityError)
    assert error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE


def test_what_ddl_is_rendered_from(database: Any) -> None:
    meta = Row._meta
    assert [each.column_name for each in meta.sorted_fields] == ["id", "number", "unique"]
    assert meta.columns["number"] is Row.number
    assert meta.primary_key is meta.columns["id"]
    assert meta.table_name == "row"
    context = database.get_sql_context(scope=peewee.SCOPE_VALUES)
    assert context.sql(Row.number.ddl(context)).query() == ('"number" INTEGER NOT NULL', [])
    ordering = Row.number.desc()
    assert isinstance(ordering, peewee.Ordering)
    assert ordering.node is Row.number
    assert peewee.Context(field_types={"WORD": "word"}).state.field_types["WORD"] == "word"


def test_what_a_row_is_made_of() -> None:
    row: Any = Row(number=1, unique=2)
    assert row.__data__ == {"number": 1, "unique": 2}
    assert (row._dirty, row._pk) == ({"number", "unique"}, None)
    row._pk = 3
    assert (row.id, row._pk) == (3, 3)
    read: Any = Row(__no_default__=1, id=3, number=1)
    assert read.__data__ == {"id": 3, "number": 1}
    read._dirty.clear()
    assert read.dirty_fields == []
    read.number = 2
    assert read._dirty == {"number"}


def test_what_a_query_that_writes_is_made_of() -> None:
    """Which the guard of encrypted columns reads."""
    changes = {Row.number: 1}
    update: Any = Row.update(changes)
    assert update._update == changes
    insert: Any = Row.insert(number=1)
    assert (insert._insert, insert._columns, insert._on_conflict) == ({Row.number: 1}, None, None)
    rows: Any = Row.insert_many([(1,)], fields=[Row.number])
    assert (rows._insert, [field.name for field in rows._columns]) == ([(1,)], ["number"])
    assert [field.name for field in rows.get_default_columns()] == ["number", "unique"]
    upsert: Any = insert.on_conflict(update=changes, preserve=[Row.unique])
    assert insert._on_conflict is None  # the query was cloned
    assert upsert._on_conflict._update == changes
    assert [field.name for field in upsert._on_conflict._preserve] == ["unique"]


def test_the_end_of_an_upsert_is_rendered_by_a_method(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which we override for MySQL, and tell by an attribute of the clause what to write."""
    told = []

    def conflict_update(clause: Any, _: object) -> peewee.SQL:
        told.append(clause.ours)
        return peewee.SQL("END")

    monkeypatch.setattr(database, "conflict_update", conflict_update)
    with database.bind_ctx([Row]):
        upsert: Any = Row.insert(number=1).on_conflict(
            conflict_target=[Row.unique], update={Row.number: peewee.EXCLUDED.number}
        )
        upsert._on_conflict.ours = True
        sql, _ = upsert.sql()

    assert (sql.endswith(" END"), told) == (True, [True])


def test_hooks_see_statements_that_peewee_does_not_execute(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    database.query_hooks.append(lambda event: seen.append((event.sql, event.exception)))
    with caplog.at_level("DEBUG", logger="peewee"):
        database._log_query("COPY", None)
    database._notify_hooks("COPY", None, 0.0, None)

    assert caplog.records[0].msg == ("COPY", None)
    assert seen == [("COPY", None)]


def test_pymysql_reads_its_time_outs_before_each_answer() -> None:
    """They are parameters of connect only; we set them after the login."""
    conn: Any = pymysql.Connection(defer_connect=True, read_timeout=3, write_timeout=4)

    assert (conn._read_timeout, conn._write_timeout) == (3, 4)
    assert pymysql.cursors.Cursor.max_stmt_length > 0  # of one of executemany's statements
    source = inspect.getsource(pymysql.Connection)
    assert source.count("settimeout(self._read_timeout)") >= 2
    assert "settimeout(self._write_timeout)" in source


def test_a_pymysql_that_needs_a_users_name_is_not_installed() -> None:
    """Before 1.1.2 it does not start, on Python 3.13, where the user of a container has none."""
    wanted = re.search(r"^    PyMySQL>=([\d.]+)$", SETUP.read_text(), re.MULTILINE)

    assert wanted is not None
    assert tuple(map(int, wanted[1].split("."))) >= (1, 1, 2)
