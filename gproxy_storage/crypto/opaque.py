"""Opaque: the base of what holds a key or a plaintext, and shows neither."""

from __future__ import annotations

from typing import NoReturn

from ..secret import REDACTED


class Opaque:
    """Redact repr, str and format; refuse to be pickled or copied."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled or copied: it would leave with it")
