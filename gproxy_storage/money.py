"""Money: Decimals with nine digits after the point, and the doubles and integers that hold them.

GPROXY's columns are doubles. One gives back every multiple of 1e-9 up to 2**23, about 8.4 million;
above that it is as exact as a double. Sums are made of integers of 1e-9 ("nano"), here and in SQL
(`backends/values.py`), by one formula: the whole part, and the rest times 1e9, rounded half-even.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from .errors import InvalidValue

Amount: TypeAlias = Decimal | int | float | str
"""What may be given for money; it is rounded half-even to 1e-9."""

MAX_COST: Final = 1_000_000
"""The most that one call may cost."""

MAX_TOTAL: Final = 9_000_000_000
"""The most of a quota and of what was used: in integers of 1e-9 it fits 64 bits. What is added
beyond stays here; what another program stored beyond is read as this."""

NANO: Final = 10**9
"""How many 1e-9 make one."""

_PRECISE_BELOW = 2.0**23  # where doubles begin to be further apart than 1e-9
_NINE_DIGITS = Decimal("1e-9")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[])  # whatever the thread's own context


def take(argument: str, value: Any, *, least: int, most: int) -> Decimal:
    """Return an amount as money.

    A float is taken as the number that it exactly is.

    Raises:
        InvalidValue: when it is no Decimal, int, float or number in a str, is a bool, is not
            finite, or lies outside of the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        raise _refuse(
            argument, f"must be a Decimal, an int, a float or a str, not {type(value).__name__}"
        )
    number = None
    if isinstance(value, int):
        value = max(least - 1, min(int(value), most + 1))  # a huge one takes long to convert
    with suppress(InvalidOperation):  # raised outside: no traceback shows the text
        number = Decimal(value)
    if number is None:
        raise _refuse(argument, "must be a number, for example '0.01'")
    if not number.is_finite():
        raise _refuse(argument, "must be finite")
    if number < least:
        raise _refuse(argument, f"must be >= {least}")
    if number > most:
        raise _refuse(argument, f"must be at most {most}")
    return from_nano(int(number.quantize(_NINE_DIGITS, context=_EXACT).scaleb(9, context=_EXACT)))


def _refuse(argument: str, why: str) -> InvalidValue:
    return InvalidValue(f"{argument} {why}", argument=argument)


def from_nano(nano: int) -> Decimal:
    """Return money of so many 1e-9, without zeros at the end."""
    return _EXACT.divide(Decimal(nano), Decimal(NANO))


def to_nano(money: Decimal) -> int:
    """Return how many 1e-9 money is."""
    return int(money.scaleb(9, context=_EXACT))


def bounded(nano: int) -> int:
    """Return a total within its bounds."""
    return max(-MAX_TOTAL * NANO, min(nano, MAX_TOTAL * NANO))


def add(one: Decimal, other: Decimal) -> Decimal:
    """Return the sum, at most `MAX_TOTAL`."""
    return from_nano(bounded(to_nano(one) + to_nano(other)))


def nano_of(stored: float) -> int:
    """Return how many 1e-9 a stored double means; of what lies beyond the bounds, the bound."""
    if -_PRECISE_BELOW < stored < _PRECISE_BELOW:
        whole = int(stored)
        return whole * NANO + round((stored - whole) * 1e9)
    if not -MAX_TOTAL <= stored <= MAX_TOTAL:  # NaN too, which PostgreSQL orders above the rest
        return (-MAX_TOTAL if stored < 0 else MAX_TOTAL) * NANO
    # The shortest digits that mean this double: those that were given, if they were at most 15.
    return int(Decimal(repr(stored)).quantize(_NINE_DIGITS, context=_EXACT).scaleb(9, _EXACT))


def to_double(nano: int) -> float:
    """Return the double nearest to a total of so many 1e-9."""
    return bounded(nano) / NANO


def from_double(stored: float) -> Decimal:
    """Return the money that a stored double means."""
    return from_nano(nano_of(stored))
