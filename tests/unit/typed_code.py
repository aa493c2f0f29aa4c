"""Code of a user of the package. Type checkers read it (test_types.py); nothing runs it.

A line that they must refuse says so by an ignore, and one that is not needed is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from gproxy_storage import ANY, Amount, Page, Sink, Storage, UpstreamRow, UsageRow, WriteBatch
from gproxy_storage.models import (
    GlobalSettings,
    UpstreamRequest,
    Usage,
    User,
    UserKey,
    UserModelPermission,
    UserQuota,
)
from gproxy_storage.repositories.summaries import UsageSummary

NOW = datetime.now(UTC)


def foreign_keys(key: UserKey, usage: Usage) -> None:
    key.user.nam  # type: ignore[attr-defined]  # noqa: B018
    usage.user.name  # type: ignore[union-attr]  # noqa: B018


def repositories(storage: Storage, batch: WriteBatch) -> None:
    assert_type(storage.users.get(1), User)
    assert_type(storage.users.find(name="a"), User | None)
    assert_type(storage.users.list(name=["a", "b"], enabled=True, limit=3), list[User])
    assert_type(storage.users.iter(id=1), Iterator[User])
    assert_type(storage.keys.count(label=None, user_id=ANY), int)
    assert_type(storage.access.models.list(provider_id=None), list[UserModelPermission])
    assert_type(storage.quotas.get(1), UserQuota)
    assert_type(storage.settings.get(), GlobalSettings)
    assert_type(storage.usages.list(since=NOW, limit=3), Page[Usage])
    assert_type(storage.upstream_requests.get(1, bodies=True), UpstreamRequest)
    assert_type(batch.users.create("a"), User)
    storage.users.get("1")  # type: ignore[arg-type]
    storage.users.list(nam="a")  # type: ignore[call-arg]
    storage.users.list(name=1)  # type: ignore[arg-type]
    storage.users.iter(limit=1)  # type: ignore[call-arg]
    storage.users.list(name=None)  # type: ignore[arg-type]
    storage.users.update(1, enabld=True)  # type: ignore[call-arg]
    storage.users.creat("a")  # type: ignore[attr-defined]
    storage.quotas.delete(1)  # type: ignore[attr-defined]
    storage.user.get(1)  # type: ignore[attr-defined]
    batch.users.count(nam="a")  # type: ignore[call-arg]


def columns(
    usage: Usage, user_quota: UserQuota, user: User, key: UserKey, request: UpstreamRequest
) -> None:
    assert_type(usage.cost, Decimal)
    assert_type(user_quota.quota, Decimal)
    assert_type(user_quota.cost_used, Decimal)
    assert_type(usage.trace_id, int)
    assert_type(usage.at, datetime)
    assert_type(usage.model, str | None)
    assert_type(usage.input_tokens, int | None)
    assert_type(user.name, str)
    assert_type(user.password, str | None)
    assert_type(user.enabled, bool)
    assert_type(key.api_key_ciphertext, str)
    assert_type(key.label, str | None)
    assert_type(request.request_headers_json, Any)
    assert_type(request.request_body, bytes | None)
    assert_type(request.internal, bool)


def queries(user: User) -> None:
    UserKey.select().join(User).where(UserKey.user == user, User.name.startswith("a"))
    Usage.select().where(Usage.cost > Decimal("0.5"), Usage.user.is_null(False))


def money(storage: Storage, user: User) -> None:
    assert_type(storage.quotas.remaining(user), Decimal | None)
    assert_type(storage.quotas.reconcile()[0].before, Decimal)
    assert_type(storage.usages.summarize().cost, Decimal)
    for amount in (Decimal("0.1"), 1, 0.1, "0.1"):
        storage.quotas.add_cost(user, amount)
        storage.quotas.set(user, quota=amount, cost_used=amount)
    storage.quotas.add_cost(user, b"0.1")  # type: ignore[arg-type]
    overview = storage.dashboard.overview(NOW, NOW)
    assert_type(overview.total.cost, Decimal)
    assert_type(storage.dashboard.top_models(NOW, NOW)[0].cost, Decimal)


def wrappers(storage: Storage, sink: Sink, user: User, amount: Amount) -> None:
    usage: UsageRow = {"user_id": user.id, "cost": amount}
    sink.submit_usage(**usage)
    storage.usages.record(**usage)
    usage["tokens"] = 3  # type: ignore[typeddict-unknown-key]
    request: UpstreamRow = {"request_url": "/"}  # type: ignore[typeddict-item]
    sink.submit_upstream_request(**request)


def groups(storage: Storage) -> None:
    for (user_id, month), total in storage.usages.summarize_by("user_id", "month"):
        assert_type(user_id, int | None)
        assert_type(month, datetime)
        assert_type(total, UsageSummary)
    (model,), _ = storage.usages.summarize_by("model", user_id=1)[0]
    assert_type(model, str | None)
    (operation,), _ = storage.usages.summarize_by("operation")[0]
    assert_type(operation, str)
    (day, key_id), _ = storage.usages.summarize_by("day", "user_key_id")[0]
    assert_type(day, datetime)
    assert_type(key_id, int | None)
    assert_type(storage.usages.summarize_by("day", "model", "user_id")[0].key, Any)
    storage.usages.summarize_by("week")  # type: ignore[call-overload]


def rows(storage: Storage) -> None:
    storage.usages.record(user_id=1, cost="0.01", input_tokens=3)
    storage.usages.record(userid=1)  # type: ignore[call-arg]
    storage.usages.record(cost=None)  # type: ignore[arg-type]
    storage.upstream_requests.record(request_method="GET", redact=False)
    storage.upstream_requests.record()  # type: ignore[call-arg]
    storage.downstream_requests.record(request_method="GET", request_path="/")
    with storage.sink() as sink:
        sink.submit_usage(user_id=1, model="m", cost=Decimal("0.01"), at=NOW)
        sink.submit_usage(tokens=1)  # type: ignore[call-arg]
        sink.submit_usage(user_id="1")  # type: ignore[arg-type]
        sink.submit_upstream_request(request_method="GET", response_headers={"a": "b"})
        sink.submit_upstream_request(request_method="GET", status=200)  # type: ignore[call-arg]
        sink.submit_downstream_request(trace_id=1, request_method="GET", request_path="/")
        sink.submit_downstream_request(request_method="GET", request_path="/")  # type: ignore[call-arg]
