"""XChaCha20-Poly1305 over cryptography's ChaCha20; deterministic.

The caller provides keys and nonces: a nonce must never be used twice under one key, which 24 random
bytes ensure. The rounds are OpenSSL's; only a subtraction of public words is added here.

Source: draft-irtf-cfrg-xchacha-03; HChaCha20 is its section 2.2, the AEAD its section 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ..secret import Opaque
from . import KEY_BYTES, NONCE_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

_HCHACHA_NONCE_BYTES = 16
_CONSTANTS = b"expand 32-byte k"  # words 0 to 3 of every ChaCha20 state
_ONE_BLOCK = bytes(64)
_HIGH = int.from_bytes(b"\x00\x00\x00\x80" * 8, "little")  # the top bit of eight 32-bit lanes
_LOW = (1 << 256) - 1 - _HIGH


class XChaCha20Poly1305(Opaque):
    """The cipher under one key; thread-safe.

    Keeps the key's ChaCha20 contexts, whose set-up is slow, one for each thread that was here at
    the same time. A context holds only the key; the nonce is set for each use.
    """

    __slots__ = ("_contexts", "_key")

    def __init__(self, key: bytes) -> None:
        _check("key", key, KEY_BYTES)
        self._key = key
        self._contexts: list[CipherContext] = []

    def encrypt(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Return the ciphertext followed by its tag of 16 bytes.

        Raises:
            TypeError: when an argument is not bytes.
            ValueError: when the nonce does not have 24 bytes.
        """
        _check("plaintext", plaintext)
        return self._aead(nonce, aad).encrypt(b"\0\0\0\0" + nonce[16:], plaintext, aad)

    def decrypt(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        """Return the plaintext of a ciphertext that is followed by its tag.

        Raises:
            cryptography.exceptions.InvalidTag: when an argument or the key has changed.
            TypeError: when an argument is not bytes.
            ValueError: when the nonce does not have 24 bytes.
        """
        _check("ciphertext", ciphertext)
        return self._aead(nonce, aad).decrypt(b"\0\0\0\0" + nonce[16:], ciphertext, aad)

    def _aead(self, nonce: bytes, aad: bytes) -> ChaCha20Poly1305:
        _check("nonce", nonce, NONCE_BYTES)
        _check("aad", aad)
        # No name for the subkey: a traceback that shows variables would show it.
        return ChaCha20Poly1305(self.hchacha20(nonce[:16]))

    def hchacha20(self, nonce16: bytes) -> bytes:
        """Return the subkey for the first 16 bytes of a nonce.

        HChaCha20 is the ChaCha20 block function without its last step, which adds the initial
        state to the final one. A block of key stream is such a sum, and the initial values of the
        words used, 0-3 and 12-15, are public: the constants and the nonce.
        """
        _check("nonce16", nonce16, _HCHACHA_NONCE_BYTES)
        try:
            context = self._contexts.pop()  # atomic: no other thread gets this one
        except IndexError:
            context = Cipher(algorithms.ChaCha20(self._key, nonce16), None).encryptor()
        else:
            context.reset_nonce(nonce16)
        block = context.update(_ONE_BLOCK)
        self._contexts.append(context)
        # Eight 32-bit subtractions in one: with its top bit set, no lane borrows from the next, and
        # the exclusive or corrects that bit.
        x = int.from_bytes(block[:16] + block[48:], "little")
        y = int.from_bytes(_CONSTANTS + nonce16, "little")
        return (((x | _HIGH) - (y & _LOW)) ^ ((x ^ ~y) & _HIGH)).to_bytes(32, "little")


def _check(name: str, value: bytes, length: int | None = None) -> None:
    if type(value) is not bytes:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} must have {length} bytes, not {len(value)}")
