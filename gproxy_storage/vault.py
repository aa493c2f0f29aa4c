"""Vault: keeps the keyring that this process works under in step with the one in the database.

Who writes an encrypted column holds the keyring's row against change until the end of the
transaction (the fence); who reads looks at it again only when a value is not what the keyring in
memory expects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from .backends.base import Backend
from .backends.failures import Failure
from .backends.secret_parameter import SecretParameter
from .config import read_secret_file
from .crypto.kdf import Kdf
from .crypto.keyring import Keyring
from .crypto.keys import Key
from .crypto.keyset import Mode
from .crypto.opaque import Opaque
from .database import run_query
from .errors import (
    KeyringLost,
    PlaintextFound,
    SchemaError,
    SecretChanged,
    SecretError,
    UnknownKey,
    WrongSecret,
)
from .secret import Secret

T = TypeVar("T")

TABLE = "encryption_keys"

_SELECT = f"SELECT generation, kdf, sealed, decrypted FROM {TABLE} WHERE id = 1"  # noqa: S608 - no parameter


class KeyringRow(NamedTuple):
    """The row of ``encryption_keys``.

    Attributes:
        generation: raised by every change that other processes must notice.
        kdf: how the secret becomes the key that seals; NULL in a plaintext database.
        sealed: the keyring's document, sealed; NULL in a plaintext database.
        decrypted: the database was decrypted on purpose.
    """

    generation: int
    kdf: str | None
    sealed: str | None
    decrypted: bool


class Unlocked(Opaque):
    """An opened keyring with the key that opens its row. Immutable.

    Attributes:
        key: what the kdf made of the secret; None in a plaintext database.
    """

    __slots__ = ("generation", "kdf", "key", "keyring")

    def __init__(self, keyring: Keyring, generation: int, kdf: str | None, key: Key | None) -> None:
        self.keyring = keyring
        self.generation = generation
        self.kdf = kdf
        self.key = key

    @classmethod
    def open(cls, row: KeyringRow, secret: Secret) -> Unlocked:
        """Open a sealed row with the secret.

        Raises:
            WrongSecret: when it does not open.
            MalformedEnvelope: when the row is not of its form.
        """
        key = Kdf.parse(row.kdf or "").derive(secret)
        return cls._open(row, key)

    @classmethod
    def plaintext(cls, row: KeyringRow | None) -> Unlocked:
        """Return the state of a database that is not encrypted."""
        return cls(Keyring.plaintext(), row.generation if row else 0, None, None)

    def reopened(self, row: KeyringRow) -> Unlocked | None:
        """Open a later state of the row; None where that takes a new start."""
        if row.sealed is None:
            # Who writes to the database can empty the row, too: it is believed only where the
            # keyring itself said before that the database is being decrypted.
            was_sealed = self.keyring.mode not in (Mode.PLAINTEXT, Mode.DECRYPTING)
            return None if was_sealed else self.plaintext(row)
        if self.key is None or row.kdf != self.kdf:
            return None
        return self._open(row, self.key)

    def resealed(self, keyring: Keyring) -> tuple[Unlocked, KeyringRow]:
        """Return the state with another keyring and the next generation, and its row."""
        generation = self.generation + 1
        if self.kdf is None or self.key is None:
            raise ValueError("a plaintext database has no key to seal a keyring under")
        sealed = keyring.seal(kdf=self.kdf, generation=generation, key=self.key)
        row = KeyringRow(generation, self.kdf, sealed, decrypted=False)
        return Unlocked(keyring, generation, self.kdf, self.key), row

    @classmethod
    def _open(cls, row: KeyringRow, key: Key) -> Unlocked:
        keyring = Keyring.open(
            row.sealed or "", kdf=row.kdf or "", generation=row.generation, key=key
        )
        return cls(keyring, row.generation, row.kdf, key)


class Vault:
    """Opens and seals the values of one database.

    Threads share it. Keys in memory only accumulate, so that values which were read before a
    reload open after it.
    """

    def __init__(self, database: Backend, *, secret_file: Path | None = None) -> None:
        """Start as for a plaintext database.

        Args:
            secret_file: read again when the secret was changed under this process.
        """
        self._database = database
        self._secret_file = secret_file
        self._state = Unlocked.plaintext(None)
        self._lock = threading.Lock()
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
        """Work under another state, unless this one is later; keys in memory stay."""
        with self._lock:
            if state.generation >= self._state.generation:
                keyring = state.keyring.retaining(self._state.keyring)
                self._state = Unlocked(keyring, state.generation, state.kdf, state.key)

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

    def write(self, row: KeyringRow) -> None:
        """Write the row that `lock` holds."""
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
        if getattr(self._fenced, "stamp", None) is not stamp:
            self._catch_up(self._required(self._read(self._database.share_lock)))
            self._fenced.stamp = stamp
        return self.keyring

    def refresh(self) -> bool:
        """Load the keyring if it was changed in the database; tell whether it was.

        Raises:
            SecretChanged: when it was changed and this process lacks the new secret.
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
        except (UnknownKey, PlaintextFound, KeyringLost) as exc:
            unexpected = exc
        self.refresh()
        if self.keyring is keyring:
            raise unexpected
        return attempt(self.keyring)

    def after_fork_in_child(self) -> None:
        """Take a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()

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

    def _catch_up(self, row: KeyringRow) -> None:
        state = self._state
        if row.generation == state.generation:
            return
        if row.generation < state.generation and self._is_older(row):
            raise WrongSecret(
                f"{TABLE} was replaced by an older row (generation {row.generation} after "
                f"{state.generation}): restore the newer one from a backup",
                table=TABLE,
            )
        self.adopt(state.reopened(row) or self._opened_anew(row))

    def _is_older(self, row: KeyringRow) -> bool:
        # Read before another thread took up a later one? Then that one is in the database.
        latest = self.peek()
        return latest is not None and latest.generation <= row.generation

    def _opened_anew(self, row: KeyringRow) -> Unlocked:
        if row.sealed is None:
            raise KeyringLost(
                f"the keyring was taken out of {TABLE} under this process: where the database was "
                "decrypted on purpose, restart it without DATABASE_SECRET_KEY; else restore the "
                "row from a backup",
                table=TABLE,
            )
        if self._secret_file is not None:
            try:
                return Unlocked.open(row, read_secret_file(self._secret_file))
            except (SecretError, WrongSecret):
                pass
        raise SecretChanged(
            "the database's secret was changed, or encryption switched on, under this process: "
            "restart it with the new DATABASE_SECRET_KEY",
            table=TABLE,
        )
