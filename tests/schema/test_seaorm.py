"""A database that GPROXY made: only additions, and then our models work on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.crypto.digests import api_key_digest
from gproxy_storage.fields import JSONField, UtcDateTimeField
from gproxy_storage.models import TABLES, EncryptionKeys, UserKey
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.sync import plan, sync
from tests.schema import parity
from tests.schema.offline import wanted
from tests.support import assert_query_count, run_script

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def seaorm(empty: Backend, backend: str) -> Backend:
    """A database with GPROXY's tables."""
    run_script(empty, parity.statements(parity.Style(parity.SEAORM[backend])))
    return empty


def beyond_gproxy(backend: str) -> Iterator[str]:
    """What our models have and GPROXY's tables lack."""
    for table in wanted(backend):
        if table.name not in parity.TABLES:
            yield f"{table.name}: the table"
            continue
        columns, keys, indexes = parity.ours(table)
        for column in columns:
            yield f"{table.name}: column {column.name}"
        for key in keys:
            yield f"{table.name}: foreign key of {key.column} to {key.target}"
        for index in indexes:
            over = ", ".join(name for name, _ in index.columns)
            yield f"{table.name}: {'unique index' if index.unique else 'index'} on {over}"


def test_seaorms_schema_needs_only_additions(seaorm: Backend, backend: str) -> None:
    found = plan(seaorm)
    assert not found.incompatible
    assert {str(one) for one in found.drift if one.level is Level.MISSING} == set(
        beyond_gproxy(backend)
    )
    told = [str(one) for one in found.drift if one.level is Level.EXTRA]
    collations = [one for one in told if " compares by utf8mb4_" in one]
    if backend in ("mysql", "mariadb"):
        assert "users: text in name, password compares by utf8mb4_" in " ".join(collations)
    else:
        assert not collations
    assert told == collations
    assert sync(seaorm)
    with assert_query_count(seaorm, 3) as statements:
        assert not sync(seaorm)
    assert not statements.locks


def _value(field: peewee.Field[Any]) -> Any:
    """A value that any field of a kind takes."""
    if isinstance(field, peewee.ForeignKeyField):
        return 1
    if isinstance(field, JSONField):
        return {"key": ["value", 1, None, "ä"]}
    if isinstance(field, UtcDateTimeField):
        return NOON
    if isinstance(field, peewee.BooleanField):
        return True
    if isinstance(field, peewee.BlobField):
        return b"\0\xff body"
    if isinstance(field, peewee.DoubleField):
        return 0.25
    return 1 if isinstance(field, peewee.IntegerField) else "a text: ä 🙂"


def test_a_row_of_each_table_is_written_and_read(seaorm: Backend, database_dsn: str) -> None:
    with Storage.connect(database_dsn) as storage, storage.session():
        for model in TABLES:
            values = {
                field.column_name: _value(field)
                for field in model._meta.sorted_fields
                if not field.auto_increment
            }
            if model is EncryptionKeys:
                continue  # has its one row
            model.create(**{_field_name(model, name): v for name, v in values.items()})
            if model is UserKey:
                values["api_key_digest"] = api_key_digest(values["api_key_ciphertext"])
            (row,) = model.select()
            for name, value in values.items():
                assert getattr(row, name) == value, f"{model._meta.table_name}.{name}"
        assert storage.row_counts() == dict.fromkeys(
            (model._meta.table_name for model in TABLES), 1
        )


def _field_name(model: type[peewee.Model], column: str) -> str:
    return str(model._meta.columns[column].name)
