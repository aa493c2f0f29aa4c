"""Writing many rows: what must be known of a table, the form of the values, the statements.

The form is one for all backends, so that a batch can wait in a file: int, float, bool, str, bytes,
None, and a time as text, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypeVar

from peewee import SQL

Row: TypeAlias = tuple[Any, ...]

T = TypeVar("T")


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of `size` items, as many as a statement takes; the last is rest."""
    return (items[start : start + size] for start in range(0, len(items), size))


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


class BulkWriting:
    """A backend's statements that write many rows at once."""

    param: str  # Peewee's placeholder, and what it tells of a statement, not public
    query_hooks: list[Callable[[Any], None]]
    execute_sql: Callable[..., Any]
    _log_query: Callable[[str, Any], None]
    _notify_hooks: Callable[[str, Any, float, Exception | None], None]

    def bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        """Insert rows by the driver's fastest way, in this thread's session and transaction.

        The driver's errors come as they are. When it raises, some of the rows may be inserted:
        wrap it in a transaction or a savepoint.
        """
        raise NotImplementedError

    def _bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        """Insert rows by the driver's fastest way."""
        raise NotImplementedError

    locks_parents: ClassVar[bool] = False
    """Whether inserting a row locks those that it refers to against whoever changes these."""

    def check_at_once(self) -> None:
        """Have this transaction's constraints checked by each statement, none first by COMMIT."""

    def add_costs(self, costs: Sequence[tuple[int, float]], at: Any) -> None:
        """Add costs to users' quotas, in one statement; who has no quota gets one of 0.

        Args:
            costs: users' ids and what each is to be charged, as doubles; what is used stays at
                `MAX_TOTAL` at most. The rows are locked in this order.
            at: the time now, as `time_to_db` returns it.
        """
        rows, parameters = self._cost_rows(costs, at)
        now = self._incoming("updated_at")
        self.execute_sql(
            f"INSERT INTO user_quotas (user_id, cost_used, quota, updated_at) {rows} "
            f"{self._on_duplicate('user_id')} "
            f"cost_used = {self._added_cost}, updated_at = {now}",
            parameters,
        )

    def _cost_rows(self, costs: Sequence[tuple[int, float]], at: Any) -> tuple[str, list[Any]]:
        """The rows of `add_costs`, and their parameters."""
        row = f"({self.param}, {self.param}, 0, {self.param})"
        parameters = [value for user, cost in costs for value in (user, cost, at)]
        return f"VALUES {', '.join([row] * len(costs))}", parameters

    @cached_property
    def _added_cost(self) -> str:
        """The SQL of what a quota's row has cost with the incoming row's cost."""
        backend: Any = self
        incoming = SQL(self._incoming("cost_used"))
        added = backend.money_added(SQL("user_quotas.cost_used"), incoming)
        return str(backend.get_sql_context().sql(added).query()[0])

    def _incoming(self, column: str) -> str:
        """The value that an upsert would have inserted."""
        return f"excluded.{column}"

    def _on_duplicate(self, key: str) -> str:
        """What stands between an upsert's rows and its changes."""
        return f"ON CONFLICT ({key}) DO UPDATE SET"

    @contextmanager
    def _noted(self, sql: str) -> Iterator[None]:
        """Tell Peewee's log and hooks of a statement that it does not execute itself."""
        self._log_query(sql, None)
        if not self.query_hooks:
            yield
            return
        started = time.perf_counter()
        try:
            yield
        except Exception as exc:
            self._notify_hooks(sql, None, started, exc)
            raise
        self._notify_hooks(sql, None, started, None)
