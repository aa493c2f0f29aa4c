"""Pages of logs: rows newest first, and where the next page begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from ..backends.base import Backend
from ..errors import InvalidValue
from ..models import Table
from ..value_limits import INT64

M = TypeVar("M", bound=Table)

PAGE_ROWS = 100
"""The default number of rows of a page."""


class Page(list[M]):
    """The rows of one page.

    Attributes:
        next_cursor: the `cursor` of the next page; None on the last page. URL-safe text, which
            remains valid while rows are added and deleted.
    """

    def __init__(self, rows: Iterable[M] = (), next_cursor: str | None = None) -> None:
        super().__init__(rows)
        self.next_cursor = next_cursor


class Position(NamedTuple):
    """A position in a log's order: that of the last row of a page.

    Attributes:
        at: the row's time, as text that the backend converts back to exactly the stored value.
    """

    at: str
    trace_id: int

    def to_cursor(self) -> str:
        """Return the cursor of the page that begins after this row."""
        return f"{self.at}~{self.trace_id}"

    @classmethod
    def from_cursor(cls, cursor: object, database: Backend) -> Position:
        """Parse a cursor; refuse what is not the `next_cursor` of a page."""
        try:
            at, trace_id = str(cursor).split("~")
            position = cls(at, int(trace_id))
            database.time_from_key(at)
        except ValueError:
            position = None
        if position is None or position.to_cursor() != cursor or position.trace_id not in INT64:
            raise InvalidValue(
                "cursor must be the next_cursor of a page, unchanged", argument="cursor"
            ) from None
        return position
