"""KeyringManager: keeps the keyring that this process uses in step with the one in the database.

A transaction that writes an encrypted column holds a shared lock on the keyring's row until it
ends. A reader loads the keyring again only if a value is not as the keyring in memory expects.
Keyrings are compared by content: the database may be restored or recreated while a process runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .backends.base import Backend
from .backends.failures import Failure
from .config import read_secret_file
from .crypto.keyring import Keyring
from .database import run_query, run_transaction
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
from .secret import SecretText
from .unlocked import KeyringRow, Unlocked

T = TypeVar("T")

TABLE = "encryption_keys"

_log = logging.getLogger(__name__)

_SELECT = f"SELECT generation, kdf, sealed, decrypted FROM {TABLE} WHERE id = 1"  # noqa: S608 - no parameter


class KeyringManager:
    """Opens and seals the values of one database.

    Thread-safe without a lock: the state is one immutable object, replaced in a single step. A fork
    or an interruption at any point leaves the old state or the new one.

    Attributes:
        state: the keyring that this process uses, with its row; replaced by `adopt`.
    """

    def __init__(self, database: Backend, *, secret_file: Path | None = None) -> None:
        """Start as for a plaintext database.

        Args:
            secret_file: read again if the secret is changed while this process runs.
        """
        self._database = database
        self._secret_file = secret_file
        self.state = Unlocked.plaintext(None)
        self._written: Unlocked | None = None
        # This process's secret does not open it; remembered, for deriving a key is slow.
        self._refused: KeyringRow | None = None
        self._shared = threading.local()

    @property
    def keyring(self) -> Keyring:
        """The keyring that this process uses."""
        return self.state.keyring

    def adopt(self, state: Unlocked) -> None:
        """Use another state of the keyring, or another keyring.

        Keys of earlier states stay in memory to open values that were read before; they seal
        nothing.
        """
        before = self.state
        self.state = state.following(before) if _follows(state, before) else state
        self._refused = None

    # -- the row ------------------------------------------------------------------------------

    def peek(self) -> KeyringRow | None:
        """Read the row without a lock; None if it, or its table, does not exist."""
        try:
            return self._read("")
        except Exception as exc:
            if self._database.classify(exc) is not Failure.SCHEMA:
                raise
        return None

    def change(self, change: Callable[[KeyringRow], Unlocked | None]) -> Unlocked | None:
        """Replace the row in one transaction that locks out all writers of secrets.

        The new state is adopted after the commit. If an interruption comes between the two, it is
        adopted when its row is read next: this process may have no other way to open it.

        Args:
            change: called with the locked row; again after a failure. Returns the state whose row
                replaces it, a state of this very row to write none, or None.
        Returns:
            That state, which is adopted; None to leave everything as it is.
        Raises:
            SchemaError: when there is no row.
        """
        database = self._database

        def write() -> Unlocked | None:
            database.lock_table(TABLE)  # before anything else
            row = self._required(self._read(database.exclusive_lock))
            state = change(row)
            if state is not None and state.row is not None and not state.is_of(row):
                self._written = state
                self._write(state.row)
            return state

        state = run_transaction(database, write)
        if state is not None:
            self.adopt(state)
        return state

    def insert_row(self) -> KeyringRow | None:
        """Insert the row of a plaintext database unless there is one; return the row.

        If the database cannot be written, nothing is inserted and None returned.
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

    def _write(self, row: KeyringRow) -> None:
        database = self._database
        param = database.param
        database.execute_sql(
            f"UPDATE {TABLE} SET generation = {param}, kdf = {param}, sealed = {param}, "  # noqa: S608 - placeholders
            f"decrypted = {param}, updated_at = {param} WHERE id = 1",
            (
                row.generation,
                row.kdf,
                row.sealed and SecretText(row.sealed),  # a log must not allow offline guessing
                row.decrypted,
                database.now_to_db(),
            ),
        )

    # -- keeping in step ----------------------------------------------------------------------

    def lock_shared(self) -> Keyring:
        """Lock the keyring against changes until this transaction ends, and return it.

        A command that changes keys waits for the holders of this lock, and later ones see its
        change.

        Raises:
            ValueError: outside a transaction.
            SecretChanged: when the secret was changed and this process lacks the new one.
            SchemaError: when the keyring's row is missing.
        """
        stamp = self._database.transaction_stamp()
        if stamp is None:
            raise ValueError("encrypted columns are written in a transaction")
        shared = self._shared
        if getattr(shared, "stamp", None) is not stamp:
            row = self._required(self._read(self._database.share_lock))
            # Kept for this transaction: another thread may adopt an older state meanwhile.
            shared.keyring = self._catch_up(row).keyring
            shared.stamp = stamp
        keyring: Keyring = shared.keyring
        return keyring

    def refresh(self) -> bool:
        """Load the keyring if the one in the database differs; return whether it did.

        Raises:
            SecretChanged: when this process lacks its secret.
            KeyringLost: when it was removed.
            WrongSecret: when it is damaged.
        """
        state = self.state
        row = run_query(self._database, self.peek)
        if row is not None:
            self._catch_up(row)
        return self.state is not state

    def retrying(self, keyring: Keyring, attempt: Callable[[Keyring], T]) -> T:
        """Call `attempt` with a keyring; if the value does not open, again with the current one.

        Args:
            keyring: the keyring at the time the value was read, which may have changed since.
            attempt: opens the value.
        """
        try:
            return attempt(keyring)
        except (UnknownKey, PlaintextFound, KeyringLost, Tampered) as exc:
            unexpected = exc
        self.refresh()
        if self.keyring is keyring:
            raise unexpected
        return attempt(self.keyring)

    # -- private ------------------------------------------------------------------------------

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
                "`gproxy-storage sync` if the database was never encrypted"
            )
        return row

    def _catch_up(self, row: KeyringRow) -> Unlocked:
        """Return the state for a row that was just read, and adopt it."""
        before = self.state
        if before.is_of(row):
            return before
        written = self._written
        if written is not None and written.is_of(row):
            opened: Unlocked | None = written
        else:  # a secret that failed once on a row always fails
            opened = None if row == self._refused else before.reopened(row)
        state = opened or self._open_with_secret_file(row)
        _warn_of_another(before, state)
        self.adopt(state)
        return self.state if self.state.is_of(row) else state

    def _open_with_secret_file(self, row: KeyringRow) -> Unlocked:
        if row.sealed is None:
            raise KeyringLost(
                f"the keyring was removed from {TABLE} while this process ran: if the database was "
                "decrypted on purpose or recreated, restart it without DATABASE_SECRET_KEY; else "
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
            "the database's secret was changed, encryption was switched on, or the database was "
            "replaced, while this process ran: restart it with the new DATABASE_SECRET_KEY",
            table=TABLE,
        )


def _follows(state: Unlocked, before: Unlocked) -> bool:
    """Tell whether a state is the same or a later one of the same keyring."""
    is_later = state.generation >= before.generation
    return is_later and state.keyring.is_related(before.keyring)


def _warn_of_another(before: Unlocked, state: Unlocked) -> None:
    """Log a warning if the database has an unrelated or an older keyring."""
    if not before.is_sealed or not state.is_sealed or _follows(state, before):
        return
    _log.warning(
        "%s holds another keyring than before (generation %d after %d): the database was recreated "
        "or restored, and this process continues with it; run `gproxy-storage encryption check` to "
        "see that all values open",
        *(TABLE, state.generation, before.generation),
    )
