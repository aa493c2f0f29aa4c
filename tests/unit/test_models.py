"""How the models are declared; tests/schema says what their tables may be."""

from __future__ import annotations

import json

import peewee

from gproxy_storage import encrypted_fields, fields
from gproxy_storage.log_rows import LOGS
from gproxy_storage.models import INDEXES, TABLES, Ledger, Table
from tests.cases import for_each

OURS = {fields.__name__, encrypted_fields.__name__}

each_model = for_each("model", TABLES)


def foreign_keys(model: type[Table]) -> list[fields.ForeignKeyField]:
    return [each for each in model._meta.sorted_fields if isinstance(each, fields.ForeignKeyField)]


def test_parents_precede_children() -> None:
    for place, model in enumerate(TABLES):
        for key in foreign_keys(model):
            assert TABLES.index(key.rel_model) < place


def test_every_table_is_listed_once() -> None:
    assert len(set(TABLES)) == len(TABLES)
    assert {*TABLES, Ledger} == set(Table.__subclasses__())
    assert set(INDEXES) <= set(TABLES)


@each_model
def test_every_column_has_one_of_our_strict_fields(model: type[Table]) -> None:
    for each in model._meta.sorted_fields:
        assert type(each).__module__ in OURS, each.name


@each_model
def test_peewee_adds_no_index(model: type[Table]) -> None:
    assert list(model._meta.fields_to_index()) == []
    assert model._meta.indexes == []


@each_model
def test_foreign_keys_are_named_by_one_rule(model: type[Table]) -> None:
    for key in foreign_keys(model):
        assert key.column_name == f"{key.name}_id" == key.object_id_name
        assert key.constraint_name == f"fk_{model._meta.table_name}_{key.column_name}"
        assert key.on_delete in ("CASCADE", "SET NULL")
        assert key.null or key.on_delete == "CASCADE"
        assert key.column_name in model.__annotations__  # for readers and type checkers


@each_model
def test_no_field_hides_a_method(model: type[Table]) -> None:
    for each in model._meta.sorted_fields:
        for name in {each.name, getattr(each, "object_id_name", None) or each.name}:
            assert not hasattr(peewee.Model, name)


@each_model
def test_models_have_no_behaviour(model: type[Table]) -> None:
    own = {name for name, value in vars(model).items() if callable(value)}

    assert own <= {"DoesNotExist", "__repr__"}  # which Peewee adds


@each_model
def test_defaults_in_python_are_the_databases(model: type[Table]) -> None:
    for each in model._meta.sorted_fields:
        in_database = [
            json.loads(node.sql.removeprefix("DEFAULT ").lower())
            for node in each.constraints or ()
            if isinstance(node, peewee.SQL) and node.sql.startswith("DEFAULT ")
        ]
        # Those without are what a log's row is where a caller leaves it out.
        if in_database or model not in {log.model for log in LOGS}:
            assert in_database == ([] if each.default is None else [each.default])


def test_rows_show_no_secret() -> None:
    for model in TABLES:
        texts = {
            each.name: "a name" if each.name in {"name", "label", *model.natural_key} else "hunter2"
            for each in model._meta.sorted_fields
            if isinstance(each, peewee.CharField | peewee.TextField)
            and each is not model._meta.primary_key
        }
        assert "hunter2" not in f"{model(**texts)!r} {model(**texts)}"
