"""What every repository does alike: pages, filters, counts, ids, deletion, refusals."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, NotFoundError
from gproxy_storage.repositories import base, reading
from gproxy_storage.repositories.base import BaseRepository, Repository
from gproxy_storage.repositories.logs import Log
from gproxy_storage.repositories.registry import registered
from tests.contract.support import NOW, insert, opened, wipe
from tests.support import assert_query_count, recorded

OF_TABLES = {
    name: kind for name, kind in registered(Storage).items() if issubclass(kind, BaseRepository)
}
OTHERS = {"access.models"}
"""Whose rows may be several of one permission, and go together: see test_permissions.py."""

KINDS = {
    name: kind
    for name, kind in OF_TABLES.items()
    if issubclass(kind, Repository) and not issubclass(kind, Log) and name not in OTHERS
}


def changes(kind: type[Any]) -> dict[str, str]:
    """Return what a repository's `update` changes, and the type of each."""
    found = inspect.signature(kind.update).parameters.values()
    matches = {each.name: re.fullmatch(r"Change\[(.*)\]", str(each.annotation)) for each in found}
    return {name: match[1] for name, match in matches.items() if match}


def a_change(kind: type[Any]) -> Change | None:
    """Return a change that an update can make; None without an update."""
    if not hasattr(kind, "update"):
        return None
    values = {"str": ("new", 1), "bool": (False, 0), "int": (7, "7")}
    for name, annotation in changes(kind).items():
        if (of := annotation.removesuffix(" | None")) in values:
            return Change(name, *values[of])
    raise LookupError(f"{kind} changes no type that is in `values`: add one there")


@dataclass(frozen=True)
class Change:
    """A column that can be changed, with a value that fits and one that does not."""

    column: str
    value: Any
    wrong: Any

    @property
    def given(self) -> dict[str, Any]:
        return {self.column: self.value}


@dataclass(frozen=True)
class Case:
    """A repository with five rows, by id.

    Attributes:
        repository: without its type, for tests call it wrongly on purpose, too.
        change: None where rows are not updated.
    """

    repository: Any
    rows: list[Any]
    change: Change | None


@pytest.fixture
def cases(storage: Storage) -> Iterator[Case]:
    """Each repository in turn: a storage for each would take many times as long."""
    return _cases(storage, KINDS)


Updates: TypeAlias = Iterator[tuple[Any, list[Any], Change]]


@pytest.fixture
def updates(storage: Storage) -> Updates:
    """Each repository that has an update, with its rows, and one."""
    changed = {name: kind for name, kind in KINDS.items() if hasattr(kind, "update")}
    assert len(changed) > 5
    cases = _cases(storage, changed)
    return ((case.repository, case.rows, case.change) for case in cases if case.change)


def _cases(storage: Storage, kinds: Mapping[str, type[Any]]) -> Iterator[Case]:
    for name, kind in kinds.items():
        wipe(storage)
        with storage.transaction():
            for _ in range(5):
                insert(kind.model)
        repository = attrgetter(name)(storage)
        yield Case(repository, repository.list(), a_change(kind))


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


def test_bad_ids_are_refused(storage: Storage, cases: Iterator[Case]) -> None:
    for case in cases:
        repository, rows = case.repository, case.rows
        with recorded(storage.database) as statements:
            for wrong in ("1", True, 1.0, b"1", 2**63, None, rows[0]):
                refused("id", repository.get, wrong)
                if case.change:
                    refused("id", repository.update, wrong, **case.change.given)
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
        monkeypatch.setattr(reading, "BATCH_ROWS", 2)

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
        if "id" not in repository.filters.__annotations__:
            continue  # it is listed by what its rows belong to
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


def test_every_filter_asks_for_something(storage: Storage) -> None:
    """A filter that is declared is a column's, or has a meaning of its own."""
    values = {"int": 1, "str": "x", "bool": True, "datetime": NOW}
    filtered = {name: kind for name, kind in OF_TABLES.items() if hasattr(kind, "filters")}
    assert len(filtered) > 10
    for name, kind in filtered.items():
        repository: Any = attrgetter(name)(storage)
        for wanted, annotation in kind.filters.__annotations__.items():
            of = re.search(r"datetime|int|str|bool", annotation.__forward_arg__)
            assert of, f"{kind.__name__}: no value for {annotation}"
            with assert_query_count(storage.database, 1) as statements:
                assert repository.count(**{wanted: values[of[0]]}) == 0
            assert "WHERE" in statements.sent[0]


# -- changing -----------------------------------------------------------------------------------


def test_an_update_is_one_transaction(storage: Storage, updates: Updates) -> None:
    for repository, rows, change in updates:
        column, value = change.column, change.value
        with assert_query_count(storage.database, 3):  # BEGIN, SELECT, UPDATE
            changed = repository.update(rows[1].id, **{column: value})

        (stored,) = [row for row in repository.list() if row.id == rows[1].id]
        assert getattr(stored, column) == getattr(changed, column) == value
        assert stored.updated_at == changed.updated_at > rows[1].updated_at
        unchanged = {**opened(rows[1]), column: value, "updated_at": stored.updated_at}
        assert opened(stored) == unchanged
        with pytest.raises(InvalidValue) as caught:
            repository.update(rows[1].id, **{column: change.wrong})
        assert caught.value.argument == column
        assert opened(repository.get(rows[1].id)) == unchanged


def test_an_update_without_a_change_changes_nothing(updates: Updates) -> None:
    for repository, rows, _ in updates:
        assert repository.update(rows[0].id).updated_at == rows[0].updated_at
        assert repository.get(rows[0].id).updated_at == rows[0].updated_at


def test_what_an_update_refuses(updates: Updates) -> None:
    for repository, rows, change in updates:
        with pytest.raises(NotFoundError, match="has no row with id 0") as caught:
            repository.update(0, **change.given)
        assert (caught.value.table, caught.value.key) == (repository.model._meta.table_name, 0)
        with pytest.raises(NotFoundError):
            repository.update(0)
        for unknown in ("id", "created_at", "updated_at", "nam"):
            with pytest.raises(TypeError, match=unknown):
                repository.update(rows[0].id, **{unknown: 1})
        with pytest.raises(TypeError):
            repository.update()


def test_null_where_there_must_be_a_value(storage: Storage, updates: Updates) -> None:
    checked = 0
    for repository, rows, _ in updates:
        required = [name for name, of in changes(type(repository)).items() if "None" not in of]
        checked += len(required)
        for column in required:
            with assert_query_count(storage.database, 0), pytest.raises(InvalidValue) as caught:
                repository.update(rows[0].id, **{column: None})
            assert caught.value.argument == column
    assert checked > 10


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
            for missing in (None, "", "1", {}, reading.ANY, {rows[0].id: 1}, rows[0]):
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
        with pytest.raises(RuntimeError), storage.transaction():  # noqa: PT012 - the block is the subject
            if case.change:
                repository.update(rows[0].id, **case.change.given)
            repository.delete(rows[1].id)
            repository.delete_all()
            raise RuntimeError
        assert [opened(row) for row in repository.list()] == [opened(row) for row in rows]
