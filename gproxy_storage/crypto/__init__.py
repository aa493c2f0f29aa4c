"""Cryptography: passwords and digests. Knows no database."""
