"""How spooled rows are sealed while encryption is on."""

from __future__ import annotations

from typing import Protocol

from ..crypto.keys import NONCE_BYTES, Key, new_nonce

_CONTEXT = b"gproxy-storage/spool/v1\0"


class SpoolCipher(Protocol):
    """Seals what a spool or rejects file holds of rows."""

    @property
    def kid(self) -> str:
        """The key's id, noted in the clear."""

    def seal(self, plaintext: bytes, place: bytes) -> bytes:
        """Return the sealed form, which opens in the same place only."""

    def open(self, sealed: bytes, place: bytes) -> bytes | None:
        """Return the plaintext, or None when it was changed, moved, or sealed by another key."""


class KeyCipher:
    """A SpoolCipher by one key: a fresh nonce, then the ciphertext with its tag."""

    def __init__(self, key: Key) -> None:
        self._key = key

    @property
    def kid(self) -> str:
        """The key's id."""
        return self._key.kid

    def seal(self, plaintext: bytes, place: bytes) -> bytes:
        """Seal under a nonce drawn for it."""
        nonce = new_nonce()
        return nonce + self._key.seal(nonce, plaintext, _CONTEXT + place)

    def open(self, sealed: bytes, place: bytes) -> bytes | None:
        """Open what `seal` returned for this place."""
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        if len(nonce) < NONCE_BYTES:
            return None
        return self._key.open(nonce, ciphertext, _CONTEXT + place)
