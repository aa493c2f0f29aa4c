"""A few hundred operations, drawn once, give the same answers and the same rows everywhere.

Each is played on a SQLite database in memory first, and then on the backend. What may differ is
named: ids are numbered in the order in which they were seen, for a failed insert uses up an id on
the servers; times are not compared; no call breaks two rules at once, for which of them is named
differs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import peewee

from gproxy_storage import Storage, StorageError
from gproxy_storage.models import TABLES, Table
from tests.contract.support import NOW

OPERATIONS = 500
HASH = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
NAMES = ["a", "A", "é", "e\u0301", "😀", "b ", "b", "", "x" * 256, None]
DOCUMENTS: list[Any] = [{}, {"z": 1e22, "a": [0.1, 1, None, True]}, {"é": "'\\"}, [], 1, None]
WHERE = ["providers", "credentials", "statuses", "users", "keys", "catalog"]


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
        where = self._one_of(WHERE)
        return getattr(self.storage, where).create(*self._key(where), **self._values(where))

    def _upsert(self) -> Any:
        where = self._one_of(["providers", "statuses", "users", "catalog", "settings"])
        if where == "settings":
            port, proxy = self._one_of([80, 70_000]), self._one_of(NAMES)
            return self.storage.settings.update(port=port, proxy=proxy)
        return getattr(self.storage, where).upsert(*self._key(where), **self._values(where))

    def _update(self) -> Any:
        where = self._one_of(WHERE)
        values = self._values(where)
        if where == "keys":
            values.pop("api_key")
        changed = self.random.sample(sorted(values), self.random.randint(0, len(values)))
        row_id = self._id_of(getattr(self.storage, where).model)
        return getattr(self.storage, where).update(
            row_id, **{name: values[name] for name in changed}
        )

    def _read(self) -> Any:
        repository = getattr(self.storage, self._one_of(WHERE))
        after_id = self._one_of([None, self._id_of(repository.model)])
        listed = repository.list(after_id=after_id, limit=self._one_of([None, 0, 2]))
        assert listed == [] or repository.get(listed[-1].id) == listed[-1]
        return [*listed, repository.count(), len(list(repository.iter()))]

    def _delete(self) -> Any:
        repository = getattr(self.storage, self._one_of(WHERE))
        return repository.delete([self._id_of(repository.model) for _ in range(2)])

    # -- what is drawn ------------------------------------------------------------------------

    def _one_of(self, values: list[Any]) -> Any:
        return self.random.choice(values)

    def _id_of(self, model: type[Table]) -> int:
        """An id that was seen, perhaps of a row since deleted; now and then one that never was."""
        seen = self._seen[model._meta.table_name]
        drawn: int = self._one_of([*seen[-6:], 10**12])
        return drawn

    def _key(self, where: str) -> list[Any]:
        model = getattr(self.storage, where).model
        parents = [
            self._id_of(field.rel_model)
            for field in model._meta.sorted_fields
            if isinstance(field, peewee.ForeignKeyField)
        ]
        named = where in ("providers", "users", "statuses", "catalog")
        return [*parents, *([self._one_of(NAMES)] if named else [])]

    def _values(self, where: str) -> dict[str, Any]:
        text, document = self._one_of(["t", "", None]), self._one_of(DOCUMENTS)
        flag = self._one_of([True, True, False])
        return {
            "providers": {"channel": "c", "label": text, "settings": document or {}},
            "credentials": {"kind": "k", "secret": document, "name": text, "enabled": flag},
            "statuses": {"health_kind": "h", "health": document, "checked_at": NOW},
            "users": {"password": self._one_of([None, HASH]), "enabled": flag, "is_admin": flag},
            "keys": {"label": text, "enabled": flag, "api_key": f"key {len(self.said)}"},
            "catalog": {"display_name": text, "enabled": flag, "pricing": document},
        }[where]

    # -- what is written down -----------------------------------------------------------------

    def _rows(self, model: type[Table]) -> list[Any]:
        with self.storage.session():
            return list(model.select().order_by(model._meta.primary_key))

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
            return "dsn"
        return value


def test_the_same_everywhere(storage: Storage) -> None:
    dsn = storage.database.dsn
    storage.close()
    with Storage.connect("sqlite::memory:") as reference:
        expected = Player(reference).play()
    with Storage.connect(dsn, sync=False) as played:
        found = Player(played).play()

    assert found == expected
    text = "\n".join(expected)
    for outcome in ("ConflictError", "InvalidValue", "MissingReference", "NotFoundError"):
        assert f" {outcome} " in text  # else the scenario would show little
    assert len(expected) > OPERATIONS + 10
