"""Credentials and their statuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError, InvalidValue, MissingReference
from gproxy_storage.models import Credential, Provider, User
from tests.cases import for_each
from tests.contract.support import NOW, in_threads, insert, opened, refused_unasked
from tests.support import SQLITE_ALONE, assert_query_count, recorded


def test_a_credential_is_read_as_it_was_created(storage: Storage) -> None:
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
    with pytest.raises(MissingReference, match="provider points to a row of providers") as caught:
        storage.credentials.create(provider(storage), kind="api_key", secret={})

    assert caught.value.argument == "provider"

    assert storage.credentials.list() == []


@SQLITE_ALONE
@for_each("provider", ["openai", True, 1.0, None])
def test_what_is_no_provider_is_refused(storage: Storage, provider: Any) -> None:
    with refused_unasked(storage, "provider"):
        storage.credentials.create(provider, kind="api_key", secret={})


@SQLITE_ALONE
def test_a_row_of_another_table_is_no_provider(storage: Storage) -> None:
    """A user's id must not be taken for a provider's because both are rows."""
    with storage.session():
        user = insert(User)
        provider = insert(Provider)
        User.update(id=provider.id).where(User.id == user.id).execute()
        user = User.get()
    with refused_unasked(storage):
        storage.credentials.create(user, kind="api_key", secret={})  # type: ignore[arg-type]  # the subject

    assert storage.credentials.list() == []


@for_each(
    ("given", "argument"),
    [
        ({"kind": ""}, "kind"),
        ({"secret": {"a": float("inf")}}, "secret"),
        ({"secret": {"a": "\0"}}, "secret"),
        ({"name": 1}, "name"),
        ({"enabled": "yes"}, "enabled"),
    ],
)
def test_bad_input_of_credentials_is_refused(
    storage: Storage, given: dict[str, Any], argument: str
) -> None:
    provider = storage.providers.upsert("openai", channel="openai")
    with pytest.raises(InvalidValue) as caught:
        storage.credentials.create(provider, **{"kind": "api_key", "secret": {}, **given})

    assert caught.value.argument == argument
    assert storage.credentials.list() == []


def test_a_credential_is_enabled_disabled_and_changed(storage: Storage) -> None:
    with storage.session():
        provider = insert(Provider)
    secret = {"api_key": "sk-é😀"}
    first = storage.credentials.create(provider, kind="api_key", secret=secret)

    disabled = storage.credentials.disable(first.id)
    assert (disabled.enabled, disabled.secret_json) == (False, secret)
    assert storage.credentials.list(enabled=False) == [first]
    assert storage.credentials.enable(first.id).enabled is True
    changed = storage.credentials.update(first.id, secret={"token": None}, name="n", kind="oauth")
    assert (changed.secret_json, changed.name, changed.kind) == ({"token": None}, "n", "oauth")
    stored = storage.credentials.find(first.id)
    assert stored is not None
    assert opened(stored) == opened(changed)
    assert storage.credentials.list(kind=["oauth", "x"], provider_id=provider.id) == [first]
    assert storage.credentials.count(kind="api_key") == 0
    assert storage.credentials.find(0) is None


@SQLITE_ALONE
def test_a_secret_that_is_no_json_object_is_refused(storage: Storage) -> None:
    with storage.session():
        credential = insert(Credential, secret_json={"old": 1})

    @for_each("secret", ["sk-1", ["sk-1"], b"{}", {"a": {1}}, {1: 2}, {"a": 2**64}])
    def refused(secret: Any) -> None:
        for call in (
            lambda: storage.credentials.create(credential.provider_id, kind="k", secret=secret),
            lambda: storage.credentials.update(credential.id, kind="new", secret=secret),
        ):
            with assert_query_count(storage.database, 0), pytest.raises(InvalidValue) as caught:
                call()
            assert caught.value.argument == "secret"
            assert "sk-1" not in str(caught.value)
        (stored,) = storage.credentials.list()
        assert (stored.kind, stored.secret_json) == ("text", {"old": 1})

    refused()


# -- statuses -----------------------------------------------------------------------------------


def test_a_status_is_one_for_each_channel(storage: Storage) -> None:
    with storage.session():
        credential, other = insert(Credential), insert(Credential)
    first = storage.statuses.upsert(
        credential, "a", health_kind="ok", health={"left": 1.5}, checked_at=NOW, last_error="e"
    )
    second = storage.statuses.upsert(credential.id, "a", health_kind="dead")
    third = storage.statuses.create(credential, "b", health_kind="ok", health=[])
    fourth = storage.statuses.create(other, "a", health_kind="ok")

    assert second == first
    assert storage.statuses.list() == [second, third, fourth]
    stored = storage.statuses.find(credential, "a")
    assert stored is not None
    assert stored.__data__ == second.__data__
    assert (stored.health_kind, stored.health_json, stored.checked_at, stored.last_error) == (
        *("dead", None, None, None),
    )
    assert storage.statuses.find(other.id, "b") is None
    assert storage.statuses.list(credential_id=credential.id, health_kind="ok") == [third]
    assert storage.statuses.count(channel="a") == 2
    with pytest.raises(ConflictError) as caught:
        storage.statuses.create(credential, "a", health_kind="ok")
    assert caught.value.table == "credential_statuses"
    assert caught.value.fields == ("credential_id", "channel")


def test_a_status_returns_the_values_stored(storage: Storage) -> None:
    with storage.session():
        credential = insert(Credential)
    tokyo = timezone(timedelta(hours=9))
    documents: list[Any] = [{"a": [1, None, {"é": 1e22}]}, [], "text", 0, False, 1.5]
    for health in documents:
        at = NOW.astimezone(tokyo)
        row = storage.statuses.upsert(
            credential, "a", health_kind="k", health=health, checked_at=at
        )
        stored = storage.statuses.get(row.id)
        assert (stored.health_json, type(stored.health_json)) == (health, type(health))
        assert (stored.checked_at, stored.checked_at and stored.checked_at.utcoffset()) == (
            NOW,
            timedelta(0),
        )
    changed = storage.statuses.update(row.id, health=None, last_error="e")
    assert (changed.health_json, changed.last_error, changed.checked_at) == (None, "e", NOW)
    assert storage.statuses.get(row.id).__data__ == changed.__data__


def test_upserts_of_one_status_at_once_make_one_row(storage: Storage) -> None:
    with storage.session():
        credential = insert(Credential)

    def work() -> None:
        for _ in range(5):
            storage.statuses.upsert(credential, "a", health_kind="ok")

    in_threads(*[work] * 4)

    assert storage.statuses.count() == 1


BAD_STATUSES: list[tuple[dict[str, Any], str]] = [
    ({"channel": ""}, "channel"),
    ({"channel": "x" * 256}, "channel"),
    ({"health_kind": " "}, "health_kind"),
    ({"health": {1, 2}}, "health"),
    ({"health": float("nan")}, "health"),
    ({"checked_at": NOW.replace(tzinfo=None)}, "checked_at"),
    ({"checked_at": "now"}, "checked_at"),
    ({"last_error": 1}, "last_error"),
    ({"credential": "1"}, "credential"),
    ({"credential": 10**12}, "credential"),
    ({"credential": Credential()}, "credential"),
]


def test_bad_input_of_statuses_is_refused(storage: Storage) -> None:
    with storage.session():
        credential = insert(Credential)
    for given, argument in BAD_STATUSES:
        values = {"credential": credential, "channel": "a", "health_kind": "ok", **given}
        for call in (storage.statuses.create, storage.statuses.upsert):
            with recorded(storage.database) as statements, pytest.raises(InvalidValue) as caught:
                call(**values)
            assert caught.value.argument == argument
            assert isinstance(caught.value, MissingReference) or len(statements) <= 1  # BEGIN
    assert storage.statuses.count() == 0
