"""The document inside the keyring: written in one form, read strictly, wrong parts are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage.crypto.encoding import encode
from gproxy_storage.crypto.keyset import MAX_BYTES, RULES, KeySet, Mode
from tests.cases import for_each

from .support import DATA, KID, LOOKUP, OTHER, SPOOL, V2, load_vectors

CANARY = encode(b"canary-key-of-thirty-two-bytes!!")


def keyset(mode: Mode = Mode.ENCRYPTED, **changes: Any) -> KeySet:
    parts: dict[str, Any] = {
        "mode": mode,
        "active": KID,
        "data": {KID: DATA},
        "lookup": LOOKUP,
        "spool": SPOOL,
        "v2": V2 if mode is Mode.V2 else None,
    }
    return KeySet(**parts | changes)


def document(mode: Mode = Mode.ENCRYPTED) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(keyset(mode).dump())
    return loaded


@for_each(
    "keys",
    [
        keyset(),
        keyset(Mode.MIGRATING),
        keyset(Mode.MIGRATING, v2=V2),
        keyset(Mode.V2),
        keyset(Mode.DECRYPTING, data={KID: DATA, OTHER.kid: OTHER}),
    ],
)
def test_a_keyset_loads_what_it_dumps(keys: KeySet) -> None:
    assert KeySet.load(keys.dump()) == keys


def test_the_document_of_the_vectors() -> None:
    expected = load_vectors("gproxy-storage-v3")["keyring"]["document"]
    loaded = KeySet.load(json.dumps(expected).encode())

    assert isinstance(loaded, KeySet)
    assert json.loads(loaded.dump()) == expected


def test_every_mode_has_rules_and_reads_what_it_writes() -> None:
    assert RULES.keys() == set(Mode)
    assert all(rules.writes in rules.reads for rules in RULES.values())


@for_each(
    ("changes", "problem"),
    [
        ({"mode": Mode.PLAINTEXT}, "a plaintext database has no keyring"),
        ({"active": OTHER.kid}, "its active key is missing"),
        ({"data": {}}, "its active key is missing"),
        ({"data": {KID: OTHER}}, "a key id does not fit its key"),
        ({"data": {KID: DATA, OTHER.kid: DATA}}, "a key id does not fit its key"),
        ({"mode": Mode.V2, "v2": None}, "mode v2 has no v2 key"),
        ({"v2": V2}, "mode encrypted has a v2 key"),
        ({"mode": Mode.DECRYPTING, "v2": V2}, "mode decrypting has a v2 key"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        keyset(**changes)


def test_it_cannot_be_changed_from_outside() -> None:
    data = {KID: DATA}
    keys = keyset(data=data)
    data[OTHER.kid] = OTHER

    assert list(keys.data) == [KID]
    with pytest.raises(TypeError):
        keys.data[OTHER.kid] = OTHER  # type: ignore[index]  # the subject


MEMBERS = "its members are not mode, active, data, lookup, spool and optionally v2"


def changed(**members: Any) -> bytes:
    return json.dumps(document() | members).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in document().items() if key != name}).encode()


def edited(edit: Callable[[bytes], bytes]) -> bytes:
    return edit(keyset().dump())


@for_each(
    ("raw", "problem"),
    [
        (b"", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 40_000, "it is not JSON"),
        (b"1" * 10_000, "it is not JSON"),
        (edited(lambda raw: raw + b"canary"), "it is not JSON"),
        (b" " * MAX_BYTES + b"{}", "it is too long"),
        (b"NaN", "it holds a number"),
        (b'{"mode":1.5}', "it holds a number"),
        (b"[]", MEMBERS),
        (b"null", MEMBERS),
        (b"3", MEMBERS),
        *((without(name), MEMBERS) for name in ("mode", "active", "data", "lookup", "spool")),
        (changed(canary=1), MEMBERS),
        (edited(lambda raw: raw[:-1] + b',"mode":"v2"}'), "it has a member twice"),
        (
            edited(lambda raw: raw.replace(b'"data":{', b'"data":{"%b":"canary",' % KID.encode())),
            "it has a member twice",
        ),
        (changed(mode="canary"), "its mode is unknown"),
        (changed(mode=["encrypted"]), "its mode is unknown"),
        (changed(mode=None), "its mode is unknown"),
        (changed(mode="ENCRYPTED"), "its mode is unknown"),
        (changed(mode="plaintext"), "a plaintext database has no keyring"),
        (changed(mode="v2"), "mode v2 has no v2 key"),
        (changed(v2=CANARY), "mode encrypted has a v2 key"),
        (changed(v2=None), "its v2 key is not a string"),
        (changed(active=1), "its active key id is not a string"),
        (changed(active="\ud800"), "its active key is missing"),
        (changed(data=[CANARY]), "its data keys are not an object"),
        (changed(data={}), "its active key is missing"),
        (changed(data={KID: CANARY}), "a key id does not fit its key"),
        (changed(data={KID: [CANARY]}), "its data key is not a string"),
        (changed(lookup=CANARY[1:]), "its lookup key"),
        (changed(lookup=CANARY + "AAAA"), "its lookup key has not 32 bytes"),
        (changed(lookup=CANARY + "="), "its lookup key is padded"),
        (changed(spool=""), "its spool key has not 32 bytes"),
        (changed(spool="é"), "its spool key holds a character outside base64url"),
    ],
)
def test_a_changed_document_raises_our_own_message(raw: bytes, problem: str) -> None:
    found = KeySet.load(raw)

    assert isinstance(found, str)
    assert found.startswith(problem)
    assert "canary" not in found
    assert CANARY[:-1] not in found
