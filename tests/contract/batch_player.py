"""Plays the same operations on a storage or on a batch of it, and shows what remains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeAlias

import peewee

from gproxy_storage import Storage
from gproxy_storage.batch import WriteBatch
from gproxy_storage.models import TABLES, DownstreamRequest, Provider, Table, User
from tests.contract.support import NOW, insert, wipe

Operation: TypeAlias = tuple[str, int, int, int]
"""A kind of operation, and numbers that pick what it is done to and with."""

NAMES = "abc"
PATTERNS = ("gpt-*", "gpt-4", "*")
COSTS = (0.0, 0.125, 0.5, 4.0)  # their sums are exact in any order
HASH = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43

OWN, SPACING, STEP = 299, 10**6, 10**3
"""The status of requests whose ids the caller gave; how far apart those of two players are, and
those of one: more than the ids that are generated in between."""

_players = count(1000)

_TIMES = {"created_at", "updated_at", "deleted_at"}


class Player:
    """Plays operations through `writer`: a storage, or a batch of it.

    Attributes:
        alive: kind -> name -> the row as its last write returned it.
    """

    def __init__(self, storage: Storage, writer: Storage | WriteBatch) -> None:
        self.storage = storage
        self.writer: Any = writer
        self.alive: dict[str, dict[Any, Any]] = {}
        self.dead: dict[str, list[Any]] = {}
        self._parents: dict[tuple[str, Any], list[tuple[str, Any]]] = {}
        self._count = 0
        self._own_ids = next(_players) * SPACING

    def play(self, operations: Sequence[Operation]) -> None:
        for kind, *numbers in operations:
            self._count += 1
            getattr(self, f"_{kind}")(*numbers)

    # -- parents ------------------------------------------------------------------------------

    def keep(self, kind: str, name: Any, row: Any, *parents: tuple[str, Any]) -> None:
        self.alive.setdefault(kind, {})[name] = row
        self._parents[kind, name] = list(parents)

    def _gone(self, kind: str, name: Any) -> None:
        row = self.alive.get(kind, {}).pop(name, None)
        if row is None:
            return
        self.dead.setdefault(kind, []).append(row)
        for place, parents in list(self._parents.items()):
            if (kind, name) in parents:
                self._gone(*place)

    def _one(self, kind: str, number: int) -> tuple[Any, Any] | None:
        """Pick a living row by a number; as a row, or as an id, or as a row by name."""
        alive = self.alive.get(kind, {})
        if not alive:
            return None
        name = sorted(alive, key=str)[number % len(alive)]
        row = alive[name]
        if number % 3 == 1:
            return name, row.id
        if number % 3 == 2 and kind in ("provider", "user"):
            return name, self._named(kind, name)
        return name, row

    def _named(self, kind: str, name: str) -> Any:
        if isinstance(self.writer, WriteBatch):
            return getattr(self.writer, kind)(name)
        found = {"provider": self.storage.providers, "user": self.storage.users}[kind]
        return found.find(name=name)  # type: ignore[attr-defined]  # both have it

    def _delete_one(self, kind: str, repository: Any, number: int) -> None:
        found = self._one(kind, number)
        if found is not None:
            row = self.alive[kind][found[0]]
            self._gone(kind, found[0])
            repository.delete([row.id])

    def _rename(self, kind: str, repository: Any, number: int, new: str) -> None:
        found = self._one(kind, number)
        if found is None:
            return
        old = found[0]
        repository.update(self.alive[kind][old].id, name=new)
        if new in self.alive[kind]:
            return  # itself, or a conflict
        self.alive[kind][new] = self.alive[kind].pop(old)
        self._parents[kind, new] = self._parents.pop((kind, old))
        for parents in self._parents.values():
            parents[:] = [(kind, new) if each == (kind, old) else each for each in parents]

    # -- operations ---------------------------------------------------------------------------

    def _provider_upsert(self, a: int, b: int, _: int) -> None:
        name = NAMES[a % 3]
        row = self.writer.providers.upsert(name, channel=f"channel {b}", settings={"b": b})
        self.keep("provider", name, row)

    def _provider_create(self, a: int, b: int, _: int) -> None:
        name = NAMES[a % 3]
        if name not in self.alive.get("provider", {}) or b == 7:
            self.keep("provider", name, self.writer.providers.create(name, channel="created"))

    def _provider_update(self, a: int, b: int, _: int) -> None:
        if (found := self._one("provider", a)) is not None:
            row = self.alive["provider"][found[0]]
            self.writer.providers.update(row.id, label=f"label {b}")

    def _provider_rename(self, a: int, b: int, _: int) -> None:
        if b > 4:
            self._rename("provider", self.writer.providers, a, NAMES[b % 3])

    def _provider_delete(self, a: int, *_: int) -> None:
        self._delete_one("provider", self.writer.providers, a)

    def _user_upsert(self, a: int, b: int, _: int) -> None:
        name = NAMES[a % 3]
        given = {"password": HASH} if b == 7 else {}
        self.keep("user", name, self.writer.users.upsert(name, is_admin=b > 3, **given))

    def _user_create(self, a: int, b: int, _: int) -> None:
        name = NAMES[a % 3]
        if name not in self.alive.get("user", {}) or b == 7:
            self.keep("user", name, self.writer.users.create(name))

    def _user_update(self, a: int, b: int, c: int) -> None:
        if (found := self._one("user", a)) is not None:
            row = self.alive["user"][found[0]]
            self.writer.users.update(
                row.id, enabled=b > 3, **({"password": HASH} if c == 7 else {})
            )

    def _user_rename(self, a: int, b: int, _: int) -> None:
        if b > 4:
            self._rename("user", self.writer.users, a, NAMES[b % 3])

    def _user_delete(self, a: int, *_: int) -> None:
        self._delete_one("user", self.writer.users, a)

    def _credential_create(self, a: int, *_: int) -> None:
        if (found := self._one("provider", a)) is not None:
            name = f"credential {self._count}"
            row = self.writer.credentials.create(found[1], kind="k", secret={"a": 1}, name=name)
            self.keep("credential", name, row, ("provider", found[0]))

    def _credential_update(self, a: int, b: int, _: int) -> None:
        if (found := self._one("credential", a)) is not None:
            row = self.alive["credential"][found[0]]
            self.writer.credentials.update(row.id, enabled=b > 3, secret={"b": b})

    def _credential_delete(self, a: int, *_: int) -> None:
        self._delete_one("credential", self.writer.credentials, a)

    def _status_upsert(self, a: int, b: int, c: int) -> None:
        if (found := self._one("credential", a)) is not None:
            channel = f"channel {b % 2}"
            row = self.writer.statuses.upsert(found[1], channel, health_kind=f"{c}", health=[c])
            self.keep("status", (found[0], channel), row, ("credential", found[0]))

    def _status_create(self, a: int, b: int, c: int) -> None:
        found, channel = self._one("credential", a), f"channel {b % 2}"
        if found is not None and c > 5:
            row = self.writer.statuses.create(found[1], channel, health_kind="created")
            self.keep("status", (found[0], channel), row, ("credential", found[0]))

    def _status_delete(self, a: int, *_: int) -> None:
        self._delete_one("status", self.writer.statuses, a)

    def _key_create(self, a: int, *_: int) -> None:
        if (found := self._one("user", a)) is not None:
            label = f"key {self._count}"
            row, _plain = self.writer.keys.create(found[1], label=label, api_key=label)
            self.keep("key", label, row, ("user", found[0]))

    def _key_revoke(self, a: int, *_: int) -> None:
        if (found := self._one("key", a)) is not None:
            self.writer.keys.revoke(self.alive["key"][found[0]].id)

    def _key_delete(self, a: int, *_: int) -> None:
        self._delete_one("key", self.writer.keys, a)

    def _model_upsert(self, a: int, b: int, c: int) -> None:
        if (found := self._one("provider", a)) is not None:
            model_id = f"model {b % 2}"
            row = self.writer.catalog.upsert(found[1], model_id, display_name=f"{c}")
            self.keep("model", (found[0], model_id), row, ("provider", found[0]))

    def _model_create(self, a: int, b: int, c: int) -> None:
        found, model_id = self._one("provider", a), f"model {b % 2}"
        if found is not None and c > 5:
            row = self.writer.catalog.create(found[1], model_id)
            self.keep("model", (found[0], model_id), row, ("provider", found[0]))

    def _model_disable(self, a: int, *_: int) -> None:
        if (found := self._one("model", a)) is not None:
            self.writer.catalog.disable(self.alive["model"][found[0]].id)

    def _model_delete(self, a: int, *_: int) -> None:
        self._delete_one("model", self.writer.catalog, a)

    def _permission(self, a: int, b: int, c: int) -> None:
        user, provider = self._one("user", a), self._one("provider", b) if b % 4 else None
        if user is not None:
            permissions = self.writer.access.models
            call = permissions.revoke if c > 4 else permissions.grant
            call(user[1], PATTERNS[c % 2], provider=provider and provider[1])

    def _file_permission(self, a: int, b: int, c: int) -> None:
        user, provider = self._one("user", a), self._one("provider", b)
        if user is not None and provider is not None:
            permissions = self.writer.access.files
            (permissions.revoke if c > 4 else permissions.grant)(user[1], provider[1])

    def _limit_upsert(self, a: int, b: int, c: int) -> None:
        if (user := self._one("user", a)) is not None:
            pattern = PATTERNS[b % 3]
            row = self.writer.access.limits.upsert(user[1], pattern, rpm=c)
            self.keep("limit", (user[0], pattern), row, ("user", user[0]))

    def _limit_update(self, a: int, b: int, _: int) -> None:
        if (found := self._one("limit", a)) is not None:
            self.writer.access.limits.update(self.alive["limit"][found[0]].id, rpd=b)

    def _limit_delete(self, a: int, *_: int) -> None:
        self._delete_one("limit", self.writer.access.limits, a)

    def _quota_set(self, a: int, b: int, c: int) -> None:
        if (user := self._one("user", a)) is not None:
            given = [{"quota": float(b)}, {"cost_used": float(b)}, {"quota": 1.0, "cost_used": 2.0}]
            self.writer.quotas.set(user[1], **given[c % 3])

    def _quota_add(self, a: int, b: int, _: int) -> None:
        if (user := self._one("user", a)) is not None:
            self.writer.quotas.add_cost(user[1], COSTS[b % 4])

    def _file_upsert(self, a: int, b: int, c: int) -> None:
        key, credential = self._one("key", a), self._one("credential", b)
        if key is None or credential is None:
            return
        user, provider = (
            self._parents["key", key[0]][0],
            self._parents["credential", credential[0]][0],
        )
        row = self.writer.files.upsert(
            user=self.alive["user"][user[1]],
            user_key=key[1],
            provider=self.alive["provider"][provider[1]],
            credential=credential[1],
            file_id=f"file {c % 2}",
        )
        parents = [user, provider, ("key", key[0]), ("credential", credential[0])]
        self.keep("file", (user[1], provider[1], f"file {c % 2}"), row, *parents)

    def _file_mark(self, a: int, *_: int) -> None:
        if (found := self._one("file", a)) is not None:
            self.writer.files.mark_deleted(self.alive["file"][found[0]].id)

    def _file_delete(self, a: int, *_: int) -> None:
        self._delete_one("file", self.writer.files, a)

    def _claude_upsert(self, a: int, b: int, c: int) -> None:
        if (found := self._one("provider", a)) is not None:
            self.writer.claude_files.upsert(
                found[1],
                f"file {b % 2}",
                file_created_at="then",
                filename=f"{c}",
                mime_type="text/plain",
                size_bytes=c,
            )

    def _settings(self, a: int, b: int, _: int) -> None:
        self.writer.settings.update(port=a, **({"proxy": "p"} if b > 3 else {}))

    def _usage(self, a: int, b: int, c: int) -> None:
        user, key, provider, credential = (
            self._id_or_dead(kind, number)
            for kind, number in (("user", a), ("key", b), ("provider", c), ("credential", a + b))
        )
        self.writer.usages.record(
            user_id=user,
            user_key_id=key,
            provider_id=provider,
            credential_id=credential,
            model=f"{self._count}",
            cost=COSTS[c % 4],
            at=NOW,
        )

    def _upstream(self, a: int, b: int, _: int) -> None:
        self.writer.upstream_requests.record(
            request_method="GET",
            request_url=f"{self._count}",
            provider_id=self._id_or_dead("provider", a),
            credential_id=self._id_or_dead("credential", b),
            at=NOW,
        )

    def _downstream(self, a: int, b: int, c: int) -> None:
        self.writer.downstream_requests.record(
            request_method="GET",
            request_path=f"{self._count}",
            user_id=self._id_or_dead("user", a),
            user_key_id=self._id_or_dead("key", b),
            response_status=OWN if c > 4 else None,
            trace_id=self._own_ids + STEP * self._count if c > 4 else None,
            at=NOW,
        )

    def _stale(self, a: int, b: int, c: int) -> None:
        """Use a row that is gone."""
        providers, users, writer = (
            self.dead.get("provider", []),
            self.dead.get("user", []),
            self.writer,
        )
        if providers and b == 7:
            writer.catalog.upsert(providers[a % len(providers)], "stale")
        if users and b == 6:
            user = users[a % len(users)]
            calls: list[Callable[[], object]] = [
                lambda: writer.access.models.grant(user, "*"),
                lambda: writer.access.limits.upsert(user, "*", rpm=1),
                lambda: writer.keys.create(user),
                lambda: writer.quotas.add_cost(user, 1),
                lambda: writer.users.update(user.id, enabled=False),
            ]
            calls[c % len(calls)]()

    def _id_or_dead(self, kind: str, number: int) -> int | None:
        gone = self.dead.get(kind, [])
        if number % 5 == 4 and gone:
            stale: int = gone[number % len(gone)].id
            return stale
        found = self._one(kind, number)
        return None if found is None else self.alive[kind][found[0]].id


_HELPERS = {"_gone", "_one", "_named", "_delete_one", "_rename", "_id_or_dead"}

KINDS = sorted(
    name[1:]
    for name in vars(Player)
    if name.startswith("_") and not name.startswith("__") and name not in _HELPERS
)
"""Every kind of operation."""


def seeded(storage: Storage, make_writer: Callable[[], Any]) -> Player:
    """Empty the database, store some rows made long ago, and return a player that knows them."""
    wipe(storage)
    old = {"created_at": NOW, "updated_at": NOW}
    player = Player(storage, make_writer())
    with storage.transaction():
        provider = insert(Provider, name="a", channel="c", **old)
        user = insert(User, name="a", **old)
        rows: dict[str, Any] = {"provider": provider, "user": user}
        models = {model._meta.table_name: model for model in TABLES}
        rows["credential"] = insert(
            models["credentials"],
            provider=provider,
            name="credential 0",
            secret_json={"a": 0},
            **old,
        )
        rows["key"] = insert(models["user_keys"], user=user, label="key 0", **old)
        rows["status"] = insert(
            models["credential_statuses"],
            credential=rows["credential"],
            channel="channel 0",
            updated_at=NOW,
        )
        rows["model"] = insert(models["models"], provider=provider, model_id="model 0", **old)
        rows["limit"] = insert(models["user_rate_limits"], user=user, model_pattern="*", **old)
        rows["file"] = insert(
            models["user_credential_files"],
            user=user,
            provider=provider,
            user_key=rows["key"],
            credential=rows["credential"],
            file_id="file 0",
            **old,
        )
        insert(models["user_model_permissions"], user=user, model_pattern="gpt-4", created_at=NOW)
        insert(models["user_file_permissions"], user=user, provider=provider, created_at=NOW)
        insert(models["user_quotas"], user=user, quota=8.0, cost_used=0.5, updated_at=NOW)
        insert(models["claude_files"], provider=provider, file_id="file 0", **old)
        insert(models["usages"], user=user, provider=provider, at=NOW, created_at=NOW)
    p, u, c, k = ("provider", "a"), ("user", "a"), ("credential", "credential 0"), ("key", "key 0")
    player.keep(*p, provider)
    player.keep(*u, user)
    player.keep(*c, rows["credential"], p)
    player.keep(*k, rows["key"], u)
    player.keep("status", ("credential 0", "channel 0"), rows["status"], c)
    player.keep("model", ("a", "model 0"), rows["model"], p)
    player.keep("limit", ("a", "*"), rows["limit"], u)
    player.keep("file", ("a", "a", "file 0"), rows["file"], u, p, k, c)
    return player


def dump(storage: Storage) -> list[str]:
    """Return all rows as text: without new ids, and of times only whether they are new."""
    with storage.session():
        rows = {model: list(model.select()) for model in TABLES}
    names = {
        (model, row.get_id()): getattr(row, "name", None) or getattr(row, "label", None)
        for model in rows
        for row in rows[model]
    }
    return sorted(
        f"{model._meta.table_name} {_row_shown(row, names)}"
        for model, found in rows.items()
        for row in found
    )


def _row_shown(row: Table, names: dict[Any, Any]) -> dict[str, Any]:
    return {field.name: _shown(row, field, names) for field in _fields(type(row))}


def _fields(model: type[Table]) -> list[Any]:
    left_out = ("dsn", "api_key_ciphertext", "api_key_digest")
    return [field for field in model._meta.sorted_fields if field.name not in left_out]


def _shown(row: Any, field: Any, names: dict[Any, Any]) -> Any:
    value = getattr(row, field.safe_name)
    if isinstance(field, peewee.ForeignKeyField):
        return None if value is None else names[field.rel_model, value]
    if field.primary_key:
        has_created = getattr(row, "created_at", None) or getattr(row, "updated_at", None)
        if isinstance(row, DownstreamRequest) and row.response_status == OWN:
            return value % SPACING - STEP * int(row.request_path)
        return "old" if has_created == NOW else "any"
    if field.name in _TIMES and value is not None:
        return "old" if value <= NOW else "new"
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return value
