"""Properties of sealing: what goes in comes out, in its place only, and unchanged only."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.envelope import Document, Envelope, parse_json, parse_text
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keys import Key
from gproxy_storage.crypto.keyset import KeySet, Mode
from gproxy_storage.errors import CryptoError, InvalidValue, MalformedEnvelope, Tampered
from tests.cases import for_any

BINDING = Binding("users", "password", 42)
RAW = bytes(range(32))
V2 = Key(bytes(range(32, 64)))
SEALED = Keyring(
    KeySet(
        mode=Mode.ENCRYPTED,
        active=Key(RAW).kid,
        data={Key(RAW).kid: Key(RAW)},
        lookup=Key.generate(),
        spool=Key.generate(),
    )
)
GPROXYS = Keyring.create(Mode.V2, v2=V2)
RINGS = [Keyring.plaintext(), SEALED, Keyring.create(Mode.MIGRATING, v2=V2), GPROXYS]
RINGS.append(SEALED.with_mode(Mode.DECRYPTING))

# "Refused on the way in, in every mode: text that begins `enc:`, JSON that holds `$gproxy_enc`,
# NaN/Infinity, lone surrogates, U+0000."
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters, max_size=200).filter(lambda text: not text.startswith("enc:"))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(characters, max_size=20),
)
names = st.one_of(
    st.sampled_from(["kid", "nonce", "gproxy_enc", "$gproxy_enc2", "\\u0024gproxy_enc"]),
    st.text(characters, max_size=10),
).filter(lambda name: name != "$gproxy_enc")
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=20,
)
labels = st.text("abc_", min_size=1, max_size=4)
bindings = st.builds(Binding, labels, labels, st.integers(-(2**63), 2**63 - 1))


@given(st.sampled_from(RINGS), texts, bindings)
def test_any_text_makes_the_round_trip(ring: Keyring, text: str, binding: Binding) -> None:
    assert ring.open_text(ring.seal_text(text, binding), binding) == text


@given(st.sampled_from(RINGS), documents, bindings)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_document_makes_the_round_trip(ring: Keyring, document: Any, binding: Binding) -> None:
    opened = ring.open_json(ring.seal_json(document, binding), binding)

    # JSON text tells 1 from 1.0 and True, and 0.0 from -0.0, which equality does not
    assert json.dumps(opened) == json.dumps(document)


@given(st.sampled_from(RINGS), st.text(st.characters(exclude_categories=[])))
def test_a_text_is_refused_or_makes_the_round_trip(ring: Keyring, text: str) -> None:
    for value in (text, f"enc:{text}"):
        try:
            stored = ring.seal_text(value, BINDING)
        except InvalidValue:
            continue
        assert ring.open_text(stored, BINDING) == value


@given(st.sampled_from([SEALED, RINGS[2]]), texts, bindings, bindings)
def test_a_moved_value_does_not_open(
    ring: Keyring, text: str, binding: Binding, elsewhere: Binding
) -> None:
    assume(binding != elsewhere)
    moves = [
        elsewhere,
        binding._replace(table=elsewhere.table),
        binding._replace(column=elsewhere.column),
        binding._replace(pk=elsewhere.pk),
        Binding(binding.table + binding.column[:1], binding.column[1:], binding.pk),
    ]
    for move in moves:
        if move != binding:
            with pytest.raises(Tampered):
                ring.open_text(ring.seal_text(text, binding), move)
            with pytest.raises(Tampered):
                ring.open_json(ring.seal_json([text], binding), move)


def flipped(stored: str, start: int = 0) -> Iterator[str]:
    """Yield a text with each of its bits flipped in turn, from a character on."""
    for at in range(start, len(stored)):
        for bit in range(8):
            yield stored[:at] + chr(ord(stored[at]) ^ 1 << bit) + stored[at + 1 :]


def assert_none_opens(opens: Callable[[str, Binding], Any], changed: Iterator[str]) -> None:
    for stored in changed:
        with pytest.raises(CryptoError):
            opens(stored, BINDING)


texts_to_seal = st.text(characters, max_size=30).filter(lambda text: not text.startswith("enc:"))


# Each example tries all the bits of an envelope, some 1,000.
@for_any(texts_to_seal, quick=5, thorough=100)
def test_no_flipped_bit_opens(text: str) -> None:
    assert_none_opens(SEALED.open_text, flipped(SEALED.seal_text(text, BINDING)))
    assert_none_opens(SEALED.open_json, flipped(SEALED.seal_json(text, BINDING)))


@for_any(texts_to_seal, quick=5, thorough=100)
def test_no_flipped_bit_opens_in_gproxys_format(text: str) -> None:
    """But for the marker: without it, a value is plaintext, which mode v2 reads."""
    for ring in (GPROXYS, GPROXYS.with_mode(Mode.MIGRATING)):
        text_after, json_after = len("enc:"), len('{"$gproxy_enc":')
        stored, document = GPROXYS.seal_text(text, BINDING), GPROXYS.seal_json(text, BINDING)
        assert_none_opens(ring.open_text, flipped(stored, text_after))
        assert_none_opens(ring.open_json, flipped(document, json_after))


# -- parsing ------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [*("enc:", "v2", "v3", ":", "a738dbd331b00de7", "A" * 32, "A" * 22, "QQ", "pending", "=", "é")]
)


@for_any(
    st.one_of(st.text(), st.lists(pieces).map("".join), st.lists(pieces).map(":".join)),
    quick=150,
    thorough=2000,
)
def test_a_text_is_plaintext_or_an_envelope_with_one_spelling_or_malformed(text: str) -> None:
    try:
        parsed = parse_text(text)
    except MalformedEnvelope:
        assert text.startswith("enc:")
        return
    assert parsed.to_text() == text if parsed else not text.startswith("enc:")


json_pieces = st.sampled_from(
    [*'{}[],:"\\', '"$gproxy_enc"', '"v3"', '"kid"', '"\\u0024gproxy_enc"', "1", "NaN", " "]
)


@for_any(st.one_of(st.text(), st.lists(json_pieces).map("".join)), quick=150, thorough=2000)
def test_a_json_text_is_a_document_or_an_envelope_or_malformed(text: str) -> None:
    try:
        parsed = parse_json(text)
    except MalformedEnvelope:
        return
    if isinstance(parsed, Envelope):
        assert json.loads(parsed.to_json()) == json.loads(text)
    else:
        assert isinstance(parsed, Document)
        assert parsed.value == json.loads(text)


# -- libsodium ----------------------------------------------------------------------------------


def independent_aad(kid: str, binding: Binding) -> bytes:
    """Spell the associated data as ENCRYPTION says, with none of the package's code."""
    parts = ["gproxy-storage/value/v3", kid, binding.table, binding.column, str(binding.pk)]
    return b"".join(struct.pack(">I", len(part)) + part.encode() for part in parts)


def test_a_thousand_values_both_ways_against_libsodium() -> None:
    source = random.Random(2)
    kid = Key(RAW).kid
    for number in range(1000):
        text = "".join(chr(source.randrange(1, 0xD800)) for _ in range(source.randrange(100)))
        binding = Binding("users", "password", source.randrange(-(2**63), 2**63))
        aad = independent_aad(kid, binding)
        if number % 2:
            nonce = source.randbytes(24)
            sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
                text.encode(), aad, nonce, RAW
            )
            stored = Envelope("v3", kid, nonce, sealed).to_text()
            assert SEALED.open_text(stored, binding) == text
        else:
            parsed = parse_text(SEALED.seal_text(text, binding))
            assert isinstance(parsed, Envelope)
            opened = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
                parsed.ciphertext, aad, parsed.nonce, RAW
            )
            assert opened.decode() == text
