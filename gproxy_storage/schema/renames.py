"""Renames of columns between releases: numbered, applied once, before anything is added."""

from __future__ import annotations

from typing import NamedTuple


class Rename(NamedTuple):
    """A column that has another name in older schemas.

    It applies if the table has the old name and lacks the new one. Once released, a rename is never
    changed; the next gets the next number.
    """

    number: int
    table: str
    old: str
    new: str


RENAMES = (
    Rename(1, "providers", "dispatch_json", "routing_json"),  # GPROXY v1 before its first ledger
)
