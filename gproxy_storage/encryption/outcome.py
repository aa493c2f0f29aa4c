"""Outcome: what an operation on the keys did, or would do; Evidence: what it found wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..crypto.keyset import Mode
from ..errors import CryptoError

T = TypeVar("T")

KEPT = 100
"""How much of the evidence is kept; with a lost key every value of a large table may be bad."""


@dataclass
class Evidence(Generic[T]):
    """What was found wrong; true when there is something.

    Attributes:
        count: how many there are.
        first: the first `KEPT` of them.
    """

    count: int = 0
    first: list[T] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, *found: T) -> None:
        """Count what was found, and keep it while there is room."""
        self.count += len(found)
        self.first += found[: KEPT - len(self.first)]


@dataclass
class Outcome:
    """What an operation did, or would do.

    Attributes:
        mode: the database's mode after it.
        changed: whether anything was written, or would be.
        sealed: values that were written anew.
        unreadable: the errors of values that do not open; they were left as they are.
        keys_dropped: data keys that no value needs any more.
        keys_kept: ids of data keys that are not in force, and stay for what does not open.
        notes: what else to know.
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
