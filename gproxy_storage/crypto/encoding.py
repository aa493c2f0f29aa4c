"""Byte-exact encodings: base64url without padding, parts with their lengths."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
# What base64url has not becomes what the strict decoder refuses.
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"===", b"==", b"=")
# The last characters whose spare bits are zero, by the length modulo 4.
_LAST: tuple[str | None, ...] = (None, "", "AQgw", "AEIMQUYcgkosw048")


class Malformed(Exception):  # noqa: N818 - internal: parsers raise it, their callers translate it
    """What a parser found, in words of its own and none of the value's."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def encode(raw: bytes) -> str:
    """Return the base64url form, without padding."""
    return b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def decode(text: str, part: str) -> bytes:
    """Return the bytes of the one base64url form that they have.

    Args:
        part: what the text is, for the message.
    Raises:
        Malformed: when `encode` does not write it so.
    """
    remainder = len(text) & 3
    last = _LAST[remainder]
    if text.isascii() and (last is None or text[-1] in last):
        try:
            padded = text.encode().translate(_FROM_URL) + _PADDING[remainder]
            return a2b_base64(padded, strict_mode=True)
        except Error:
            pass
    raise Malformed(f"its {part} {_diagnose(text)}")


def _diagnose(text: str) -> str:
    if re.fullmatch("[A-Za-z0-9_-]+=+", text):
        return "is padded"
    if not re.fullmatch("[A-Za-z0-9_-]*", text):
        return "holds a character outside base64url"
    if len(text) % 4 == 1:
        return "has a length that base64url cannot have"
    return "has spare bits that are not zero"


def lp(*parts: bytes) -> bytes:
    """Join parts so that no other parts give the same: each after its length, u32 big-endian."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])
