"""What the models may declare, so that every older database can follow: no database needed."""

from __future__ import annotations

from collections.abc import Sequence

import peewee
import pytest

from gproxy_storage.fields import BigIntegerField, CharField, TextField
from gproxy_storage.models import INDEXES, TABLES, Index
from tests import servers
from tests.cases import for_each
from tests.schema import offline, parity

MAX_NAME_BYTES = 63  # PostgreSQL's; MySQL takes 64 characters
MAX_KEY_BYTES = 3072  # InnoDB's

FIRST_RELEASE = {
    "global_settings": "id host port dsn data_dir enable_usage enable_upstream_log "
    "enable_upstream_log_body enable_downstream_log enable_downstream_log_body updated_at",
    "providers": "id name channel settings_json routing_json created_at updated_at",
    "credentials": "id provider_id kind secret_json enabled created_at updated_at",
    "credential_statuses": "id credential_id channel health_kind updated_at",
    "users": "id name enabled is_admin created_at updated_at",
    "user_keys": "id user_id api_key_ciphertext api_key_digest enabled created_at updated_at",
    "models": "id provider_id model_id enabled created_at updated_at",
    "user_model_permissions": "id user_id model_pattern created_at",
    "user_file_permissions": "id user_id provider_id created_at",
    "user_rate_limits": "id user_id model_pattern created_at updated_at",
    "user_quotas": "id user_id quota cost_used updated_at",
    "usages": "trace_id at operation protocol created_at",
    "upstream_requests": "trace_id at internal request_method request_headers_json "
    "response_headers_json created_at",
    "downstream_requests": "trace_id at internal request_method request_headers_json request_path "
    "response_headers_json created_at",
    "user_credential_files": "id user_id user_key_id provider_id credential_id file_id active "
    "created_at updated_at",
    "claude_files": "id provider_id file_id file_created_at filename mime_type size_bytes raw_json "
    "created_at updated_at",
    "storage_state": "name value updated_at",
    "write_batches": "writer seq at",
}
"""The columns that are NOT NULL without a default, as the first release has them.

Frozen: a column is never added to a table of this list, and never taken away. A table that comes
later is added with the release that has it.
"""

_KEY_BYTES = {"BIGAUTO": 8, "BIGINT": 8, "INT": 4, "BOOL": 1, "DATETIME": 8}


def column_problems(model: type[peewee.Model], first_release: str | None) -> list[str]:
    """Say which columns a database of the first release could not be given, or would miss."""
    strict = {
        field.column_name
        for field in model._meta.sorted_fields
        if not field.null and not _has_constant_default(field)
    }
    before = strict if first_release is None else set(first_release.split())
    return [f"{name} cannot be added: it is NOT NULL without a default" for name in strict - before]


def _has_constant_default(field: peewee.Field[object]) -> bool:
    texts = [node.sql for node in field.constraints or () if isinstance(node, peewee.SQL)]
    return any(text.startswith("DEFAULT ") for text in texts)


def name_problems(names: Sequence[str]) -> list[str]:
    """Say which identifiers are too long for one of the backends, or occur twice."""
    long = [f"{name} is too long" for name in names if len(name.encode()) > MAX_NAME_BYTES]
    return long + [f"{name} occurs twice" for name in set(names) if names.count(name) > 1]


def key_problems(model: type[peewee.Model], index: Index) -> list[str]:
    """Say why MySQL could not keep an index."""
    size = 0
    for name, _ in index.columns:
        field = model._meta.columns[name]
        if isinstance(field, peewee.CharField):
            size += 4 * field.max_length  # utf8mb4
        elif field.field_type in _KEY_BYTES or isinstance(field, peewee.ForeignKeyField):
            size += _KEY_BYTES.get(field.field_type, 8)
        else:
            return [f"{index.name}: {name} has no bounded length: make it a CharField"]
    return [f"{index.name} has {size} bytes"] if size > MAX_KEY_BYTES else []


@for_each("model", TABLES)
def test_an_older_database_can_get_every_column(model: type[peewee.Model]) -> None:
    before = FIRST_RELEASE.get(model._meta.table_name)
    assert column_problems(model, before) == []
    # What is not declared any more is NOT NULL still where it exists: inserts would fail.
    assert set((before or "").split()) <= set(model._meta.columns)


def test_every_table_of_the_first_release_exists() -> None:
    assert set(FIRST_RELEASE) <= {model._meta.table_name for model in TABLES}


GPROXYS_UNIQUE = {
    "providers": "name",
    "credential_statuses": "credential_id, channel",
    "users": "name",
    "user_keys": "api_key_digest",
    "models": "provider_id, model_id",
    "user_model_permissions": "user_id, provider_id, model_pattern",
    "user_file_permissions": "user_id, provider_id",
    "user_rate_limits": "user_id, model_pattern",
    "user_quotas": "user_id",
    "user_credential_files": "user_id, provider_id, file_id",
    "claude_files": "provider_id, file_id",
}


def test_gproxys_tables_have_its_unique_indexes_and_no_other() -> None:
    """With another one GPROXY does not start, or it drops that."""
    unique = [
        (model._meta.table_name, ", ".join(name for name, _ in index.columns))
        for model, indexes in INDEXES.items()
        for index in indexes
        if index.unique and model._meta.table_name in parity.TABLES
    ]
    assert sorted(unique) == sorted(GPROXYS_UNIQUE.items())
    for model in TABLES:
        assert not any(field.unique for field in model._meta.sorted_fields)


def test_our_columns_of_gproxys_tables_are_nullable() -> None:
    """Its inserts do not name them."""
    columns = {model._meta.table_name: model._meta.columns for model in TABLES}
    for table in parity.TABLES:
        for name, field in columns[table].items():
            assert parity.has_column(table, name) or field.null, f"{table}.{name}: add null=True"


def test_identifiers_fit_every_backend() -> None:
    columns = [name for model in TABLES for name in set(model._meta.columns)]
    assert name_problems(list(set(columns))) == []
    wanted = offline.wanted("postgres")
    tables = [definition.name for definition in wanted]
    indexes = [index.name for definition in wanted for index in definition.indexes]
    keys = [key.name for definition in wanted for key in definition.foreign_keys]
    assert name_problems([*tables, *indexes]) == []  # one name space on PostgreSQL and SQLite
    assert name_problems(keys) == []  # one for the whole database on MySQL


def test_indexed_keys_fit_innodb() -> None:
    for model, indexes in INDEXES.items():
        for index in indexes:
            problems = key_problems(model, index)
            assert not problems, "; ".join(problems)


@pytest.mark.parametrize("backend", servers.BACKENDS)
def test_definitions_say_the_same_on_every_backend(backend: str) -> None:
    for one, other in zip(offline.wanted(backend), offline.wanted("sqlite"), strict=True):
        assert [column.name for column in one.columns] == [column.name for column in other.columns]
        assert [column.nullable for column in one.columns] == [
            column.nullable for column in other.columns
        ]
        assert [column.addable for column in one.columns] == [
            column.addable for column in other.columns
        ]


# -- the rules can fail ---------------------------------------------------------------------------


class Bad(peewee.Model):
    """Breaks every rule."""

    name = CharField(max_length=700)
    plain = TextField()
    counted = BigIntegerField(constraints=[peewee.SQL("DEFAULT 0")])
    note = TextField(null=True)

    class Meta:
        legacy_table_names = False


def test_a_strict_new_column_is_a_problem() -> None:
    assert column_problems(Bad, "id name") == [
        "plain cannot be added: it is NOT NULL without a default"
    ]


def test_a_long_or_double_name_is_a_problem() -> None:
    assert name_problems(["ä" * 32, "a" * 63, "b", "b"]) == [
        f"{'ä' * 32} is too long",
        "b occurs twice",
    ]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (("name", "counted"), []),
        (("name", "counted", "name"), ["bad has 5608 bytes"]),
        (("note",), ["bad: note has no bounded length: make it a CharField"]),
    ],
)
def test_a_key_that_innodb_refuses_is_a_problem(columns: Sequence[str], problem: list[str]) -> None:
    index = Index("bad", tuple((name, False) for name in columns), unique=False)
    assert key_problems(Bad, index) == problem
