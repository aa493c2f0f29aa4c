"""Digests by which API keys are looked up.

Any text has one: a presented key that is not valid Unicode gets a digest that no stored key has,
rather than an error that would carry the key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keys import Key


def api_key_digest(api_key: str) -> str:
    """Return the lookup digest of an API key: 64 lower-case hex digits.

    Source: GPROXY v1, hex SHA-256 of ``gproxy-api-key-v1:`` + key.
    """
    return hashlib.sha256(b"gproxy-api-key-v1:" + _encode(api_key)).hexdigest()


def keyed_api_key_digest(api_key: str, lookup: Key) -> str:
    """Return the lookup digest of an API key in an encrypted database: ``v3:`` + 64 hex digits.

    HMAC-SHA256 under the keyring's lookup key over ``gproxy-api-key-v3:`` + key: without the
    secret, a copy of the database does not tell whether a guessed key is in it.
    """
    return "v3:" + lookup.digest(b"gproxy-api-key-v3:" + _encode(api_key)).hex()


def _encode(api_key: str) -> bytes:
    return api_key.encode("utf-8", "surrogatepass")
