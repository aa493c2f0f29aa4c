"""Providers and their credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, MissingReference, NotFoundError
from gproxy_storage.models import Provider, User
from tests.contract.support import NOW, in_threads, insert


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


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"channel": " "}, "channel"),
        ({"channel": None}, "channel"),
        ({"label": 1}, "label"),
        ({"settings": {"a": {1, 2}}}, "settings"),
        ({"routing": {"a": float("nan")}}, "routing"),
    ],
)
def test_bad_input(storage: Storage, given: dict[str, Any], argument: str) -> None:
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


def test_credentials(storage: Storage) -> None:
    openai = storage.providers.upsert("openai", channel="openai")
    other = storage.providers.upsert("other", channel="other")
    secret = {"api_key": "sk-é😀", "nested": {"scopes": ["a", None, 1.5]}}
    first = storage.credentials.create(openai, kind="api_key", secret=secret, name="main")
    second = storage.credentials.create(openai.id, kind="oauth", secret={}, enabled=False)
    third = storage.credentials.create(other, kind="api_key", secret={})

    assert storage.credentials.list() == [first, second, third]
    assert storage.credentials.list(provider_id=openai.id) == [first, second]
    assert storage.credentials.list(enabled=False) == [second]
    assert storage.credentials.list(provider_id=[]) == []
    (found,) = storage.credentials.list(provider_id=openai.id, enabled=True)
    assert (found.secret_json, found.kind, found.name) == (secret, "api_key", "main")
    assert "sk-" not in f"{found!r} {found}"


def missing(storage: Storage) -> int:
    return 10**9


def deleted(storage: Storage) -> Provider:
    with storage.session():
        provider = insert(Provider)
        provider.delete_instance()
    return provider


@pytest.mark.parametrize("provider", [missing, deleted])
def test_a_credential_of_no_provider(
    storage: Storage, provider: Callable[[Storage], Provider | int]
) -> None:
    with pytest.raises(MissingReference):
        storage.credentials.create(provider(storage), kind="api_key", secret={})

    assert storage.credentials.list() == []


@pytest.mark.parametrize("provider", ["openai", True, 1.0, None])
def test_what_is_no_provider(storage: Storage, provider: Any) -> None:
    with pytest.raises(InvalidValue):
        storage.credentials.create(provider, kind="api_key", secret={})


def test_a_row_of_another_table_is_no_provider(storage: Storage) -> None:
    """A user's id must not be taken for a provider's because both are rows."""
    with storage.session():
        user = insert(User)
        provider = insert(Provider)
        User.update(id=provider.id).where(User.id == user.id).execute()
        user = User.get()
    with pytest.raises(InvalidValue):
        storage.credentials.create(user, kind="api_key", secret={})  # type: ignore[arg-type]

    assert storage.credentials.list() == []


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"kind": ""}, "kind"),
        ({"secret": {"a": float("inf")}}, "secret"),
        ({"secret": {"a": "\0"}}, "secret"),
        ({"name": 1}, "name"),
        ({"enabled": "yes"}, "enabled"),
    ],
)
def test_bad_input_of_credentials(storage: Storage, given: dict[str, Any], argument: str) -> None:
    provider = storage.providers.upsert("openai", channel="openai")
    with pytest.raises(InvalidValue) as caught:
        storage.credentials.create(provider, **{"kind": "api_key", "secret": {}, **given})

    assert caught.value.argument == argument
    assert storage.credentials.list() == []
