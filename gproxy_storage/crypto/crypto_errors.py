"""The errors about stored values: each names the row, column and remedy, never the value."""

from __future__ import annotations

from ..errors import (
    CryptoError,
    KeyringLost,
    MalformedEnvelope,
    PlaintextFound,
    Tampered,
    UnknownKey,
    WrongSecret,
)
from .binding import Binding
from .keyset import Mode

_REPLACE = "overwrite the value, delete its row, or restore it from a backup"
_RESTORE_KEYRING = "restore the row of encryption_keys from a backup of the same time"


def malformed(binding: Binding | None, problem: str, remedy: str = _REPLACE) -> MalformedEnvelope:
    """Return the error for a value whose stored form cannot be parsed."""
    where = "a sealed value" if binding is None else str(binding)
    evidence = {} if binding is None else binding._asdict()
    return MalformedEnvelope(f"{where} is malformed: {problem}; {remedy}", problem, **evidence)


def wrong_secret(binding: Binding, remedy: str) -> CryptoError:
    """Return the error for a keyring that does not open."""
    return _error(
        WrongSecret,
        binding,
        "does not open: the secret is wrong, or the keyring row is damaged; set the secret that "
        f"the database was last encrypted with, or {remedy}",
    )


def plaintext_found(binding: Binding) -> CryptoError:
    """Return the error for a plaintext value in a mode that reads none."""
    return _error(
        PlaintextFound,
        binding,
        "holds plaintext in an encrypted database, written by another program; overwrite it, or "
        "run `gproxy-storage encryption encrypt`",
    )


def tampered(binding: Binding, kid: str | None) -> CryptoError:
    """Return the error for a value that does not open; v2 values have no kid."""
    under = "GPROXY's key" if kid is None else f"its key {kid}"
    return _error(
        Tampered,
        binding,
        f"does not open under {under}: it was changed, or moved from another place; {_REPLACE}",
        kid=kid,
    )


def no_key(binding: Binding, kid: str | None) -> CryptoError:
    """Return the error for a value whose key is not in the keyring; v2 values have no kid."""
    under = "GPROXY's key" if kid is None else f"key {kid}"
    return _error(
        UnknownKey,
        binding,
        f"is sealed under {under}, which is not in the keyring; {_RESTORE_KEYRING}, or overwrite "
        "the value",
        kid=kid,
    )


def not_read(binding: Binding, version: str, mode: Mode, kid: str | None) -> CryptoError:
    """Return the error for a value in a format that the mode does not read."""
    kind: type[CryptoError] = UnknownKey
    if mode is not Mode.PLAINTEXT:
        problem = (
            f"is sealed in format {version}, which this database, in mode {mode}, does not read; "
            f"{_REPLACE}"
        )
    elif kid is None:
        problem = "is sealed in GPROXY's format; set DATABASE_SECRET_KEY to GPROXY's secret"
    else:
        kind = KeyringLost
        problem = f"is sealed under key {kid}, and there is no keyring; {_RESTORE_KEYRING}"
    return _error(kind, binding, problem, kid=kid)


def _error(
    kind: type[CryptoError], binding: Binding, problem: str, *, kid: str | None = None
) -> CryptoError:
    return kind(f"{binding} {problem}", kid=kid, **binding._asdict())
