"""The key-derivation function: vectors, strict parsing, bounds, white space, no leaks."""

from __future__ import annotations

import re
from typing import Any

import argon2.low_level
import pytest
from argon2.exceptions import HashingError

from gproxy_storage.crypto.encoding import encode
from gproxy_storage.crypto.kdf import V2_KDF, Kdf
from gproxy_storage.errors import CryptoError, MalformedEnvelope, SecretError
from gproxy_storage.secret import Secret
from tests.cases import for_each

from .support import FAST_KDF, chain, load_vectors, shown_by

SALT = encode(bytes(range(16)))
# Unicode's White_Space, which Rust's trim removes
WHITE_SPACE = [0x20, *range(0x09, 0x0E), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]
WHITE_SPACE += [0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


@for_each("vector", load_vectors("gproxy-v2")["values"])
def test_gproxys_key_is_derived(vector: dict[str, str]) -> None:
    assert V2_KDF.derive(Secret(vector["secret"])).reveal().hex() == vector["derived_key_hex"]


def test_the_keyrings_key_is_derived() -> None:
    vector = load_vectors("gproxy-storage-v3")["keyring"]
    key = Kdf.parse(vector["kdf"]).derive(Secret(vector["secret"]))

    assert key.reveal().hex() == vector["derived_key_hex"]


def test_new_parameters_have_a_new_salt() -> None:
    one, other = Kdf.new(), Kdf.new()

    assert re.fullmatch(r"argon2id\$19\$19456,2,1\$[A-Za-z0-9_-]{22}", str(one))
    assert one.salt != other.salt
    assert Kdf.parse(str(one)) == one


@for_each(
    "text",
    [
        f"argon2id$19$8192,1,1${SALT}",
        f"argon2id$19$262144,10,4${SALT}",
        f"argon2id$19$19456,2,1${encode(bytes(32))}",
    ],
)
def test_the_bounds_are_accepted(text: str) -> None:
    assert str(Kdf.parse(text)) == text


FORM = "it is not of the form"


@for_each(
    ("text", "problem"),
    [
        (f"argon2id$19$8191,1,1${SALT}", "its memory is not 8192 to 262144 KiB"),
        (f"argon2id$19$262145,1,1${SALT}", "its memory is not 8192 to 262144 KiB"),
        (f"argon2id$19$0,1,1${SALT}", "its memory is not 8192 to 262144 KiB"),
        (f"argon2id$19$4294967296,1,1${SALT}", "its memory is not 8192 to 262144 KiB"),
        (f"argon2id$19$19456,0,1${SALT}", "its number of passes is not 1 to 10"),
        (f"argon2id$19$19456,11,1${SALT}", "its number of passes is not 1 to 10"),
        (f"argon2id$19$19456,2,0${SALT}", "its number of lanes is not 1 to 4"),
        (f"argon2id$19$19456,2,5${SALT}", "its number of lanes is not 1 to 4"),
        (f"argon2id$19$19456,2,1${encode(bytes(15))}", "its salt is not 16 to 32 bytes"),
        (f"argon2id$19$19456,2,1${encode(bytes(33))}", "its salt is not 16 to 32 bytes"),
        ("argon2id$19$19456,2,1$", "its salt is not 16 to 32 bytes"),
        (f"argon2id$19$19456,2,1${SALT}==", "its salt is padded"),
        (f"argon2id$19$19456,2,1${SALT[:-1]}+", "its salt holds a character outside base64url"),
        (f"argon2id$19$19456,2,1${SALT[:-1]}x", "its salt has spare bits that are not zero"),
        (f"argon2i$19$19456,2,1${SALT}", FORM),
        (f"argon2id$16$19456,2,1${SALT}", FORM),
        (f"argon2id$v=19$m=19456,t=2,p=1${SALT}", FORM),
        (f"argon2id$19$019456,2,1${SALT}", FORM),
        (f"argon2id$19$+19456,2,1${SALT}", FORM),
        (f"argon2id$19$-19456,2,1${SALT}", FORM),
        (f"argon2id$19$19456.0,2,1${SALT}", FORM),
        (f"argon2id$19$1_9456,2,1${SALT}", FORM),
        (f"argon2id$19$١٩٤٥٦,2,1${SALT}", FORM),
        (f"argon2id$19$99999999999999999999,2,1${SALT}", FORM),
        (f"argon2id$19$19456,2${SALT}", FORM),
        (f"argon2id$19$19456,2,1,1${SALT}", FORM),
        (f"argon2id$19$19456, 2, 1${SALT}", FORM),
        (f"argon2id$19$19456,2,1${SALT}$", FORM),
        (f"argon2id$19$19456,2,1${SALT}\n", "its salt holds a character outside base64url"),
        (f" argon2id$19$19456,2,1${SALT}", FORM),
        ("", FORM),
        ("canary" * 100_000, FORM),
        (b"argon2id", "it is bytes, not text"),
    ],
)
def test_anything_else_is_refused_and_said(text: Any, problem: str) -> None:
    with pytest.raises(MalformedEnvelope) as caught:
        Kdf.parse(text)

    error = caught.value
    assert error.problem.startswith(problem)
    assert (error.table, error.column, error.pk) == ("encryption_keys", "kdf", 1)
    assert "encryption_keys.kdf, row 1" in str(error)
    assert "restore the row" in str(error)
    assert "canary" not in str(error)
    assert list(chain(error)) == [error]


@for_each("values", [(8191, 1, 1), (8192, 11, 1), (8192, 1, 5)])
def test_the_bounds_hold_without_parsing(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not"):
        Kdf(*values, bytes(16))


def test_white_space_around_a_secret_is_what_rust_trims() -> None:
    plain = FAST_KDF.derive(Secret("a b"))

    for point in WHITE_SPACE:
        assert FAST_KDF.derive(Secret(f"{chr(point)}a b{chr(point)}")) == plain, hex(point)


@for_each("point", [0x1C, 0x1D, 0x1E, 0x1F, 0x00, 0x180E, 0x200B, 0x2060, 0xFEFF])
def test_what_rust_does_not_trim_counts(point: int) -> None:
    plain = FAST_KDF.derive(Secret("a b"))

    assert FAST_KDF.derive(Secret(f"{chr(point)}a b")) != plain
    assert FAST_KDF.derive(Secret(f"a b{chr(point)}")) != plain


@for_each("text", ["", " \t\n", "\u3000", "canary\udcff", "\udcffcanary"])
def test_a_secret_that_is_blank_or_no_unicode_is_refused(text: str) -> None:
    with pytest.raises(SecretError) as caught:
        FAST_KDF.derive(Secret(text))

    assert "canary" not in shown_by(caught.value)
    assert "udcff" not in shown_by(caught.value)
    assert not any(isinstance(link, UnicodeError) for link in chain(caught.value))


@pytest.mark.parametrize("failure", [HashingError("no memory"), MemoryError()])
def test_a_lack_of_memory_is_reported(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(secret: bytes, *_: object, **__: object) -> bytes:
        raise failure

    monkeypatch.setattr(argon2.low_level, "hash_secret_raw", fail)
    with pytest.raises(CryptoError, match="Argon2 needs 8192 KiB of memory") as caught:
        FAST_KDF.derive(Secret("canary"))

    assert "canary" not in shown_by(caught.value)
