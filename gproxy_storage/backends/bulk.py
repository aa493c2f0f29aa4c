"""What a bulk insert must know of a table, and the form its values come in.

The form is one for all backends, so that a batch can wait in a file: int, float, bool, str, bytes,
None, and a time as text, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]


class Kind(enum.Enum):
    """What a column holds, as far as drivers need to be told."""

    NUMBER = "int or float"
    BOOL = "bool"
    TEXT = "str"
    TIME = "the text of a time"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class BulkTable:
    """A table's name and the columns that a bulk insert fills, in the order of the rows' values."""

    name: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    into: str = field(init=False, repr=False)
    """``table (column, ...)``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "into", f"{self.name} ({', '.join(self.columns)})")

    def of_kind(self, kind: Kind) -> list[int]:
        """Return the positions of the columns of a kind."""
        return [position for position, found in enumerate(self.kinds) if found is kind]
