"""The keyring's row: opens under its secret only, and only as it was written."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy_storage.crypto import kdf as kdf_module
from gproxy_storage.crypto.encoding import decode, encode, lp
from gproxy_storage.crypto.kdf import Kdf
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keyring_row import open_keyset, seal_keyset
from gproxy_storage.crypto.keys import Key, new_nonce
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import CryptoError, MalformedEnvelope, SecretError, WrongSecret
from gproxy_storage.secret import Secret
from tests.cases import for_each

from .support import BINDING, FAST_KDF, KID, SPOOL, chain, keyring, load_vectors, shown_by

VECTOR = load_vectors("gproxy-storage-v3")["keyring"]
SECRET = Secret(VECTOR["secret"])
KEY = Key(bytes.fromhex(VECTOR["derived_key_hex"]))
KDF, GENERATION, SEALED = VECTOR["kdf"], VECTOR["generation"], VECTOR["sealed"]


def opened(**changes: Any) -> Keyring:
    """Open the row of the vectors, but for what is changed."""
    row = {"sealed": SEALED, "kdf": KDF, "generation": GENERATION, "key": KEY} | changes
    return Keyring.open(row.pop("sealed"), **row)


def refusal(**changes: Any) -> CryptoError:
    with pytest.raises(CryptoError) as caught:
        opened(**changes)
    assert list(chain(caught.value)) == [caught.value]
    assert VECTOR["secret"] not in shown_by(caught.value)
    return caught.value


@pytest.mark.parametrize("key", [SECRET, KEY], ids=["secret", "key"])
def test_the_vector_opens(key: Secret | Key) -> None:
    keys = open_keyset(SEALED, kdf=KDF, generation=GENERATION, key=key)
    document = VECTOR["document"]

    assert (keys.mode, keys.active) == (Mode.ENCRYPTED, KID)
    assert {kid: encode(key.reveal()) for kid, key in keys.data.items()} == document["data"]
    assert encode(keys.lookup.reveal()) == document["lookup"]
    assert encode(keys.spool.reveal()) == document["spool"]
    assert keys.v2 is None


@for_each("mode", [mode for mode in Mode if mode is not Mode.PLAINTEXT])
@for_each("generation", [0, 2**63 - 1])
def test_a_sealed_keyring_reopens_unchanged(mode: Mode, generation: int) -> None:
    row: dict[str, Any] = {"kdf": str(FAST_KDF), "generation": generation}
    ring = keyring(mode)
    reopened = Keyring.open(ring.seal(**row, key=SECRET), **row, key=FAST_KDF.derive(SECRET))

    assert reopened.mode is mode
    assert (reopened.active_kid, reopened.kids) == (ring.active_kid, ring.kids)
    assert (reopened.has_v2, reopened.spool) == (ring.has_v2, ring.spool)
    assert reopened.open_text(ring.seal_text("text", BINDING), BINDING) == "text"
    assert reopened.digest("sk") == ring.digest("sk")


def test_the_secret_changes_and_the_keys_do_not() -> None:
    row: dict[str, Any] = {"kdf": str(Kdf.new()), "generation": GENERATION + 1}
    changed = Keyring.open(
        opened().seal(**row, key=Secret("another")), **row, key=Secret("another")
    )

    assert changed.open_text(opened().seal_text("text", BINDING), BINDING) == "text"
    assert isinstance(refusal(sealed=opened().seal(**row, key=SECRET), **row), WrongSecret)


@for_each(
    "changes",
    [
        {"key": Secret("another")},
        {"key": SPOOL},
        {"generation": GENERATION - 1},
        {"generation": GENERATION + 1},
        {"generation": 0},
        {"kdf": KDF.replace("19456,2", "19456,3")},
        {"kdf": str(FAST_KDF)},
        {"kdf": KDF.replace("19456,2", "19456,3"), "key": SECRET},
    ],
)
def test_another_secret_or_row_does_not_open_it(changes: dict[str, Any]) -> None:
    error = refusal(**changes)

    assert type(error) is WrongSecret
    assert (error.table, error.column, error.pk) == ("encryption_keys", "sealed", 1)
    assert "the secret is wrong, or the keyring row is damaged" in str(error)
    assert "or restore the row of encryption_keys from a backup" in str(error)


def test_no_flipped_bit_opens() -> None:
    _, nonce, ciphertext = SEALED.split(":")
    raw = decode(nonce, "nonce") + decode(ciphertext, "ciphertext")
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        sealed = f"k1:{encode(bytes(flipped[:24]))}:{encode(bytes(flipped[24:]))}"
        with pytest.raises(WrongSecret):
            opened(sealed=sealed)


def test_no_changed_character_opens() -> None:
    for at, character in enumerate(SEALED):
        changed = SEALED[:at] + chr(ord(character) ^ 1) + SEALED[at + 1 :]
        with pytest.raises((WrongSecret, MalformedEnvelope)):
            opened(sealed=changed)


@for_each("size", range(0, 80, 7))
def test_no_cut_row_opens(size: int) -> None:
    refusal(sealed=SEALED[:size])
    refusal(sealed=SEALED[: -1 - size])


FORM = "it is not of the form k1:<nonce>:<ciphertext>"


@for_each(
    ("sealed", "problem"),
    [
        ("", FORM),
        ("k1", FORM),
        (SEALED.replace("k1", "k2"), FORM),
        (SEALED.replace("k1", "K1"), FORM),
        (SEALED + ":", FORM),
        (SEALED + "\n", "its ciphertext holds a character outside base64url"),
        (SEALED + "=", "its ciphertext is padded"),
        ("k1::AAAA", "its nonce has 0 bytes instead of 24"),
        (f"k1:{encode(bytes(24))}:AAAA", "its ciphertext has fewer than the 16 bytes of a tag"),
        ("k1:" + 10_000_000 * ":", "it is longer than"),
        (SEALED.encode(), "it is bytes, not text"),
        (None, "it is NoneType, not text"),
    ],
)
def test_malformed_columns_are_said_before_anything_is_derived(
    sealed: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kdf_module, "_argon2id", None)
    error = refusal(sealed=sealed, key=SECRET)

    assert isinstance(error, MalformedEnvelope)
    assert error.problem.startswith(problem)
    assert (error.table, error.column, error.pk) == ("encryption_keys", "sealed", 1)


@for_each("parameters", ["19456,2,5", "8191,1,1", "262145,1,1", "19456,11,1"])
def test_a_planted_kdf_out_of_bounds_is_not_run(
    parameters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kdf_module, "_argon2id", None)
    kdf = KDF.replace("19456,2,1", parameters)

    assert isinstance(refusal(kdf=kdf, key=SECRET), MalformedEnvelope)
    with pytest.raises(MalformedEnvelope):
        keyring().seal(kdf=kdf, generation=1, key=SECRET)


@for_each("generation", [-1, 2**63, True, 1.0, "1", None])
def test_a_generation_is_an_integer_of_a_bigint_column(generation: Any) -> None:
    with pytest.raises(ValueError, match="a generation is an integer"):
        opened(generation=generation)
    with pytest.raises(ValueError, match="a generation is an integer"):
        keyring().seal(kdf=KDF, generation=generation, key=KEY)


@for_each("text", ["", " \n", "canary\udcff"])
def test_a_blank_secret_is_neither_wrong_nor_right(text: str) -> None:
    with pytest.raises(SecretError) as caught:
        opened(key=Secret(text))
    assert "canary" not in shown_by(caught.value)
    with pytest.raises(SecretError):
        keyring().seal(kdf=KDF, generation=1, key=Secret(text))


def sealed_document(document: bytes) -> str:
    """Seal any document as a writer who has the secret could."""
    aad = lp(b"gproxy-storage/keyring/v1", KDF.encode(), b"%d" % GENERATION)
    nonce = new_nonce()
    return f"k1:{encode(nonce)}:{encode(KEY.seal(nonce, document, aad))}"


def test_what_opens_is_checked_and_not_shown() -> None:
    wrong_kid = KID.replace("a", "b")
    document = open_keyset(SEALED, kdf=KDF, generation=GENERATION, key=KEY).dump()
    for changed, problem in (
        (document.replace(KID.encode(), wrong_kid.encode()), "a key id does not fit its key"),
        (document[:-1], "it is not JSON"),
        (document.replace(b"lookup", b"look"), "its members are not"),
    ):
        error = refusal(sealed=sealed_document(changed))

        assert isinstance(error, MalformedEnvelope)
        assert error.problem.startswith(f"it opened, but {problem}")
        for encoded in (*VECTOR["document"]["data"].values(), VECTOR["document"]["lookup"]):
            assert encoded not in shown_by(error)


def test_a_keyring_of_too_many_keys_is_not_sealed() -> None:
    keys = open_keyset(SEALED, kdf=KDF, generation=GENERATION, key=KEY)
    many = {key.kid: key for key in (Key.generate() for _ in range(800))}
    keyset = type(keys)(
        mode=keys.mode,
        active=next(iter(many)),
        data=many,
        lookup=keys.lookup,
        spool=keys.spool,
    )

    with pytest.raises(ValueError, match="800 data keys: drop unused ones first"):
        seal_keyset(keyset, kdf=KDF, generation=1, key=KEY)
