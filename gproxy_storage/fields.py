"""The fields of the models: strict about values, equal on every backend.

Each refuses, before anything is written, values that one of the four databases would refuse, change
or truncate: naive times, NaN, integers out of range, NUL characters, text that is too long.

Some attributes are for functions that are generated from fields, for speed. `sound`, a Python
expression that is true for values that `db_value` returns unchanged, or `allowed`, the ints that a
column takes: for the checks of log rows (`log_rows.py`) and the parameters of inserts
(`repositories/statements.py`). `read_unchanged`, a type whose values `python_value` returns
unchanged, or `read_usual`, a function that converts the usual values and raises one of `UNUSUAL`
for others: for the readers of rows (`repositories/rows.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import peewee

from .backends.base import Backend
from .errors import InvalidValue, ReadError
from .money import MAX_TOTAL, from_double, take
from .value_limits import INT64, text_problem

_INT32 = range(-(2**31), 2**31)

_SOUND_TEXT = r"type({0}) is str and {0}.isascii() and '\0' not in {0}"

UNUSUAL = (AttributeError, TypeError, ValueError)
"""What a conversion from the database's form raises for a value of another type or form."""

MAX_JSON_DEPTH = 31
"""The maximum nesting of objects and arrays: MariaDB allows 31 levels, MySQL 100."""

MAX_JSON_KEY_BYTES = 65_535
"""The maximum length of an object's key in UTF-8: MySQL's limit."""


def _refuse(field: peewee.Field[Any], why: str) -> InvalidValue:
    name = getattr(field, "column_name", None) or "value"
    return InvalidValue(f"{name} {why}", argument=name)


def check_text(field: peewee.Field[Any], value: Any, max_length: int | None = None) -> str:
    """Return the text, or raise InvalidValue if some backend cannot store it unchanged."""
    if not isinstance(value, str):
        raise _refuse(field, f"must be a str, not {type(value).__name__}")
    problem = text_problem(value)
    if problem:
        raise _refuse(field, problem)
    if max_length is not None and len(value) > max_length:
        raise _refuse(field, f"has {len(value)} characters; its column takes {max_length}")
    return value if type(value) is str else str.__str__(value)  # a plain str, not a StrEnum member


def check_time(field: peewee.Field[Any], value: Any) -> datetime:
    """Return an aware time in UTC; refuse what is not a datetime, naive or out of range."""
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
    # Another library's subclass: drivers depend on the exact type.
    return datetime.combine(at.date(), at.time(), UTC)


def sound_test(field: Any, name: str, allowed: range | None = None) -> str | None:
    """Return a Python test of the variable `name` for values that `db_value` returns unchanged.

    Args:
        allowed: the ints to allow, in place of all that the column takes.
    Returns:
        None if `db_value` must see every value.
    """
    allowed = allowed or getattr(field, "allowed", None)
    if allowed is not None:
        return f"type({name}) is int and {allowed.start} <= {name} < {allowed.stop}"
    sound: str | None = getattr(field, "sound", None)
    return None if sound is None else sound.format(name)


class DialectWord(peewee.Node):
    """A keyword of DDL that is looked up in the backend's `field_types`, which may lack it."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __sql__(self, ctx: peewee.Context) -> peewee.Context:
        return ctx.literal(ctx.state.field_types.get(self.word, ""))


class BigAutoField(peewee.BigAutoField):
    """A generated 64-bit key that is never reused, not even by SQLite after a deletion."""

    allowed = INT64
    read_unchanged = int

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(constraints=[DialectWord("AUTOINCREMENT")], **kwargs)

    def db_value(self, value: Any) -> int | None:
        return None if value is None else _check_int(self, value, self.allowed)


class IntegerField(peewee.IntegerField):
    """A 32-bit integer."""

    allowed = _INT32
    read_unchanged = int

    def db_value(self, value: Any) -> int | None:
        return None if value is None else _check_int(self, value, self.allowed)


class BigIntegerField(peewee.BigIntegerField):
    """A 64-bit integer."""

    allowed = INT64
    read_unchanged = int

    def db_value(self, value: Any) -> int | None:
        return None if value is None else _check_int(self, value, self.allowed)


class ForeignKeyField(peewee.ForeignKeyField):
    """A reference to a row by its 64-bit key."""

    allowed = INT64
    read_unchanged = int

    def bind(self, model: type[peewee.Model], name: str, set_attribute: bool = True) -> None:
        super().bind(model, name, set_attribute)
        self.constraint_name = f"fk_{model._meta.table_name}_{self.column_name}"

    def db_value(self, value: Any) -> int | None:
        if isinstance(value, self.rel_model):
            value = value.get_id()
        # Checked here, not by the target's field, so that an error names this column.
        return None if value is None else _check_int(self, value, self.allowed)


def _check_int(field: peewee.Field[Any], value: Any, allowed: range) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse(field, f"must be an int, not {type(value).__name__}")
    number = int(value)  # a plain int: drivers refuse an IntEnum, and `in range` would be slow
    if number not in allowed:
        raise _refuse(field, f"must be between {allowed.start} and {allowed.stop - 1}")
    return number


class MoneyField(peewee.DoubleField):
    """Money: given as a `money.Amount`, read as a Decimal, stored as a double like GPROXY's.

    Args:
        most: the maximum of the absolute value.
    """

    read_usual = staticmethod(from_double)

    def __init__(self, *, most: int = MAX_TOTAL, **kwargs: Any) -> None:
        self.most = most
        super().__init__(**kwargs)

    def taken(self, value: Any, *, least: int | None = None) -> Decimal:
        """Return an amount as money; `least` is minus the maximum by default."""
        name = getattr(self, "column_name", None) or "value"
        return take(name, value, least=-self.most if least is None else least, most=self.most)

    def db_value(self, value: Any) -> float | None:
        return None if value is None else float(self.taken(value))

    def python_value(self, value: Any) -> Decimal | None:
        if value is None:
            return None
        try:  # not `suppress`, which takes as long as all of this
            return from_double(float(value))
        except UNUSUAL:
            pass
        raise _unreadable(self, "a number")


class BooleanField(peewee.BooleanField):
    """True or False; strings such as "false" and "0" are refused."""

    sound = "type({0}) is bool"
    read_unchanged = bool

    def db_value(self, value: Any) -> bool | None:
        if value is None or isinstance(value, bool):
            return value
        raise _refuse(self, f"must be a bool, not {type(value).__name__}")


class CharField(peewee.CharField):
    """Text with a maximum length in characters, so that every backend can index it."""

    read_unchanged: type | None = str

    def db_value(self, value: Any) -> str | None:
        return None if value is None else check_text(self, value, self.max_length)


class TextField(peewee.TextField):
    """Text of any length."""

    sound: str | None = _SOUND_TEXT
    read_unchanged: type | None = str

    def db_value(self, value: Any) -> str | None:
        return None if value is None else check_text(self, value)


class BytesField(peewee.BlobField):
    """Bytes; read back as bytes from every driver."""

    read_unchanged = bytes

    def db_value(self, value: Any) -> Any:
        if value is not None and not isinstance(value, bytes | bytearray | memoryview):
            raise _refuse(self, f"must be bytes, not {type(value).__name__}")
        if value is not None and type(value) is not bytes:
            value = b"".join((value,))
        return super().db_value(value)

    def python_value(self, value: Any) -> bytes | None:
        return None if value is None else bytes(value)


class _BodyAccessor(peewee.FieldAccessor):
    """Raises for a body that was not read, since None would mean that there is none."""

    def __get__(self, instance: Any, instance_type: Any = None) -> Any:
        if instance is not None and self.name not in instance.__data__:
            raise ReadError(
                f"{self.name} was not read with its row: get or list it with bodies=True"
            )
        return super().__get__(instance, instance_type)


class BodyField(BytesField):
    """Bytes that may be large, and are read only when asked for."""

    accessor_class = _BodyAccessor


class DatabaseField(peewee.FieldDatabaseHook, peewee.Field):
    """A field that knows the database to which its model is bound, if it is one of ours."""

    _database: Backend | None = None

    def _db_hook(self, database: peewee.Database | None) -> None:
        self._database = database if isinstance(database, Backend) else None


class UtcDateTimeField(DatabaseField):
    """An aware UTC time with microseconds."""

    field_type = "DATETIME"

    @property
    def read_usual(self) -> Callable[[Any], datetime] | None:
        return None if self._database is None else self._database.time_from_db

    def db_value(self, value: Any) -> Any:
        if value is None:
            return None
        is_usual = type(value) is datetime and value.tzinfo is UTC
        at = value if is_usual else check_time(self, value)
        return at if self._database is None else self._database.time_to_db(at)

    def python_value(self, value: Any) -> Any:
        if value is None or self._database is None:
            return value
        try:  # not `suppress`, which takes as long as all of this
            return self._database.time_from_db(value)
        except UNUSUAL:
            pass
        raise _unreadable(self, "a time")  # outside of `except`: its error shows the value


class JSONField(peewee.Field):
    """JSON, stored as the written text where the database allows that.

    Refuses values that do not survive a round trip on all backends: NaN and infinity, integers
    beyond 64 bits (MySQL makes them doubles), keys that are not strings or longer than
    `MAX_JSON_KEY_BYTES`, NUL characters, nesting beyond `MAX_JSON_DEPTH`.
    """

    field_type = "JSON"

    def db_value(self, value: Any) -> str | None:
        return None if value is None else to_json(self, value)

    def python_value(self, value: Any) -> Any:
        if value is None:
            return None
        try:  # not `suppress`, which takes as long as most of this
            return json.loads(value)
        except (RecursionError, ValueError):
            pass
        raise _unreadable(self, "JSON")  # outside of `except`: its error holds the whole text


class HeadersField(JSONField):
    """Headers of a request or response: an object, or an array of [name, value, ...] arrays.

    In any other form names and values, and so credentials, could not be identified.
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
    name = f"{field.model._meta.table_name}.{field.column_name}"
    return ReadError(f"{name} holds a value that is not {what}")


def to_json(field: peewee.Field[Any], value: Any) -> str:
    """Return the compact text of a JSON value; refuse one that some backend would change."""
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
                if len(check_text(field, key).encode()) > MAX_JSON_KEY_BYTES:
                    raise _refuse(field, f"has a key of more than {MAX_JSON_KEY_BYTES} bytes")
            value = value.values()
        for item in value:
            _check_json(field, item, depth_left - 1)
    else:
        raise _refuse(field, f"is not JSON: it holds a {type(value).__name__}")
