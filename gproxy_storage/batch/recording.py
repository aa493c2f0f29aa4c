"""Repositories whose writes go into a batch: the same methods, signatures and checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import peewee

from ..backends.base import Backend
from ..models import Table, UserQuota
from ..repositories.arguments import require_id, require_ids
from ..repositories.base import KEEP, now
from ..repositories.base import BaseRepository as Repository
from .operations import (
    NATURAL_KEYS,
    AddCost,
    Change,
    Delete,
    MarkDeleted,
    Operation,
    PendingId,
    Put,
    Revoke,
    references,
)

M = TypeVar("M", bound=Table)
R = TypeVar("R", bound="Repository[Any]")
T = TypeVar("T")


class Recorder(Protocol):
    """What takes operations."""

    def add(self, operation: Operation) -> None:
        """Keep one."""

    def new_id(self) -> PendingId:
        """Return an id for a row that is not stored yet."""

    def pending_row(self, model: type[Table], filters: Mapping[str, Any]) -> Table | None:
        """Return the row that was put last and is told apart by these filters."""


class Recording(Repository[M]):
    """Stands before a repository's class, and records what that would write.

    Reading reads the database as it is, without what the batch holds.
    """

    _recorder: Recorder

    def _write(self, callback: Callable[[], T]) -> T:  # noqa: ARG002 - the signature of the base
        raise TypeError(
            "a batch cannot do this: call the storage's own repository, before or after the batch"
        )

    def _find(self, **filters: Any) -> M | None:
        # What a write must know of the row it changes may be in the batch.
        row: Any = self._recorder.pending_row(self.model, filters)
        return row if row is not None else super()._find(**filters)

    def _insert(self, **values: Any) -> M:
        return self._put(values, None)

    def _upsert(
        self,
        key: Sequence[peewee.Field[Any]],  # noqa: ARG002 - NATURAL_KEYS has them
        values: Mapping[str, Any],
        *,
        keep: Collection[str] = ("created_at",),
    ) -> M:
        fixed = {*NATURAL_KEYS[self.model], *keep}
        return self._put(values, {name for name in values if name not in fixed})

    def _insert_or_update(
        self,
        find: Callable[[], M | None],  # noqa: ARG002 - the batch finds it when it is written
        values: Mapping[str, Any],
        changes: Mapping[str, Any],
    ) -> M:
        return self._put(values, {*changes, "updated_at"})

    def _update(self, row_id: int, changes: Mapping[str, Any]) -> M:
        given = {name: value for name, value in changes.items() if value is not KEEP}
        for name in NATURAL_KEYS.get(self.model, ()):
            if name in given:
                raise TypeError(
                    f"a batch cannot change {name}, by which it knows the row: call the storage's "
                    "own repository"
                )
        self._check_all(given)
        row: M = self.model(id=require_id("id", row_id), **given)
        if given:
            if "updated_at" in self.model._meta.fields:
                given["updated_at"] = now()
            self._recorder.add(Change(self.model, row_id, given, row))
        return row

    def _delete(self, ids: int | Iterable[int]) -> int:
        wanted = require_ids("ids", ids)
        if wanted:
            self._recorder.add(Delete(self.model, tuple(wanted)))
        return len(wanted)

    def _revoke(self, **values: Any) -> bool:
        self._check_all(values)
        self._recorder.add(Revoke(self.model, self._by_field(values)))
        return True

    def _record(self, values: dict[str, Any], write: Callable[..., T]) -> Any:  # noqa: ARG002 - a log's
        return self._put(values, None)

    def _mark_deleted(self, wanted: Sequence[int]) -> int:
        self._recorder.add(MarkDeleted(tuple(wanted), now()))
        return len(wanted)

    def _add_cost(self, user_id: int, cost: Decimal) -> UserQuota:
        self._check_all({"cost_used": cost})
        self._recorder.add(AddCost(user_id, cost, now()))
        return UserQuota(user=user_id, cost_used=cost)

    def _put(self, values: Mapping[str, Any], changed: Collection[str] | None) -> M:
        self._check_all(values)
        key: Any = self.model._meta.primary_key
        row = self.model(**{key.name: self._recorder.new_id(), **values})
        stored = self._by_field(values)
        changes = None if changed is None else {name: stored[name] for name in changed}
        self._recorder.add(Put(self.model, row, stored, changes))
        return row

    def _by_field(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by field, of references the ids."""
        combined = self.model._meta.combined
        stored = {combined[name].name: value for name, value in values.items()}
        for reference in references(self.model):
            value = stored.get(reference.name)
            if isinstance(value, peewee.Model):
                stored[reference.name] = value.get_id()
        return stored

    def _check_all(self, values: Mapping[str, Any]) -> None:
        """Refuse here and now what the row's fields would refuse when it is written."""
        self._check(values)
        for name, value in values.items():
            field: Any = self.model._meta.combined[name]
            # A sealed field checks a value without sealing it.
            getattr(field, "checked", field.db_value)(value)


def recording(repository: type[R], database: Backend, recorder: Recorder) -> R:
    """Return a repository of that class whose writes `recorder` takes."""
    recording_class: Any = type(f"Recording{repository.__name__}", (Recording, repository), {})
    made: R = recording_class(database)
    made._recorder = recorder  # type: ignore[attr-defined]  # of Recording
    return made
