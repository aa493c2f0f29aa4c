"""Key: 32 secret bytes and their use; never shown."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Self

from cryptography.exceptions import InvalidTag

from ..secret import Opaque
from . import KEY_BYTES, NONCE_BYTES

_KID_CONTEXT = b"gproxy-storage/kid/v1"
_KID_HEX = 16


class Key(Opaque):
    """A secret key of 32 bytes. Equality takes constant time.

    Python cannot wipe memory: the bytes remain in it while the key is in use, and after.

    Attributes:
        kid: the key's id, 16 lower-case hex digits: the first 8 bytes of HMAC-SHA256 under the key
            itself, so it is no secret. Hex, because MySQL may compare text ignoring case.
    """

    __slots__ = ("_cipher", "_raw", "kid")

    def __init__(self, raw: bytes) -> None:
        from .xchacha import XChaCha20Poly1305

        if type(raw) is not bytes or len(raw) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes")
        self._raw = raw
        self._cipher = XChaCha20Poly1305(raw)
        self.kid = self.digest(_KID_CONTEXT).hex()[:_KID_HEX]

    @classmethod
    def generate(cls) -> Self:
        """Generate a random key."""
        return cls(os.urandom(KEY_BYTES))

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Return the ciphertext with its tag.

        Args:
            nonce: 24 bytes, never used before with this key; see `new_nonce`.
            aad: must be the same when it is opened.
        """
        return self._cipher.encrypt(nonce, plaintext, aad)

    def open(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes | None:
        """Return the plaintext, or None when nonce, ciphertext or aad has changed."""
        # None rather than an error: the caller's own error must not have this one in its chain.
        try:
            return self._cipher.decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            return None

    def digest(self, message: bytes) -> bytes:
        """Return the HMAC-SHA256 of a message under this key."""
        return hmac.digest(self._raw, message, hashlib.sha256)

    def reveal(self) -> bytes:
        """Return the bytes themselves. Never put the result into a message or a log."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash(self.kid)


def new_nonce() -> bytes:
    """Generate a nonce; 24 random bytes do not repeat under one key for any number of values."""
    return os.urandom(NONCE_BYTES)
