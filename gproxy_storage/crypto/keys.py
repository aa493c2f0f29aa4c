"""Key: 32 secret bytes and what they are used for; shows none of them."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Self

from .opaque import Opaque

KEY_BYTES = 32
NONCE_BYTES = 24

_KID_CONTEXT = b"gproxy-storage/kid/v1"
_KID_HEX = 16


class Key(Opaque):
    """A secret key of 32 bytes. Equality takes constant time.

    Python cannot wipe memory: the bytes stay in it for as long as the key is used, and after.

    Attributes:
        kid: the key's id, 16 lower-case hex digits: the first 8 bytes of HMAC-SHA256 under the
            key itself, so it is no secret. Hex, for MySQL compares text without case.
    """

    __slots__ = ("_cipher", "_raw", "kid")

    def __init__(self, raw: bytes) -> None:
        # Imported when the first key is made: a plaintext database starts 10 ms sooner without.
        from .xchacha import XChaCha20Poly1305  # noqa: PLC0415 - see above

        if type(raw) is not bytes or len(raw) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes")
        self._raw = raw
        self._cipher = XChaCha20Poly1305(raw)
        self.kid = self.digest(_KID_CONTEXT).hex()[:_KID_HEX]

    @classmethod
    def generate(cls) -> Self:
        """Draw a key from the operating system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Return the ciphertext with its tag.

        Args:
            nonce: 24 bytes that this key has never sealed with; `new_nonce` draws them.
            aad: must be the same for opening.
        """
        return self._cipher.encrypt(nonce, plaintext, aad)

    def open(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes | None:
        """Return the plaintext, or None when nonce, ciphertext or aad is not what it was."""
        # None rather than an error: the caller raises its own, with nothing of this in its chain.
        try:
            return self._cipher.decrypt(nonce, ciphertext, aad)
        except _invalid_tag():
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
    """Draw a nonce; 24 random bytes do not repeat under one key in any number of values."""
    return os.urandom(NONCE_BYTES)


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above

    return InvalidTag
