"""Argon2id password hashes in PHC form, with GPROXY's parameters."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

_PREFIX = "$argon2"


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password; a value that already is an Argon2 hash is kept.

    Takes some 20 ms and 19 MiB on purpose.

    Source: RFC 9106; 19,456 KiB, 2 passes, 1 lane as GPROXY v1.
    """
    if is_hash(password):
        return password
    return _hasher().hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Tell whether the password fits the stored hash, in the time that one hash takes.

    A missing hash takes as long as a wrong password, so that names cannot be probed by time.
    """
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - start-up

    presented = password.encode("utf-8", "surrogatepass")  # no error that would carry it
    try:
        matches = _hasher().verify(stored or _decoy(), presented)
    except (VerificationError, InvalidHashError):
        return False
    return matches and bool(stored)


def is_hash(value: str) -> bool:
    """Tell whether a value already is an Argon2 hash in PHC form."""
    from argon2 import extract_parameters  # noqa: PLC0415 - start-up
    from argon2.exceptions import InvalidHashError  # noqa: PLC0415 - start-up

    if not value.startswith(_PREFIX):
        return False
    try:
        extract_parameters(value)
    except InvalidHashError:
        return False
    return True


@cache
def _hasher() -> PasswordHasher:
    # Imported when first needed: opening a storage needs no password.
    from argon2 import PasswordHasher  # noqa: PLC0415

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16)


@cache
def _decoy() -> str:
    return _hasher().hash("")
