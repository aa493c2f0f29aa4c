"""Argon2id password hashes in PHC form, with GPROXY's parameters.

A password may be given as its hash, and the hash's parameters determine what each login costs. So
they are bounded, and a login takes at least as long as with a hash made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from ..errors import InvalidValue

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MAX_MEMORY_KIB = 256 * 1024
MAX_PASSES = 10
MAX_LANES = 8
_DIGITS = 10  # more than any accepted number has
_VERSIONS = (None, "16", "19")  # Argon2 1.0, which may be left out, and 1.3
_SALT_BYTES = range(8, 65)
_HASH_BYTES = range(10, 65)  # as GPROXY; Argon2's 4 would match one guess in some billions

_MEMORY_KIB, _PASSES = 19_456, 2
_COST = _MEMORY_KIB * _PASSES

_HASH = re.compile(
    r"\$argon2(?:id|i|d)(?:\$v=(?P<version>[0-9]+))?\$m=(?P<m>[0-9]+),t=(?P<t>[0-9]+),p=(?P<p>[0-9]+)"
    r"\$(?P<salt>[A-Za-z0-9+/]+)\$(?P<hash>[A-Za-z0-9+/]+)"
)
# Matches no password; only its parameters matter.
_DECOY = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1${'A' * 22}${'A' * 43}"


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password; a value that is an Argon2 hash is returned as it is.

    Takes some 20 ms and 19 MiB on purpose.

    Raises:
        InvalidValue: when it is a hash with parameters that are not accepted (see `hash_problem`).
    Source: RFC 9106; 19,456 KiB, 2 passes, 1 lane as GPROXY v1.
    """
    if not is_hash(password):
        return _hasher().hash(_encode(password))
    problem = hash_problem(password)
    if problem:
        raise InvalidValue(
            f"password is an Argon2 hash {problem}: give the password, or another hash of it",
            argument="password",
        )
    return password


def verify_password(stored: str | None, password: str) -> bool:
    """Tell whether the password matches the stored hash, in the time of a hash made here at least.

    A hash that is missing, damaged or cheaper to compute takes that long too, so that names cannot
    be probed by timing. A hash with parameters that are not accepted matches nothing.
    """
    from argon2.exceptions import (
        InvalidHashError,
        VerificationError,
        VerifyMismatchError,
    )

    secret, matches, cost = _encode(password), False, 0
    if stored is not None and hash_problem(stored) is None:
        # Argon2's decoder is stricter than the check above: if it refuses, nothing was computed.
        with suppress(VerificationError, InvalidHashError):
            with suppress(VerifyMismatchError):
                matches = _hasher().verify(stored, secret)
            cost = _cost(stored)
    if not cost:
        with suppress(VerificationError):
            _hasher().verify(_DECOY, secret)
    elif cost < _COST:
        _spend(_COST - cost, secret)
    return matches


def is_hash(value: str) -> bool:
    """Tell whether a value has the PHC form of an Argon2 hash."""
    return _HASH.fullmatch(value) is not None


def hash_problem(value: str) -> str | None:
    """Return why a hash's parameters are not accepted, as words after "a hash"; None if they are.

    Accepted are at most 256 MiB, 10 passes and 8 lanes, within what Argon2 can compute, and the
    usual lengths.
    """
    return next(_problems(value), None)


def _problems(value: str) -> Iterator[str]:
    found = _HASH.fullmatch(value)
    if found is None:
        yield "that is damaged"
        return
    memory, passes, lanes = (
        int(found[name]) if len(found[name]) <= _DIGITS else 10**_DIGITS for name in "mtp"
    )
    if found["version"] not in _VERSIONS:
        yield "of an unknown version"
    if not 1 <= lanes <= MAX_LANES:
        yield f"of p={lanes} lanes; 1 to {MAX_LANES} are accepted"
    if not 1 <= passes <= MAX_PASSES:
        yield f"of t={passes} passes; 1 to {MAX_PASSES} are accepted"
    if not 8 * lanes <= memory <= MAX_MEMORY_KIB:
        yield f"of m={memory} KiB; {8 * lanes} to {MAX_MEMORY_KIB} are accepted"
    for part, accepted in (("salt", _SALT_BYTES), ("hash", _HASH_BYTES)):
        size = len(found[part]) * 3 // 4
        if size not in accepted:
            yield f"with a {part} of {size} bytes; {accepted[0]} to {accepted[-1]} are accepted"


def _cost(stored: str) -> int:
    """Return the cost of computing a hash: KiB times passes."""
    found = _HASH.fullmatch(stored)
    return int(found["m"]) * int(found["t"]) if found else 0


def _spend(cost: int, secret: bytes) -> None:
    """Compute for as long as a hash of that cost takes."""
    from argon2.low_level import Type, hash_secret_raw

    memory_kib = max(8, cost // _PASSES)
    hash_secret_raw(secret, b"\0" * 16, _PASSES, memory_kib, 1, 32, Type.ID)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(
        time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1, hash_len=32, salt_len=16
    )


def _encode(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")  # an error would carry the password
