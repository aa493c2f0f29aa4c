"""base64url with one spelling for each value; parts with their lengths."""

from __future__ import annotations

import base64
import itertools
import string

import pytest

from gproxy_storage.crypto.encoding import Malformed, decode, encode, lp
from tests.cases import for_each

ALPHABET = string.ascii_letters + string.digits + "-_"


@for_each("size", range(70))
def test_it_is_the_standard_encoding_without_padding(size: int) -> None:
    raw = bytes(byte * 37 % 256 for byte in range(size))
    text = encode(raw)

    assert text == base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert decode(text, "part") == raw


@for_each("size", [1, 2, 3])
def test_of_all_spellings_exactly_the_canonical_are_read(size: int) -> None:
    """Every pair of characters, alone and at the end of a group."""
    read = 0
    for pair in itertools.product(ALPHABET, repeat=min(size, 2)):
        text = "A" * (size - len(pair)) + "".join(pair)
        try:
            raw = decode(text, "part")
        except Malformed:
            continue
        assert encode(raw) == text
        read += 1
    assert read == {1: 0, 2: 256, 3: 1024}[size]


@for_each(
    ("text", "problem"),
    [
        ("AA==", "its part is padded"),
        ("AAA=", "its part is padded"),
        ("AAAA=", "its part is padded"),
        ("A", "its part has a length that base64url cannot have"),
        ("AAAAA", "its part has a length that base64url cannot have"),
        ("AB", "its part has spare bits that are not zero"),
        ("AAB", "its part has spare bits that are not zero"),
        ("AA+A", "its part holds a character outside base64url"),
        ("AA/A", "its part holds a character outside base64url"),
        ("AA A", "its part holds a character outside base64url"),
        ("AAAA\n", "its part holds a character outside base64url"),
        ("\nAAAA", "its part holds a character outside base64url"),
        ("AA\0A", "its part holds a character outside base64url"),
        ("AA=A", "its part holds a character outside base64url"),
        ("=AAA", "its part holds a character outside base64url"),
        ("====", "its part holds a character outside base64url"),
        ("AAé", "its part holds a character outside base64url"),
        ("AAA\udcff", "its part holds a character outside base64url"),
        ("ＡＡＡＡ", "its part holds a character outside base64url"),  # noqa: RUF001 - full width
    ],
)
def test_anything_else_is_refused_and_said(text: str, problem: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(text, "part")

    assert str(caught.value) == problem


@for_each("at", range(8))
def test_one_odd_character_anywhere_is_refused(at: int) -> None:
    for character in map(chr, range(256)):
        text = "AAAAAAAA"[:at] + character + "AAAAAAAA"[at + 1 :]
        if character in ALPHABET:
            assert encode(decode(text, "part")) == text
        else:
            with pytest.raises(Malformed):
                decode(text, "part")


def test_lp_gives_each_part_its_length() -> None:
    assert lp() == b""
    assert lp(b"", b"ab") == b"\0\0\0\0\0\0\0\2ab"
    assert lp(b"a", b"b") != lp(b"ab", b"")
