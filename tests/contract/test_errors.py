"""Errors of the database become the package's, the same on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest

from gproxy_storage import Storage, StorageError
from gproxy_storage.errors import (
    ConflictError,
    InvalidValue,
    MissingReference,
    ReadError,
    SchemaError,
    WriteError,
)
from gproxy_storage.models import (
    INDEXES,
    TABLES,
    Index,
    Provider,
    StorageState,
    Table,
    User,
    UserKey,
    UserModelPermission,
)
from tests import servers
from tests.cases import for_each
from tests.contract.support import NOW, insert, wipe, with_options

MARK = "zebra"
# What the servers' messages put around values, in a value.
HOSTILE = f"{MARK}' for key 'users.uq_other' (name)=(x), CONSTRAINT `fk`\n\"b\" column 'c'"

UNIQUE_KEYS = [
    (model, index) for model, indexes in INDEXES.items() for index in indexes if index.unique
]
FOREIGN_KEYS = [
    (model, field)
    for model in TABLES
    for field in model._meta.sorted_fields
    if isinstance(field, peewee.ForeignKeyField)
]


@contextmanager
def refused(
    kind: type[StorageError], match: str | None = None
) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Expect exactly this error, in one line that shows no value."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message == " ".join(message.split())
    assert MARK not in repr(caught.value)
    assert not any(MARK in str(value) for value in vars(caught.value).values())


# -- conflicts ----------------------------------------------------------------------------------


@for_each(("model", "index"), UNIQUE_KEYS)
def test_each_unique_key_is_named(storage: Storage, model: type[Table], index: Index) -> None:
    wipe(storage)
    columns = tuple(column for column, _ in index.columns)
    fields = [model._meta.columns[column] for column in columns]
    values: dict[str, Any] = {
        each.name: HOSTILE for each in fields if isinstance(each, peewee.CharField)
    }
    with storage.session():
        if model is UserModelPermission:
            values["provider"] = insert(Provider)  # NULLs are distinct
        row = insert(model, **values)
    same = {column: getattr(row, column) for column in columns}
    if isinstance(row, UserKey):
        same = {"api_key_ciphertext": row.api_key_ciphertext}  # saving it sets the digest

    with refused(ConflictError, f"the same {', '.join(columns)} in") as caught:
        with storage.transaction():
            insert(model, **same)

    assert caught.value.table == model._meta.table_name
    assert caught.value.fields == columns
    assert storage.row_counts()[model._meta.table_name] == 1


@for_each("length", [1, 255])
@for_each("letter", ["z", "é", "😀", "'", "\\", "%"])
def test_a_conflict_names_the_key_whatever_the_value(
    storage: Storage, letter: str, length: int
) -> None:
    storage.users.create(letter * length)
    with refused(ConflictError) as caught:
        storage.users.create(letter * length)

    assert (caught.value.table, caught.value.fields) == ("users", ("name",))


def test_a_primary_key_conflicts_too(storage: Storage) -> None:
    with storage.session():
        row = insert(StorageState, name=MARK)

    with refused(ConflictError, "the same (name in storage_state|primary key) exists") as caught:
        with storage.transaction():
            insert(StorageState, name=row.name)

    # MariaDB tells neither the table nor the columns of a primary key.
    assert caught.value.table in ("storage_state", None)
    assert caught.value.fields in (("name",), ())


def test_a_conflict_says_which_row_and_what_to_do(storage: Storage) -> None:
    alice, bob = storage.users.create("alice"), storage.users.create("bob")
    openai = storage.providers.create("openai", channel="c")
    gpt = storage.catalog.create(openai, "gpt")
    storage.catalog.create(openai, "o3")
    storage.keys.create(alice, api_key=MARK)
    trace_id = storage.downstream_requests.record(
        trace_id=7, request_method="GET", request_path="/"
    ).trace_id
    long = storage.users.create("x" * 255)

    for write, says in (
        (
            lambda: storage.users.create("alice"),
            "users with name 'alice' exists: use upsert, or another name",
        ),
        (
            lambda: storage.users.update(bob.id, name="alice"),
            "users with name 'alice' exists: use another name",
        ),
        (
            lambda: storage.catalog.create(openai, "gpt"),
            "models with provider 'openai' and model_id 'gpt' exists: "
            "use upsert, or another model_id",
        ),
        (
            lambda: storage.catalog.create(openai.id, "gpt"),
            f"models with provider_id {openai.id} and model_id 'gpt' exists: "
            "use upsert, or another model_id",
        ),
        (
            lambda: storage.catalog.update(gpt.id, model_id="o3"),
            "models with the same provider_id and model_id 'o3' exists: use another model_id",
        ),
        (
            lambda: storage.keys.create(bob, api_key=MARK),
            "user_keys with the same api_key_digest exists: use another value",
        ),
        (
            lambda: storage.downstream_requests.record(
                trace_id=trace_id, request_method="GET", request_path="/"
            ),
            "downstream_requests with trace_id 7 exists: use another trace_id",
        ),
        (
            lambda: storage.users.create(long.name),
            f"users with name '{'x' * 76}...' exists: use upsert, or another name",
        ),
    ):
        with refused(ConflictError) as caught:
            write()
        assert str(caught.value) == f"a row of {says}"


def test_a_conflict_in_a_batch_says_which_row(storage: Storage) -> None:
    storage.users.create("alice")
    openai = storage.providers.create("openai", channel="c")
    storage.catalog.create(openai, "gpt")

    for record, says in (
        (lambda batch: batch.users.create("alice"), "users with name 'alice'"),
        (
            lambda batch: [batch.catalog.create(openai, "o3") for _ in range(2)],
            f"models with provider_id {openai.id} and model_id 'o3'",
        ),
        (
            lambda batch: [batch.catalog.create(openai, name) for name in ("o3", "gpt", "x")],
            f"models with provider_id {openai.id} and model_id 'gpt'",
        ),
        (
            lambda batch: [batch.catalog.create(batch.provider("openai"), "o3") for _ in range(2)],
            f"models with provider_id {openai.id} and model_id 'o3'",
        ),
    ):
        batch = storage.batch()
        record(batch)
        with pytest.raises(ConflictError) as caught:
            batch.write()
        assert str(caught.value).startswith(f"a row of {says} exists: use upsert, or another ")


# -- references ---------------------------------------------------------------------------------


@for_each(("model", "field"), FOREIGN_KEYS)
def test_each_foreign_key_is_enforced(
    storage: Storage, model: type[Table], field: peewee.ForeignKeyField[Any], backend: str
) -> None:
    values = {field.name: 10**12}
    if model is UserModelPermission and field.name == "user":
        # MySQL from 9.6 on leaves the check out where the index that it picks has a NULL.
        with storage.session():
            values["provider"] = insert(Provider).id
    with refused(MissingReference, "a row that does not exist") as caught:
        with storage.transaction():
            insert(model, **values)

    # SQLite does not tell which.
    assert caught.value.argument == (None if backend == "sqlite" else field.constraint_name)
    assert storage.row_counts()[model._meta.table_name] == 0


# -- values -------------------------------------------------------------------------------------


@for_each(
    ("given", "named"),
    [
        ({"name": MARK * 52}, "name"),
        ({"name": f"{MARK}\0"}, "name"),
        ({"name": f"{MARK}\ud800"}, "name"),
        ({"name": 7}, "name"),
        ({"enabled": MARK}, "enabled"),
        ({"created_at": NOW.replace(tzinfo=None)}, "created_at"),
        ({"created_at": MARK}, "created_at"),
    ],
)
def test_a_value_that_a_field_refuses(storage: Storage, given: dict[str, Any], named: str) -> None:
    with refused(InvalidValue, f"^{named} ") as caught, storage.transaction():
        insert(User, **given)

    assert caught.value.argument == named
    assert storage.users.count() == 0


def test_null_where_it_must_not_be(storage: Storage) -> None:
    with refused(InvalidValue, "name") as caught, storage.transaction():
        insert(User, name=None)

    assert caught.value.argument in ("name", "users.name")


def execute(storage: Storage, sql: str, *parameters: object) -> None:
    """Execute SQL of one's own, past the fields and what they refuse."""
    with storage.transaction():
        storage.database.execute_sql(sql.replace("?", storage.database.param), parameters)


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
@for_each(
    ("column", "value"),
    [
        ("name", MARK * 60),
        ("id", 2**70),
        ("id", MARK),
        ("id", HOSTILE),
        ("created_at", f"{MARK} o'clock"),
        ("created_at", HOSTILE),
    ],
)
def test_a_value_that_the_server_refuses(
    storage: Storage, column: str, value: object, backend: str
) -> None:
    with storage.session():
        insert(User)
    with refused(InvalidValue, "does not fit its column") as caught:
        execute(storage, f"UPDATE users SET {column} = ?", value)

    # PostgreSQL does not tell which.
    assert caught.value.argument == (None if backend == "postgres" else column)


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
def test_json_that_the_server_refuses(storage: Storage) -> None:
    storage.providers.upsert("p", channel="c")
    with refused(InvalidValue, "does not fit its column") as caught:
        execute(storage, "UPDATE providers SET settings_json = ?", f"{{{MARK}")

    assert caught.value.argument in ("settings_json", None)


@pytest.mark.parametrize(
    ("column", "stored", "read"),
    [
        ("settings_json", f"{{{MARK}", lambda storage: storage.providers.list()),
        ("created_at", f"{MARK} o'clock", lambda storage: storage.providers.list()),
        ("created_at", 1767225600, lambda storage: storage.providers.list()),
    ],
    ids=["JSON", "time", "number for a time"],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_another_program_stored_badly(
    storage: Storage, column: str, stored: object, read: Callable[[Storage], object]
) -> None:
    storage.providers.upsert("p", channel="c")
    execute(storage, f"UPDATE providers SET {column} = ?", stored)

    with refused(ReadError, rf"^providers\.{column} holds a value that is not"):
        read(storage)


# -- schema, read-only, the rest ----------------------------------------------------------------


def test_a_missing_table_is_named(database_dsn: str) -> None:
    with Storage.connect(database_dsn, sync=False) as storage:
        with refused(SchemaError, r"lacks a table or column \(users\).*sync"):
            storage.users.list()
        with refused(SchemaError, "users"):
            storage.users.create(MARK)


def test_a_missing_column_is_named(storage: Storage) -> None:
    with refused(SchemaError, r"\(no_column\)"):
        execute(storage, "UPDATE users SET no_column = 1")


def test_a_statement_that_is_none(storage: Storage, backend: str) -> None:
    with refused(WriteError, rf"^the database refused the statement: {backend}: ") as caught:
        execute(storage, f"SELEC '{MARK}'")

    assert caught.value.committed is False
    assert isinstance(caught.value.__cause__, peewee.PeeweeException)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_read_only_file(storage: Storage, shared_database_dsn: str) -> None:
    storage.users.create("alice")
    storage.close()
    with Storage.connect(shared_database_dsn.replace("mode=rwc", "mode=ro")) as readonly:
        assert [user.name for user in readonly.users.list()] == ["alice"]
        with refused(WriteError, "cannot be written: check the DSN's mode"):
            readonly.users.create(MARK)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_read_only_postgres(storage: Storage, shared_database_dsn: str) -> None:
    storage.close()
    dsn = with_options(shared_database_dsn, options="-c%20default_transaction_read_only%3Don")
    with Storage.connect(dsn) as readonly:
        assert readonly.users.list() == []
        with refused(WriteError, "cannot be written: the DSN's options set"):
            readonly.users.create(MARK)
