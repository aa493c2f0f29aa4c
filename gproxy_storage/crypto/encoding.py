"""Canonical encodings: base64url without padding, parts prefixed by their lengths."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
# Maps the characters that base64url lacks to one that the strict decoder refuses.
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"===", b"==", b"=")
# The last characters whose spare bits are zero, by the length modulo 4.
_LAST: tuple[str | None, ...] = (None, "", "AQgw", "AEIMQUYcgkosw048")


class Malformed(Exception):  # noqa: N818 - internal: parsers raise it, their callers translate it
    """A parser's finding, in words without any of the value."""


def encode(raw: bytes) -> str:
    """Return the base64url form, without padding."""
    return b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def decode(text: str, part: str) -> bytes:
    """Decode canonical base64url without padding.

    Args:
        part: the name of the text, for messages.
    Raises:
        Malformed: when the text is not what `encode` returns for any bytes.
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
    """Join parts unambiguously: each prefixed by its length, u32 big-endian."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])
