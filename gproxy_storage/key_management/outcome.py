"""Outcome: the result of an operation on the keys, or of its dry run; Evidence: its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..crypto.keyset import Mode
from ..errors import CryptoError

T = TypeVar("T")

KEPT = 100
"""How many findings are kept; with a lost key every value of a large table may be one."""


@dataclass
class Evidence(Generic[T]):
    """Findings of one kind; true when there are any.

    Attributes:
        count: how many there are.
        first: the first `KEPT` of them.
    """

    count: int = 0
    first: list[T] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, *found: T) -> None:
        """Count findings, and keep them up to `KEPT`."""
        self.count += len(found)
        self.first += found[: KEPT - len(self.first)]


@dataclass
class Outcome:
    """The result of an operation on the keys, or of its dry run.

    Attributes:
        mode: the database's mode afterwards.
        changed: whether anything was written, or would be.
        sealed: number of values that were rewritten.
        unreadable: the errors of values that do not open; they were left as they are.
        keys_dropped: number of data keys that no value needed any more.
        keys_kept: ids of inactive data keys that are kept for values that do not open.
        notes: further remarks for people.
    """

    mode: Mode
    changed: bool = False
    sealed: int = 0
    unreadable: Evidence[CryptoError] = field(default_factory=Evidence)
    keys_dropped: int = 0
    keys_kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-able values."""
        return {
            "mode": self.mode.value,
            "changed": self.changed,
            "sealed": self.sealed,
            "unreadable": self.unreadable.count,
            "errors": [str(error) for error in self.unreadable.first],
            "rows": [
                {"table": error.table, "column": error.column, "id": error.pk}
                for error in self.unreadable.first
            ],
            "keys_dropped": self.keys_dropped,
            "keys_kept": self.keys_kept,
            "notes": self.notes,
        }
