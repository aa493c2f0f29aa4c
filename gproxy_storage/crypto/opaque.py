"""Opaque: the base class of objects that hold a key or a plaintext and never show it."""

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
        raise TypeError(f"a {type(self).__name__} cannot be pickled or copied: it holds a secret")
