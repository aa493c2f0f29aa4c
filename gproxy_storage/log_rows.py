"""Rows of the logs, checked for bulk writing: keyword arguments become a tuple of plain values.

The keywords are those of `row_types`; an omitted one gets the model's default.

The rules are those of the fields (`fields.py`). For speed, each table's check is one function,
generated once from its fields: for each column an inline test that accepts common valid values, and
a call of the field's `db_value` for all others. For a column it is

    if not (model is None or type(model) is str and model.isascii() and '\\0' not in model):
        model = check_model(model)

A value that is the column's default needs no test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, update_wrapper
from typing import Any, TypeAlias, TypeVar

import peewee

from .backends.bulk import BulkTable, Kind, Row
from .dsn.text import nearest
from .errors import InvalidValue
from .fields import BytesField, MoneyField, UtcDateTimeField, check_time, sound_test
from .generated import function
from .models import DownstreamRequest, Table, UpstreamRequest, Usage
from .row_times import stamp, time_text
from .value_limits import GIVEN_IDS

Method = TypeVar("Method", bound=Callable[..., None])

RowCheck: TypeAlias = Callable[..., Row]
"""Takes a log's row as keyword arguments; raises InvalidValue."""

Redactors: TypeAlias = Mapping[str, Callable[[Any], Any]]
"""Name of a column -> function that takes its value and returns it without secrets."""

_KINDS = {
    "BOOL": Kind.BOOL,
    "BLOB": Kind.BYTES,
    "DATETIME": Kind.TIME,
    "TEXT": Kind.TEXT,
    "VARCHAR": Kind.TEXT,
    "JSON": Kind.TEXT,
}


@dataclass(frozen=True)
class LogTable:
    """A table of logs.

    Attributes:
        model: its model.
        bulk: its description for bulk inserts; the last column is ``created_at``.
        parents: position of a column that refers to another table -> that table.
    """

    model: type[Table]
    bulk: BulkTable
    parents: dict[int, str]

    @classmethod
    def of(cls, model: type[Table], *, has_trace_id: bool) -> LogTable:
        """Describe a model's table; without its key if the database generates that.

        Raises:
            TypeError: when a column is declared below ``created_at``.
        """
        fields = [
            field for field in model._meta.sorted_fields if has_trace_id or not field.primary_key
        ]
        if (last := fields[-1].column_name) != "created_at":
            raise TypeError(
                f"{model.__name__}.{last} is below created_at, which must be a log's last column: "
                "move it above created_at in models.py"
            )
        bulk = BulkTable(
            model._meta.table_name,
            tuple(field.column_name for field in fields),
            tuple(_KINDS.get(field.field_type, Kind.NUMBER) for field in fields),
        )
        parents = {
            position: field.rel_model._meta.table_name
            for position, field in enumerate(fields)
            if isinstance(field, peewee.ForeignKeyField)
        }
        return cls(model, bulk, parents)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The columns that a caller gives: all but ``created_at``."""
        return self.bulk.columns[:-1]

    def values(self, row: Mapping[str, Any], stored_at: datetime) -> dict[str, Any]:
        """Return a row's values by column, with defaults, without a key that is not given.

        Raises:
            TypeError: when a keyword is unknown or missing, as for a function's signature.
            InvalidValue: when a number is negative that must not be.
        """
        values: dict[str, Any] = self._values(stored_at, **row)
        return values

    @cached_property
    def _values(self) -> Any:
        return _generate_values(self)

    def refusal(self, unknown: Mapping[str, Any]) -> InvalidValue:
        """Return a sink's error for unknown keywords."""
        name, hint = self._nearest(unknown)
        return InvalidValue(f"{self.bulk.name} have no {name}: {hint}", argument=name)

    def unexpected(self, unknown: Mapping[str, Any]) -> TypeError:
        """Return the error of `record` for unknown keywords."""
        name, hint = self._nearest(unknown)
        return TypeError(f"record() got an unexpected keyword argument {name!r}; {hint}")

    def _nearest(self, unknown: Mapping[str, Any]) -> tuple[str, str]:
        name = next(iter(unknown))
        known = [keyword(name) for name in self.arguments]
        return name, nearest(name, known).rstrip() or "correct its name, or leave it out"


_ABSENT: Any = object()


def keyword(column: str) -> str:
    """Return the keyword argument for a column."""
    return column.removesuffix("_json")


def _default(field: peewee.Field[Any]) -> Any:
    """Return a column's default, or the function that creates it; `_ABSENT` if it is required."""
    if field.default is None and not field.null and field.column_name != "at":
        return _ABSENT
    return float(field.default) if isinstance(field, MoneyField) else field.default


USAGES = LogTable.of(Usage, has_trace_id=False)
UPSTREAM_REQUESTS = LogTable.of(UpstreamRequest, has_trace_id=False)
DOWNSTREAM_REQUESTS = LogTable.of(DownstreamRequest, has_trace_id=True)

LOGS = (USAGES, UPSTREAM_REQUESTS, DOWNSTREAM_REQUESTS)
"""Every log, in the order in which a batch is written."""

GIVEN_KEYS = frozenset(
    log.bulk.name for log in LOGS if log.model._meta.columns[log.bulk.columns[0]].primary_key
)
"""The tables of the logs whose rows have explicit keys."""

_AT_LEAST_ZERO = (
    "initial_latency_ms",
    "total_latency_ms",
    *(name for name in USAGES.arguments if "_tokens" in name),
)


def row_check(log: LogTable, *, max_body_bytes: int, redactors: Redactors) -> RowCheck:
    """Generate the function that checks a log's rows; redactors are applied before the checks."""
    check: RowCheck = _generate(
        log, "*", "return {}", max_body_bytes=max_body_bytes, redactors=redactors
    )
    return check


def unrolled(log: LogTable, call: str) -> Callable[[Method], Method]:
    """Replace a method ``(self, **row)`` by one that checks the row, then makes a call with it.

    The new method has a parameter for each column: to collect a row in a dict and to pass that on
    would take longer than the checks. Only for logs without bodies and redacted columns.

    Args:
        call: Python that makes the call, with {} for the row.
    """

    def decorate(method: Method) -> Method:
        generated: Method = _generate(log, "self, *", call, max_body_bytes=0, redactors={})
        update_wrapper(generated, method)
        return generated

    return decorate


def _generate(
    log: LogTable, first: str, last: str, *, max_body_bytes: int, redactors: Redactors
) -> Any:
    """Generate a function that checks a row; `first` are its first parameters, `last` its end."""
    names: dict[str, Any] = {
        "UTC": UTC,
        "datetime": datetime,
        "stamp": stamp,
        "time_text": time_text,
        "refusal": log.refusal,
    }
    parameters, lines = _parameters(log, names)
    lines += [
        "created_at = stamp()",
        "if at is None: at = created_at",
        "elif type(at) is datetime and at.tzinfo is UTC: at = time_text(at)",
        "else: at = check_at(at)",
    ]
    for name in log.arguments:
        field = log.model._meta.columns[name]
        names[f"check_{name}"] = _full_check(field, max_body_bytes)
        needless = f"{name} is default_{name} or " if f"default_{name}" in names else ""
        if name in redactors:
            names[f"redact_{name}"] = redactors[name]
            lines.append(f"{name} = redact_{name}({name})")
        sound = _sound(field, max_body_bytes)
        if isinstance(field, MoneyField):
            # Most are rounded already: the double nearest to some integer / 1e9. round() is as
            # exact as a Decimal, and much faster.
            rounded = f"({name} * 1e9 + 0.5) // 1.0 / 1e9"
            lines.append(f"if not ({sound}): {name} = check_{name}({name})")
            lines.append(f"elif {rounded} != {name}: {name} = round({name}, 9)")
        elif sound is not None:
            lines.append(f"if not ({needless}{sound}): {name} = check_{name}({name})")
        elif name != "at":
            lines.append(f"{name} = check_{name}({name})")
    lines.append(last.format("(" + ", ".join(log.bulk.columns) + ")"))
    # Its name is in Python's error for a missing argument.
    called = f"submit_{log.bulk.name.removesuffix('s')}"
    return function(called, f"{first}, {parameters}", lines, names)


def _generate_values(log: LogTable) -> Any:
    """Generate the function that returns a row's values by column; see `LogTable.values`."""
    names: dict[str, Any] = {"refusal": log.unexpected, "absent": object(), "negative": _negative}
    key = next((name for name in log.arguments if log.model._meta.columns[name].primary_key), None)
    parameters, lines = _parameters(log, names, optional=key)
    lines.append("if at is None: at = created_at")
    lines += [
        f"if {name} is not None and not (type({name}) is int and {name} >= 0): "
        f"negative({name!r}, {name})"
        for name in log.arguments
        if name in _AT_LEAST_ZERO
    ]
    items = ", ".join(f"{name!r}: {name}" for name in log.bulk.columns if name != key)
    lines.append(f"values = {{{items}}}")
    if key:
        lines.append(f"if {key} is not absent: values[{key!r}] = {key}")
    lines.append("return values")
    return function("record", f"created_at, /, *, {parameters}", lines, names)


def _negative(name: str, value: Any) -> None:
    if isinstance(value, int | float) and value < 0:
        raise InvalidValue(f"{name} must be >= 0", argument=name)


def _parameters(
    log: LogTable, names: dict[str, Any], *, optional: str | None = None
) -> tuple[str, list[str]]:
    """Return keyword parameters for a row, and the lines that begin a function's body.

    Args:
        names: gets the defaults; has the error for unknown keywords as ``refusal``.
        optional: a column that is ``absent`` if it is not given, in place of required.
    """
    parameters, lines = [], ["if unknown: raise refusal(unknown)"]
    for name in log.arguments:
        default, given = _default(log.model._meta.columns[name]), keyword(name)
        if name == optional:
            parameters.append(f"{given}=absent")
        elif default is _ABSENT:
            parameters.append(given)
        elif callable(default):
            names[f"new_{name}"] = default
            parameters.append(f"{given}=None")
            lines.append(f"{name} = new_{name}() if {given} is None else {given}")
        elif default is None:
            parameters.append(f"{given}=None")
        else:
            names[f"default_{name}"] = default
            parameters.append(f"{given}=default_{name}")
    return ", ".join([*parameters, "**unknown"]), lines


def probe_row(log: LogTable) -> Row:
    """Return a minimal valid row: no references, no optional values."""
    at = stamp()
    values = {Kind.NUMBER: 0, Kind.BOOL: False, Kind.TEXT: "{}", Kind.TIME: at, Kind.BYTES: b""}
    fields = log.model._meta.columns
    return tuple(
        -random.getrandbits(62)  # unused, and below all generated ids
        if fields[name].primary_key
        else None
        if fields[name].null
        else values[kind]
        for name, kind in zip(log.bulk.columns, log.bulk.kinds, strict=True)
    )


def _sound(field: peewee.Field[Any], max_body_bytes: int) -> str | None:
    """Return the inline test for values that need no further check; None if all need one."""
    name = field.column_name
    if isinstance(field, MoneyField):
        # With floats, which compare with one another in half the time.
        return f"type({name}) is float and 0.0 <= {name} <= {float(field.most)}"
    test: str | None
    if isinstance(field, BytesField):
        test = f"type({name}) is bytes and len({name}) <= {max_body_bytes:d}"
    else:
        test = sound_test(field, name, _allowed(field) if hasattr(field, "allowed") else None)
    return f"{name} is None or {test}" if test and field.null else test


def _allowed(field: Any) -> range:
    """Return the ints that a row's column may have."""
    if field.primary_key:
        return GIVEN_IDS
    least = 0 if field.column_name in _AT_LEAST_ZERO else field.allowed.start
    return range(least, field.allowed.stop)


def _full_check(field: peewee.Field[Any], max_body_bytes: int) -> Callable[[Any], Any]:
    """Return the function that checks any value of a field."""
    name = field.column_name

    def refuse(why: str) -> InvalidValue:
        return InvalidValue(f"{name} {why}", argument=name)

    def check(value: Any) -> Any:
        if value is None:
            if field.null:
                return None
            raise refuse("must not be None")
        if isinstance(field, UtcDateTimeField):
            return time_text(check_time(field, value))
        if isinstance(field, MoneyField):
            return float(field.taken(value, least=0))
        stored = field.db_value(value)
        if isinstance(field, BytesField):
            if memoryview(value).nbytes > max_body_bytes:
                raise refuse(
                    f"has {memoryview(value).nbytes} bytes; max_body_bytes allows {max_body_bytes}"
                )
            return bytes(value)  # a copy: the caller may change its buffer
        if name in _AT_LEAST_ZERO and not stored >= 0:
            raise refuse("must be >= 0")
        if field.primary_key and stored not in GIVEN_IDS:
            raise refuse(f"must be between {GIVEN_IDS.start} and {GIVEN_IDS.stop - 1}")
        return stored

    return check
