"""Checks of arguments: what no row can hold or mean is refused before anything is written.

Types and lengths of values are the fields' to check (fields.py); here is what belongs to no column,
and what a column alone cannot say. Each error names the argument.
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
    """The type of KEEP: a value that was not given to an update."""

    KEEP = "keep"


KEEP: Final = Kept.KEEP
"""The default of every change: the column stays as it is. None, by contrast, means NULL."""


def require_str(argument: str, value: Any) -> str:
    """Return what is text, whatever it says: a name or a key that someone presents."""
    if not isinstance(value, str):
        raise InvalidValue(
            f"{argument} must be a str, not {type(value).__name__}", argument=argument
        )
    return value


def require_text(argument: str, value: Any) -> str:
    """Return a name that is not empty.

    Raises:
        InvalidValue: when it is empty, blank or no str, or not valid Unicode.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(f"{argument} must be a str that is not blank", argument=argument)
    if not is_unicode(value):
        raise InvalidValue(f"{argument} is not valid Unicode", argument=argument)
    return value


def require_id(argument: str, value: Any) -> int:
    """Return a row's id: an int of 64 bits, never a bool or a str of digits."""
    if isinstance(value, bool) or not isinstance(value, int):
        hint = ": pass its id" if isinstance(value, Table) else ""
        raise InvalidValue(
            f"{argument} must be an int, not {type(value).__name__}{hint}", argument=argument
        )
    if int(value) not in INT64:  # a range walks to find a subclass of int
        raise InvalidValue(f"{argument} is beyond 64 bits", argument=argument)
    return value


def require_given_id(argument: str, value: Any) -> int:
    """Return an id that a caller chose: after it there must be others to give out."""
    if require_id(argument, value) not in GIVEN_IDS:
        raise InvalidValue(
            f"{argument} must be between {GIVEN_IDS.start} and {GIVEN_IDS.stop - 1}",
            argument=argument,
        )
    return int(value)


def require_ids(argument: str, value: Any) -> list[int]:
    """Return the ids of one id or several, each once, in order; none of an empty list."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return sorted({require_id(argument, each) for each in value})
    return [require_id(argument, value)]


def require_limit(argument: str, value: Any) -> int | None:
    """Return how many rows to read at most: an int >= 0, or None for all."""
    if value is None:
        return None
    if require_id(argument, value) < 0:
        raise InvalidValue(f"{argument} must be >= 0, or None for no limit", argument=argument)
    return int(value)


def require_at_least_zero(argument: str, value: Any) -> None:
    """Refuse a negative number; what is no number is the field's to refuse."""
    if isinstance(value, int | float) and value < 0:
        raise InvalidValue(f"{argument} must be >= 0", argument=argument)


def require_cost(argument: str, value: Any, *, most: int = MAX_COST) -> Decimal:
    """Return a cost as money: >= 0, of one call if nothing else is said."""
    return take(argument, value, least=0, most=most)


def require_reference(argument: str, value: M | int, model: type[M]) -> M | int:
    """Return a row of that model, or an id of one; whether it exists is the database's to say."""
    if not isinstance(value, model):
        return require_id(argument, value)
    if value.get_id() is None:
        raise InvalidValue(f"{argument} is a row that was never stored", argument=argument)
    return value


def require_row_id(argument: str, value: M | int, model: type[M]) -> int:
    """Return the id of a row of that model; see `require_reference`."""
    found = require_reference(argument, value, model)
    row_id: int = found if isinstance(found, int) else found.get_id()
    return row_id  # as it is, not int(): the id of a row in a batch is a class of its own


def require_json(argument: str, value: Any) -> str:
    """Return the text of a JSON value that every backend gives back unchanged."""
    return to_json(JSONField(column_name=argument), value)


def require_json_object(argument: str, value: Any) -> Any:
    """Return a mapping as a dict of its own, which every backend gives back unchanged.

    KEEP, which an update may be given, is returned as it is.
    """
    if value is KEEP:
        return value
    if not isinstance(value, Mapping):
        raise InvalidValue(
            f"{argument} must be a mapping, for it is stored as a JSON object; "
            f"not {type(value).__name__}",
            argument=argument,
        )
    document = dict(value)
    require_json(argument, document)
    return document
