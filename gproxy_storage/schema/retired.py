"""Indexes that earlier releases declared and this one does not: sync drops nothing else."""

from __future__ import annotations

from typing import NamedTuple

from .snapshot import LiveIndex


class RetiredIndex(NamedTuple):
    """An index of an earlier release. Once released, an entry is never changed or removed.

    Attributes:
        why: the reason for dropping it, for people.
    """

    table: str
    name: str
    columns: tuple[str, ...]
    unique: bool
    why: str

    def is_(self, table: str, there: LiveIndex) -> bool:
        """Whether a live index is this one, by name and definition."""
        return (
            (table, there.name, there.unique) == (self.table, self.name, self.unique)
            and there.columns == tuple((name, False) for name in self.columns)
            and not there.partial
            and not there.prefix
        )


RETIRED = (
    RetiredIndex(
        "user_model_permissions",
        "uq_user_model_permissions_user_id_provider_key_model_pattern",
        ("user_id", "provider_key", "model_pattern"),
        unique=True,
        why="GPROXY does not start with a unique index that is not its own",
    ),
)
