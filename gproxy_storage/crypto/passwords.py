"""Argon2id password hashes in PHC form, with GPROXY's parameters."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

# What Argon2's own decoder takes; what it does not could never be verified. Compiled when used.
_HASH = r"\$argon2(id|i|d)(\$v=[0-9]+)?\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
# Fits no password that can be found: only its parameters count.
_DECOY = f"$argon2id$v=19$m=19456,t=2,p=1${'A' * 22}${'A' * 43}"


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password; a value that already is an Argon2 hash is kept.

    Takes some 20 ms and 19 MiB on purpose.

    Source: RFC 9106; 19,456 KiB, 2 passes, 1 lane as GPROXY v1.
    """
    if is_hash(password):
        return password
    return _hasher().hash(_encode(password))


def verify_password(stored: str | None, password: str) -> bool:
    """Tell whether the password fits the stored hash, in the time that one hash takes.

    A missing or damaged hash takes as long as a wrong password, so that names cannot be probed by
    time.
    """
    from argon2.exceptions import VerificationError  # noqa: PLC0415 - not for who stores no password

    if stored is None or not is_hash(stored):
        stored = _DECOY
    try:
        return _hasher().verify(stored, _encode(password))
    except VerificationError:
        return False


def is_hash(value: str) -> bool:
    """Tell whether a value already is an Argon2 hash in PHC form."""
    return re.fullmatch(_HASH, value) is not None


@cache
def _hasher() -> PasswordHasher:
    # Imported when first needed: opening a storage needs no password.
    from argon2 import PasswordHasher  # noqa: PLC0415 - as above

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16)


def _encode(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")  # no error that would carry it
