"""What every repository does alike: pages, filters, counts, ids, deletion, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, NotFoundError
from gproxy_storage.models import (
    Credential,
    CredentialStatus,
    LLMModel,
    Provider,
    Table,
    User,
    UserKey,
)
from gproxy_storage.repositories import base
from tests.contract.support import insert, opened, wipe
from tests.support import assert_query_count, recorded

MODELS: dict[str, type[Table]] = {
    "providers": Provider,
    "credentials": Credential,
    "statuses": CredentialStatus,
    "users": User,
    "keys": UserKey,
    "catalog": LLMModel,
}
# A column that can be changed of each, with a value that fits and one that does not.
CHANGES: dict[str, tuple[str, Any, Any]] = {
    "providers": ("label", "new", 1),
    "credentials": ("enabled", False, "no"),
    "statuses": ("last_error", "new", b"new"),
    "users": ("enabled", False, 0),
    "keys": ("label", "new", 1),
    "catalog": ("display_name", "new", 1),
}
# What must have a value, by the name of the argument.
REQUIRED = {
    "providers": ("name", "channel", "settings", "routing"),
    "credentials": ("kind", "secret", "enabled"),
    "statuses": ("health_kind",),
    "users": ("name", "enabled", "is_admin"),
    "keys": ("enabled",),
    "catalog": ("model_id", "enabled"),
}


@dataclass(frozen=True)
class Case:
    """A repository with five rows, by id.

    Attributes:
        repository: without its type, for tests call it wrongly on purpose, too.
    """

    name: str
    repository: Any
    rows: list[Any]


@pytest.fixture
def cases(storage: Storage) -> Iterator[Case]:
    """Each repository in turn: a storage for each would take six times as long."""
    return _cases(storage)


def _cases(storage: Storage) -> Iterator[Case]:
    for name, model in MODELS.items():
        wipe(storage)
        with storage.transaction():
            for _ in range(5):
                insert(model)
        repository = getattr(storage, name)
        yield Case(name, repository, repository.list())


# -- reading ------------------------------------------------------------------------------------


def test_each_read_is_one_query(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        with assert_query_count(storage.database, 4) as statements:
            assert repository.get(rows[1].id) == rows[1]
            assert repository.list() == rows
            assert list(repository.iter()) == rows
            assert repository.count() == 5
        assert not statements.locks


def test_pages(cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        assert repository.list(limit=2) == rows[:2]
        assert repository.list(limit=2, after_id=rows[1].id) == rows[2:4]
        assert repository.list(after_id=rows[3].id) == rows[4:]
        assert repository.list(after_id=rows[4].id, limit=2) == []
        assert repository.list(after_id=-(2**63), limit=2**31) == rows
        assert repository.list(limit=0) == []
        assert repository.list(limit=None, after_id=None) == rows


def test_what_is_no_limit(cases: Iterator[Case]) -> None:
    for case in cases:
        for limit in (-1, True, 1.0, "1", 2**63):
            with pytest.raises(InvalidValue) as caught:
                case.repository.list(limit=limit)
            assert caught.value.argument == "limit"


def refused(argument: str, call: Callable[..., object], *given: object, **named: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        call(*given, **named)
    assert caught.value.argument == argument


def test_what_is_no_id(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        column, value, _ = CHANGES[case.name]
        with recorded(storage.database) as statements:
            for wrong in ("1", True, 1.0, b"1", 2**63, None, rows[0]):
                refused("id", repository.get, wrong)
                refused("id", repository.update, wrong, **{column: value})
                refused("ids", repository.delete, wrong)
                refused("ids", repository.delete, [rows[0].id, wrong])
                if wrong is not None:
                    refused("after_id", repository.list, after_id=wrong)
            with pytest.raises(InvalidValue, match=r", not \w+: pass its id$"):
                repository.delete(rows[0])
        assert statements.sent == []
        assert repository.list() == rows


def test_iterating_reads_batches(
    storage: Storage, cases: Iterator[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        monkeypatch.setattr(base, "BATCH_ROWS", 2)

        with assert_query_count(storage.database, 3) as statements:
            seen = []
            for row in repository.iter():
                assert storage.database.is_closed()  # between batches no connection is held
                seen.append(row)
        assert seen == rows
        assert not statements.locks
        with assert_query_count(storage.database, 0):
            waiting: Iterator[Any] = repository.iter()
        first = next(waiting)
        assert repository.delete([first.id, rows[2].id]) == 2
        assert list(waiting) == [rows[1], rows[3], rows[4]]


def test_ids_filter(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        if case.name in ("statuses", "catalog"):
            continue  # they are listed by what they belong to
        wanted = [rows[3].id, rows[1].id, 10**12]
        assert repository.list(id=wanted) == list(repository.iter(id=wanted)) == [rows[1], rows[3]]
        assert repository.count(id=set(wanted)) == 2
        assert repository.list(id=[]) == []


@pytest.mark.parametrize("verb", ["list", "iter", "count"])
def test_a_filter_that_cannot_be(storage: Storage, cases: Iterator[Case], verb: str) -> None:
    """At the call, not when the first row is read; never ignored."""
    for case in cases:
        call = getattr(case.repository, verb)
        for unknown in ("nam", "secret_json", "password", "api_key_digest", "order_by", "sort"):
            with assert_query_count(storage.database, 0), pytest.raises(TypeError, match=unknown):
                call(**{unknown: "x"})
        with pytest.raises(TypeError):
            call("alice")


# -- changing -----------------------------------------------------------------------------------


def test_an_update_is_one_transaction(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        column, value, wrong = CHANGES[case.name]
        with assert_query_count(storage.database, 3):  # BEGIN, SELECT, UPDATE
            changed = repository.update(rows[1].id, **{column: value})

        (stored,) = [row for row in repository.list() if row.id == rows[1].id]
        assert getattr(stored, column) == getattr(changed, column) == value
        assert stored.updated_at == changed.updated_at > rows[1].updated_at
        unchanged = {**opened(rows[1]), column: value, "updated_at": stored.updated_at}
        assert opened(stored) == unchanged
        with pytest.raises(InvalidValue) as caught:
            repository.update(rows[1].id, **{column: wrong})
        assert caught.value.argument == column
        assert opened(repository.get(rows[1].id)) == unchanged


def test_an_update_without_a_change_changes_nothing(cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        assert repository.update(rows[0].id).updated_at == rows[0].updated_at
        assert repository.get(rows[0].id).updated_at == rows[0].updated_at


def test_what_an_update_refuses(cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        column, value, _ = CHANGES[case.name]
        with pytest.raises(NotFoundError, match="has no row with id 0") as caught:
            repository.update(0, **{column: value})
        assert (caught.value.table, caught.value.key) == (MODELS[case.name]._meta.table_name, 0)
        with pytest.raises(NotFoundError):
            repository.update(0)
        for unknown in ("id", "created_at", "updated_at", "nam"):
            with pytest.raises(TypeError, match=unknown):
                repository.update(rows[0].id, **{unknown: 1})
        with pytest.raises(TypeError):
            repository.update()


def test_null_where_there_must_be_a_value(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        for column in REQUIRED[case.name]:
            with assert_query_count(storage.database, 0), pytest.raises(InvalidValue) as caught:
                repository.update(rows[0].id, **{column: None})
            assert caught.value.argument == column


# -- deleting -----------------------------------------------------------------------------------


def test_deleting_by_ids(
    storage: Storage, cases: Iterator[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        ids = [row.id for row in rows]
        assert repository.delete(ids[0]) == 1
        assert repository.delete(ids[0]) == 0
        assert repository.delete([ids[1], ids[1], 10**12]) == 1
        monkeypatch.setattr(base, "BATCH_ROWS", 2)
        with assert_query_count(storage.database, 3):  # BEGIN and two chunks
            assert repository.delete({ids[2], ids[3], 10**12}) == 2
        assert repository.delete(each for each in ids) == 1
        assert repository.count() == 0


def test_an_empty_list_deletes_nothing(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        with assert_query_count(storage.database, 0):
            assert repository.delete([]) == repository.delete(each for each in "") == 0
            for missing in (None, "", "1", {}, base.ANY, {rows[0].id: 1}, rows[0]):
                refused("ids", repository.delete, missing)
            with pytest.raises(TypeError):
                repository.delete()
            with pytest.raises(TypeError):
                repository.delete(user_id=1)
        assert repository.list() == rows


def test_deleting_all(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository = case.repository
        with assert_query_count(storage.database, 2):  # BEGIN, DELETE
            assert repository.delete_all() == 5
        assert repository.delete_all() == 0
        with pytest.raises(TypeError):
            repository.delete_all([])


def test_writes_join_the_callers_transaction(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        column, value, _ = CHANGES[case.name]
        with pytest.raises(RuntimeError), storage.transaction():  # noqa: PT012 - the block is the subject
            repository.update(rows[0].id, **{column: value})
            repository.delete(rows[1].id)
            repository.delete_all()
            raise RuntimeError
        assert [opened(row) for row in repository.list()] == [opened(row) for row in rows]
