"""Providers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError, InvalidValue, NotFoundError
from gproxy_storage.models import Credential, CredentialStatus, LLMModel, Provider, Usage
from tests.cases import for_each
from tests.contract.support import NOW, in_threads, insert
from tests.support import recorded

BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"channel": " "}, "channel"),
    ({"channel": None}, "channel"),
    ({"label": 1}, "label"),
    ({"settings": {"a": {1, 2}}}, "settings"),
    ({"routing": {"a": float("nan")}}, "routing"),
    ({"settings": "{}"}, "settings"),
    ({"routing": [1]}, "routing"),
]


def test_upsert_creates_and_then_changes(storage: Storage) -> None:
    first = storage.providers.upsert(
        "openai", channel="openai", label="main", settings={"a": [1, {"é": None}]}, routing={"b": 2}
    )
    assert (first.label, first.settings_json, first.routing_json) == (
        "main",
        {"a": [1, {"é": None}]},
        {"b": 2},
    )
    assert first.created_at == first.updated_at > NOW

    second = storage.providers.upsert("openai", channel="azure", settings={"c": 3})

    assert second.id == first.id
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    assert (second.channel, second.label, second.settings_json, second.routing_json) == (
        "azure",
        None,
        {"c": 3},
        {},
    )
    assert storage.providers.list() == [second]


def test_upsert_returns_its_own_row(storage: Storage) -> None:
    """Not the last one inserted, which is what some drivers answer."""
    ids = {name: storage.providers.upsert(name, channel="c").id for name in "abc"}

    for name in "bcab":
        assert storage.providers.upsert(name, channel="d").id == ids[name]
    assert storage.providers.upsert("d", channel="c").id not in ids.values()


def test_upserts_of_one_name_at_once_make_one_row(storage: Storage) -> None:
    def work() -> None:
        for _ in range(5):
            storage.providers.upsert("openai", channel="openai")

    in_threads(*[work] * 4)

    assert [provider.name for provider in storage.providers.list()] == ["openai"]


@for_each(("given", "argument"), BAD)
def test_bad_input_is_refused(storage: Storage, given: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        storage.providers.upsert(**{"name": "openai", "channel": "openai", **given})

    assert caught.value.argument == argument
    assert storage.providers.list() == []


def test_get_find_and_list(storage: Storage) -> None:
    first = storage.providers.upsert("one", channel="a")
    second = storage.providers.upsert("two", channel="b")

    assert storage.providers.get(first.id) == first
    assert storage.providers.find(name="two") == second
    assert storage.providers.find(name="TWO") is None
    with pytest.raises(NotFoundError, match="providers has no row with id 0"):
        storage.providers.get(0)
    assert storage.providers.list(channel="b") == [second]
    assert storage.providers.list(channel=["a", "b"], name="one") == [first]
    assert storage.providers.list(channel=[]) == []


def test_a_name_is_created_once(storage: Storage) -> None:
    first = storage.providers.create("one", channel="c", label="l", settings={"a": 1})
    with pytest.raises(ConflictError) as caught:
        storage.providers.create("one", channel="d")

    assert (caught.value.table, caught.value.fields) == ("providers", ("name",))
    (stored,) = storage.providers.list()
    assert stored.__data__ == first.__data__
    assert (stored.settings_json, stored.routing_json) == ({"a": 1}, {})


def test_an_update_changes_what_is_given(storage: Storage) -> None:
    first = storage.providers.create("one", channel="c", label="l", settings={"a": 1})
    storage.providers.create("two", channel="c")

    changed = storage.providers.update(first.id, settings={"b": [None]}, label=None)
    assert (changed.settings_json, changed.label, changed.channel) == ({"b": [None]}, None, "c")
    assert storage.providers.get(first.id).__data__ == changed.__data__
    with pytest.raises(ConflictError) as caught:
        storage.providers.update(first.id, name="two", label="new")
    assert caught.value.fields == ("name",)
    for given, argument in BAD:
        with pytest.raises(InvalidValue) as refused:
            storage.providers.update(first.id, **{"label": "new", **given})
        assert refused.value.argument == argument
    assert storage.providers.get(first.id).__data__ == changed.__data__


def test_an_upsert_never_sends_an_id(storage: Storage) -> None:
    storage.providers.upsert("one", channel="c")
    with recorded(storage.database) as statements:
        storage.providers.upsert("one", channel="d")

    begin, upsert, select = statements.sent
    assert begin == "BEGIN"
    assert not re.search(r"\bid\b", upsert.partition("RETURNING")[0])
    assert "created_at" not in upsert.partition("UPDATE")[2].partition("RETURNING")[0]
    assert select.startswith("SELECT")


def test_deleting_a_provider_deletes_its_dependents(storage: Storage) -> None:
    with storage.session():
        deleted, kept = insert(Provider), insert(Provider)
        for provider in (deleted, kept):
            insert(CredentialStatus, credential=insert(Credential, provider=provider))
            insert(LLMModel, provider=provider)
            insert(Usage, provider=provider)

    assert storage.providers.delete(deleted.id) == 1
    counts = storage.row_counts()
    assert [counts[name] for name in ("providers", "credentials", "credential_statuses")] == [1] * 3
    assert (counts["models"], counts["usages"]) == (1, 2)
    assert storage.providers.list() == [kept]
