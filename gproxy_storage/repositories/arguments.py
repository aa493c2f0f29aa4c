"""Checks of arguments: invalid values are refused before anything is written.

Fields check the types and lengths of values (fields.py). The checks here are of arguments that are
not columns, and of rules that a column alone cannot express. Each error names the argument.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from ..errors import InvalidValue
from ..fields import JSONField, to_json
from ..models import Table
from ..money import MAX_COST, take
from ..value_limits import GIVEN_IDS, INT64, is_unicode

M = TypeVar("M", bound=Table)


class Kept(enum.Enum):
    """The type of KEEP, a value that was not passed to an update."""

    KEEP = "keep"


KEEP: Final = Kept.KEEP
"""The default of every change: the column keeps its value. None, by contrast, means NULL."""


def require_str(argument: str, value: Any) -> str:
    """Return a str, whatever its content: a name or key that a client presents."""
    if not isinstance(value, str):
        raise InvalidValue(
            f"{argument} must be a str, not {type(value).__name__}", argument=argument
        )
    return value


def require_text(argument: str, value: Any) -> str:
    """Return a str of valid Unicode that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(f"{argument} must be a str that is not blank", argument=argument)
    if not is_unicode(value):
        raise InvalidValue(f"{argument} is not valid Unicode", argument=argument)
    return value


def require_id(argument: str, value: Any) -> int:
    """Return a row's id: a 64-bit int, never a bool or a str of digits."""
    if isinstance(value, bool) or not isinstance(value, int):
        hint = ": pass its id" if isinstance(value, Table) else ""
        raise InvalidValue(
            f"{argument} must be an int, not {type(value).__name__}{hint}", argument=argument
        )
    if int(value) not in INT64:  # int(): a range searches one by one for a subclass
        raise InvalidValue(f"{argument} is beyond 64 bits", argument=argument)
    return value


def require_given_id(argument: str, value: Any) -> int:
    """Return an id that the caller chose; larger ids must remain to be generated."""
    if require_id(argument, value) not in GIVEN_IDS:
        raise InvalidValue(
            f"{argument} must be between {GIVEN_IDS.start} and {GIVEN_IDS.stop - 1}",
            argument=argument,
        )
    return int(value)


def require_ids(argument: str, value: Any) -> list[int]:
    """Return one id or several as a sorted list without duplicates."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return sorted({require_id(argument, each) for each in value})
    return [require_id(argument, value)]


def require_limit(argument: str, value: Any) -> int | None:
    """Return a maximum number of rows to read: an int >= 0, or None for all."""
    if value is None:
        return None
    if require_id(argument, value) < 0:
        raise InvalidValue(f"{argument} must be >= 0, or None for no limit", argument=argument)
    return int(value)


def require_cost(argument: str, value: Any, *, most: int = MAX_COST) -> Decimal:
    """Return a cost as a Decimal, 0 to `most`; by default the cost of one call."""
    return take(argument, value, least=0, most=most)


def require_reference(argument: str, value: M | int, model: type[M]) -> M | int:
    """Return a row of the model, or the id of one; the database checks that it exists."""
    if not isinstance(value, model):
        return require_id(argument, value)
    if value.get_id() is None:
        raise InvalidValue(f"{argument} is a row that was never stored", argument=argument)
    return value


def require_row_id(argument: str, value: M | int, model: type[M]) -> int:
    """Return the id of a row of the model; see `require_reference`."""
    found = require_reference(argument, value, model)
    row_id: int = found if isinstance(found, int) else found.get_id()
    return row_id  # not int(row_id): in a batch it is a PendingId


def require_json(argument: str, value: Any) -> str:
    """Return a value as JSON text; every backend returns the value unchanged."""
    return to_json(JSONField(column_name=argument), value)


def require_json_object(argument: str, value: Any) -> Any:
    """Return a mapping as a new dict, which every backend returns unchanged; KEEP as it is."""
    if value is KEEP:
        return value
    if not isinstance(value, Mapping):
        raise InvalidValue(
            f"{argument} must be a mapping, because it is stored as a JSON object; "
            f"not {type(value).__name__}",
            argument=argument,
        )
    document = dict(value)
    require_json(argument, document)
    return document
