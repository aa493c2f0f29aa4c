"""The sealed form of a keyring: ``k1:<nonce>:<ciphertext>``, under a key from the secret.

Bound to the kdf and the generation in the same row of ``encryption_keys``: the AAD is
``gproxy-storage/keyring/v1``, the kdf's text and the generation in decimal, each prefixed by its
length.
"""

from __future__ import annotations

from ..secret import Secret
from .binding import Binding
from .crypto_errors import malformed, wrong_secret
from .encoding import Malformed, encode, lp
from .envelope import decode_ciphertext, decode_nonce
from .kdf import Kdf
from .keys import Key, new_nonce
from .keyset import MAX_BYTES, KeySet

_BINDING = Binding("encryption_keys", "sealed", 1)
_CONTEXT = b"gproxy-storage/keyring/v1"
_MAX_CHARACTERS = MAX_BYTES * 4 // 3 + 100
_GENERATIONS = range(2**63)
_REMEDY = "restore the row of encryption_keys from a backup"


def seal_keyset(keys: KeySet, *, kdf: str, generation: int, key: Key | Secret) -> str:
    """Return the sealed form for a row with this kdf and generation. See `Keyring.seal`."""
    parameters = Kdf.parse(kdf)
    aad = _aad(kdf, generation)
    if isinstance(key, Secret):
        key = parameters.derive(key)
    nonce = new_nonce()
    return f"k1:{encode(nonce)}:{encode(key.seal(nonce, keys.dump(), aad))}"


def open_keyset(sealed: str, *, kdf: str, generation: int, key: Key | Secret) -> KeySet:
    """Open the sealed form from a row with this kdf and generation. See `Keyring.open`."""
    parameters = Kdf.parse(kdf)
    nonce, ciphertext = _parse(sealed)
    aad = _aad(kdf, generation)
    if isinstance(key, Secret):
        key = parameters.derive(key)
    keys = _load(key.open(nonce, ciphertext, aad))
    if keys is None:
        raise wrong_secret(_BINDING, _REMEDY)
    if isinstance(keys, str):
        raise malformed(_BINDING, f"it opened, but {keys}", _REMEDY)
    return keys


def _load(document: bytes | None) -> KeySet | str | None:
    # In a function of its own: so no frame of an error holds the document.
    return None if document is None else KeySet.load(document)


def _aad(kdf: str, generation: int) -> bytes:
    if type(generation) is not int or generation not in _GENERATIONS:
        raise ValueError("a generation is an integer from 0 to 2**63 - 1")
    return lp(_CONTEXT, kdf.encode(), b"%d" % generation)


def _parse(sealed: str) -> tuple[bytes, bytes]:
    try:
        nonce, ciphertext = _split(sealed)
        return decode_nonce(nonce), decode_ciphertext(ciphertext)
    except Malformed as exc:
        problem = str(exc)
    raise malformed(_BINDING, problem, _REMEDY)


def _split(sealed: str) -> list[str]:
    if not isinstance(sealed, str):
        raise Malformed(f"it is {type(sealed).__name__}, not text")
    if len(sealed) > _MAX_CHARACTERS:
        raise Malformed(f"it is longer than {_MAX_CHARACTERS} characters")
    version, *parts = sealed.split(":", 3)
    if version != "k1" or len(parts) != 2:
        raise Malformed("it is not of the form k1:<nonce>:<ciphertext>")
    return parts
