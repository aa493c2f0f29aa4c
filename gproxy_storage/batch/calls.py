"""The calls that a batch holds until it is written, and ids for rows that are not stored yet."""

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
    """The id of a row that a batch has yet to write; no other int equals it.

    Negative, and given out once in a process: no batch takes it for a row of another.
    """

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """Return the next one."""
        return cls(-next(_numbers))

    # A stored row may have the same number: ids below 1 are ids, too.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PendingId) and int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


class RealIds(dict[PendingId, int]):
    """The ids of the rows that pending ids stand for, as far as these are written."""

    def __missing__(self, pending: PendingId) -> int:
        raise MissingReference(
            "an argument is a row that another batch has not written yet, or that was discarded"
        )

    def of(self, value: Any) -> Any:
        """Return the real id in place of a pending one; anything else as it is."""
        return self[value] if isinstance(value, PendingId) else value

    def within(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with real ids."""
        return {name: self.of(value) for name, value in values.items()}


# Values may be secrets: no repr shows them.


@dataclass(slots=True, eq=False)
class RowWrite:
    """A row to insert, or to update where one has its natural key.

    Attributes:
        values: of a new row, by field; references as ids.
        take: the fields that an existing row takes; None where there must be none.
        add: the fields of money that are added to those of an existing row.
        pending_ids: what stands for the row's id.
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
        """Make this what both come to, one after the other."""
        taken = later.take or set()
        self.values |= {name: later.values[name] for name in taken}
        self.values |= {name: add(self.values[name], later.values[name]) for name in later.add}
        if self.take is not None:
            self.take |= taken
            self.add = (self.add | later.add) - self.take
        self.pending_ids += later.pending_ids


@dataclass(slots=True, eq=False)
class Call:
    """A call of a repository's that writes.

    Attributes:
        model: the repository's table.
        make: makes the call through a repository, with real ids.
        row: what the caller was given; its pending id becomes the real one.
        writes: what the call comes to where that can be done together with what others come to:
            a write of its own row first, then what that adds to a quota.
        deletes: of a deletion the ids; empty where rows are deleted by other values.
    """

    model: type[Table]
    make: Callable[[Any, RealIds], Any] = field(repr=False)
    row: Any = field(default=None, repr=False)
    writes: Sequence[RowWrite] = ()
    deletes: list[int] | None = None

    @property
    def pending_id(self) -> PendingId | None:
        """The id of the row that the caller was given, while it is a pending one."""
        row_id = None if self.row is None else self.row.get_id()
        return row_id if isinstance(row_id, PendingId) else None


class Calls:
    """The calls of a batch, in their order.

    Attributes:
        recorded: the calls; of several deletions in a row from one table the first has all ids.
        count: how many calls were recorded.
        alone, joined: table -> the repository that its calls are made through. Each write of the
            first is a savepoint; one of the second is none, and its failure leaves the
            transaction unusable.
    """

    def __init__(self) -> None:
        self.alone: dict[type[Table], Any] = {}
        self.joined: dict[type[Table], Any] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the calls."""
        self.recorded: list[Call] = []
        self.count = 0
        self._latest: dict[tuple[type[Table], str, Any], Any] = {}

    def add(self, call: Call) -> None:
        """Keep a call."""
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
        """Return the row that was put last with this id or name; None without one."""
        ((name, value), *others) = filters.items()
        return None if others else self._latest.get((model, name, value))


def primary_key(model: type[Table]) -> Any:
    """Return a table's primary key, which is one field."""
    return model._meta.primary_key
