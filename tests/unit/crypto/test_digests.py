"""Digests of API keys, and which ones each mode stores and looks up."""

from __future__ import annotations

from gproxy_storage.crypto.digests import api_key_digest, keyed_api_key_digest
from gproxy_storage.crypto.keyset import Mode
from tests.cases import for_each

from .support import LOOKUP, OTHER, SPOOL, keyring, load_vectors

KEY = "sk-api01-0123456789abcdef0123456789abcdef"
GPROXY, KEYED = api_key_digest(KEY), keyed_api_key_digest(KEY, LOOKUP)


@for_each("vector", load_vectors("gproxy-v2")["api_key_digests"])
def test_digests_equal_gproxys(vector: dict[str, str]) -> None:
    assert api_key_digest(vector["api_key"]) == vector["digest"]


@for_each("vector", load_vectors("gproxy-storage-v3")["api_key_digests"])
def test_keyed_digests_equal_the_vectors(vector: dict[str, str]) -> None:
    assert keyed_api_key_digest(vector["api_key"], LOOKUP) == vector["digest"]
    assert keyed_api_key_digest(vector["api_key"], SPOOL) != vector["digest"]


@for_each(
    ("mode", "stored", "looked_up"),
    [
        (Mode.PLAINTEXT, GPROXY, (GPROXY,)),
        (Mode.ENCRYPTED, KEYED, (KEYED,)),
        (Mode.MIGRATING, KEYED, (KEYED, GPROXY)),
        (Mode.V2, GPROXY, (GPROXY,)),
        (Mode.DECRYPTING, GPROXY, (KEYED, GPROXY)),
    ],
)
def test_each_mode_stores_and_looks_up_its_digests(
    mode: Mode, stored: str, looked_up: tuple[str, ...]
) -> None:
    assert keyring(mode).digest(KEY) == stored
    assert keyring(mode).lookup_digests(KEY) == looked_up


def test_rotation_does_not_change_a_digest() -> None:
    assert keyring(active=OTHER).digest(KEY) == keyring().with_new_key().digest(KEY) == KEYED


def test_a_key_that_is_no_unicode_has_a_digest_that_no_key_has() -> None:
    odd = "sk-\udcff"

    assert keyring(Mode.MIGRATING).lookup_digests(odd)
    assert api_key_digest(odd) not in {api_key_digest("sk-"), api_key_digest("sk-\xff")}
