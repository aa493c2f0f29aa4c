"""Sealing and opening 100 bytes, against libsodium through PyNaCl.

Two levels, with the same key, text and associated data:

- key: `Key.seal` and `Key.open`, bytes to bytes, the nonce given: the primitive alone;
- keyring: `Keyring.seal_text` and `Keyring.open_text`, all that a column costs: checks, the drawn
  nonce, the associated data of the binding, and base64 both ways. libsodium draws a nonce, too, and
  does nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from nacl import bindings as sodium

from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keys import Key, new_nonce
from gproxy_storage.crypto.keyset import KeySet, Mode
from tests.benchmarks import Figure, medians

ROUNDS = 100
TIMES = 1_000

TEXT = "sk-" + 97 * "0"
BINDING = Binding("users", "password", 42)

MOST = 2.0


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure once, with SQLite, which every machine has: no database is used."""
    if backend != "sqlite":
        return
    for subject, ours, libsodium in _pairs():
        taken = medians({"ours": _often(ours), "libsodium": _often(libsodium)}, ROUNDS)
        yield Figure(
            "none",
            f"{subject}, {TIMES:,} times",
            "libsodium",
            taken["ours"],
            taken["libsodium"],
            MOST,
        )


Call = Callable[[], object]


def _pairs() -> Iterator[tuple[str, Call, Call]]:
    raw = os.urandom(32)
    key = Key(raw)
    ring = _keyring(key)
    plaintext, aad, nonce = TEXT.encode(), BINDING.aad(key.kid), new_nonce()
    ciphertext, stored = key.seal(nonce, plaintext, aad), ring.seal_text(TEXT, BINDING)
    encrypt = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt
    decrypt = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt

    def libsodium_opens() -> bytes:
        return decrypt(ciphertext, aad, nonce, raw)

    yield (
        "key: seal 100 bytes",
        lambda: key.seal(nonce, plaintext, aad),
        lambda: encrypt(plaintext, aad, nonce, raw),
    )
    yield "key: open 100 bytes", lambda: key.open(nonce, ciphertext, aad), libsodium_opens
    yield (
        "keyring: seal 100 bytes",
        lambda: ring.seal_text(TEXT, BINDING),
        lambda: encrypt(plaintext, aad, os.urandom(24), raw),
    )
    yield "keyring: open 100 bytes", lambda: ring.open_text(stored, BINDING), libsodium_opens


def _keyring(key: Key) -> Keyring:
    return Keyring(
        KeySet(
            mode=Mode.ENCRYPTED,
            active=key.kid,
            data={key.kid: key},
            lookup=Key.generate(),
            spool=Key.generate(),
        )
    )


def _often(call: Call) -> Call:
    def calls() -> None:
        for _ in range(TIMES):
            call()

    return calls
