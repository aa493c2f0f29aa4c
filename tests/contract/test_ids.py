"""Ids below 1: rows that have them are read, paged, changed and deleted like all others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue
from gproxy_storage.models import DownstreamRequest, Provider, UpstreamRequest, Usage, User
from tests.contract.support import CANARY, NOW

IDS = (-(2**63), -2, -1, 0)

REQUEST = {
    "internal": False,
    "request_method": "GET",
    "request_headers_json": {},
    "response_headers_json": {},
}


def provider(number: int) -> Provider:
    row = Provider(
        id=number,
        name=f"provider {number}",
        channel="x",
        settings_json={},
        routing_json={},
        created_at=NOW,
        updated_at=NOW,
    )
    row.save(force_insert=True)
    assert row.id == number
    return row


def test_repositories_take_ids_below_1(storage: Storage) -> None:
    with storage.transaction():
        for number in IDS:
            provider(number)
    providers = storage.providers
    assert [row.id for row in providers.iter()] == list(IDS)
    assert [row.id for row in providers.list(after_id=-2, limit=2)] == [-1, 0]
    assert [row.id for row in providers.list(id=[0, -1])] == [-1, 0]
    assert providers.count() == len(IDS)
    for number in IDS:
        assert providers.update(number, channel="y").id == number
        assert providers.get(number).channel == "y"
        credential = storage.credentials.create(number, kind="k", secret={"key": CANARY})
        assert storage.credentials.get(credential.id).provider_id == number
    assert providers.delete([0, -2]) == 2
    assert [row.id for row in providers.iter()] == [IDS[0], -1]


def test_batches_take_ids_below_1(storage: Storage) -> None:
    """A row that a batch has yet to write has a number of its own, which a stored row may have."""
    with storage.transaction():
        for number in IDS:
            provider(number)
            user = User(
                id=number,
                name=f"user {number}",
                enabled=True,
                is_admin=False,
                created_at=NOW,
                updated_at=NOW,
            )
            user.save(force_insert=True)
    stored = {
        number: storage.credentials.create(number, kind="k", secret={"key": CANARY}).id
        for number in IDS
    }
    with storage.session():
        for number, row_id in stored.items():
            storage.database.execute_sql(
                f"UPDATE credentials SET id = {number} WHERE id = {row_id}"
            )
    with storage.batch() as batch:
        for number in IDS:
            batch.catalog.upsert(number, "model")
            batch.quotas.set(number, quota=5.0)
            row = batch.credentials.create(number, kind="new", secret={"key": CANARY})
            batch.credentials.update(number, kind="changed")
            assert row.id != number
    assert [row.id for row in storage.credentials.list(kind="changed")] == list(IDS)
    assert {row.provider_id for row in storage.credentials.list(kind="new")} == set(IDS)
    assert {row.provider_id for row in storage.catalog.iter()} == set(IDS)
    assert storage.quotas.get(0).quota == 5.0


@pytest.mark.parametrize("model", [Usage, UpstreamRequest, DownstreamRequest])
def test_logs_page_over_ids_below_1(storage: Storage, model: Any) -> None:
    logs: Any = {
        Usage: storage.usages,
        UpstreamRequest: storage.upstream_requests,
        DownstreamRequest: storage.downstream_requests,
    }[model]
    given: Any = {
        Usage: {"operation": "generate", "protocol": "openai"},
        UpstreamRequest: REQUEST,
        DownstreamRequest: REQUEST | {"request_path": "/"},
    }[model]
    with storage.transaction():
        for number in IDS:
            at = NOW - timedelta(days=number == -1)
            row = model(trace_id=number, at=at, created_at=at, **given)
            row.save(force_insert=True)
            assert row.trace_id == number
    expected = [0, -2, IDS[0], -1]
    assert [row.trace_id for row in logs.iter()] == expected
    found, cursor = [], None
    while True:
        page = logs.list(limit=1, cursor=cursor)
        found += [row.trace_id for row in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == expected
    assert logs.delete_before(NOW) == 1
    assert logs.delete([0, IDS[0]]) == 2


def test_a_cursor_beyond_64_bits(storage: Storage) -> None:
    storage.usages.record()
    storage.usages.record()
    cursor = storage.usages.list(limit=1).next_cursor
    assert cursor is not None
    at, _, _ = cursor.partition("~")
    for number in (2**63, -(2**63) - 1):
        with pytest.raises(InvalidValue, match="next_cursor"):
            storage.usages.list(cursor=f"{at}~{number}")
