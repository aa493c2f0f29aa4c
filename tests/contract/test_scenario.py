"""A few hundred operations, drawn once, give the same answers and the same rows everywhere.

Each is played on a SQLite database in memory first, and then on the backend. What may differ is
named: ids are numbered in the order in which they were seen, for a failed insert uses up an id on
the servers; times are not compared; no call breaks two rules at once, for which of them is named
differs.
"""

from __future__ import annotations

import inspect
import json
import math
import random
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

import peewee

from gproxy_storage import Storage, StorageError
from gproxy_storage.database import run_query
from gproxy_storage.models import (
    TABLES,
    Provider,
    Table,
    Usage,
    User,
    UserCredentialFile,
    UserKey,
)
from gproxy_storage.repositories.registry import registered
from tests.contract.support import NOW

OPERATIONS = 600
HASH = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
NAMES = [*["a", "A", "é", "e\u0301", "😀", "b ", "b"] * 2, "", "x" * 256, None]
OBJECTS: list[Any] = [{}, {"z": 1e22, "a": [0.1, 1, None, True]}, {"é": "'\\"}]
PATTERNS = [*["gpt-4", "gpt-*", "*-mini", "*", "é"] * 2, "a*b", "", "x" * 256]

VERBS: dict[str, list[str]] = {
    verb: [
        path
        for path, kind in registered(Storage).items()
        if hasattr(kind, verb) and path != "settings"
    ]
    for verb in ("create", "upsert", "update")
}
"""The repositories that have a verb; a new one is played with without being named here."""

WHERE = sorted({*VERBS["create"], *VERBS["upsert"]})

NAMED: dict[str, list[Any]] = {
    **dict.fromkeys(("name", "model_id", "file_id"), NAMES),
    "model_pattern": PATTERNS,
    "password": [None, HASH],
}
"""What is drawn of an argument by its name, and of all others by their types."""

PARENTS: dict[str, type[Table]] = {f"{model.__name__} | int": model for model in TABLES}
OF_TYPES: dict[str, list[Any]] = {
    "str": [*["t", "é"] * 5, ""],
    "str | None": ["t", "", None],
    "bool": [True, True, False],
    "bool | None": [True, False, None],
    "int": [2**40],
    "int | None": [None, None, 0, 0, 7, 7, -1, 2**31],
    "datetime | None": [NOW],
    "Any": [*OBJECTS, [], 1, None],
    "Mapping[str, Any]": [*OBJECTS, *OBJECTS, [], None],
    "Mapping[str, Any] | None": [*OBJECTS, *OBJECTS, [], None],
    "Pricing | None": [*OBJECTS, [], None, 1],
}
"""A type without an entry is an error: say here what is drawn of it."""


class Player:
    """Plays drawn operations on a storage and writes down what came of each."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.random = random.Random(1)  # drawn once: the same on every run
        self.said: list[str] = []
        self._seen: dict[str, list[int]] = {model._meta.table_name: [] for model in TABLES}

    def play(self) -> list[str]:
        moves: list[Callable[[], Any]] = [
            *[self._create, self._upsert, self._update] * 4,
            *[self._read] * 3,
            self._delete,
            *[self._permit, self._limit, self._file, self._log, self._log, self._batch],
            *[self._ask, self._sum],
        ]
        for number in range(OPERATIONS):
            move = self.random.choice(moves)
            try:
                outcome = self._shown(move())
            except StorageError as exc:
                evidence = {
                    name: value for name, value in sorted(vars(exc).items()) if name != "key"
                }
                outcome = f"{type(exc).__name__} {evidence}"
            self.said.append(f"{number} {move.__name__} {outcome}")
        self.said += [
            f"{model._meta.table_name} {self._shown(row)}"
            for model in TABLES
            for row in self._rows(model)
        ]
        return self.said

    # -- moves --------------------------------------------------------------------------------

    def _create(self) -> Any:
        return self._call("create")

    def _upsert(self) -> Any:
        if self._one_of([True, *[False] * len(VERBS["upsert"])]):
            port, proxy = self._one_of([80, 70_000]), self._one_of(NAMES)
            return self.storage.settings.update(port=port, proxy=proxy)
        return self._call("upsert")

    def _update(self) -> Any:
        return self._call("update")

    def _read(self) -> Any:
        repository = self._repository(self._one_of(WHERE))
        after_id = self._one_of([None, self._id_of(repository.model)])
        listed = repository.list(after_id=after_id, limit=self._one_of([None, 0, 2]))
        assert listed == [] or repository.get(listed[-1].id) == listed[-1]
        return [*listed, repository.count(), len(list(repository.iter()))]

    def _delete(self) -> Any:
        repository = self._repository(self._one_of(WHERE))
        return repository.delete([self._id_of(repository.model) for _ in range(2)])

    def _permit(self) -> Any:
        access, user, provider = self.storage.access, self._id_of(User), self._id_of(Provider)
        if self._one_of([True, False]):
            call = self._one_of([access.files.grant, access.files.revoke])
            return call(user, provider)
        call = self._one_of([access.models.grant, access.models.grant, access.models.revoke])
        return call(user, self._one_of(PATTERNS), provider=self._one_of([None, provider]))

    def _limit(self) -> Any:
        quota = self._one_of([0, 2.5, 1e300, -1])
        return self.storage.quotas.set(self._id_of(User), quota=quota)

    def _file(self) -> Any:
        files = self.storage.files
        if self._one_of([True, False]):
            return files.mark_deleted([self._id_of(UserCredentialFile)])
        return [*files.list(active=True), files.count(), *self.storage.claude_files.iter()]

    def _log(self) -> Any:
        user, key, provider = self._id_of(User), self._id_of(UserKey), self._id_of(Provider)
        cost, body = self._one_of([0, 0.25, -1, math.nan]), self._one_of([None, b"", b"\xff\0"])
        tokens, url = self._one_of([None, 2**40]), "https://a/?key=secret"
        match self._one_of(["usage", "usage", "upstream", "downstream", "delete"]):
            case "usage":
                return self.storage.usages.record(
                    user_id=user, user_key_id=key, provider_id=provider, cost=cost, at=NOW,
                    model=self._one_of(["gpt", "é", None]), input_tokens=tokens,
                )  # fmt: skip
            case "upstream":
                return self.storage.upstream_requests.record(
                    request_method="POST", request_url=url, provider_id=provider,
                    request_headers={"Authorization": "Bearer secret"}, response_body=body,
                    response_status=self._one_of([200, 404, 2**31]), total_latency_ms=3, at=NOW,
                )  # fmt: skip
            case "downstream":
                return self.storage.downstream_requests.record(
                    request_method="GET", request_path="/%_", request_body=body, user_id=user,
                    user_key_id=key, at=NOW,
                )  # fmt: skip
        return self.storage.usages.delete([self._id_of(Usage), self._id_of(Usage)])

    def _batch(self) -> Any:
        provider, user = self._id_of(Provider), self._id_of(User)
        with self.storage.batch() as batch:
            new = batch.providers.upsert(self._one_of(["p", "q"]), channel="batched")
            batch.catalog.upsert(new, "m", pricing={"a": 0.1})
            batch.catalog.upsert(new, "m", enabled=False)
            batch.access.models.grant(user, "*", provider=self._one_of([new, None]))
            batch.users.upsert(self._one_of(["a", "u"]), password=HASH)
            batch.usages.record(provider_id=new.id, user_id=user, cost=0.5, at=NOW)
            batch.providers.delete([provider])
            return batch.write()

    def _ask(self) -> Any:
        user, provider = self._id_of(User), self._id_of(Provider)
        model = self._one_of(["gpt-4", "gpt-4-mini", "GPT-4", "é", "*"])
        access = self.storage.access
        return [
            access.allows(user, provider, model),
            access.allows_files(user, provider),
            access.rate_limit_for(user, model),
            self.storage.quotas.remaining(user),
        ]

    def _sum(self) -> Any:
        usages, hour = self.storage.usages, timedelta(hours=1)
        since, until = NOW - hour, NOW + hour
        return [
            *usages.list(limit=3),
            *usages.list(provider_id=None, model=["gpt", None], since=since),
            usages.summarize(until=NOW),
            usages.summarize_by("model", "day"),
            self.storage.dashboard.overview(since, until),
            self.storage.upstream_requests.count(url_contains="a/"),
        ]

    # -- what is drawn ------------------------------------------------------------------------

    def _one_of(self, values: list[Any]) -> Any:
        return self.random.choice(values)

    def _id_of(self, model: type[Table]) -> int:
        """An id that was seen, perhaps of a row since deleted; now and then one that never was."""
        seen = self._seen[model._meta.table_name]
        drawn: int = self._one_of([*seen[-5:] * 2, 10**12])
        return drawn

    def _repository(self, path: str) -> Any:
        return attrgetter(path)(self.storage)

    def _call(self, verb: str) -> Any:
        """Call a verb of some repository with arguments that are drawn by their types."""
        repository = self._repository(self._one_of(VERBS[verb]))
        method = getattr(repository, verb)
        first, *rest = inspect.signature(method).parameters.values()
        always = [each for each in rest if each.default is each.empty or each.name == "api_key"]
        given = [first, *always]
        given += self._some([each for each in rest if each not in given])
        arguments = {each.name: self._argument(each) for each in given}
        if verb == "update":
            arguments[first.name] = self._id_of(repository.model)
        return method(**arguments)

    def _some(self, values: list[Any]) -> list[Any]:
        return self.random.sample(values, self.random.randint(0, len(values)))

    def _argument(self, parameter: inspect.Parameter) -> Any:
        if parameter.name in NAMED:
            return self._one_of(NAMED[parameter.name])
        if parameter.name == "api_key":
            return f"key {len(self.said)}"
        of = re.sub(r"Change\[(.*)\]", r"\1", parameter.annotation)
        if (model := PARENTS.get(of)) is not None:
            return self._id_of(model)
        return self._one_of(OF_TYPES[of])

    # -- what is written down -----------------------------------------------------------------

    def _rows(self, model: type[Table]) -> list[Any]:
        # As repositories read: anew where a time-out of the server ended the idle connection.
        query = model.select().order_by(model._meta.primary_key)
        return run_query(self.storage.database, lambda: list(query))

    def _shown(self, value: Any) -> str:
        if isinstance(value, tuple | list):
            return ", ".join(map(self._shown, value))
        if not isinstance(value, Table):
            return repr(value)
        numbers: Mapping[str, Any] = {
            field.name: self._number(field, getattr(value, field.safe_name))
            for field in type(value)._meta.sorted_fields
        }
        return repr(dict(numbers))

    def _number(self, field: peewee.Field[Any], value: Any) -> Any:
        target = field.rel_model if isinstance(field, peewee.ForeignKeyField) else field.model
        if value is not None and (target is not field.model or field.primary_key):
            seen = self._seen[target._meta.table_name]
            if value not in seen:
                seen.append(value)
            return f"#{seen.index(value)}"
        if field.field_type == "JSON":
            return json.dumps(value, sort_keys=True)  # MySQL sorts keys its own way
        if isinstance(value, datetime) and value != NOW:
            return "now"
        if field.name == "dsn":
            return field.name
        return value


@cache
def played_in_memory() -> list[str]:
    """The result of the scenario on a SQLite database in memory."""
    with Storage.connect("sqlite::memory:") as reference:
        return Player(reference).play()


def test_the_scenario_gives_the_results_of_sqlite_in_memory(storage: Storage) -> None:
    dsn = storage.database.dsn
    storage.close()
    expected = played_in_memory()
    with Storage.connect(dsn, sync=False) as played:
        found = Player(played).play()

    assert found == expected
    text = "\n".join(expected)
    for outcome in ("ConflictError", "InvalidValue", "MissingReference", "NotFoundError"):
        assert f" {outcome} " in text  # else the scenario would show little
    assert len(expected) > OPERATIONS + 10
