"""Keys: their ids, and that nothing shows them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage.crypto.envelope import Document
from gproxy_storage.crypto.keys import Key, new_nonce
from gproxy_storage.crypto.keyset import KeySet, Mode
from tests.cases import for_each

from .support import DATA, LOOKUP, SPOOL, keyring, load_vectors

RAW = b"canary-key-of-thirty-two-bytes!!"


@pytest.mark.parametrize("vector", load_vectors("gproxy-storage-v3")["kids"])
def test_the_id_of_a_key(vector: dict[str, str]) -> None:
    assert Key(bytes.fromhex(vector["key_hex"])).kid == vector["kid"]


def test_the_kid_of_the_check_value() -> None:
    assert Key(bytes(range(32))).kid == "a738dbd331b00de7"


@for_each("raw", [b"", bytes(31), bytes(33), bytearray(32), "0" * 32, None])
def test_a_key_is_32_bytes(raw: Any) -> None:
    with pytest.raises(ValueError, match="a key is 32 bytes"):
        Key(raw)


def test_generated_keys_and_nonces_differ() -> None:
    assert len({Key.generate() for _ in range(100)}) == 100
    assert len({new_nonce() for _ in range(100)}) == 100
    assert len(new_nonce()) == 24


def test_seal_and_open() -> None:
    nonce = new_nonce()
    sealed = DATA.seal(nonce, b"text", b"aad")

    assert DATA.open(nonce, sealed, b"aad") == b"text"
    assert DATA.open(nonce, sealed, b"") is None
    assert LOOKUP.open(nonce, sealed, b"aad") is None
    assert DATA.open(nonce, b"", b"aad") is None


def test_equality_is_by_value() -> None:
    assert Key(RAW) == Key(RAW)
    assert hash(Key(RAW)) == hash(Key(RAW))
    assert Key(RAW) != Key(RAW[::-1])
    assert Key(RAW) != RAW
    assert Key(RAW).reveal() == RAW


@dataclasses.dataclass
class Holder:
    it: object


def key_set() -> KeySet:
    key = Key(RAW)
    return KeySet(mode=Mode.ENCRYPTED, active=key.kid, data={key.kid: key}, lookup=key, spool=key)


@for_each("hidden", [Key(RAW), key_set(), Document(RAW.decode())])
@for_each(
    "show",
    [
        repr,
        str,
        ascii,
        "{}".format,
        "{!r:>80}".format,
        lambda hidden: "%s %r" % (hidden, hidden),  # noqa: UP031 - this form is the subject
        lambda hidden: repr({"key": [hidden]}),
        lambda hidden: str(ValueError(hidden)),
        lambda hidden: json.dumps(hidden, default=str),
        lambda hidden: repr(Holder(hidden)),
    ],
)
def test_no_way_of_showing_shows_it(hidden: object, show: Callable[[object], str]) -> None:
    shown = show(hidden)

    assert "canary" not in shown
    assert RAW.hex() not in shown
    assert "***" in shown


@for_each("hidden", [Key(RAW), key_set(), Document(RAW.decode()), keyring()])
@for_each(
    "take_away",
    [
        copy.deepcopy,
        lambda hidden: dataclasses.asdict(Holder(hidden)),
        *(lambda hidden, p=p: pickle.dumps(hidden, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ],
)
def test_nothing_is_pickled_or_copied(
    hidden: object, take_away: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError) as caught:
        take_away(hidden)

    assert "canary" not in str(caught.value)


@for_each("hidden", [Key(RAW), Document(""), keyring()])
def test_there_is_no_dict_to_look_into(hidden: object) -> None:
    with pytest.raises(TypeError):
        vars(hidden)


def test_a_keyring_shows_its_mode_and_no_key() -> None:
    ring = keyring()

    for shown in (repr(ring), str(ring), f"{ring}", f"{ring!r:>80}"):
        assert "<Keyring encrypted, 1 data keys>" in shown
    assert ring.spool == SPOOL
