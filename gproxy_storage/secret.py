"""Secret: an operator's string that must not leave by accident."""

from __future__ import annotations

import hmac
from typing import NoReturn

REDACTED = "***"


class Secret:
    """Hold a secret string and show it only when asked by `reveal`.

    repr, str and format redact; pickling and copying into another process are refused. Equality
    takes constant time for strings of equal length.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself. Never put the result into a message or a log."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # surrogatepass: a secret that is not UTF-8 must not ride in a UnicodeEncodeError.
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"),
            other._value.encode("utf-8", "surrogatepass"),
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: pass it on by reveal(), on purpose")
