"""Shortfall: what a column of one type cannot hold that one of another can."""

from __future__ import annotations

from typing import NamedTuple

WIDEN = "`gproxy-storage sync --widen`"
"""The command that changes narrow columns to ours."""


class Shortfall(NamedTuple):
    """What is lost in a column that is narrower than ours.

    Attributes:
        cost: in words, a clause.
        max_characters: how much ASCII text it takes; None where that is not what it lacks.
    """

    cost: str
    max_characters: int | None = None


def short_text(characters: int) -> Shortfall:
    """Text that ends at so many characters."""
    return Shortfall(f"text of more than {characters:,} characters is refused", characters)


def short_numbers(number_bytes: int, *, unsigned: bool = False) -> Shortfall:
    """Integers of so many bytes."""
    bits = 8 * number_bytes
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Shortfall(f"numbers outside of {low:,} to {high:,} are refused")


def short_fractions(digits: int) -> str:
    """The cost of times with so many digits of a second."""
    if not digits:
        return "times lose their fractions of a second"
    return f"times keep {digits} digits of a second, not 6"
