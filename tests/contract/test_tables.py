"""What the database enforces: ids, cascades, uniqueness."""

from __future__ import annotations

from typing import Any

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError
from gproxy_storage.models import (
    TABLES,
    DownstreamRequest,
    Provider,
    Table,
    UpstreamRequest,
    Usage,
    User,
    UserKey,
    UserModelPermission,
    UserRateLimit,
)
from tests.cases import for_each
from tests.contract.support import NOW, insert, rows_of, wipe
from tests.schema import parity

# As in GPROXY's tables: C on delete cascade, N on delete set null.
ON_DELETE = {
    "credentials": {"provider_id": "C"},
    "credential_statuses": {"credential_id": "C"},
    "user_keys": {"user_id": "C"},
    "models": {"provider_id": "C"},
    "user_model_permissions": {"user_id": "C", "provider_id": "C"},
    "user_file_permissions": {"user_id": "C", "provider_id": "C"},
    "user_rate_limits": {"user_id": "C"},
    "user_quotas": {"user_id": "C"},
    "usages": {"provider_id": "N", "credential_id": "N", "user_id": "N", "user_key_id": "N"},
    "upstream_requests": {"provider_id": "N", "credential_id": "N"},
    "downstream_requests": {"user_id": "N", "user_key_id": "N"},
    "user_credential_files": {
        "user_id": "C",
        "user_key_id": "C",
        "provider_id": "C",
        "credential_id": "C",
    },
    "claude_files": {"provider_id": "C"},
}
KEYS: dict[type[Table], str] = {
    Usage: "trace_id",
    UpstreamRequest: "trace_id",
    DownstreamRequest: "trace_id",
}
MODELS = {model._meta.table_name: model for model in TABLES}
# Of our own tables, as they are declared.
ON_DELETE |= {
    name: {key.column_name: {"CASCADE": "C", "SET NULL": "N"}[key.on_delete] for key in keys}
    for name, model in MODELS.items()
    if name not in parity.TABLES and (keys := list(model._meta.refs))
}
FOREIGN_KEYS = [
    (MODELS[table], column, rule)
    for table, columns in ON_DELETE.items()
    for column, rule in columns.items()
]
NUMBERED = [model for model in TABLES if getattr(model._meta.primary_key, "auto_increment", False)]


def foreign_key(model: type[Table], column: str) -> peewee.ForeignKeyField[Any]:
    found = model._meta.columns[column]
    assert isinstance(found, peewee.ForeignKeyField)
    return found


def test_every_foreign_key_is_in_the_list() -> None:
    declared = {
        name: {
            field.column_name
            for field in model._meta.sorted_fields
            if isinstance(field, peewee.ForeignKeyField)
        }
        for name, model in MODELS.items()
    }
    assert {name: keys for name, keys in declared.items() if keys} == {
        name: set(columns) for name, columns in ON_DELETE.items()
    }


@for_each(("model", "column", "rule"), FOREIGN_KEYS)
def test_deleting_a_parent_deletes_the_row_or_sets_null(
    storage: Storage, model: type[Table], column: str, rule: str
) -> None:
    wipe(storage)
    field = foreign_key(model, column)
    target = field.rel_model
    with storage.session():
        deleted, kept = insert(target), insert(target)
        child = insert(model, **{field.name: deleted})
        sibling = insert(model, **{field.name: kept})
        assert target.delete().where(target.id == deleted.get_id()).execute() == 1

        remaining = rows_of(model, KEYS.get(model, "id"), column)

    if rule == "C":
        assert remaining == [(sibling.get_id(), kept.get_id())]
    else:
        assert remaining == [(child.get_id(), None), (sibling.get_id(), kept.get_id())]


def test_deleting_a_user_deletes_the_dependents_of_their_keys(storage: Storage) -> None:
    with storage.session():
        user = insert(User)
        key = insert(UserKey, user=user)
        for name, columns in ON_DELETE.items():
            given = {"user_id": user.id, "user_key_id": key.id}
            if "user_id" in columns:
                insert(MODELS[name], **{column: given[column] for column in given.keys() & columns})
        user.delete_instance()

    counts = storage.row_counts()
    kept = {name for name, columns in ON_DELETE.items() if columns.get("user_id") == "N"}
    assert {name for name in ON_DELETE if "user_id" in ON_DELETE[name] and counts[name]} == kept


def test_a_deleted_provider_frees_its_permissions(storage: Storage) -> None:
    """The cascade works with the column that is generated from the key."""
    with storage.session():
        user, provider = insert(User), insert(Provider)
        everywhere = insert(UserModelPermission, user=user, model_pattern="*")
        insert(UserModelPermission, user=user, model_pattern="*", provider=provider)
        provider.delete_instance()

        assert rows_of(UserModelPermission, "id") == [(everywhere.id,)]


@for_each("model", NUMBERED)
def test_ids_are_never_reused(storage: Storage, model: type[Table]) -> None:
    wipe(storage)
    with storage.session():
        ids = [insert(model).get_id() for _ in range(3)]
        for _ in range(2):
            assert model.delete().execute() > 0  # the highest id, too
            ids.append(insert(model).get_id())

    assert ids == sorted(set(ids))


def test_ids_are_not_reused_after_a_restart(storage: Storage, shared_database_dsn: str) -> None:
    first = storage.users.create("alice")
    with storage.session():
        User.delete().execute()
    storage.close()
    with Storage.connect(shared_database_dsn) as reopened:
        assert reopened.users.create("bob").id > first.id


def test_the_caller_gives_a_downstream_requests_id(storage: Storage) -> None:
    chosen = [7, 2**62, 3]
    with storage.session():
        for trace_id in chosen:
            row = insert(DownstreamRequest, trace_id=trace_id)
            assert row.trace_id == trace_id
        assert rows_of(DownstreamRequest, "trace_id") == [(3,), (7,), (2**62,)]
    with pytest.raises(ConflictError), storage.transaction():
        insert(DownstreamRequest, trace_id=7)


def test_a_usage_costs_nothing_by_default_of_the_database(storage: Storage) -> None:
    """For rows that other programs insert without the column."""
    with storage.session():
        at = storage.database.time_to_db(NOW)
        storage.database.execute_sql(
            "INSERT INTO usages (at, operation, protocol, created_at) "
            "VALUES (?, 'o', 'p', ?)".replace("?", storage.database.param),
            (at, at),
        )
        assert storage.usages.summarize().cost == 0.0


def test_saving_writes_what_changed_only(storage: Storage) -> None:
    with storage.session():
        limit = insert(UserRateLimit, rpm=1, rpd=1)
        UserRateLimit.update(rpd=2).execute()
        limit.rpm = 5
        limit.save()
        assert rows_of(UserRateLimit, "rpm", "rpd") == [(5, 2)]
