"""Envelopes: the stored forms of a sealed value, text and JSON, strict both ways.

======= ============================================ =============================================
version text                                         JSON
======= ============================================ =============================================
v3      ``enc:v3:<kid>:<nonce>:<ciphertext>``        ``{"$gproxy_enc":"v3","kid":…,"nonce":…,
                                                     "ciphertext":…}``
v2      ``enc:v2:<nonce>:<ciphertext>``, GPROXY's    ``{"$gproxy_enc":"v2","nonce":…,
                                                     "ciphertext":…}``
======= ============================================ =============================================

The kid is 16 lower-case hex digits; nonce (24 bytes) and ciphertext (with a tag of 16 bytes) are
base64url without padding. Each envelope has exactly one form, but for the order and spacing of JSON
members, which MySQL changes. A value that begins with ``enc:`` or has a member ``$gproxy_enc`` is
an envelope or malformed, never plaintext; any other value is plaintext.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from ..errors import MalformedEnvelope
from ..secret import Opaque
from . import NONCE_BYTES, TAG_BYTES
from .binding import Binding
from .crypto_errors import malformed
from .encoding import Malformed, decode, encode
from .plaintext import MARKER, PREFIX, Marked, load_json

PENDING_TEXT = f"{PREFIX}v3:pending"
PENDING_JSON = f'{{"{MARKER}":"pending"}}'
"""Placeholders in a new row until its primary key, to which values are bound, is known."""

_PENDING = "it is still the placeholder of an insert that did not finish"
_PARTS = {"v2": ("nonce", "ciphertext"), "v3": ("kid", "nonce", "ciphertext")}
_KID = re.compile("[0-9a-f]{16}")


class Form(StrEnum):
    """The kind of a stored value, by its form alone."""

    PLAINTEXT = "plaintext"
    V2 = "v2"
    V3 = "v3"
    PENDING = "pending"
    MALFORMED = "malformed"


class Envelope(NamedTuple):
    """A sealed value's parts, none of them secret.

    Attributes:
        version: ``v3``, or ``v2`` for GPROXY's.
        kid: the id of the key that sealed it; None in v2, which has no key ids.
        nonce: 24 bytes.
        ciphertext: with its tag of 16 bytes.
    """

    version: Literal["v2", "v3"]
    kid: str | None
    nonce: bytes
    ciphertext: bytes

    def to_text(self) -> str:
        """Return the form for a text column."""
        start = text_start(self.version, self.kid)
        return f"{start}{encode(self.nonce)}:{encode(self.ciphertext)}"

    def to_json(self) -> str:
        """Return the form for a JSON column, as JSON text."""
        start = json_start(self.version, self.kid)
        # Nothing in the parts needs escaping.
        return f'{start}{encode(self.nonce)}","ciphertext":"{encode(self.ciphertext)}"}}'


def text_start(version: str, kid: str | None) -> str:
    """Return what precedes the nonce in the text form; no plaintext begins with it."""
    key = "" if kid is None else f"{kid}:"
    return f"{PREFIX}{version}:{key}"


def json_start(version: str, kid: str | None) -> str:
    """Return what precedes the nonce in the JSON form, as it is written: MySQL stores another."""
    key = "" if kid is None else f'"kid":"{kid}",'
    return f'{{"{MARKER}":"{version}",{key}"nonce":"'


class Document(Opaque):
    """A JSON document that was stored in the clear; opaque, for it may be a secret."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def parse_text(stored: str, binding: Binding | None = None) -> Envelope | None:
    """Parse the envelope in a text column; None if the text is plaintext.

    Args:
        binding: where it is stored, for the error.
    Raises:
        MalformedEnvelope: when it begins with ``enc:`` and is no envelope.
    """
    try:
        return _parse_text(stored)
    except Malformed as exc:
        problem = str(exc)
    raise malformed(binding, problem)


def parse_json(stored: str, binding: Binding | None = None) -> Envelope | Document:
    """Parse the envelope in a JSON column, or the document if it is plaintext.

    Args:
        stored: the column's JSON text.
        binding: where it is stored, for the error.
    Raises:
        MalformedEnvelope: when it is not JSON, or has ``$gproxy_enc`` and is no envelope.
    """
    try:
        return _parse_json(stored)
    except Malformed as exc:
        problem = str(exc)
    raise malformed(binding, problem)


def form_of(parse: Callable[[str], Envelope | Document | None], stored: str) -> Form:
    """Return the form of a stored value; `parse` is `parse_text` or `parse_json`."""
    return examined(parse, stored)[0]


def examined(
    parse: Callable[[str], Envelope | Document | None], stored: str
) -> tuple[Form, Envelope | None]:
    """Return the form of a stored value, as `form_of`, and its envelope if it is sealed."""
    try:
        parsed = parse(stored)
    except MalformedEnvelope as exc:
        return (Form.PENDING if exc.problem == _PENDING else Form.MALFORMED), None
    if isinstance(parsed, Envelope):
        return Form(parsed.version), parsed
    return Form.PLAINTEXT, None


def _parse_text(stored: str) -> Envelope | None:
    if not isinstance(stored, str):  # SQLite's columns accept any type
        raise Malformed(f"it is {type(stored).__name__}, not text")
    if not stored.startswith(PREFIX):
        return None
    _, version, *parts = stored.split(":", 5)  # one part too many is enough
    names = _PARTS.get(version)
    if names is None:
        raise Malformed("its version is neither v2 nor v3")
    if len(parts) == len(names):
        return _envelope(version, parts)
    if stored == PENDING_TEXT:
        raise Malformed(_PENDING)
    if len(parts) > len(names):
        raise Malformed("it has a part too many")
    raise Malformed(f"its {names[len(parts)]} is missing")


def _parse_json(stored: str) -> Envelope | Document:
    if not isinstance(stored, str):
        raise Malformed(f"it is {type(stored).__name__}, not JSON text")
    document = load_json(stored)
    if not isinstance(document, Marked):
        return Document(document)
    members = dict(document)
    if len(members) != len(document):
        raise Malformed("it has a member twice")
    version = members.pop(MARKER)
    if version == "pending" and not members:
        raise Malformed(_PENDING)
    if version not in ("v2", "v3"):
        raise Malformed("its version is neither v2 nor v3")
    names = _PARTS[version]
    for name in names:
        if name not in members:
            raise Malformed(f"its {name} is missing")
        if not isinstance(members[name], str):
            raise Malformed(f"its {name} is not a string")
    if len(members) > len(names):
        raise Malformed("it has a member too many")
    return _envelope(version, [members[name] for name in names])


def _envelope(version: Any, parts: Sequence[str]) -> Envelope:
    *kids, nonce, ciphertext = parts
    kid = kids[0] if kids else None
    if kid is not None and not _KID.fullmatch(kid):
        raise Malformed("its kid is not 16 lower-case hex digits")
    return Envelope(version, kid, decode_nonce(nonce), decode_ciphertext(ciphertext))


def decode_nonce(text: str) -> bytes:
    """Decode a nonce from base64url; Malformed unless it has 24 bytes."""
    nonce = decode(text, "nonce")
    if len(nonce) != NONCE_BYTES:
        raise Malformed(f"its nonce has {len(nonce)} bytes instead of {NONCE_BYTES}")
    return nonce


def decode_ciphertext(text: str) -> bytes:
    """Decode a ciphertext from base64url; Malformed if it is shorter than a tag."""
    ciphertext = decode(text, "ciphertext")
    if len(ciphertext) < TAG_BYTES:
        raise Malformed(f"its ciphertext has fewer than the {TAG_BYTES} bytes of a tag")
    return ciphertext
