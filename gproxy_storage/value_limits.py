"""The limits of values on all four databases: 64-bit integers, text without NUL and surrogates."""

from __future__ import annotations

from contextlib import suppress

INT64 = range(-(2**63), 2**63)

GIVEN_IDS = range(1, 2**63 - 1)
"""Ids that a caller may choose. After the largest 64-bit id no server could generate another."""


def is_unicode(text: str) -> bool:
    """Tell whether a text can be encoded: it has no lone surrogate."""
    # Callers raise their own error outside of this: a UnicodeEncodeError, even as its suppressed
    # context, would hold the text.
    with suppress(UnicodeEncodeError):
        return text.isascii() or bool(text.encode())
    return False


def text_problem(text: str) -> str | None:
    """Return why a text cannot be stored, as words after its name; None if it can."""
    if "\0" in text:
        return "must not contain a NUL character: PostgreSQL cannot store one"
    if not is_unicode(text):
        return "is not valid Unicode: it contains a lone surrogate"
    return None
