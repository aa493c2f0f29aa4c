"""Start-up: which keyring a storage works under, or why it must not start.

First the secret is tried, before anything is written; then the schema is synced; then a database
that has no keyring gets one, where a secret is set. Whatever cannot be right is refused.
"""

from __future__ import annotations

import logging
from collections import Counter

from ..backends.base import Backend
from ..crypto.envelope import Envelope, Form
from ..crypto.kdf import V2_KDF, Kdf
from ..crypto.keyring import Keyring
from ..crypto.keys import Key
from ..crypto.keyset import Mode
from ..database import run_transaction
from ..errors import ConfigError, KeyringLost, MalformedEnvelope, PlaintextFound, WrongSecret
from ..secret import Secret
from ..vault import TABLE, KeyringRow, Unlocked, Vault
from . import gproxy
from .columns import COLUMNS, count_forms, first_sealed

MIN_SECRET_CHARACTERS = 16

_V2_SAMPLES = 20

_logger = logging.getLogger("gproxy_storage")


def unlock(vault: Vault, secret: Secret | None) -> None:
    """Open the keyring if there is one; in a session, before the schema is touched.

    Raises:
        WrongSecret: when there is one and the secret is missing or does not open it.
        MalformedEnvelope: when its row is not of its form.
    """
    if secret is not None:
        warn_if_short(secret)
    row = vault.peek()
    if row is None or row.sealed is None:
        return
    if secret is None:
        raise WrongSecret(
            "the database is encrypted and no secret is set: set DATABASE_SECRET_KEY, or "
            "DATABASE_SECRET_KEY_FILE, to the one it was encrypted with",
            table=TABLE,
        )
    vault.adopt(Unlocked.open(row, secret))


def warn_if_short(secret: Secret) -> None:
    """Log a warning for a secret that may be guessed."""
    if len(secret.reveal()) < MIN_SECRET_CHARACTERS:
        _logger.warning(
            "the secret has fewer than %d characters and may be guessed: make one with "
            "`gproxy-storage keygen` and set it by `gproxy-storage encryption change-secret`",
            MIN_SECRET_CHARACTERS,
        )


def settle(database: Backend, vault: Vault, secret: Secret | None, *, may_change: bool) -> None:
    """Decide what an unlocked vault works under, in a session, after the schema was synced.

    Args:
        may_change: a keyring may be created where there is none.
    Raises:
        KeyringLost: when there are sealed values and no keyring.
        WrongSecret: when the secret opens neither the keyring nor GPROXY's values.
        PlaintextFound: when the database was decrypted on purpose and a secret is set.
        ConfigError: when a keyring would have to be created and may not.
    """
    while True:
        row = vault.peek()
        if row is not None and row.sealed is not None:
            if row.generation != vault.state.generation:
                unlock(vault, secret)
            return
        vault.adopt(Unlocked.plaintext(row))
        if secret is None:
            _stay_plaintext(database)
            return
        _check_may_create(row, may_change=may_change)
        if _create(database, vault, secret):
            return


def _stay_plaintext(database: Backend) -> None:
    for column in COLUMNS:
        found = first_sealed(database, column)
        if found:
            pk, stored = found[0]
            raise _sealed_without_keyring(column.name, pk, column.form(stored))
    _logger.warning(
        "secrets are stored in the clear: set DATABASE_SECRET_KEY to encrypt them (`gproxy-storage "
        "keygen` makes one)"
    )


def _sealed_without_keyring(column: str, pk: int, form: Form) -> Exception:
    table, _, name = column.partition(".")
    if form is Form.V2:
        return WrongSecret(
            f"{column}, row {pk} is sealed in GPROXY's format and no secret is set: set "
            "DATABASE_SECRET_KEY to GPROXY's; the database need not be deleted",
            table=table,
            column=name,
            pk=pk,
        )
    if form is Form.V3:
        return KeyringLost(
            f"{column}, row {pk} is sealed, and {TABLE} has no keyring: restore that table from a "
            "backup; the database need not be deleted",
            table=table,
            column=name,
            pk=pk,
        )
    problem = f"it is {form}, in a database without a keyring"
    return MalformedEnvelope(
        f"{column}, row {pk} is malformed: {problem}; overwrite the value or delete its row",
        problem,
        table=table,
        column=name,
        pk=pk,
    )


def _check_may_create(row: KeyringRow | None, *, may_change: bool) -> None:
    if row is not None and row.decrypted:
        raise PlaintextFound(
            "the database was decrypted by `gproxy-storage encryption decrypt` and "
            "DATABASE_SECRET_KEY is set: unset it, or run `gproxy-storage encryption encrypt`",
            table=TABLE,
        )
    if not may_change:
        raise ConfigError(
            "DATABASE_SECRET_KEY is set and the database is not encrypted: open it once with "
            "write access and sync, or run `gproxy-storage encryption encrypt`",
            setting="DATABASE_SECRET_KEY",
        )


def _create(database: Backend, vault: Vault, secret: Secret) -> bool:
    """Create the keyring; False where another process did so meanwhile."""
    candidate = Candidate.prepare(secret)
    check_v2(database, candidate.v2)
    gproxy.prepare_ledger(database)

    def create() -> Unlocked | None:
        row = vault.lock()
        if row.sealed is not None or row.decrypted:
            return None
        forms = sum((count_forms(database, column) for column in COLUMNS), Counter[Form]())
        if forms[Form.V3]:
            raise KeyringLost(
                f"{forms[Form.V3]} values are sealed, and {TABLE} has no keyring: restore that "
                "table from a backup; the database need not be deleted",
                table=TABLE,
            )
        mode = _mode(database, forms)
        state, sealed_row = candidate.sealed(mode, row.generation)
        if mode is not Mode.V2:
            gproxy.keep_off(database)
        vault.write(sealed_row)
        return state

    state = run_transaction(database, create)
    if state is None:
        return False
    vault.adopt(state)
    if state.keyring.mode is Mode.MIGRATING:
        _logger.warning(
            "encryption is on; values from before still lie in the clear: seal them by "
            "`gproxy-storage encryption encrypt`"
        )
    return True


def _mode(database: Backend, forms: Counter[Form]) -> Mode:
    if forms[Form.V2] or gproxy.gproxy_uses(database):
        return Mode.V2
    return Mode.MIGRATING if forms.total() else Mode.ENCRYPTED


class Candidate:
    """Keys for a database that has none, derived before a lock is taken."""

    def __init__(self, kdf: Kdf, key: Key, v2: Key) -> None:
        self._kdf = kdf
        self._key = key
        self.v2 = v2

    @classmethod
    def prepare(cls, secret: Secret) -> Candidate:
        """Derive the key of the keyring's row and GPROXY's from a secret."""
        kdf = Kdf.new()
        return cls(kdf, kdf.derive(secret), V2_KDF.derive(secret))

    def sealed(self, mode: Mode, generation: int) -> tuple[Unlocked, KeyringRow]:
        """Draw a keyring and return it with its row, for the next generation."""
        keyring = Keyring.create(mode, v2=self.v2 if mode is Mode.V2 else None)
        return Unlocked(keyring, generation, str(self._kdf), self._key).resealed(keyring)


def check_v2(database: Backend, v2: Key) -> None:
    """Check that a key opens one of the database's GPROXY values, if there are some.

    Raises:
        WrongSecret: when it opens none of the first twenty.
    """
    samples = [
        envelope
        for column in COLUMNS
        for _, stored in first_sealed(database, column, _V2_SAMPLES)
        if column.form(stored) is Form.V2 and (envelope := column.envelope(stored))
    ][:_V2_SAMPLES]
    if samples and not any(_opens(v2, envelope) for envelope in samples):
        raise WrongSecret(
            f"the secret opens none of {len(samples)} values in GPROXY's format: set "
            "DATABASE_SECRET_KEY to GPROXY's; the database need not be deleted"
        )


def _opens(key: Key, envelope: Envelope) -> bool:
    return key.open(envelope.nonce, envelope.ciphertext, b"") is not None
