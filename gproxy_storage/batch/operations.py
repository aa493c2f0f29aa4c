"""What a batch keeps of the calls made on it, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

import peewee

from ..models import LOGS as LOGS  # noqa: PLC0414 - for those who import it from here
from ..models import TABLES, GlobalSettings, Table

NATURAL_KEYS: dict[type[Table], tuple[str, ...]] = {
    GlobalSettings: ("id",),
    **{model: model.natural_key for model in TABLES if model.natural_key},
}
"""The fields that tell a table's rows apart; of tables not named here, only the id does."""


class PendingId(int):
    """The id of a row that a batch has yet to write; no other int is taken for one."""

    __slots__ = ()

    # A stored row may have the same number: ids below 1 are ids, too.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PendingId) and int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def references(model: type[Table]) -> list[peewee.ForeignKeyField]:
    """Return a table's foreign keys."""
    fields = model._meta.sorted_fields
    return [each for each in fields if isinstance(each, peewee.ForeignKeyField)]


# Values may be secrets: no repr shows them.


@dataclass(slots=True)
class Put:
    """Insert a row, or give these changes to the one that has its natural key.

    Attributes:
        row: what the caller was given; it gets the id when that is known.
        values: of a new row, by field; references as ids.
        changes: of a row that exists; None where there must be none.
    """

    model: type[Table]
    row: Table = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    changes: Mapping[str, Any] | None = field(repr=False)


@dataclass(slots=True)
class Change:
    """Change columns of the row with an id, which must exist."""

    model: type[Table]
    row_id: int
    changes: Mapping[str, Any] = field(repr=False)
    row: Table = field(repr=False)


@dataclass(slots=True)
class Delete:
    """Delete the rows with these ids, and what hangs on them."""

    model: type[Table]
    ids: tuple[int, ...]


@dataclass(slots=True)
class Revoke:
    """Delete the row with a natural key."""

    model: type[Table]
    values: Mapping[str, Any]


@dataclass(slots=True)
class MarkDeleted:
    """Note that the active ones of these files are deleted."""

    ids: tuple[int, ...]
    at: datetime


@dataclass(slots=True)
class AddCost:
    """Add to what a user has cost."""

    user_id: int
    cost: Decimal
    at: datetime


@dataclass(slots=True)
class Named:
    """Refer to a row that exists, or is in the batch, by its name."""

    model: type[Table]
    row: Table = field(repr=False)
    name: str


Operation: TypeAlias = Put | Change | Delete | Revoke | MarkDeleted | AddCost | Named
