"""Bulk writes: the description of a table, the form of values, the statements.

Values have one form for all backends, so that a batch can wait in a file: int, float, bool, str,
bytes, None, and a time as text, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, TypeAlias, TypeVar

import peewee
from peewee import SQL

from .sessions import Sessions
from .values import Values

Row: TypeAlias = tuple[Any, ...]

T = TypeVar("T")

# Each row is compared with half of the others' keys.
_ROWS_AN_UPDATE = 250


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split a sequence into parts of `size` items, one per statement; the last may be smaller."""
    return (items[start : start + size] for start in range(0, len(items), size))


class Kind(enum.Enum):
    """A column's kind of values, as far as drivers need to know it."""

    NUMBER = "int or float"
    BOOL = "bool"
    TEXT = "str"
    TIME = "the text of a time"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class BulkTable:
    """A table's name and the columns of a bulk insert, in the order of the rows' values."""

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


class BulkWriting(Sessions, Values):
    """A backend's statements that write many rows at once."""

    # Peewee's own, in part not public: what reports statements.
    query_hooks: list[Callable[[Any], None]]
    _log_query: Callable[[str, Any], None]
    _notify_hooks: Callable[[str, Any, float, Exception | None], None]

    def bulk_transaction(self) -> AbstractContextManager[Any]:
        """Return an outermost transaction for bulk inserts."""
        transaction: AbstractContextManager[Any] = self.atomic()
        return transaction

    def bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        """Insert rows the driver's fastest way, in this thread's session and transaction.

        The driver's errors are not translated. After an error some of the rows may be inserted:
        wrap it in a transaction or a savepoint.
        """
        self._ensure_usable()
        self._call(self._bulk_insert, table, rows)

    def _bulk_insert(self, table: BulkTable, rows: Sequence[Row]) -> None:
        raise NotImplementedError

    _by_primary_key: ClassVar[str] = ""
    """Between an UPDATE's table and its SET: what makes it find rows by their primary key."""

    _json_cast: ClassVar[str] = ""
    """After an expression of text that is written into a JSON column."""

    _max_characters: int = 2**20
    """How much text one `update_many` sends at once, if it is that of more than one row."""

    def update_many(self, fields: Sequence[peewee.Field[Any]], rows: Sequence[Row]) -> None:
        """Update rows by their primary keys, in this thread's transaction.

        As many rows as sensible in one statement: within it, none may take a unique value over from
        another. Rows that do not exist are ignored. Errors are those of `execute_sql`.

        Args:
            fields: the primary key and the fields to set, which are of text or JSON.
            rows: the values of these fields, in this order.
        """
        part: list[Row] = []
        characters = 0
        for row in rows:
            values = tuple(
                [field.db_value(value) for field, value in zip(fields, row, strict=True)]
            )
            more = sum([len(value) for value in values if isinstance(value, str)])
            if part and (len(part) == _ROWS_AN_UPDATE or characters + more > self._max_characters):
                self._update(fields, part)
                part, characters = [], 0
            part.append(values)
            characters += more
        if part:
            self._update(fields, part)

    def _update(self, fields: Sequence[peewee.Field[Any]], rows: Sequence[Row]) -> None:
        # Each column by a CASE over the key: as fast as a join with the rows, which each database
        # spells in its own way.
        key, *changed = fields
        name, param = key.column_name, self.param
        case = f"(CASE {name}{f' WHEN {param} THEN {param}' * len(rows)} END)"
        changes = ", ".join(
            f"{field.column_name} = {case}{self._json_cast if field.field_type == 'JSON' else ''}"
            for field in changed
        )
        keys, *columns = zip(*rows, strict=True)
        pairs = [pair for column in columns for pair in zip(keys, column, strict=True)]
        self.execute_sql(
            f"UPDATE {key.model._meta.table_name}{self._by_primary_key} SET {changes} "  # noqa: S608 - our names
            f"WHERE {name} IN ({', '.join([param] * len(rows))})",
            [*chain.from_iterable(pairs), *keys],
        )

    locks_parents: ClassVar[bool] = False
    """Whether inserting a row locks the rows it refers to against changes."""

    def check_at_once(self) -> None:
        """Check this transaction's deferred constraints with each statement, not at COMMIT."""

    def add_costs(self, costs: Sequence[tuple[int, float]], at: Any) -> None:
        """Add costs to users' quotas in one statement; a user without one gets a quota of 0.

        Args:
            costs: users' ids and the cost to add to each, as doubles; a quota's `cost_used` stays
                at `MAX_TOTAL` at most. The rows are locked in this order.
            at: the current time, as `time_to_db` returns it.
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
        """Return the SQL of the rows for `add_costs`, and its parameters."""
        row = f"({self.param}, {self.param}, 0, {self.param})"
        parameters = [value for user, cost in costs for value in (user, cost, at)]
        return f"VALUES {', '.join([row] * len(costs))}", parameters

    @cached_property
    def _added_cost(self) -> str:
        """The SQL of a quota's cost with the incoming row's cost added."""
        incoming = SQL(self._incoming("cost_used"))
        added = self.money_added(SQL("user_quotas.cost_used"), incoming)
        return str(self.get_sql_context().sql(added).query()[0])

    def _incoming(self, column: str) -> str:
        """Return the SQL of the value that an upsert would have inserted."""
        return f"excluded.{column}"

    def _on_duplicate(self, key: str) -> str:
        """Return the clause between an upsert's rows and its assignments."""
        return f"ON CONFLICT ({key}) DO UPDATE SET"

    @contextmanager
    def _noted(self, sql: str) -> Iterator[None]:
        """Report to Peewee's log and hooks a statement that is not executed through Peewee."""
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
