"""Secret: an operator's string that must not be shown by accident; and other values like it."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from .errors import ConfigError

REDACTED = "***"

P = ParamSpec("P")
T = TypeVar("T")


class Opaque:
    """Redact repr, str and format; refuse to be pickled or copied: it holds a secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled or copied: it holds a secret")


class Secret(Opaque):
    """A secret string that is shown only by `reveal`.

    repr, str and format are redacted; it cannot be pickled. Equality takes constant time for
    strings of equal length.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself. Never put the result into a message or a log."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # surrogatepass: a UnicodeEncodeError would hold a secret that is not UTF-8.
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"),
            other._value.encode("utf-8", "surrogatepass"),
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Secret cannot be pickled: pass on the result of reveal(), if that is intended"
        )


class SecretText(str):
    """Text for a driver; its repr, as shown in logs and tracebacks with locals, is redacted.

    So is the error for a statement that has one as a parameter.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretText cannot be pickled or copied: it holds a secret")


class SecretBytes(bytes):
    """Like SecretText, for bytes; concatenations with it are redacted as well."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED)

    def __add__(self, other: bytes) -> SecretBytes:  # type: ignore[override]  # takes fewer types
        return SecretBytes(bytes(self) + other)

    def __radd__(self, other: bytes) -> SecretBytes:
        return SecretBytes(other + bytes(self))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretBytes cannot be pickled or copied: it holds a secret")


def without_locals(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that takes secrets as text: its ConfigErrors lose their traceback.

    The frames' local variables hold the secret, and error reporters show them. The message of a
    ConfigError is sufficient.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ConfigError as exc:
            error = exc.with_traceback(None)
        finally:
            del args, kwargs  # this frame remains in every traceback
        raise error

    return call
