"""Statements that are rendered once, and the rows that they read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.backends.values import MOST_PARAMETERS
from gproxy_storage.encrypted_fields import Sealed
from gproxy_storage.errors import InvalidValue, ReadError
from gproxy_storage.models import LOG_MODELS, TABLES, Table, Usage, User, UserKey
from gproxy_storage.repositories import statements
from gproxy_storage.repositories.rows import new_row, row_reader
from gproxy_storage.repositories.statements import Insert, Select, Slot
from tests.contract.support import insert
from tests.support import SQLITE_ALONE, assert_query_count

STORED = [model for model in TABLES if not model._meta.table_name.startswith("encryption_")]


@pytest.fixture
def rendered(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each query that Peewee has rendered."""
    contexts: list[int] = []
    original = storage.database.get_sql_context

    def counting(**options: Any) -> Any:
        contexts.append(1)
        return original(**options)

    monkeypatch.setattr(storage.database, "get_sql_context", counting)
    return contexts


def state(row: Table) -> dict[str, Any]:
    """All that a row consists of; a sealed value as it is stored."""
    found = dict(vars(row))
    found["__data__"] = {
        name: ("sealed", value.stored) if isinstance(value, Sealed) else (type(value), value)
        for name, value in found["__data__"].items()
    }
    found["__rel__"] = {name: state(related) for name, related in found["__rel__"].items()}
    return found


@pytest.mark.parametrize("model", STORED, ids=lambda model: model._meta.table_name)
def test_rows_are_as_peewee_reads_them(storage: Storage, model: type[Table]) -> None:
    with storage.session():
        insert(model)
        query: Any = model.select()
        ours = Select[Table](query).rows(storage.database, ())
        peewees = [*query]

    assert [*map(state, ours)] == [*map(state, peewees)]
    assert len(ours) == 1


def test_a_row_with_the_row_that_it_refers_to(storage: Storage) -> None:
    with storage.session():
        key = insert(UserKey)
        query: Any = UserKey.select(UserKey, User).join(User)
        (ours,) = Select[UserKey](query).rows(storage.database, ())
        (peewees,) = query
    with assert_query_count(storage.database, 0):
        assert ours.user.name == key.user.name

    assert state(ours) == state(peewees)


def test_an_inserted_row_is_as_peewee_makes_it(storage: Storage) -> None:
    with storage.session():
        recorded = storage.usages.record(model="m", cost="0.5")
        values = {**recorded.__data__}
        del values["trace_id"]
        created = Usage.create(**values)
        values["trace_id"] = created.trace_id

    assert state(new_row(Usage, values)) == state(created)


@SQLITE_ALONE
def test_values_of_other_types_are_converted_as_by_peewee(storage: Storage) -> None:
    """SQLite stores a value of any type in any column."""
    with storage.session():
        usage = insert(Usage)
        storage.database.execute_sql(
            "UPDATE usages SET input_tokens = 5.5, model = x'6d', cost = 1"
        )
        (ours,) = Select[Usage](Usage.select()).rows(storage.database, ())
        (peewees,) = Usage.select()

    assert (ours.trace_id, ours.input_tokens, ours.model) == (usage.trace_id, 5, "m")
    assert state(ours) == state(peewees)


@SQLITE_ALONE
@pytest.mark.parametrize(("column", "what"), [("at", "a time"), ("cost", "a number")])
def test_a_value_that_cannot_be_read_is_not_shown(storage: Storage, column: str, what: str) -> None:
    storage.usages.record(cost=1)
    with storage.session():
        storage.database.execute_sql(f"UPDATE usages SET {column} = 'a secret'")
    for read in (storage.usages.list, lambda: [*storage.usages.iter()]):
        with pytest.raises(ReadError) as failed:
            read()
        assert str(failed.value) == f"usages.{column} holds a value that is not {what}"
        assert failed.value.__context__ is None


GIVEN: list[Any] = [
    *(None, 0, 1, -1, 2**31, 2**63, True, 1.5, Decimal("0.5"), b"b", bytearray(b"b"), {"a": [1]}),
    *("text", "é", "a\0b", "x" * 300, StrEnum("Word", ["A"]).A, IntEnum("Number", ["ONE"]).ONE),  # type: ignore[attr-defined]  # of an enum made by a call
    *(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2), datetime(9999, 12, 31, tzinfo=UTC)),  # noqa: DTZ001 - is refused
    [["name", "value"]],
]


@SQLITE_ALONE
@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.table_name)
def test_inserts_bind_values_as_their_fields_do(storage: Storage, model: type[Table]) -> None:
    """Encrypted fields, too: they refuse what is not sealed."""
    fields = model._meta.sorted_fields
    slots = {field.name: Slot(at, field.db_value) for at, field in enumerate(fields)}
    with storage.session():
        bind = Insert(model.insert(**slots), fields).bind
    nothing: list[Any] = [None] * len(fields)
    for at, field in enumerate(fields):
        for given in GIVEN:
            values = [*nothing[:at], given, *nothing[at + 1 :]]
            try:
                expected: Any = field.db_value(given)
            except Exception as exc:
                with pytest.raises(type(exc), match=f"^{re.escape(str(exc))}$"):
                    bind(values)
            else:
                found = bind(values)[at]
                assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("model", LOG_MODELS, ids=lambda model: model._meta.table_name)
def test_values_are_not_mixed_up(model: type[Table]) -> None:
    """Whatever the order of the columns."""
    fields = [*reversed(model._meta.sorted_fields)]
    read = row_reader(model, fields)

    assert read([None] * len(fields)).__data__ == {field.name: None for field in fields}
    integers = [at for at, field in enumerate(fields) if getattr(field, "read_unchanged", 0) is int]
    for at in integers:
        values: list[Any] = [None] * len(fields)
        values[at] = 7
        assert read(values).__data__[fields[at].name] == 7


def test_a_form_is_rendered_once(storage: Storage, rendered: list[int]) -> None:
    users = [storage.users.create(f"user{number}") for number in range(3)]
    questions = (
        lambda n: storage.users.find(name=f"user{n}"),
        lambda n: storage.users.get(users[n].id),
        lambda n: storage.users.list(id=[user.id for user in users[: n + 1]][-1:], limit=n + 1),
        lambda n: storage.users.count(enabled=bool(n)),
        lambda n: storage.quotas.remaining(users[n]),
        lambda n: storage.quotas.add_cost(users[n], n),
        lambda n: storage.quotas.set(users[n], quota=n),
        lambda n: storage.access.rate_limit_for(users[n], f"gpt-{n}"),
        lambda n: storage.access.allows(users[n], n, f"gpt-{n}"),
        lambda n: storage.access.allows_files(users[n], n),
        lambda n: storage.access.limits.upsert(users[n], f"gpt-{n}", rpm=n),
        lambda n: storage.usages.record(user_id=users[n].id, cost=n),
        lambda n: storage.usages.list(user_id=users[n].id, limit=n + 1),
        lambda n: [*storage.usages.iter(user_id=users[n].id)],
        lambda n: storage.keys.authenticate(f"key{n}"),
        lambda n: storage.keys.find(f"key{n}"),
    )
    for ask in questions:
        ask(0)
        before = len(rendered)
        ask(1)
        ask(2)
        assert len(rendered) == before


def test_other_values_are_found_by_the_same_statement(storage: Storage) -> None:
    users = [storage.users.create(f"user{number}") for number in range(4)]
    ids = [user.id for user in users]
    for wanted in (ids[:2], ids[2:], {ids[0], ids[3]}, (ids[3], ids[3])):
        assert {user.id for user in storage.users.list(id=wanted)} == {*wanted}
    for user in users:
        assert storage.users.find(name=user.name) == user


def test_the_number_of_statements_is_bounded(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MOST_STATEMENTS", 3)
    ids = [storage.users.create(f"user{number}").id for number in range(8)]
    for number in range(8):
        assert storage.users.count(id=ids[:number]) == number
        assert len(storage.users._statements._kept) <= 3
    kept = {**storage.users._statements._kept}
    assert storage.users.count(id=[*ids, *range(-MOST_PARAMETERS, 0)]) == len(ids)
    assert storage.users._statements._kept == kept


@pytest.mark.parametrize(
    "filters", [{"id": "1"}, {"id": [1, True]}, {"enabled": 1}, {"name": "a\0"}, {"name": ["a", 1]}]
)
def test_a_value_of_a_known_form_is_still_checked(
    storage: Storage, filters: dict[str, Any]
) -> None:
    good = {"id": 1, "enabled": True, "name": "a"}
    (name,) = filters
    several = isinstance(filters[name], list)
    storage.users.count(**{name: [good[name]] * 2 if several else good[name]})  # type: ignore[arg-type]  # by name
    with assert_query_count(storage.database, 0), pytest.raises(InvalidValue) as refused:
        storage.users.count(**filters)
    assert refused.value.argument == name
