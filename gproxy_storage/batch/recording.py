"""Repositories that record their writes in a batch, with the same methods and checks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

import peewee

from ..backends.base import Backend
from ..models import ENCRYPTED_FIELDS, Table, Usage, UserQuota
from ..repositories.arguments import KEEP, require_id, require_ids, require_text
from ..repositories.base import BaseRepository, now
from .calls import Call, Calls, PendingId, RealIds, RowWrite, primary_key

M = TypeVar("M", bound=Table)
R = TypeVar("R", bound="BaseRepository[Any]")
T = TypeVar("T")

NOT_RECORDED = ("delete_all", "delete_before", "clear_bodies", "clear_all_bodies", "reconcile")
"""The verbs that a batch refuses: they change the rows that they find stored."""


class Recording(BaseRepository[M]):
    """A mixin before a repository's class that records what that would write.

    It overrides each method by which repositories write. Reads see the database, without the
    recorded calls.
    """

    _calls: Calls

    def _write(self, callback: Callable[[], T]) -> T:  # noqa: ARG002 - the signature of the base
        raise _refused(f"this verb of {self.model._meta.table_name}")

    def _find(self, **filters: Any) -> M | None:
        # The row that a write depends on may be in the batch.
        row: M | None = self._calls.latest(self.model, filters)
        return row if row is not None else super()._find(**filters)

    # -- calls that can be combined -----------------------------------------------------------

    def _insert(self, **values: Any) -> M:
        return self._put(
            RowWrite(self.model, values), lambda repository, values: repository._insert(**values)
        )

    def _upsert(
        self,
        key: Sequence[peewee.Field[Any]],
        values: Mapping[str, Any],
        *,
        keep: Collection[str],
    ) -> M:
        take = values.keys() - {field.name for field in key} - {*keep}
        return self._put(
            RowWrite(self.model, {**values}, take),
            lambda repository, values: repository._upsert(key, values, keep=keep),
        )

    def _insert_or_update(
        self,
        find: Callable[[], M | None],
        values: Mapping[str, Any],
        changes: Mapping[str, Any],
    ) -> M:
        def make(repository: Any, _: object) -> Any:
            return repository._insert_or_update(find, values, changes)

        if self.model in ENCRYPTED_FIELDS:
            return self._put(RowWrite(self.model, {**values}, {*changes, "updated_at"}), make)
        self._check_all(values)
        row = self.model(**values)  # of the settings, a single row
        self._call(make, row)
        return row

    def _record(self, values: dict[str, Any], write: Callable[..., T]) -> Any:
        costs = []
        if self.model is Usage and values["user_id"] is not None:
            costs.append(_cost(values["user_id"], values["cost"], values["created_at"]))
        return self._put(
            RowWrite(self.model, values),
            lambda repository, values: repository._record(values, write),
            *costs,
        )

    def _add_cost(self, user_id: int, cost: Decimal) -> M:
        return self._put(
            _cost(user_id, cost, now()),
            lambda repository, values: repository._add_cost(values["user"], cost),
        )

    def _put(
        self, write: RowWrite, make: Callable[[Any, dict[str, Any]], Any], *costs: RowWrite
    ) -> M:
        self._check_all(write.values)
        pending_id = PendingId.new()
        row = self.model(**{primary_key(self.model).name: pending_id, **write.values})
        values = _with_ids(write.values)
        fields = self.model._meta.combined
        write.values = {fields[name].name: value for name, value in values.items()}
        write.pending_ids.append(pending_id)
        self._call(
            lambda repository, ids: make(repository, ids.within(values)), row, [write, *costs]
        )
        return row

    # -- calls that are made one at a time ----------------------------------------------------

    def _update(self, row_id: int, changes: Mapping[str, Any]) -> M:
        given = {name: value for name, value in changes.items() if value is not KEEP}
        self._check_all(given)
        row: M = self.model(id=require_id("id", row_id), **given)
        if given:
            self._call(lambda repository, ids: repository._update(ids.of(row_id), given), row)
        return row

    def _mark_deleted(self, wanted: Sequence[int]) -> int:
        self._call(lambda repository, ids: repository._mark_deleted([*map(ids.of, wanted)]))
        return len(wanted)

    def _delete(self, ids: int | Iterable[int]) -> int:
        wanted = require_ids("ids", ids)
        count = len(wanted)  # before later deletions are merged into it
        if wanted:
            self._call(
                lambda repository, ids: repository._delete([*map(ids.of, wanted)]), deletes=wanted
            )
        return count

    def _revoke(self, **values: Any) -> bool:
        self._check_all(values)
        values = _with_ids(values)
        self._call(lambda repository, ids: repository._revoke(**ids.within(values)), deletes=[])
        return True

    def _call(
        self,
        make: Callable[[Any, RealIds], Any],
        row: M | None = None,
        writes: Sequence[RowWrite] = (),
        deletes: list[int] | None = None,
    ) -> None:
        self._calls.add(Call(self.model, make, row, writes, deletes))

    def _check_all(self, values: Mapping[str, Any]) -> None:
        """Refuse now what the row's fields would refuse when it is written."""
        self._check(values)
        for name, value in values.items():
            field: Any = self.model._meta.combined[name]
            # An encrypted field checks a value without sealing it.
            getattr(field, "checked", field.db_value)(value)


def recording(repository: type[R], database: Backend, calls: Calls) -> R:
    """Return a repository of that class that records its writes in `calls`."""
    refusing = {verb: _refusing(verb) for verb in NOT_RECORDED if hasattr(repository, verb)}
    kind = type(f"Recording{repository.__name__}", (Recording, repository), refusing)
    made: Any = kind(database)
    made._calls = calls
    without_savepoints: Any = repository(database)
    without_savepoints._write = operator.call
    calls.without_savepoints[repository.model] = without_savepoints
    calls.with_savepoints[repository.model] = repository(database)
    recorder: R = made
    return recorder


def named(repository: BaseRepository[M], name: str) -> M:
    """Return a row that refers to the one of that name, stored or written by an earlier call."""
    recorder: Any = repository
    row_id = PendingId.new()
    row = repository.model(id=row_id, name=require_text("name", name))
    write = RowWrite(repository.model, {"name": name}, set(), pending_ids=[row_id], names=True)
    recorder._call(lambda repository, _: repository._get(name=name), row, [write])
    return row


def _refusing(verb: str) -> Callable[..., NoReturn]:
    def refuse(self: BaseRepository[Any], *_: object, **__: object) -> NoReturn:
        raise _refused(f"{verb}() of {self.model._meta.table_name}")

    return refuse


def _refused(what: str) -> TypeError:
    return TypeError(
        f"a batch cannot record {what}: call it on the storage's own repository, before or after "
        "the batch"
    )


def _with_ids(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with ids in place of rows, which may change before the batch is written."""
    return {
        name: value.get_id() if isinstance(value, Table) else value
        for name, value in values.items()
    }


def _cost(user_id: int, cost: Decimal, at: datetime) -> RowWrite:
    """Return the write that adds a cost to a user's quota; the first cost creates the row."""
    values = {"user": user_id, "quota": Decimal(0), "cost_used": cost, "updated_at": at}
    return RowWrite(UserQuota, values, {"updated_at"}, {"cost_used"})
