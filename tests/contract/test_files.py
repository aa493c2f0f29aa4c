"""Files of users, and what Anthropic says of files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue, NotFoundError
from gproxy_storage.models import Credential, Provider, User, UserCredentialFile, UserKey
from tests.contract.support import insert
from tests.support import assert_query_count


@pytest.fixture
def parents(storage: Storage) -> dict[str, Any]:
    """The parents of a file: rows of a user, a key, a provider and a credential."""
    user = storage.users.create("alice")
    provider = storage.providers.upsert("claude", channel="anthropic")
    return {
        "user": user,
        "user_key": storage.keys.create(user)[0],
        "provider": provider,
        "credential": storage.credentials.create(provider, kind="api_key", secret={}),
    }


def upload(storage: Storage, parents: dict[str, Any], file_id: str) -> UserCredentialFile:
    return storage.files.upsert(**parents, file_id=file_id)


def test_a_file_is_noted_deleted_and_uploaded_again(
    storage: Storage, parents: dict[str, Any]
) -> None:
    first = upload(storage, parents, "file-1")
    assert (first.active, first.deleted_at) == (True, None)
    assert first.created_at == first.updated_at

    assert storage.files.mark_deleted(first.id) == 1
    deleted = storage.files.get(first.id)
    assert not deleted.active
    assert deleted.deleted_at == deleted.updated_at > first.updated_at
    assert storage.files.mark_deleted([first.id]) == 0
    assert storage.files.get(first.id).deleted_at == deleted.deleted_at

    key, _ = storage.keys.create(parents["user"])
    again = storage.files.upsert(**{**parents, "user_key": key.id}, file_id="file-1")
    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert (again.active, again.deleted_at, again.user_key_id) == (True, None, key.id)
    assert again.updated_at > deleted.updated_at


def test_files_are_filtered_by_their_parents(storage: Storage, parents: dict[str, Any]) -> None:
    files = storage.files
    one, two, three = (upload(storage, parents, f"file-{number}") for number in range(3))
    with storage.session():
        other = insert(UserCredentialFile, file_id="file-0")
    files.mark_deleted([two.id])
    user, provider = parents["user"], parents["provider"]

    assert files.list() == list(files.iter()) == [one, two, three, other]
    assert files.list(user_id=user.id) == [one, two, three]
    assert files.list(user_id=user.id, provider_id=provider.id, active=True) == [one, three]
    assert files.list(active=False) == [two]
    assert files.list(file_id="file-0") == [one, other]
    assert files.list(credential_id=other.credential_id) == [other]
    assert files.list(user_key_id=[parents["user_key"].id], limit=1, after_id=one.id) == [two]
    assert files.count(user_id=user.id) == 3
    assert files.count(file_id=[]) == 0
    assert files.find(user, provider, "file-1") == files.find(user.id, provider.id, "file-1") == two
    assert files.find(user, provider, "FILE-1") is None
    with assert_query_count(storage.database, 1):
        files.list(user_id=user.id)
    with pytest.raises(NotFoundError):
        files.get(10**9)


def test_marking_and_deleting_take_ids_only(storage: Storage, parents: dict[str, Any]) -> None:
    rows = [upload(storage, parents, f"file-{number}") for number in range(4)]
    files = storage.files

    assert files.mark_deleted([]) == files.delete([]) == 0
    assert files.count(active=True) == 4
    assert files.mark_deleted([rows[0].id, rows[1].id, 10**9]) == 2
    assert files.delete([rows[0].id, rows[3].id]) == 2
    assert files.list() == rows[1:3]
    assert files.delete_all() == 2


@pytest.mark.parametrize("parent", ["user", "user_key", "provider", "credential"])
def test_files_are_deleted_with_their_parents(
    storage: Storage, parents: dict[str, Any], parent: str
) -> None:
    upload(storage, parents, "file-1")
    with storage.session():
        parents[parent].delete_instance()

    assert storage.files.list() == []


CLAUDE: dict[str, Any] = {
    "file_created_at": "2026-03-04T05:06:07.1Z",
    "filename": "å b.pdf",
    "mime_type": "application/pdf",
    "size_bytes": 2**40,
    "downloadable": False,
    "raw": {"id": "file-1", "size": 1.5, "x": [None]},
}


def test_what_anthropic_says_of_a_file(storage: Storage, parents: dict[str, Any]) -> None:
    claude, provider = storage.claude_files, parents["provider"]
    first = claude.upsert(provider, "file-1", **CLAUDE)
    for name, value in CLAUDE.items():
        assert getattr(first, "raw_json" if name == "raw" else name) == value

    second = claude.upsert(
        provider.id, "file-1", **{**CLAUDE, "filename": "c", "downloadable": None, "raw": None}
    )
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert second.updated_at > first.updated_at
    assert (second.filename, second.downloadable, second.raw_json) == ("c", None, {})
    third = claude.upsert(provider, "file-2", **CLAUDE)
    assert claude.list(provider_id=provider.id) == list(claude.iter()) == [second, third]
    assert claude.list(file_id=["file-2"]) == claude.list(after_id=second.id) == [third]
    assert claude.find(provider, "file-2") == claude.get(third.id) == third
    assert claude.find(provider, "file-3") is None
    assert claude.count() == 2
    assert claude.delete([]) == 0
    assert claude.delete(third.id) == claude.delete_all() == 1


BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"user": None}, "user"),
    ({"user": "1"}, "user"),
    ({"user": 10**9}, "user"),
    ({"user": UserKey(id=1)}, "user"),
    ({"user_key": 10**9}, "user_key"),
    ({"user_key": User(id=1)}, "user_key"),
    ({"provider": 10**9}, "provider"),
    ({"provider": Provider(name="new")}, "provider"),
    ({"credential": 10**9}, "credential"),
    ({"credential": Credential()}, "credential"),
    ({"credential": 1.0}, "credential"),
    ({"file_id": ""}, "file_id"),
    ({"file_id": "x" * 256}, "file_id"),
    ({"file_id": None}, "file_id"),
    ({"file_id": 1}, "file_id"),
]


def test_bad_input_is_refused(storage: Storage, parents: dict[str, Any]) -> None:
    for given, argument in BAD_INPUT:
        with pytest.raises(InvalidValue) as caught:
            storage.files.upsert(**{**parents, "file_id": "file-1", **given})
        assert caught.value.argument == argument
    assert storage.files.list() == []


BAD_CLAUDE_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"provider": 10**9}, "provider"),
    ({"file_id": " "}, "file_id"),
    ({"size_bytes": -1}, "size_bytes"),
    ({"size_bytes": 2**63}, "size_bytes"),
    ({"size_bytes": 1.5}, "size_bytes"),
    ({"filename": None}, "filename"),
    ({"mime_type": b"text"}, "mime_type"),
    ({"file_created_at": None}, "file_created_at"),
    ({"downloadable": 1}, "downloadable"),
    ({"raw": []}, "raw"),
    ({"raw": {"a": float("nan")}}, "raw"),
    ({"raw": '{"a": 1}'}, "raw"),
]


def test_bad_input_of_claude_files_is_refused(storage: Storage, parents: dict[str, Any]) -> None:
    for given, argument in BAD_CLAUDE_INPUT:
        with pytest.raises(InvalidValue) as caught:
            storage.claude_files.upsert(
                **{"provider": parents["provider"], "file_id": "file-1", **CLAUDE, **given}
            )
        assert caught.value.argument == argument
    assert storage.claude_files.list() == []


BAD_ARGUMENTS: list[tuple[Callable[[Any], object], type[Exception]]] = [
    (lambda storage: storage.files.list(file="a"), TypeError),
    (lambda storage: storage.files.list(active=1), InvalidValue),
    (lambda storage: storage.files.list(limit=-1), InvalidValue),
    (lambda storage: storage.files.mark_deleted("1"), InvalidValue),
    (lambda storage: storage.files.mark_deleted(), TypeError),
    (lambda storage: storage.files.delete(None), InvalidValue),
    (lambda storage: storage.claude_files.count(filename="a"), TypeError),
    (lambda storage: storage.claude_files.delete([True]), InvalidValue),
]


def test_bad_arguments_are_refused(storage: Storage) -> None:
    for call, error in BAD_ARGUMENTS:
        with pytest.raises(error):
            call(storage)
