"""SecretParameter: a statement's parameter that logs and errors must not show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..secret import SecretText


class SecretParameter(SecretText):
    """Text for the driver; its repr, which Peewee's log of statements shows, is redacted."""

    __slots__ = ()


def carries_secret(parameters: Iterable[Any] | None) -> bool:
    """Tell whether one of a statement's parameters is a secret."""
    return any(type(parameter) is SecretParameter for parameter in parameters or ())
