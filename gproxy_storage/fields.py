"""The fields of our models: strict about what they take, equal on every backend.

Each refuses, before anything is written, what one of the four databases would refuse, change or
cut: naive times, NaN, integers beyond the column, NUL characters, text beyond the column's length.

Some fields also say in a Python expression, `sound`, which values `db_value` surely returns as
they are: `rows.py` unrolls these tests for the rows that a proxy writes by the thousand.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import peewee

from .backends.base import Backend
from .errors import InvalidValue, ReadError
from .money import MAX_TOTAL, from_double, take
from .storable import INT64, text_problem

_INT32 = range(-(2**31), 2**31)

_SOUND_INT = "type({0}) is int and {1.start} <= {0} < {1.stop}"
_SOUND_TEXT = r"type({0}) is str and {0}.isascii() and '\0' not in {0}"

MAX_JSON_DEPTH = 31
"""How many objects and arrays may lie in one another: MariaDB takes 31, MySQL 100."""

MAX_JSON_KEY_BYTES = 65_535
"""How long a key of an object may be, in UTF-8: MySQL's limit."""


def _refuse(field: peewee.Field[Any], why: str) -> InvalidValue:
    name = getattr(field, "column_name", None) or "value"
    return InvalidValue(f"{name} {why}", argument=name)


def check_text(field: peewee.Field[Any], value: Any, max_length: int | None = None) -> str:
    """Return the text when every backend can store it as it is."""
    if not isinstance(value, str):
        raise _refuse(field, f"must be a str, not {type(value).__name__}")
    problem = text_problem(value)
    if problem:
        raise _refuse(field, problem)
    if max_length is not None and len(value) > max_length:
        raise _refuse(field, f"has {len(value)} characters; its column takes {max_length}")
    return value if type(value) is str else str.__str__(value)  # not as an enum's member


def check_time(field: peewee.Field[Any], value: Any) -> datetime:
    """Return an aware time as UTC."""
    if not isinstance(value, datetime):
        raise _refuse(field, f"must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise _refuse(
            field, "has no time zone: pass an aware datetime, for example datetime.now(UTC)"
        )
    try:
        at = value.astimezone(UTC)
    except OverflowError:
        raise _refuse(field, "is not within the years 1 to 9999 of UTC") from None
    if type(at) is datetime:
        return at
    # Of another library: drivers look at the type, and at what it calls itself.
    return datetime.combine(at.date(), at.time(), UTC)


class DialectWord(peewee.Node):
    """A word of DDL that each backend spells its own way, or leaves out.

    Looked up in the backend's `field_types`, where its other words of DDL are.
    """

    def __init__(self, word: str) -> None:
        self.word = word

    def __sql__(self, ctx: peewee.Context) -> peewee.Context:
        return ctx.literal(ctx.state.field_types.get(self.word, ""))


class BigAutoField(peewee.BigAutoField):
    """A 64-bit key that is never given out twice, not even by SQLite after a deletion."""

    sound = _SOUND_INT.format("{0}", INT64)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(constraints=[DialectWord("AUTOINCREMENT")], **kwargs)

    def db_value(self, value: Any) -> int | None:
        return None if value is None else _check_int(self, value, INT64)


class IntegerField(peewee.IntegerField):
    """A 32-bit integer."""

    sound = _SOUND_INT.format("{0}", _INT32)

    def db_value(self, value: Any) -> int | None:
        return None if value is None else _check_int(self, value, _INT32)


class BigIntegerField(peewee.BigIntegerField):
    """A 64-bit integer."""

    sound = _SOUND_INT.format("{0}", INT64)

    def db_value(self, value: Any) -> int | None:
        return None if value is None else _check_int(self, value, INT64)


class ForeignKeyField(peewee.ForeignKeyField):
    """A reference to a row by its 64-bit key."""

    sound = _SOUND_INT.format("{0}", INT64)

    def db_value(self, value: Any) -> int | None:
        if isinstance(value, self.rel_model):
            value = value.get_id()
        # Here, not in the target's field, so that an error names this column.
        return None if value is None else _check_int(self, value, INT64)


def _check_int(field: peewee.Field[Any], value: Any, allowed: range) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse(field, f"must be an int, not {type(value).__name__}")
    number = int(value)  # an enum's member is none to a driver, and a range walks to find it
    if number not in allowed:
        raise _refuse(field, f"must be between {allowed.start} and {allowed.stop - 1}")
    return number


class MoneyField(peewee.DoubleField):
    """Money: taken as `money.Amount`, read as a Decimal, stored in the double that GPROXY has.

    Args:
        most: the bound on both sides of 0.
    """

    def __init__(self, *, most: int = MAX_TOTAL, **kwargs: Any) -> None:
        self.most = most
        super().__init__(**kwargs)

    def taken(self, value: Any, *, least: int | None = None) -> Decimal:
        """Return an amount as money.

        Args:
            least: where the least is not minus the most.
        Raises:
            InvalidValue: when it is none, or outside of the bounds.
        """
        name = getattr(self, "column_name", None) or "value"
        return take(name, value, least=-self.most if least is None else least, most=self.most)

    def db_value(self, value: Any) -> float | None:
        return None if value is None else float(self.taken(value))

    def python_value(self, value: Any) -> Decimal | None:
        if value is None:
            return None
        with suppress(TypeError, ValueError):
            return from_double(float(value))
        raise _unreadable(self, "a number")


class BooleanField(peewee.BooleanField):
    """True or False; the strings "false" and "0" are neither."""

    sound = "type({0}) is bool"

    def db_value(self, value: Any) -> bool | None:
        if value is None or isinstance(value, bool):
            return value
        raise _refuse(self, f"must be a bool, not {type(value).__name__}")


class CharField(peewee.CharField):
    """Text of bounded length, in characters; what is indexed is bounded on every backend."""

    def db_value(self, value: Any) -> str | None:
        return None if value is None else check_text(self, value, self.max_length)


class TextField(peewee.TextField):
    """Text of any length."""

    sound = _SOUND_TEXT

    def db_value(self, value: Any) -> str | None:
        return None if value is None else check_text(self, value)


class BytesField(peewee.BlobField):
    """Bytes; read back as bytes from every driver."""

    def db_value(self, value: Any) -> Any:
        if value is not None and not isinstance(value, bytes | bytearray | memoryview):
            raise _refuse(self, f"must be bytes, not {type(value).__name__}")
        if value is not None and type(value) is not bytes:
            value = b"".join((value,))
        return super().db_value(value)

    def python_value(self, value: Any) -> bytes | None:
        return None if value is None else bytes(value)


class _BodyAccessor(peewee.FieldAccessor):
    """Raises for a body that was not read, where None would mean that there is none."""

    def __get__(self, instance: Any, instance_type: Any = None) -> Any:
        if instance is not None and self.name not in instance.__data__:
            raise ReadError(
                f"{self.name} was not read with its row: get or list it with bodies=True"
            )
        return super().__get__(instance, instance_type)


class BodyField(BytesField):
    """Bytes that may be large, and are read only when asked for."""

    accessor_class = _BodyAccessor


class UtcDateTimeField(peewee.FieldDatabaseHook, peewee.Field):
    """An aware UTC time with microseconds."""

    field_type = "DATETIME"
    _database: Backend | None = None

    def _db_hook(self, database: peewee.Database | None) -> None:
        self._database = database if isinstance(database, Backend) else None

    def db_value(self, value: Any) -> Any:
        if value is None:
            return None
        at = check_time(self, value)
        return at if self._database is None else self._database.time_to_db(at)

    def python_value(self, value: Any) -> Any:
        if value is None or self._database is None:
            return value
        with suppress(AttributeError, TypeError, ValueError):
            return self._database.time_from_db(value)
        raise _unreadable(self, "a time")  # out here: that error quotes the value


class JSONField(peewee.Field):
    """JSON, kept as the text that was written where the database does so.

    Refuses what cannot make the round trip on all four: NaN and infinity, integers beyond 64
    bits (MySQL turns them into doubles), keys that are not strings or are longer than
    `MAX_JSON_KEY_BYTES`, NUL characters, nesting beyond `MAX_JSON_DEPTH`.
    """

    field_type = "JSON"

    def db_value(self, value: Any) -> str | None:
        return None if value is None else to_json(self, value)

    def python_value(self, value: Any) -> Any:
        if value is None:
            return None
        with suppress(RecursionError, ValueError):
            return json.loads(value)
        raise _unreadable(self, "JSON")  # out here: the decoder's error carries the whole text


class HeadersField(JSONField):
    """Headers of a request or response: an object, or an array of [name, value, ...] arrays.

    In another form nobody would know names from values, and so which of them are credentials.
    """

    def db_value(self, value: Any) -> str | None:
        if not isinstance(value, dict | None) and not _are_pairs(value):
            raise _refuse(self, "must be a mapping, or a list of (name, value) pairs")
        return super().db_value(value)


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(each, list | tuple)
        and (not each or (isinstance(each[0], str) and len(each) > 1))
        for each in value
    )


def _unreadable(field: peewee.Field[Any], what: str) -> ReadError:
    return ReadError(f"{field.model._meta.table_name}.{field.column_name} holds what is not {what}")


def to_json(field: peewee.Field[Any], value: Any) -> str:
    """Return the compact text of a JSON value that every backend gives back unchanged."""
    _check_json(field, value, MAX_JSON_DEPTH)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise _refuse(field, "is not JSON: it holds NaN or infinity") from None


def _check_json(field: peewee.Field[Any], value: Any, depth_left: int) -> None:
    if value is None or isinstance(value, bool | float):
        return  # dumps refuses what is not finite
    if isinstance(value, str):
        check_text(field, value)
    elif isinstance(value, int):
        if int(value) not in INT64:
            raise _refuse(field, "holds an integer beyond 64 bits: store it as a string")
    elif isinstance(value, dict | list | tuple):
        if not depth_left:
            raise _refuse(
                field, f"is nested deeper than {MAX_JSON_DEPTH} levels, or contains itself"
            )
        if isinstance(value, dict):
            for key in value:
                _check_json_key(field, key)
            value = value.values()
        for item in value:
            _check_json(field, item, depth_left - 1)
    else:
        raise _refuse(field, f"is not JSON: it holds a {type(value).__name__}")


def _check_json_key(field: peewee.Field[Any], key: Any) -> None:
    if len(check_text(field, key).encode()) > MAX_JSON_KEY_BYTES:
        raise _refuse(field, f"has a key of more than {MAX_JSON_KEY_BYTES} bytes")
