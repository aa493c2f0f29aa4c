"""Outcome: what an operation on the keys did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..crypto.keyset import Mode
from ..errors import CryptoError


@dataclass
class Outcome:
    """What an operation did, or would do.

    Attributes:
        mode: the database's mode after it.
        changed: whether anything was written, or would be.
        sealed: values that were written anew.
        unreadable: an error for each value that does not open; they were left as they are.
        keys_dropped: data keys that no value uses any more.
        notes: what else to know.
    """

    mode: Mode
    changed: bool = False
    sealed: int = 0
    unreadable: list[CryptoError] = field(default_factory=list)
    keys_dropped: int = 0
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-able values."""
        return {
            "mode": self.mode.value,
            "changed": self.changed,
            "sealed": self.sealed,
            "unreadable": [str(error) for error in self.unreadable],
            "keys_dropped": self.keys_dropped,
            "notes": self.notes,
        }
