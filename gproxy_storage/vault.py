"""Vault: keeps the keyring that this process works under in step with the one in the database.

Who writes an encrypted column holds the keyring's row against change until the end of the
transaction (the fence); who reads looks at it again only when a value is not what the keyring in
memory expects. A keyring is known by its content: the database may be restored or made anew under
a process that lives on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .backends.base import Backend
from .backends.failures import Failure
from .backends.secret_parameter import SecretParameter
from .config import read_secret_file
from .crypto.keyring import Keyring
from .database import run_query
from .errors import (
    KeyringLost,
    PlaintextFound,
    SchemaError,
    SecretChanged,
    SecretError,
    Tampered,
    UnknownKey,
    WrongSecret,
)
from .unlocked import KeyringRow, Unlocked

T = TypeVar("T")

TABLE = "encryption_keys"

_log = logging.getLogger(__name__)

_SELECT = f"SELECT generation, kdf, sealed, decrypted FROM {TABLE} WHERE id = 1"  # noqa: S608 - no parameter


class Vault:
    """Opens and seals the values of one database.

    Threads share it, without a lock: the state is one immutable object, put in place at once. A
    fork or an interruption at any point leaves the one before or the one after.
    """

    def __init__(self, database: Backend, *, secret_file: Path | None = None) -> None:
        """Start as for a plaintext database.

        Args:
            secret_file: read again when the secret was changed under this process.
        """
        self._database = database
        self._secret_file = secret_file
        self._state = Unlocked.plaintext(None)
        self._written: Unlocked | None = None
        self._refused: KeyringRow | None = None  # by this process's secret; deriving takes long
        self._fenced = threading.local()

    @property
    def state(self) -> Unlocked:
        """What this process works under."""
        return self._state

    @property
    def keyring(self) -> Keyring:
        """The keyring that this process works under."""
        return self._state.keyring

    def adopt(self, state: Unlocked) -> None:
        """Work under another state of the keyring, or another keyring.

        Keys of earlier states stay in memory, so that values which were read before open; they
        seal nothing.
        """
        before = self._state
        self._state = state.following(before) if _follows(state, before) else state
        self._refused = None

    # -- the row ------------------------------------------------------------------------------

    def peek(self) -> KeyringRow | None:
        """Read the row without a lock; None where it, or its table, does not exist."""
        try:
            return self._read("")
        except Exception as exc:
            if self._database.classify(exc) is not Failure.SCHEMA:
                raise
        return None

    def lock(self) -> KeyringRow:
        """Read the row, held against everyone else who writes secrets, in a transaction.

        To be called before anything else is locked.

        Raises:
            SchemaError: when there is no row.
        """
        self._database.lock_table(TABLE)
        return self._required(self._read(self._database.exclusive_lock))

    def insert_row(self) -> KeyringRow | None:
        """Insert the row of a plaintext database, unless there is one, and return what is there.

        Nothing is inserted, and None returned, where the database cannot be written.
        """
        row = self.peek()
        if row is not None:
            return row
        database = self._database
        values = ", ".join([database.param] * 4)
        try:
            with database.atomic():
                database.execute_sql(
                    f"INSERT INTO {TABLE} (id, generation, decrypted, updated_at) "  # noqa: S608 - placeholders
                    f"VALUES ({values})",
                    (1, 0, False, database.now_to_db()),
                )
        except Exception as exc:
            # Another process may have been first.
            if database.classify(exc) not in (Failure.CONFLICT, Failure.READ_ONLY):
                raise
        return self.peek()

    def write(self, state: Unlocked, row: KeyringRow) -> None:
        """Write the row of a state, in place of the one that `lock` holds.

        Adopt the state once that is committed. Should an interruption come between the two, it is
        taken up when the row is met: this process may have no other way to open it.
        """
        self._written = state
        database = self._database
        param = database.param
        database.execute_sql(
            f"UPDATE {TABLE} SET generation = {param}, kdf = {param}, sealed = {param}, "  # noqa: S608 - placeholders
            f"decrypted = {param}, updated_at = {param} WHERE id = 1",
            (
                row.generation,
                row.kdf,
                row.sealed and SecretParameter(row.sealed),  # in a log it would invite guessing
                row.decrypted,
                database.now_to_db(),
            ),
        )

    # -- keeping in step ----------------------------------------------------------------------

    def fence(self) -> Keyring:
        """Hold the keyring as it is until this transaction ends, and return it.

        A command that changes keys waits for those who hold it, and they see what it did.

        Raises:
            ValueError: outside a transaction.
            SecretChanged: when it was changed and this process lacks the new secret.
            SchemaError: when the keyring's row is missing.
        """
        stamp = self._database.transaction_stamp()
        if stamp is None:
            raise ValueError("encrypted columns are written in a transaction")
        fenced = self._fenced
        if getattr(fenced, "stamp", None) is not stamp:
            row = self._required(self._read(self._database.share_lock))
            # Kept for this transaction: what another thread takes up later it may have read before.
            fenced.keyring = self._catch_up(row).keyring
            fenced.stamp = stamp
        keyring: Keyring = fenced.keyring
        return keyring

    def refresh(self) -> bool:
        """Load the keyring if the one in the database is another; tell whether it was.

        Raises:
            SecretChanged: when it is under a secret that this process lacks.
            KeyringLost: when there is none any more.
            WrongSecret: when it is damaged.
        """
        state = self._state
        row = run_query(self._database, self.peek)
        if row is not None:
            self._catch_up(row)
        return self._state is not state

    def retrying(self, keyring: Keyring, attempt: Callable[[Keyring], T]) -> T:
        """Call with a keyring; if a value was unexpected, with the database's present one.

        Args:
            keyring: the one that the value was read under: it may be opened later than changes.
        """
        try:
            return attempt(keyring)
        except (UnknownKey, PlaintextFound, KeyringLost, Tampered) as exc:
            unexpected = exc
        self.refresh()
        if self.keyring is keyring:
            raise unexpected
        return attempt(self.keyring)

    # -- inside -------------------------------------------------------------------------------

    def _read(self, lock: str) -> KeyringRow | None:
        rows = self._database.query(f"{_SELECT} {lock}".rstrip())
        if not rows:
            return None
        generation, kdf, sealed, decrypted = rows[0]
        return KeyringRow(generation, kdf, sealed, bool(decrypted))

    @staticmethod
    def _required(row: KeyringRow | None) -> KeyringRow:
        if row is None:
            raise SchemaError(
                f"the row of {TABLE} is missing: restore it from a backup, or run "
                "`gproxy-storage sync` where the database was never encrypted"
            )
        return row

    def _catch_up(self, row: KeyringRow) -> Unlocked:
        """Return the state of a row that was read, and work under it."""
        before = self._state
        if before.is_of(row):
            return before
        written = self._written
        if written is not None and written.is_of(row):
            opened: Unlocked | None = written
        else:  # a secret that failed once on a row always does
            opened = None if row == self._refused else before.reopened(row)
        state = opened or self._opened_anew(row)
        _warn_of_another(before, state)
        self.adopt(state)
        return self._state if self._state.is_of(row) else state

    def _opened_anew(self, row: KeyringRow) -> Unlocked:
        if row.sealed is None:
            raise KeyringLost(
                f"the keyring was taken out of {TABLE} under this process: where the database was "
                "decrypted on purpose or made anew, restart it without DATABASE_SECRET_KEY; else "
                "restore the row from a backup",
                table=TABLE,
            )
        if self._secret_file is not None:
            try:
                return Unlocked.open(row, read_secret_file(self._secret_file))
            except (SecretError, WrongSecret):
                pass
        self._refused = row
        raise SecretChanged(
            "the database's secret was changed, or encryption switched on, or another database put "
            "in its place, under this process: restart it with the new DATABASE_SECRET_KEY",
            table=TABLE,
        )


def _follows(state: Unlocked, before: Unlocked) -> bool:
    """Tell whether a state is a later one of the same keyring."""
    is_later = state.generation >= before.generation
    return is_later and state.keyring.is_related(before.keyring)


def _warn_of_another(before: Unlocked, state: Unlocked) -> None:
    """Log when the database has not just changed its keyring, but has another."""
    if not before.is_sealed or not state.is_sealed or _follows(state, before):
        return
    _log.warning(
        "%s holds another keyring than before (generation %d after %d): the database was made anew "
        "or restored, and this process goes on under it; see that all opens by `gproxy-storage "
        "encryption check`",
        *(TABLE, state.generation, before.generation),
    )
