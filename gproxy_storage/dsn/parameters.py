"""The query of a DSN: parsed by the rules into driver parameters and pool options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from ..secret import SecretText
from .rules import ALIASES, POOL, REFUSED, RULES, BackendName, is_secret
from .text import ESCAPES, Source, nearest

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


class Parameters(Mapping[str, str]):
    """Driver parameters by name; read-only, hashable, with secrets redacted in the repr."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = {
            name: SecretText(value) if is_secret(name) else value
            for name, value in sorted((values or {}).items())
        }

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Parameters({self._values!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """The options of the connection pool; the same defaults on every backend.

    Attributes:
        max_connections: connections open at once, 1 to 1000.
        stale_timeout_s: seconds after which a connection is replaced; 0 is never.
        pool_timeout_s: seconds to wait for a free connection.
        connect_timeout_s: seconds to wait for the server.
    """

    max_connections: int = 10
    stale_timeout_s: float = 1800.0
    pool_timeout_s: float = 30.0
    connect_timeout_s: float = 10.0

    @classmethod
    def take_from(cls, parameters: dict[str, str]) -> PoolOptions:
        """Remove the pool's parameters, which are checked already, and return them as options."""
        taken = {name: parameters.pop(name) for name in POOL if name in parameters}
        size = int(taken.pop("max_connections", cls().max_connections))
        seconds = {f"{name}_s": float(value) for name, value in taken.items()}
        return cls(max_connections=size, **seconds)

    def as_parameters(self) -> dict[str, str]:
        """Return the options that differ from the defaults, as parameters of a DSN."""
        return {
            option.name.removesuffix("_s"): repr(value).removesuffix(".0")
            for option in fields(self)
            if (value := getattr(self, option.name)) != option.default
        }


def read_query(query: str, backend: BackendName, source: Source) -> dict[str, str]:
    """Parse a query into parameters by canonical name: each known, given once, and checked."""
    values: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        typed, equals, raw = piece.partition("=")
        if not equals or "=" in raw:
            raise source.error("query", f"a parameter is not of the form name=value; {ESCAPES}")
        typed = source.decode("query", typed)
        name = ALIASES[backend].get(typed, typed)
        if name not in RULES[backend]:
            # After a password, this may be the rest of one with an unescaped "&".
            if any(map(is_secret, values)) or not _NAME.fullmatch(typed):
                raise source.error("query", f"a parameter in it {_unknown('', backend)}")
            raise source.error(f"parameter {typed!r}", f"it {_unknown(typed, backend)}")
        part = f"parameter {name!r}"
        if name in values:
            raise source.error(part, "it is given twice; keep one")
        value = RULES[backend][name].canonical(source.decode(part, raw))
        if value is None:
            raise source.error(part, f"it must be {RULES[backend][name].expected}")
        values[name] = value
    return values


def _unknown(name: str, backend: BackendName) -> str:
    if name in REFUSED:
        return f"is not supported: {REFUSED[name]}"
    known = RULES[backend]
    return f"is not known; {nearest(name, known)}known are {', '.join(sorted(known))}"
