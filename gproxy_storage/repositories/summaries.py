"""Sums over usages: in total, and grouped by user, key, provider, model, time and more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import peewee
from peewee import SQL, fn

from ..backends.base import Backend
from ..dsn.text import nearest
from ..errors import InvalidValue
from ..models import Usage
from ..money import from_nano

TOKENS = (
    Usage.input_tokens,
    Usage.output_tokens,
    Usage.cache_read_input_tokens,
    Usage.cache_creation_input_tokens,
    Usage.cache_creation_input_tokens_5min,
    Usage.cache_creation_input_tokens_1h,
)


def _sums(database: Backend) -> tuple[Any, ...]:
    tokens = (fn.SUM(column) for column in TOKENS)
    return fn.COUNT(SQL("*")), *tokens, database.money_sum(Usage.cost)


IdName: TypeAlias = Literal["user_id", "user_key_id", "provider_id", "credential_id"]
TextName: TypeAlias = Literal["model", "operation", "protocol"]
TimeName: TypeAlias = Literal["hour", "day", "month"]
GroupName: TypeAlias = IdName | TextName | TimeName

K = TypeVar("K", bound=tuple[Any, ...])

_COLUMNS = {
    "user_id": Usage.user,
    "user_key_id": Usage.user_key,
    "provider_id": Usage.provider,
    "credential_id": Usage.credential,
    "model": Usage.model,
    "operation": Usage.operation,
    "protocol": Usage.protocol,
}
_SECONDS = {"hour": 3600, "day": 86_400}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_S = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Sums over usages: exact, and the same on every backend."""

    count: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cache_creation_input_tokens_5min: int
    cache_creation_input_tokens_1h: int
    cost: Decimal


class UsageGroup(NamedTuple, Generic[K]):
    """The sums of a group of usages.

    Attributes:
        key: the group's value for each name in `by`, in that order; times are aware UTC.
    """

    key: K
    summary: UsageSummary


def summed(database: Backend, query: peewee.ModelSelect[Usage]) -> UsageSummary:
    """Return the sums over a query's rows."""
    return _summary(query.select(*_sums(database)).tuples()[0])


def grouped(
    database: Backend, query: peewee.ModelSelect[Usage], by: Sequence[str]
) -> list[UsageGroup[Any]]:
    """Return the sums over a query's rows for each combination of the columns in `by`."""
    names = [_Key.named(database, name) for name in by]
    if not names:
        raise InvalidValue("by must name what to group by, for example 'user_id'", argument="by")
    positions = [SQL(str(position)) for position in range(1, len(names) + 1)]
    rows: Any = query.select(*(name.expression for name in names), *_sums(database)).group_by(
        *positions
    )
    groups = [
        UsageGroup(
            tuple(name.read(value) for name, value in zip(names, row, strict=False)),
            _summary(row[len(names) :]),
        )
        for row in rows.tuples()
    ]
    # Here, not in SQL: servers differ in the order of NULL and of letters.
    return sorted(groups, key=lambda group: [(each is not None, each) for each in group.key])


class _Key(NamedTuple):
    """An expression to group by, and the function that reads its values."""

    expression: Any
    read: Callable[[Any], Any]

    @classmethod
    def named(cls, database: Backend, name: str) -> _Key:
        if name in _COLUMNS:
            return cls(_COLUMNS[name], lambda value: value)
        if name in _SECONDS:
            return cls(database.time_bucket(Usage.at, _SECONDS[name]), bucket_start)
        if name == "month":
            return cls(database.month_number(Usage.at), month_start)
        known = (*_COLUMNS, *_SECONDS, "month")
        raise InvalidValue(
            f"by has {name!r}, which is not known; {nearest(str(name), known)}known are "
            f"{', '.join(known)}",
            argument="by",
        )


def bucket_start(unix_s: int) -> datetime:
    """Return Unix seconds as an aware UTC time, or the earliest possible one."""
    return EPOCH + timedelta(seconds=max(unix_s, _EARLIEST_S))


def month_start(number: int) -> datetime:
    """Return the start of the month with this number."""
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


def ints(sums: Iterable[Any]) -> list[Any]:
    """Return sums as ints; SUM gives an int, a Decimal or None, by the backend and the rows."""
    return [int(number or 0) for number in sums]


def _summary(sums: Sequence[Any]) -> UsageSummary:
    *counts, cost = ints(sums)
    numbers = [*counts, from_nano(cost)]
    return UsageSummary(*numbers)
