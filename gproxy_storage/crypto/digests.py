"""Digests by which API keys are looked up."""

from __future__ import annotations

import hashlib


def api_key_digest(api_key: str) -> str:
    """Return the lookup digest of an API key: 64 lower-case hex digits.

    Source: GPROXY v1, hex SHA-256 of ``gproxy-api-key-v1:`` + key.
    """
    return hashlib.sha256(b"gproxy-api-key-v1:" + api_key.encode()).hexdigest()
