"""Start-up: choose the keyring that a storage uses, or refuse to start.

First the secret is tried, before anything is written; then the schema is synced; then a database
without a keyring gets one, if a secret is set. Contradictions are refused.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from ..backends.base import Backend
from ..backends.failures import Failure
from ..crypto.envelope import Form
from ..crypto.keyset import Mode
from ..errors import ConfigError, KeyringLost, PlaintextFound, SchemaError, WrongSecret
from ..keyring_manager import TABLE, KeyringManager
from ..secret import Secret
from ..unlocked import KeyringRow, Unlocked
from .columns import COLUMNS, sealed_values
from .creation import create_keyring

MIN_SECRET_CHARACTERS = 16

_logger = logging.getLogger("gproxy_storage")


def unlock(manager: KeyringManager, secret: Secret | None) -> None:
    """Open the keyring if there is one; in a session, before the schema is touched.

    Raises:
        WrongSecret: when there is one and the secret is missing or does not open it.
        MalformedEnvelope: when its row is malformed.
    """
    if secret is not None:
        warn_if_short(secret)
    row = manager.peek()
    if row is None or row.sealed is None:
        return
    if secret is None:
        raise WrongSecret(
            "the database is encrypted and no secret is set: set DATABASE_SECRET_KEY, or "
            "DATABASE_SECRET_KEY_FILE, to the one it was encrypted with",
            table=TABLE,
        )
    manager.adopt(Unlocked.open(row, secret))


def check_new_tables(manager: KeyringManager, tables: Collection[str]) -> None:
    """Refuse a sync that would create the keyring's table although the keyring is open.

    It was read from another place: for example a schema that is later in PostgreSQL's search_path.

    Raises:
        KeyringLost: when the keyring's table is among them.
    """
    if manager.state.is_sealed and TABLE in tables:
        raise _lost("is not where the schema is to be synced")


def check_still_there(manager: KeyringManager, row: KeyringRow | None) -> None:
    """Refuse to treat a database as one without a keyring after its keyring was opened.

    Raises:
        KeyringLost: when the keyring was opened, is gone, and `encryption decrypt` did not remove
            it.
    """
    if manager.state.is_sealed and (row is None or not (row.sealed or row.decrypted)):
        raise _lost("is not there any more")


def _lost(how: str) -> KeyringLost:
    return KeyringLost(
        f"the keyring in {TABLE} was opened, and now it {how}: nothing was created; check that the "
        "DSN always leads to the same schema (PostgreSQL: search_path, and schemas that were "
        "created earlier in it), or restore the table from a backup",
        table=TABLE,
    )


def warn_if_short(secret: Secret) -> None:
    """Log a warning for a secret so short that it may be guessed."""
    if len(secret.reveal()) < MIN_SECRET_CHARACTERS:
        _logger.warning(
            "the secret has fewer than %d characters and may be guessed: make one with "
            "`gproxy-storage keygen` and set it by `gproxy-storage encryption change-secret`",
            MIN_SECRET_CHARACTERS,
        )


def settle(
    database: Backend, manager: KeyringManager, secret: Secret | None, *, may_change: bool
) -> None:
    """Choose the keyring of an unlocked manager, in a session, after the schema was synced.

    Args:
        may_change: a keyring may be created if there is none.
    Raises:
        KeyringLost: when there are sealed values and no keyring.
        UnknownKey: when there are values in GPROXY's format and no secret is set.
        WrongSecret: when the secret opens neither the keyring nor GPROXY's values.
        PlaintextFound: when the database was decrypted on purpose and a secret is set.
        ConfigError: when a keyring would have to be created and may not, or cannot.
    """
    while True:
        row = manager.peek()
        if row is not None and row.sealed is not None:
            if not manager.state.is_of(row):
                unlock(manager, secret)
            return
        check_still_there(manager, row)
        if row is None and may_change:
            row = manager.insert_row()
        manager.adopt(Unlocked.plaintext(row))
        if secret is None:
            _check_nothing_sealed(database, manager)
            manager.adopt(Unlocked.plaintext(row))
            return
        _check_may_create(row, may_change=may_change)
        forms = _create(database, manager, secret)
        if forms is not None:
            if manager.keyring.mode is Mode.MIGRATING:
                _logger.warning(
                    "encryption is on, and %d earlier values are still in the clear: seal them by "
                    "`gproxy-storage encryption encrypt`",
                    forms[Form.PLAINTEXT],
                )
            return


def _check_nothing_sealed(database: Backend, manager: KeyringManager) -> None:
    """Raise the error of opening the first sealed value, if there is one; warn of plaintext."""
    for column in COLUMNS:
        with suppress(SchemaError):  # not synced yet: there are no values
            for pk, stored in sealed_values(database, column):
                column.field.opened(manager.keyring, stored, column.field.binding(pk))
    _logger.warning(
        "secrets are stored in the clear: set DATABASE_SECRET_KEY to encrypt them (`gproxy-storage "
        "keygen` makes one)"
    )


def _check_may_create(row: KeyringRow | None, *, may_change: bool) -> None:
    if row is not None and row.decrypted:
        raise PlaintextFound(
            "the database was decrypted by `gproxy-storage encryption decrypt` and "
            "DATABASE_SECRET_KEY is set: unset it, or run `gproxy-storage encryption encrypt`",
            table=TABLE,
        )
    if not may_change:
        raise _cannot_create()


def _cannot_create() -> ConfigError:
    return ConfigError(
        "DATABASE_SECRET_KEY is set and the database is not encrypted: open it once with write "
        "access and sync, or run `gproxy-storage encryption encrypt`",
        setting="DATABASE_SECRET_KEY",
    )


def _create(database: Backend, manager: KeyringManager, secret: Secret) -> Counter[Form] | None:
    try:
        return create_keyring(database, manager, secret)
    except Exception as exc:
        if database.classify(exc) is Failure.READ_ONLY:
            raise _cannot_create() from exc
        raise
