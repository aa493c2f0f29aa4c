"""XChaCha20-Poly1305: the draft's vectors, libsodium, strictness, threads."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from nacl import bindings as sodium

from gproxy_storage.crypto.xchacha import XChaCha20Poly1305
from tests.cases import for_each

from .support import load_vectors

KEY, NONCE = bytes(range(32)), bytes(range(24))


def encrypt(key: bytes, *arguments: bytes) -> bytes:
    return XChaCha20Poly1305(key).encrypt(*arguments)


def decrypt(key: bytes, *arguments: bytes) -> bytes:
    return XChaCha20Poly1305(key).decrypt(*arguments)


def unhex(vector: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in vector.items()}


def test_the_drafts_hchacha20_vector() -> None:
    vector = unhex(load_vectors("xchacha20-draft")["hchacha20"])

    assert XChaCha20Poly1305(vector["key"]).hchacha20(vector["nonce"]) == vector["subkey"]


def test_the_drafts_aead_vector() -> None:
    vector = unhex(load_vectors("xchacha20-draft")["aead"])
    sealed = vector["ciphertext"] + vector["tag"]
    key, nonce, aad = vector["key"], vector["nonce"], vector["aad"]

    assert encrypt(key, nonce, vector["plaintext"], aad) == sealed
    assert decrypt(key, nonce, sealed, aad) == vector["plaintext"]


def test_a_thousand_messages_both_ways_against_libsodium() -> None:
    source = random.Random(1)
    ciphers = [XChaCha20Poly1305(source.randbytes(32)) for _ in range(10)]
    for number in range(1000):
        cipher = ciphers[number % 10]
        nonce = source.randbytes(24)
        plaintext = source.randbytes(source.randrange(400))
        aad = source.randbytes(source.randrange(100))
        expected = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
            plaintext, aad, nonce, cipher._key
        )

        assert cipher.encrypt(nonce, plaintext, aad) == expected
        assert encrypt(cipher._key, nonce, plaintext, aad) == expected
        assert cipher.decrypt(nonce, expected, aad) == plaintext
        assert (
            sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(expected, aad, nonce, cipher._key)
            == plaintext
        )


@for_each("byte", [b"\x00", b"\x7f", b"\x80", b"\xff"])
@for_each("key_byte", [b"\x00", b"\xff"])
def test_extreme_words_carry_nothing_over(byte: bytes, key_byte: bytes) -> None:
    key, nonce = key_byte * 32, byte * 24
    cipher = XChaCha20Poly1305(key)
    expected = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(b"text", b"aad", nonce, key)

    for _ in range(3):  # the first time with a new context, then with a kept one
        assert cipher.encrypt(nonce, b"text", b"aad") == expected


@for_each("size", [0, 1, 63, 64, 65, 100_000])
def test_plaintexts_around_the_size_of_a_block(size: int) -> None:
    plaintext = bytes(size)
    sealed = encrypt(KEY, NONCE, plaintext, b"")

    assert len(sealed) == size + 16
    assert decrypt(KEY, NONCE, sealed, b"") == plaintext


@for_each("at", range(20))
def test_a_changed_ciphertext_is_refused(at: int) -> None:
    sealed = bytearray(encrypt(KEY, NONCE, b"text", b"aad"))
    sealed[at] ^= 1

    with pytest.raises(InvalidTag):
        decrypt(KEY, NONCE, bytes(sealed), b"aad")


@for_each("size", range(20))
def test_a_cut_ciphertext_is_refused(size: int) -> None:
    sealed = encrypt(KEY, NONCE, b"text", b"aad")

    with pytest.raises(InvalidTag):
        decrypt(KEY, NONCE, sealed[:size], b"aad")


@for_each("call", [encrypt, decrypt])
@for_each(
    ("arguments", "error", "message"),
    [
        ((KEY[1:], NONCE, b"", b""), ValueError, "key must have 32 bytes, not 31"),
        ((KEY + b"0", NONCE, b"", b""), ValueError, "key must have 32 bytes, not 33"),
        ((KEY, NONCE[1:], b"", b""), ValueError, "nonce must have 24 bytes, not 23"),
        ((KEY, NONCE[:12], b"", b""), ValueError, "nonce must have 24 bytes, not 12"),
        ((bytearray(KEY), NONCE, b"", b""), TypeError, "key must be bytes, not bytearray"),
        ((KEY, memoryview(NONCE), b"", b""), TypeError, "nonce must be bytes, not memoryview"),
        ((KEY, NONCE, "text", b""), TypeError, "text must be bytes, not str"),
        ((KEY, NONCE, b"", None), TypeError, "aad must be bytes, not NoneType"),
        ((KEY.hex(), NONCE, b"", b""), TypeError, "key must be bytes, not str"),
    ],
)
def test_types_and_lengths_are_strict(
    call: Callable[..., bytes], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(*arguments)


@for_each("size", [0, 12, 15, 17, 24])
def test_hchacha20_takes_16_bytes_of_nonce(size: int) -> None:
    with pytest.raises(ValueError, match=f"nonce16 must have 16 bytes, not {size}"):
        XChaCha20Poly1305(KEY).hchacha20(bytes(size))


def test_threads_share_a_cipher() -> None:
    cipher = XChaCha20Poly1305(KEY)
    nonces = [number.to_bytes(24, "little") for number in range(1, 2001)]
    expected = [encrypt(KEY, nonce, b"text", b"") for nonce in nonces]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            sealed = list(pool.map(lambda nonce: cipher.encrypt(nonce, b"text", b""), nonces))
    finally:
        sys.setswitchinterval(interval)

    assert sealed == expected
    assert len(cipher._contexts) <= 8


@for_each("take_away", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_cipher_shows_no_key(take_away: Callable[[object], object]) -> None:
    cipher = XChaCha20Poly1305(KEY)

    assert repr(cipher) == "XChaCha20Poly1305('***')"
    with pytest.raises(TypeError, match="cannot be pickled"):
        take_away(cipher)
