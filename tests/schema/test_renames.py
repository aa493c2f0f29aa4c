"""Columns of older schemas that have another name now: renamed once, with their data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.errors import IncompatibleSchema
from gproxy_storage.schema import plan as plan_module
from gproxy_storage.schema.renames import RENAMES, Rename
from gproxy_storage.schema.snapshot import LiveTable
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.schema import parity
from tests.schema.offline import plan_with
from tests.support import assert_query_count, run_script

ROUTING = {"rules": [1, {"a": "ä"}]}
PROVIDER = (
    "INSERT INTO providers (name, channel, settings_json, dispatch_json, created_at, updated_at) "
    f"VALUES ('p', 'c', '{{}}', '{json.dumps(ROUTING, ensure_ascii=False)}', "
    "'2026-05-04 12:00:00', '2026-05-04 12:00:00')"
)
AS_BEFORE = "ALTER TABLE providers RENAME COLUMN routing_json TO dispatch_json"


def states(database: Backend) -> list[tuple[str, str]]:
    with session(database):
        return [
            (name, value)
            for name, value in database.query("SELECT name, value FROM storage_state")
            if name.startswith("schema.")
        ]


def test_dispatch_json_becomes_routing_json(empty: Backend) -> None:
    sync(empty)
    run_script(empty, [AS_BEFORE, PROVIDER])
    (step,) = plan(empty).steps
    assert step.reason == "dispatch_json is now named routing_json"
    assert plan(empty).steps == (step,)  # a look changes nothing
    assert sync(empty).applied == (step,)
    with session(empty):
        ((stored,),) = empty.query("SELECT routing_json FROM providers")
    assert json.loads(stored) == ROUTING
    assert states(empty) == [("schema.rename.1", step.sql)]
    with assert_query_count(empty, 3) as statements:
        assert not sync(empty)
    assert not statements.locks
    assert not plan(empty).drift
    assert states(empty) == [("schema.rename.1", step.sql)]


def test_the_schema_of_an_older_gproxy_is_renamed_and_completed(
    empty: Backend, backend: str
) -> None:
    """The rename comes with everything else that is missing, `storage_state` itself among it."""
    old = [
        sql.replace("routing_json", "dispatch_json")
        for sql in parity.statements(parity.Style(parity.SEAORM[backend]))
    ]
    run_script(empty, [*old, PROVIDER])
    applied = sync(empty).applied
    assert "RENAME COLUMN dispatch_json" in applied[0].sql
    assert len(applied) > 2
    assert len(states(empty)) == 1
    assert not sync(empty)


def test_a_rename_that_came_back_is_done_and_recorded_again(empty: Backend) -> None:
    """A dump of an older database, restored over a newer one."""
    sync(empty)
    for _ in range(2):
        run_script(empty, AS_BEFORE)
        assert sync(empty)
    assert len(states(empty)) == 1


def test_a_new_database_has_nothing_to_rename(synced: Backend) -> None:
    assert states(synced) == []


def test_both_names_at_once_are_refused(empty: Backend) -> None:
    sync(empty)
    if empty.name == "sqlite":  # which adds none without a default: then it is merely extra
        run_script(empty, "ALTER TABLE providers ADD COLUMN dispatch_json TEXT DEFAULT '{}'")
        assert not sync(empty)
        return
    run_script(empty, "ALTER TABLE providers ADD COLUMN dispatch_json JSON NOT NULL")
    with pytest.raises(IncompatibleSchema, match="column dispatch_json is unknown"):
        sync(empty)


# -- the mechanism, for renames to come -----------------------------------------------------------


@pytest.fixture
def renames(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*renames: Rename) -> None:
        monkeypatch.setattr(plan_module, "RENAMES", renames)

    return use


every_backend = pytest.mark.parametrize("backend_name", servers.BACKENDS)


@every_backend
def test_indexes_and_keys_follow_a_renamed_column(
    backend_name: str, renames: Callable[..., None]
) -> None:
    """Indexes and foreign keys follow their column: nothing else is to do."""
    renames(
        Rename(1, "user_keys", "owner_id", "user_id"),
        Rename(2, "user_keys", "digest", "api_key_digest"),
        Rename(3, "user_keys", "key_id", "id"),
    )
    plan = plan_with(
        backend_name,
        "user_keys",
        lambda table: (
            table.with_renamed("user_id", "owner_id")
            .with_renamed("api_key_digest", "digest")
            .with_renamed("id", "key_id")
        ),
    )
    assert [step.sql.partition("RENAME COLUMN ")[2] for step in plan.steps] == [
        "owner_id TO user_id",
        "digest TO api_key_digest",
        "key_id TO id",
    ]
    assert plan.drift == ()


@every_backend
def test_the_data_are_asked_by_the_name_they_have(
    backend_name: str, renames: Callable[..., None]
) -> None:
    renames(Rename(1, "user_keys", "digest", "api_key_digest"))

    def older(table: LiveTable) -> LiveTable:
        column = replace(table.columns["api_key_digest"], name="digest")
        old = table.with_renamed("api_key_digest", "digest")
        indexes = tuple(index for index in old.indexes if ("digest", False) not in index.columns)
        return replace(old, columns={**old.columns, "digest": column}, indexes=indexes)

    plan = plan_with(backend_name, "user_keys", older)
    (check,) = plan.checks
    assert "GROUP BY digest" in check.count_sql
    assert "api_key_digest" not in check.count_sql


def test_renames_are_numbered_and_stay() -> None:
    """Once released, a rename is neither changed nor taken away: databases have recorded it."""
    assert [rename.number for rename in RENAMES] == list(range(1, len(RENAMES) + 1))
    assert RENAMES[0] == Rename(1, "providers", "dispatch_json", "routing_json")
