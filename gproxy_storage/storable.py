"""What all four databases can store: integers of 64 bits, text without NUL and lone surrogates."""

from __future__ import annotations

from contextlib import suppress

INT64 = range(-(2**63), 2**63)

GIVEN_IDS = range(1, 2**63 - 1)
"""Ids that a caller may choose. After the largest of 64 bits no server has one left to give out."""


def is_unicode(text: str) -> bool:
    """Tell whether a text can be encoded: it holds no lone surrogate."""
    # Raise outside of this: a UnicodeEncodeError, even as a hidden context, carries the text.
    with suppress(UnicodeEncodeError):
        return text.isascii() or bool(text.encode())
    return False


def text_problem(text: str) -> str | None:
    """Say why a text cannot be stored, to follow the name of what holds it; None when it can."""
    if "\0" in text:
        return "must not hold a NUL character: PostgreSQL cannot store one"
    if not is_unicode(text):
        return "is not valid Unicode: it holds a lone surrogate"
    return None
