"""The values that may be sealed, or stored in the clear: text and JSON that every database takes.

They are the same in every mode, so that encryption can be switched on and off, and no value that is
stored in the clear can be mistaken for a sealed one.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ..errors import InvalidValue
from ..value_limits import text_problem
from .encoding import Malformed

PREFIX = "enc:"
MARKER = "$gproxy_enc"

# The limits of GPROXY's JSON parser: signed or unsigned 64 bits, fewer than 128 levels.
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_MAX_DEPTH = 127


def check_text(value: str, name: str) -> str:
    """Return the text if it may be sealed.

    Args:
        name: the column's name, for messages.
    Raises:
        InvalidValue: when it begins with ``enc:``, or holds a NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidValue(f"{name} must be a str, not {type(value).__name__}", argument=name)
    if value.startswith(PREFIX):
        raise InvalidValue(
            f"{name} begins with {PREFIX!r}, like sealed values: store another value",
            argument=name,
        )
    problem = text_problem(value)
    if problem:
        raise InvalidValue(f"{name} {problem}", argument=name)
    return value


def dump_json(value: Any, name: str) -> str:
    """Return the compact text of a JSON document if it may be sealed.

    Args:
        name: the column's name, for messages.
    Raises:
        InvalidValue: when it is not JSON, or holds a member ``$gproxy_enc`` at any depth, NaN or
            infinity, an integer beyond 64 bits, a NUL, a lone surrogate, or over 127 levels.
    """
    problem = _json_problem(value, 0)
    if problem:
        raise InvalidValue(f"{name} {problem}", argument=name)
    return _ENCODER.encode(value)


class Marked(tuple[tuple[str, Any], ...]):
    """The members, in order, of a JSON object that has the member ``$gproxy_enc``."""

    __slots__ = ()


def load_json(text: str) -> Any:
    """Parse a JSON text; an object with the member ``$gproxy_enc`` is returned as Marked.

    Raises:
        Malformed: when it is not JSON, or a nested object has that member.
    """
    try:
        document = _DECODER.decode(text)
    except (ValueError, RecursionError):  # ValueError: also an integer of too many digits
        document = _NO_JSON
    if document is _NO_JSON:  # raised outside of `except`: the parser's error carries the text
        raise Malformed("it is not JSON")
    if isinstance(document, Marked):
        return document
    # The name may be written with escapes.
    if (MARKER in text or "\\u" in text) and _holds_marked(document):
        raise Malformed(f"it holds {MARKER!r} inside its document")
    return document


def _collect(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    return Marked(pairs) if MARKER in members else members


def _no_constant(_: str) -> NoReturn:
    raise ValueError


_NO_JSON = object()
_DECODER = json.JSONDecoder(object_pairs_hook=_collect, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _holds_marked(document: Any) -> bool:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Marked):
            return True
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def _json_problem(value: Any, depth: int) -> str | None:
    if not isinstance(value, dict | list | tuple):
        return _scalar_problem(value)
    if depth >= _MAX_DEPTH:
        return f"is nested over {_MAX_DEPTH} levels deep, or contains itself"
    if isinstance(value, dict):
        for key in value:
            if problem := _key_problem(key):
                return problem
        value = value.values()
    for item in value:
        if problem := _json_problem(item, depth + 1):
            return problem
    return None


def _key_problem(key: Any) -> str | None:
    if not isinstance(key, str):
        return f"is not JSON: it holds a key that is a {type(key).__name__}"
    if key == MARKER:
        return f"holds a member {MARKER!r}, like sealed values: give it another name"
    return text_problem(key)


def _scalar_problem(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "holds NaN or infinity, which JSON does not have"
    if not isinstance(value, int):
        return f"is not JSON: it holds a {type(value).__name__}"
    # Not `in range`, which counts up one by one to a value of a subclass, such as an IntEnum.
    if _MIN_INTEGER <= value <= _MAX_INTEGER:
        return None
    return "holds an integer beyond 64 bits: store it as a string"
