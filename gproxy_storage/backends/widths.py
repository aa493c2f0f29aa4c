"""Shortfall: the values that a column narrower than declared cannot hold."""

from __future__ import annotations

from typing import NamedTuple

WIDEN = "`gproxy-storage sync --widen`"
"""The command that changes narrow columns to their declared types."""


class Shortfall(NamedTuple):
    """What is lost in a column that is narrower than declared.

    Attributes:
        cost: a clause for messages.
        max_characters: the longest ASCII text that fits; None if length is not the problem.
    """

    cost: str
    max_characters: int | None = None


def short_text(characters: int) -> Shortfall:
    """Return the shortfall of a text column of this maximum length."""
    return Shortfall(f"text of more than {characters:,} characters is refused", characters)


def short_numbers(number_bytes: int, *, unsigned: bool = False) -> Shortfall:
    """Return the shortfall of an integer column of this many bytes."""
    bits = 8 * number_bytes
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Shortfall(f"numbers outside of {low:,} to {high:,} are refused")


def short_fractions(digits: int) -> str:
    """Return the cost of a time column with this many fractional digits of a second."""
    if not digits:
        return "times lose their fractions of a second"
    return f"times keep {digits} digits of a second, not 6"
