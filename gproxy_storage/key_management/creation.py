"""Creation: the first keyring of a database, created while writers of secrets are locked out."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.kdf import V2_KDF, Kdf
from ..crypto.keyring import Keyring
from ..crypto.keys import Key
from ..crypto.keyset import Mode
from ..database import run_query
from ..errors import KeyringLost, WrongSecret
from ..keyring_manager import TABLE, KeyringManager
from ..secret import Secret
from ..unlocked import KeyringRow, Unlocked
from . import gproxy
from .columns import COLUMNS, sealed_values
from .scan import scan, total

_V2_SAMPLES = 20


def create_keyring(
    database: Backend, manager: KeyringManager, secret: Secret, *, even_if_decrypted: bool = False
) -> Counter[Form] | None:
    """Create the keyring and use it; its mode follows from the stored values.

    Keys are derived before the lock is taken, and everything is checked again under it.

    Args:
        even_if_decrypted: also if the database was decrypted on purpose.
    Returns:
        The number of stored values by form; None if another process was first, or has decrypted
        the database meanwhile: nothing was changed.
    Raises:
        WrongSecret: when there are values in GPROXY's format and the secret opens none.
        KeyringLost: when there are values sealed under a lost keyring.
    """
    kdf = Kdf.new()
    key, v2 = kdf.derive(secret), V2_KDF.derive(secret)
    _check_v2(database, v2)
    gproxy.prepare_ledger(database)
    forms: Counter[Form] | None = None

    def created(row: KeyringRow) -> Unlocked | None:
        nonlocal forms
        if row.sealed is not None or (row.decrypted and not even_if_decrypted):
            return None
        keyring, forms = _new_keyring(database, v2)
        if keyring.mode is not Mode.V2:
            gproxy.block(database)
        return Unlocked.plaintext(row).under(kdf, key, secret).resealed(keyring)

    return None if manager.change(created) is None else forms


def dry_run_keyring(database: Backend, secret: Secret) -> Keyring:
    """Return a keyring like the one that `create_keyring` would create, or raise its errors."""
    v2 = V2_KDF.derive(secret)
    _check_v2(database, v2)
    return run_query(database, lambda: _new_keyring(database, v2))[0]


def _new_keyring(database: Backend, v2: Key) -> tuple[Keyring, Counter[Form]]:
    """Return a keyring in the mode that follows from the stored values, and their forms."""
    forms = total(scan(database)).forms
    if forms[Form.V3]:
        raise KeyringLost(
            f"{forms[Form.V3]} values are sealed, and {TABLE} has no keyring: restore that "
            "table from a backup; the database need not be deleted",
            table=TABLE,
        )
    if forms[Form.V2] or gproxy.gproxy_uses(database):
        return Keyring.create(Mode.V2, v2=v2), forms
    return Keyring.create(Mode.MIGRATING if forms.total() else Mode.ENCRYPTED), forms


def _check_v2(database: Backend, v2: Key) -> None:
    """Check that a key opens at least one of a sample of values in GPROXY's format, if any."""
    samples = list(
        islice(
            (
                envelope
                for column in COLUMNS
                for _, stored in sealed_values(database, column)
                if column.form(stored) is Form.V2 and (envelope := column.envelope(stored))
            ),
            _V2_SAMPLES,
        )
    )
    opened = (v2.open(envelope.nonce, envelope.ciphertext, b"") for envelope in samples)
    if samples and all(plaintext is None for plaintext in opened):
        raise WrongSecret(
            f"the secret opens none of {len(samples)} values in GPROXY's format: set "
            "DATABASE_SECRET_KEY to GPROXY's; the database need not be deleted"
        )
