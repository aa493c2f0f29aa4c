"""Money: Decimals with nine fractional digits, and the doubles and integers that store them.

GPROXY's columns are doubles, which represent every multiple of 1e-9 up to 2**23, about 8.4 million,
and above that have a double's precision. Sums are computed with integers of 1e-9 ("nano"), here and
in SQL (`backends/values.py`), by one formula: the whole part, and the fraction times 1e9, rounded
half-even.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from .errors import InvalidValue

Amount: TypeAlias = Decimal | int | float | str
"""The types accepted for money; it is rounded half-even to 1e-9."""

MAX_COST: Final = 1_000_000
"""The maximum cost of one call."""

MAX_TOTAL: Final = 9_000_000_000
"""The maximum of a quota and of its used cost: in units of 1e-9 it fits into 64 bits. Additions
stop here, and a larger value that another program stored is read as this."""

NANO: Final = 10**9
"""The number of units of 1e-9 in 1."""

_MOST_NANO = MAX_TOTAL * NANO
_PRECISE_BELOW = 2.0**23  # from here on adjacent doubles differ by more than 1e-9
_NINE_DIGITS = Decimal("1e-9")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[])  # not the thread's own context
_NANO = Decimal(NANO)
_divide = _EXACT.divide


def take(argument: str, value: Any, *, least: int, most: int) -> Decimal:
    """Return an amount as money.

    A float stands for its exact value.

    Args:
        argument: the argument's name, for messages.
        value: a Decimal, int, float, or a number in a str.
    Raises:
        InvalidValue: when it is of another type or a bool, not a number, not finite, or out of
            bounds.
    """
    number = value if type(value) is Decimal else _number(argument, value, least, most)
    if not number.is_finite():
        raise _refuse(argument, "must be finite")
    if number < least:
        raise _refuse(argument, f"must be >= {least}")
    if number > most:
        raise _refuse(argument, f"must be at most {most}")
    return from_nano(int(number.quantize(_NINE_DIGITS, context=_EXACT).scaleb(9, context=_EXACT)))


def _number(argument: str, value: Any, least: int, most: int) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        raise _refuse(
            argument, f"must be a Decimal, an int, a float or a str, not {type(value).__name__}"
        )
    if isinstance(value, int):
        value = max(least - 1, min(int(value), most + 1))  # converting a huge int is slow
    with suppress(InvalidOperation):  # raised outside of `suppress`: its error shows the text
        return Decimal(value)
    raise _refuse(argument, "must be a number, for example '0.01'")


def _refuse(argument: str, why: str) -> InvalidValue:
    return InvalidValue(f"{argument} {why}", argument=argument)


def from_nano(nano: int) -> Decimal:
    """Return money from a number of units of 1e-9, without trailing zeros."""
    return _divide(Decimal(nano), _NANO)


def to_nano(money: Decimal) -> int:
    """Return money in units of 1e-9."""
    return int(money.scaleb(9, context=_EXACT))


def bounded(nano: int) -> int:
    """Clamp a total to plus and minus `MAX_TOTAL`."""
    if -_MOST_NANO <= nano <= _MOST_NANO:
        return nano
    return _MOST_NANO if nano > 0 else -_MOST_NANO


def add(one: Decimal, other: Decimal) -> Decimal:
    """Return the sum, within plus and minus `MAX_TOTAL`."""
    return from_nano(bounded(to_nano(one) + to_nano(other)))


def nano_of(stored: float) -> int:
    """Return a stored double in units of 1e-9, within plus and minus `MAX_TOTAL`."""
    if -1 < stored < 1:  # most costs; the whole part below would be 0
        return round(stored * 1e9)
    if -_PRECISE_BELOW < stored < _PRECISE_BELOW:
        whole = int(stored)
        return whole * NANO + round((stored - whole) * 1e9)
    if not -MAX_TOTAL <= stored <= MAX_TOTAL:  # also NaN, which PostgreSQL sorts above all others
        return (-MAX_TOTAL if stored < 0 else MAX_TOTAL) * NANO
    # The shortest digits for this double: those that were given, if there were at most 15.
    return int(Decimal(repr(stored)).quantize(_NINE_DIGITS, context=_EXACT).scaleb(9, _EXACT))


def to_double(nano: int) -> float:
    """Return the double nearest to a total in units of 1e-9."""
    return bounded(nano) / NANO


def from_double(stored: float) -> Decimal:
    """Return the money that a stored double represents."""
    return _divide(Decimal(nano_of(stored)), _NANO)  # `from_nano`, for each row that is read
