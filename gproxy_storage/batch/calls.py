"""The recorded calls of a batch, and the ids of rows that are not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from ..errors import MissingReference
from ..models import Table
from ..money import add

_numbers = count(1)


class PendingId(int):
    """The id of a row that a batch has not written yet; no other int equals it.

    Negative and unique in a process, so that batches cannot confuse each other's rows.
    """

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """Return a new id."""
        return cls(-next(_numbers))

    # A stored row may have the same number: stored ids may be negative, too.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PendingId) and int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


class RealIds(dict[PendingId, int]):
    """Pending id -> real id of each row that has been written."""

    def __missing__(self, pending: PendingId) -> int:
        raise MissingReference(
            "an argument is a row that another batch has not written yet, or that was discarded"
        )

    def of(self, value: Any) -> Any:
        """Return the real id of a pending one; any other value as it is."""
        return self[value] if isinstance(value, PendingId) else value

    def within(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with real ids."""
        return {name: self.of(value) for name, value in values.items()}


# Values may be secrets: no repr shows them.


@dataclass(slots=True, eq=False)
class RowWrite:
    """A row to insert, or to update if there is one with its natural key.

    Attributes:
        values: of a new row, by field; references as ids.
        take: the fields to update in an existing row; None if there must be none.
        add: the fields of money to add to those of an existing row.
        pending_ids: the pending ids of the row.
        names: whether it only names a row, which must exist.
    """

    model: type[Table]
    values: dict[str, Any] = field(repr=False)
    take: set[str] | None = None
    add: set[str] = field(default_factory=set)
    pending_ids: list[PendingId] = field(default_factory=list)
    names: bool = False

    def resolved(self, ids: RealIds) -> RowWrite:
        """Return a copy with real ids."""
        take = None if self.take is None else {*self.take}
        values, pending_ids = ids.within(self.values), [*self.pending_ids]
        return RowWrite(self.model, values, take, {*self.add}, pending_ids, self.names)

    def merge(self, later: RowWrite) -> None:
        """Merge a later write of the same row into this one."""
        taken = later.take or set()
        self.values |= {name: later.values[name] for name in taken}
        self.values |= {name: add(self.values[name], later.values[name]) for name in later.add}
        if self.take is not None:
            self.take |= taken
            self.add = (self.add | later.add) - self.take
        self.pending_ids += later.pending_ids


@dataclass(slots=True, eq=False)
class Call:
    """A recorded call of a repository's method that writes.

    Attributes:
        model: the repository's table.
        make: makes the call on a repository, with real ids.
        row: the row that the caller got; its pending id becomes the real one.
        writes: the writes of the call, if they can be combined with those of other calls: first of
            its own row, then of the quota that its cost is added to.
        deletes: the ids that the call deletes; empty if it deletes rows by other values.
    """

    model: type[Table]
    make: Callable[[Any, RealIds], Any] = field(repr=False)
    row: Any = field(default=None, repr=False)
    writes: Sequence[RowWrite] = ()
    deletes: list[int] | None = None

    @property
    def pending_id(self) -> PendingId | None:
        """The id of `row` if it is a pending one, else None."""
        row_id = None if self.row is None else self.row.get_id()
        return row_id if isinstance(row_id, PendingId) else None


class Calls:
    """The calls of a batch, in order.

    Attributes:
        recorded: the calls; consecutive deletions from one table are merged into the first.
        count: number of calls recorded.
        with_savepoints: table -> repository for single calls; each write uses a savepoint.
        without_savepoints: likewise, but a failed write leaves the transaction unusable.
    """

    def __init__(self) -> None:
        self.with_savepoints: dict[type[Table], Any] = {}
        self.without_savepoints: dict[type[Table], Any] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the calls."""
        self.recorded: list[Call] = []
        self.count = 0
        self._latest: dict[tuple[type[Table], str, Any], Any] = {}

    def add(self, call: Call) -> None:
        """Record a call."""
        self.count += 1
        last = self.recorded[-1] if self.recorded else None
        if call.deletes and last is not None and last.deletes and last.model is call.model:
            last.deletes += call.deletes
            return
        self.recorded.append(call)
        if call.writes and not call.writes[0].names:
            self._latest[call.model, "id", call.row.get_id()] = call.row
            if call.model.natural_key == ("name",):
                self._latest[call.model, "name", call.row.name] = call.row

    def latest(self, model: type[Table], filters: Mapping[str, Any]) -> Any:
        """Return the row that was last written with this id or name, or None."""
        ((name, value), *others) = filters.items()
        return None if others else self._latest.get((model, name, value))


def primary_key(model: type[Table]) -> Any:
    """Return a table's primary key, which is one field."""
    return model._meta.primary_key
