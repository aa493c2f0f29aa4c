"""Kdf: derives a key from the operator's secret, by Argon2id with bounded parameters."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Self

from ..config import WHITE_SPACE
from ..errors import CryptoError, SecretError
from ..secret import Secret
from . import KEY_BYTES
from .binding import Binding
from .crypto_errors import malformed
from .encoding import Malformed, decode, encode
from .keys import Key

MEMORY_KIB = range(8 * 1024, 256 * 1024 + 1)
PASSES = range(1, 11)
LANES = range(1, 5)
SALT_BYTES = range(16, 33)

_ARGON2_VERSION = 0x13
_BINDING = Binding("encryption_keys", "kdf", 1)
_NUMBER = "(0|[1-9][0-9]{0,9})"
_FORM = rf"argon2id\$19\${_NUMBER},{_NUMBER},{_NUMBER}\$([^$]*)"  # compiled on first use


@dataclass(frozen=True, slots=True)
class Kdf:
    """Argon2id, version 0x13, with its parameters; `str` gives their stored form.

    The parameters come from a row that an attacker may have written: the bounds prevent a start-up
    that takes gigabytes or hours, and a derivation that is cheap to guess.

    Source: RFC 9106.
    """

    memory_kib: int
    passes: int
    lanes: int
    salt: bytes

    def __post_init__(self) -> None:
        for name, value, allowed, unit in (
            ("memory", self.memory_kib, MEMORY_KIB, "KiB"),
            ("number of passes", self.passes, PASSES, ""),
            ("number of lanes", self.lanes, LANES, ""),
            ("salt", len(self.salt), SALT_BYTES, "bytes"),
        ):
            if value not in allowed:
                least, most = allowed[0], allowed[-1]
                raise ValueError(f"its {name} is not {least} to {most} {unit}".rstrip())

    @classmethod
    def new(cls) -> Self:
        """Return the parameters for a new keyring: 19,456 KiB, 2 passes, 1 lane, a new salt."""
        return cls(19_456, 2, 1, os.urandom(16))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``argon2id$19$<memory>,<passes>,<lanes>$<salt, base64url>``.

        Raises:
            MalformedEnvelope: when the text has another form or a parameter is out of bounds.
        """
        try:
            return cls(*_parse(text))
        except (Malformed, ValueError) as exc:
            problem = str(exc)
        raise malformed(_BINDING, problem, "restore the row of encryption_keys from a backup")

    def derive(self, secret: Secret) -> Key:
        """Derive the key; takes some 20 ms and `memory_kib` of memory on purpose.

        White space around the secret is ignored.

        Raises:
            SecretError: when the secret is blank or not UTF-8.
            CryptoError: when the memory cannot be allocated.
        """
        if _clean(secret) is None:
            raise SecretError("the secret is blank or not UTF-8: set another")
        raw = _argon2id(self, secret)
        if raw is None:
            raise CryptoError(
                f"the key cannot be derived: Argon2 needs {self.memory_kib} KiB of memory; free "
                "some, or raise the limit"
            )
        return Key(raw)

    def __str__(self) -> str:
        numbers = f"{self.memory_kib},{self.passes},{self.lanes}"
        return f"argon2id${_ARGON2_VERSION}${numbers}${encode(self.salt)}"


def _parse(text: str) -> tuple[int, int, int, bytes]:
    if not isinstance(text, str):
        raise Malformed(f"it is {type(text).__name__}, not text")
    match = re.fullmatch(_FORM, text)
    if not match:
        raise Malformed("it is not of the form argon2id$19$<memory>,<passes>,<lanes>$<salt>")
    memory_kib, passes, lanes = map(int, match.groups()[:3])
    return memory_kib, passes, lanes, decode(match[4], "salt")


def _clean(secret: Secret) -> bytes | None:
    # Raises nothing: a UnicodeEncodeError would carry the secret.
    try:
        return secret.reveal().strip(WHITE_SPACE).encode() or None
    except UnicodeEncodeError:
        return None


def _argon2id(kdf: Kdf, secret: Secret) -> bytes | None:
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    # Raises nothing either: the frames below hold the secret.
    try:
        return hash_secret_raw(
            _clean(secret) or b"",
            kdf.salt,
            time_cost=kdf.passes,
            memory_cost=kdf.memory_kib,
            parallelism=kdf.lanes,
            hash_len=KEY_BYTES,
            type=Type.ID,
            version=_ARGON2_VERSION,
        )
    except (HashingError, MemoryError):
        return None


V2_KDF = Kdf(19_456, 2, 1, b"gproxy-db-enc-v2")
"""GPROXY's key derivation: with one fixed salt, so each secret has one key."""
