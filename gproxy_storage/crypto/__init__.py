"""Cryptography: passwords and digests. Knows no database."""

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
