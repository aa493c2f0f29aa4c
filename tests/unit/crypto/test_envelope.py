"""The stored forms: parsed strictly, written in one way, classified by form alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.encoding import encode
from gproxy_storage.crypto.envelope import (
    PENDING_JSON,
    PENDING_TEXT,
    Document,
    Envelope,
    Form,
    form_of,
    parse_json,
    parse_text,
)
from gproxy_storage.errors import MalformedEnvelope
from tests.cases import for_each

from .support import BINDING, KID, chain, load_vectors

NONCE, CIPHERTEXT = bytes(range(24)), bytes(range(200, 220))
N, C = encode(NONCE), encode(CIPHERTEXT)
V3 = Envelope("v3", KID, NONCE, CIPHERTEXT)
V2 = Envelope("v2", None, NONCE, CIPHERTEXT)


@pytest.mark.parametrize(
    ("envelope", "text", "document"),
    [
        (
            V3,
            f"enc:v3:{KID}:{N}:{C}",
            {"$gproxy_enc": "v3", "kid": KID, "nonce": N, "ciphertext": C},
        ),
        (V2, f"enc:v2:{N}:{C}", {"$gproxy_enc": "v2", "nonce": N, "ciphertext": C}),
    ],
)
def test_an_envelope_is_written_and_parsed_in_both_forms(
    envelope: Envelope, text: str, document: dict[str, str]
) -> None:
    assert envelope.to_text() == text
    assert envelope.to_json() == json.dumps(document, separators=(",", ":"))
    assert parse_text(text) == envelope
    assert parse_json(envelope.to_json()) == envelope
    # MySQL sorts and spaces members
    assert parse_json(json.dumps(document, sort_keys=True, indent=2)) == envelope
    assert form_of(parse_text, text) == form_of(parse_json, envelope.to_json()) == envelope.version


@for_each("size", range(16, 60))
def test_the_length_of_a_text(size: int) -> None:
    n = size - 16  # bytes of plaintext
    envelope = V3._replace(ciphertext=bytes(size))

    assert len(envelope.to_text()) == 57 + -(-4 * (n + 16) // 3)


@for_each("vector", load_vectors("gproxy-v2")["values"])
def test_gproxys_envelopes_are_parsed(vector: dict[str, Any]) -> None:
    text, document = parse_text(vector["token"]), parse_json(json.dumps(vector["json_token"]))

    assert isinstance(text, Envelope)
    assert isinstance(document, Envelope)
    assert (text.version, text.kid) == (document.version, document.kid) == ("v2", None)
    assert text.to_text() == vector["token"]
    assert json.loads(document.to_json()) == vector["json_token"]


@for_each("text", ["", "enc", "ENC:v3:x", " enc:v3:x", "env:", "$argon2id$v=19$m"])
def test_a_text_without_the_prefix_is_plaintext(text: str) -> None:
    assert parse_text(text) is None
    assert form_of(parse_text, text) is Form.PLAINTEXT


@for_each("document", [{}, [], None, 1, "enc:v3:x", {"a": "$gproxy_enc"}, [[]]])
def test_a_document_without_the_marker_is_plaintext(document: Any) -> None:
    parsed = parse_json(json.dumps(document))

    assert isinstance(parsed, Document)
    assert parsed.value == document
    assert form_of(parse_json, json.dumps(document)) is Form.PLAINTEXT


VERSION = "its version is neither v2 nor v3"
PENDING = "it is still the placeholder of an insert that did not finish"
KID_PROBLEM = "its kid is not 16 lower-case hex digits"
ODD = "holds a character outside base64url"


@for_each(
    ("text", "problem"),
    [
        ("enc:", VERSION),
        ("enc:canary", VERSION),
        (f"enc:v1:{N}:{C}", VERSION),
        (f"enc:v4:{KID}:{N}:{C}", VERSION),
        (f"enc:V3:{KID}:{N}:{C}", VERSION),
        (f"enc::v3:{KID}:{N}:{C}", VERSION),
        (PENDING_TEXT, PENDING),
        ("enc:v3", "its kid is missing"),
        ("enc:v3:pending2", "its nonce is missing"),
        ("enc:v2", "its nonce is missing"),
        ("enc:v2:pending", "its ciphertext is missing"),
        (f"enc:v3:{KID}", "its nonce is missing"),
        (f"enc:v3:{KID}:{N}", "its ciphertext is missing"),
        (f"enc:v2:{N}", "its ciphertext is missing"),
        (f"enc:v3:{KID}:{N}:{C}:", "it has a part too many"),
        (f"enc:v3:{KID}:{N}:{C}:{C}", "it has a part too many"),
        (f"enc:v2:{N}:{C}:", "it has a part too many"),
        (f"enc:v2:{KID}:{N}:{C}", "it has a part too many"),
        (f"enc:v3:{N}:{C}", "its ciphertext is missing"),
        (f"enc:v3::{N}:{C}", KID_PROBLEM),
        (f"enc:v3:{KID.upper()}:{N}:{C}", KID_PROBLEM),
        (f"enc:v3:{KID[1:]}:{N}:{C}", KID_PROBLEM),
        (f"enc:v3:{KID}0:{N}:{C}", KID_PROBLEM),
        (f"enc:v3:{KID[1:]}\n:{N}:{C}", KID_PROBLEM),
        (f"enc:v3:{KID[1:]}٣:{N}:{C}", KID_PROBLEM),
        (f"enc:v3:{KID}::{C}", "its nonce has 0 bytes instead of 24"),
        (f"enc:v3:{KID}:{N[4:]}:{C}", "its nonce has 21 bytes instead of 24"),
        (f"enc:v3:{KID}:{N}AAAA:{C}", "its nonce has 27 bytes instead of 24"),
        (f"enc:v3:{KID}:{N[:-1]}=:{C}", "its nonce is padded"),
        (f"enc:v3:{KID}:{N[:-1]}+:{C}", f"its nonce {ODD}"),
        (f"enc:v3:{KID}: {N[1:]}:{C}", f"its nonce {ODD}"),
        (f"enc:v2:{N[:-2]}Z:{C}", "its nonce has spare bits that are not zero"),
        (f"enc:v2:{N[:-3]}:{C}", "its nonce has a length that base64url cannot have"),
        (f"enc:v3:{KID}:{N}:", "its ciphertext has fewer than the 16 bytes of a tag"),
        (f"enc:v3:{KID}:{N}:{encode(bytes(15))}", "its ciphertext has fewer than the 16 bytes"),
        (f"enc:v2:{N}:{encode(bytes(15))}", "its ciphertext has fewer than the 16 bytes"),
        (f"enc:v3:{KID}:{N}:{C}=", "its ciphertext is padded"),
        (f"enc:v3:{KID}:{N}:{C}\n", f"its ciphertext {ODD}"),
        (f"enc:v3:{KID}:{N}:{C[:-1]}/", f"its ciphertext {ODD}"),
        (f"enc:v3:{KID}:{N}:{C[:-1]}é", f"its ciphertext {ODD}"),
        (f"enc:v3:{KID}:{N}:{C[:-1]}\udcff", f"its ciphertext {ODD}"),
        (f"enc:v3:{KID}:{N}:{C[:-1]}9", "its ciphertext has spare bits that are not zero"),
        (f"enc:v3:{KID}:{N}:{C[:-2]}", "its ciphertext has a length that base64url cannot have"),
        (b"enc:v3:canary", "it is bytes, not text"),
        (3, "it is int, not text"),
    ],
)
def test_malformed_texts_say_which_part(text: Any, problem: str) -> None:
    with pytest.raises(MalformedEnvelope) as caught:
        parse_text(text, BINDING)

    check_malformed(caught.value, problem)
    assert form_of(parse_text, text) is (Form.PENDING if problem is PENDING else Form.MALFORMED)


GOOD = {"$gproxy_enc": "v3", "kid": KID, "nonce": N, "ciphertext": C}
GOOD_V2 = {"$gproxy_enc": "v2", "nonce": N, "ciphertext": C}


def without(document: dict[str, Any], name: str) -> str:
    return json.dumps({key: value for key, value in document.items() if key != name})


def changed(document: dict[str, Any], **members: Any) -> str:
    return json.dumps(document | members)


@for_each(
    ("text", "problem"),
    [
        (PENDING_JSON, PENDING),
        ('{"$gproxy_enc":"pending","a":1}', VERSION),
        (changed(GOOD, **{"$gproxy_enc": "v1"}), VERSION),
        (changed(GOOD, **{"$gproxy_enc": "canary"}), VERSION),
        (changed(GOOD, **{"$gproxy_enc": 3}), VERSION),
        (changed(GOOD, **{"$gproxy_enc": None}), VERSION),
        (changed(GOOD, **{"$gproxy_enc": ["v3"]}), VERSION),
        (changed(GOOD, **{"$gproxy_enc": {"$gproxy_enc": "v3"}}), VERSION),
        (without(GOOD, "kid"), "its kid is missing"),
        (without(GOOD, "nonce"), "its nonce is missing"),
        (without(GOOD, "ciphertext"), "its ciphertext is missing"),
        (without(GOOD_V2, "nonce"), "its nonce is missing"),
        (without(GOOD_V2, "ciphertext"), "its ciphertext is missing"),
        (changed(GOOD, canary=1), "it has a member too many"),
        (changed(GOOD_V2, kid=KID), "it has a member too many"),
        (changed(GOOD, kid=1), "its kid is not a string"),
        (changed(GOOD, kid=None), "its kid is not a string"),
        (changed(GOOD, nonce=[N]), "its nonce is not a string"),
        (changed(GOOD, ciphertext={"$gproxy_enc": C}), "its ciphertext is not a string"),
        (changed(GOOD, kid=KID.upper()), KID_PROBLEM),
        (changed(GOOD, nonce=N[4:]), "its nonce has 21 bytes instead of 24"),
        (changed(GOOD, nonce=N[:-1] + "="), "its nonce is padded"),
        (changed(GOOD, ciphertext=C + "="), "its ciphertext is padded"),
        (changed(GOOD, ciphertext=""), "its ciphertext has fewer than the 16 bytes of a tag"),
        (changed(GOOD, ciphertext=C[:-1] + "9"), "its ciphertext has spare bits"),
        (f'{{"kid":"{KID}",{json.dumps(GOOD)[1:]}', "it has a member twice"),
        (f'{{"$gproxy_enc":"v2",{json.dumps(GOOD)[1:]}', "it has a member twice"),
        (f'{{"\\u0024gproxy_enc":"v3",{json.dumps(GOOD)[1:]}', "it has a member twice"),
        (json.dumps([GOOD]), "it holds '$gproxy_enc' inside its document"),
        (json.dumps({"a": GOOD}), "it holds '$gproxy_enc' inside its document"),
        ("", "it is not JSON"),
        ("enc:v3:canary", "it is not JSON"),
        (json.dumps(GOOD)[:-1], "it is not JSON"),
        (json.dumps(GOOD) + "canary", "it is not JSON"),
        (b"{}", "it is bytes, not JSON text"),
        ({"canary": 1}, "it is dict, not JSON text"),
    ],
)
def test_malformed_documents_say_which_part(text: Any, problem: str) -> None:
    with pytest.raises(MalformedEnvelope) as caught:
        parse_json(text, BINDING)

    check_malformed(caught.value, problem)
    assert form_of(parse_json, text) is (Form.PENDING if problem is PENDING else Form.MALFORMED)


def check_malformed(error: MalformedEnvelope, problem: str) -> None:
    assert error.problem.startswith(problem)
    assert str(error).startswith(f"users.password, row 42 is malformed: {error.problem}; ")
    assert (error.table, error.column, error.pk, error.kid) == (*BINDING, None)
    assert "overwrite the value, delete its row, or restore it" in str(error)
    assert "\n" not in str(error)
    assert "canary" not in str(error)
    assert list(chain(error)) == [error]


def test_an_error_without_a_binding_or_a_kid() -> None:
    with pytest.raises(MalformedEnvelope, match=r"^a sealed value is malformed") as caught:
        parse_text("enc:")
    assert caught.value.table is None

    with pytest.raises(MalformedEnvelope, match=r"^users\.password is malformed") as caught:
        parse_json("{", Binding("users", "password"))
    assert (caught.value.table, caught.value.pk) == ("users", None)
