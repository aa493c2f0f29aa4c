"""The plan of a snapshot: pure, no database."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gproxy_storage.schema.plan import Level, Plan, make_plan
from gproxy_storage.schema.snapshot import LiveIndex, LiveTable, Snapshot
from tests import servers
from tests.cases import for_each
from tests.schema.offline import (
    definition,
    everything,
    live,
    perfect,
    plan_with,
    wanted,
    with_index,
    without_index,
)

every_backend = pytest.mark.parametrize("backend_name", servers.BACKENDS)


def drift(plan: Plan, level: Level) -> list[str]:
    """The plan's differences of a level, in words."""
    return [str(one) for one in plan.drift if one.level is level]


def index(
    *columns: str, unique: bool = False, desc: tuple[bool, ...] = (), **traits: bool
) -> LiveIndex:
    """A live index by a name of its own."""
    directions = desc or (False,) * len(columns)
    base = LiveIndex(
        "another_name",
        tuple(zip(columns, directions, strict=True)),
        unique=unique,
        partial=False,
        prefix=False,
        valid=True,
        primary=False,
    )
    return replace(base, **traits)  # type: ignore[arg-type]  # mypy: every field at once


@every_backend
def test_as_declared_nothing_is_to_do(backend_name: str) -> None:
    plan = make_plan(perfect(backend_name), wanted(backend_name))
    assert not plan
    assert plan.drift == ()
    assert str(plan) == "-- the schema is up to date"


@every_backend
def test_an_empty_database_gets_parents_before_children(backend_name: str) -> None:
    definitions = wanted(backend_name)
    plan = everything(backend_name)
    created = list(dict.fromkeys(step.table for step in plan.steps))
    assert created == [one.name for one in definitions]
    for one in definitions:
        for key in one.foreign_keys:
            assert created.index(key.target) < created.index(one.name)
    assert drift(plan, Level.MISSING) == [f"{name}: the table" for name in created]
    assert plan.checks == ()  # there is no row to ask about
    assert plan
    assert not plan.incompatible


@every_backend
def test_a_plan_is_printed_with_its_sql(backend_name: str) -> None:
    plan = plan_with(backend_name, "storage_state", None)
    (step,) = plan.steps
    assert str(plan) == f"-- missing: storage_state: the table\n{step.sql};"
    assert json.loads(json.dumps(plan.to_dict())) == {
        "steps": [{"table": "storage_state", "sql": step.sql, "reason": "the table is missing"}],
        "drift": [{"level": "missing", "table": "storage_state", "what": "the table"}],
    }


@every_backend
def test_one_alter_a_table_where_ddl_commits(backend_name: str) -> None:
    bare = live(definition(backend_name, "usages"))
    keep = {name: column for name, column in bare.columns.items() if name not in ("model", "cost")}
    plan = plan_with(
        backend_name,
        "usages",
        lambda table: replace(without_index(table, "at", "trace_id"), columns=keep),
    )
    verbs = [step.sql.split()[0] for step in plan.steps]
    if backend_name in ("mysql", "mariadb"):
        assert verbs == ["ALTER"]
        assert plan.steps[0].sql.count("ADD ") == 3
    else:
        assert verbs == ["ALTER", "ALTER", "CREATE"]


@every_backend
def test_a_missing_foreign_key_is_added_where_possible(backend_name: str) -> None:
    plan = plan_with(backend_name, "users", lambda table: table)
    assert not plan
    plan = plan_with(backend_name, "user_keys", lambda table: replace(table, foreign_keys=()))
    if backend_name == "sqlite":
        assert drift(plan, Level.INCOMPATIBLE) == [
            "user_keys: column user_id has no foreign key to users, and this database cannot add "
            "one to an existing column"
        ]
    else:
        (step,) = plan.steps
        assert "FOREIGN KEY" in step.sql
        assert step.references == ("users",)
        assert len(plan.checks) == 1


# -- indexes, by definition -----------------------------------------------------------------------


@for_each(
    "there",
    [
        index("at", "trace_id", desc=(True, True)),
        index("at", "trace_id"),  # read backwards
        index("at", "trace_id", unique=True),
        index("at", "trace_id", unique=True, desc=(True, True)),
    ],
)
def test_what_serves_as_an_index(there: LiveIndex) -> None:
    plan = plan_with("postgres", "usages", with_index(there))
    assert plan.drift == ()


@for_each(
    "there",
    [
        index("at", "trace_id", desc=(True, False)),
        index("trace_id", "at", desc=(True, True)),
        index("at", desc=(True,)),
        index("at", "trace_id", "id", desc=(True, True, True)),
        index("at", "trace_id", desc=(True, True), partial=True),
        index("at", "trace_id", desc=(True, True), prefix=True),
        index("at", "trace_id", desc=(True, True), valid=False),
        replace(index("at"), columns=(("at", True), (None, True))),
    ],
)
def test_what_does_not_serve_as_an_index(there: LiveIndex) -> None:
    def change(table: LiveTable) -> LiveTable:
        left = without_index(table, "at", "trace_id")
        return replace(left, indexes=(*left.indexes, there))

    plan = plan_with("postgres", "usages", change)
    assert drift(plan, Level.MISSING) == ["usages: index on at, trace_id"]
    assert drift(plan, Level.EXTRA) == [
        f"usages: {'unique index' if there.unique else 'index'} another_name"
    ]


def test_a_plain_index_is_not_unique() -> None:
    plan = plan_with("postgres", "users", with_index(index("name")))
    assert drift(plan, Level.MISSING) == ["users: unique index on name"]
    (check,) = plan.checks
    assert "GROUP BY name" in check.count_sql


def test_a_unique_index_serves_whatever_its_directions() -> None:
    there = index("provider_id", "model_id", unique=True, desc=(True, False))
    assert plan_with("postgres", "models", with_index(there)).drift == ()


def test_the_primary_key_serves_as_a_unique_index() -> None:
    def keyed_by_name(table: LiveTable) -> LiveTable:
        return replace(table, indexes=(replace(index("name", unique=True), primary=True),))

    assert not drift(plan_with("postgres", "users", keyed_by_name), Level.MISSING)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (index("name", unique=True, prefix=True), "covers only a prefix"),
        (index("name", unique=True, valid=False), "is INVALID: drop it"),
    ],
)
def test_a_unique_index_that_does_not_keep_it(there: LiveIndex, words: str) -> None:
    plan = plan_with("mysql", "users", with_index(there))
    assert drift(plan, Level.INCOMPATIBLE) == [f"users: unique index another_name {words}"]


# -- names ----------------------------------------------------------------------------------------

NAME = "ix_usages_at_trace_id"
KEY = "fk_usages_user_id"


@for_each(
    ("backend_name", "name", "holder", "refused"),
    [
        ("postgres", NAME, "usages_old", True),
        ("sqlite", NAME, "usages_old", True),
        ("mysql", NAME, "usages_old", False),  # each table names its own indexes
        ("postgres", NAME, "usages", True),
        ("mysql", NAME, "usages", True),
        ("postgres", NAME, "a sequence", True),
        ("postgres", KEY, "usages_old", False),  # each table names its own foreign keys
        ("mysql", KEY, "usages_old", True),
        ("postgres", KEY, "usages", True),
    ],
)
def test_a_name_taken_by_another_object_is_incompatible(
    backend_name: str, name: str, holder: str, refused: bool
) -> None:
    tables = dict(perfect(backend_name).tables)
    tables["usages"] = replace(tables["usages"], indexes=(), foreign_keys=())
    plan = make_plan(Snapshot(tables, {name: [holder]}), wanted(backend_name))
    taken = f"usages: the name {name} is taken by another object ({holder}): rename or drop that"
    assert (taken in drift(plan, Level.INCOMPATIBLE)) == refused
    assert (f"{name}" in " ".join(step.sql for step in plan.steps)) != refused


@every_backend
def test_a_table_created_while_the_schema_is_read(backend_name: str) -> None:
    """Its indexes were seen and the table was not: no refusal, the lock will tell."""
    tables = dict(perfect(backend_name).tables)
    del tables["usages"]
    occupied = {NAME: ["usages"], KEY: ["usages"]}
    snapshot = replace(perfect(backend_name), tables=tables, occupied=occupied)
    plan = make_plan(snapshot, wanted(backend_name))
    assert not plan.incompatible
    assert drift(plan, Level.MISSING) == ["usages: the table"]


# -- tables, columns ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [("view", "a view"), ("index", "an index"), ("MyISAM table", "a MyISAM table")],
)
def test_something_else_has_the_tables_name(kind: str, words: str) -> None:
    plan = plan_with("mysql", "users", lambda table: replace(table, kind=kind, columns={}))
    assert drift(plan, Level.INCOMPATIBLE) == [f"users: {words} has the name of the table"]
    assert not plan.steps


def test_problems_of_a_table_do_not_hide_each_other() -> None:
    """Also a missing column that cannot be added, under a missing unique index."""

    def change(table: LiveTable) -> LiveTable:
        columns = {name: one for name, one in table.columns.items() if name != "name"}
        columns["enabled"] = replace(columns["enabled"], family="text", type="text")
        columns["is_admin"] = replace(columns["is_admin"], nullable=True)
        return replace(table, columns=columns, indexes=(), primary_key=())

    plan = plan_with("postgres", "users", change)
    assert drift(plan, Level.INCOMPATIBLE) == [
        "users: column name is missing, and is NOT NULL without a default: existing rows would "
        "have no value for it",
        "users: column enabled is of type text, not BOOLEAN",
        "users: column is_admin is NULL, against the model's NOT NULL",
        "users: the primary key is (), not (id)",
    ]


def test_another_collation_is_only_reported() -> None:
    def change(table: LiveTable) -> LiveTable:
        columns = {
            name: replace(column, collation="utf8mb4_bin") for name, column in table.columns.items()
        }
        return replace(
            table, columns={**table.columns, "name": columns["name"], "id": columns["id"]}
        )

    plan = plan_with("mysql", "users", change)
    assert not plan
    assert drift(plan, Level.EXTRA) == [
        "users: text in name compares by utf8mb4_bin, not utf8mb4_0900_bin: texts that differ in "
        "case or accents may be treated as equal"
    ]
