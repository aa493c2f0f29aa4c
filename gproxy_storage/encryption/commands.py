"""Encryption: what changes the keys of a database, while others read and write it.

Each operation changes the keyring in a transaction of its own and re-seals values batch by batch
under the fence. Killed anywhere, it is run again; two at once both finish.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.kdf import Kdf
from ..crypto.keyring import Keyring
from ..crypto.keys import Key
from ..crypto.keyset import Mode
from ..database import run_query, run_transaction, session
from ..errors import ConfigError, SecretError, WrongSecret
from ..secret import Secret
from ..unlocked import KeyringRow, Unlocked
from ..vault import Vault
from .changes import Change, change_keyring, drop_unused, take_out_keyring
from .columns import COLUMNS, count_values
from .creation import create_keyring
from .outcome import Outcome
from .reseal import reseal
from .room import check_room
from .scan import Checked, InUse, all_forms, all_kids, check, scan
from .startup import warn_if_short

Progress = Callable[[int], None]


def _silent(_: int) -> None:
    """Show no progress."""


class Encryption:
    """The keys of one database, and what may be done to them.

    Every method may run while other processes use the database. Those that change something raise
    ConfigError inside a transaction, for they use several of their own.
    """

    def __init__(self, database: Backend, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    # -- looking ------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What the database's encrypted columns hold."""
        return self._vault.keyring.mode

    def try_secret(self, secret: Secret | None) -> Mode | None:
        """Return the database's mode; None where it takes another secret to know."""
        row = self.row()
        if row is None or row.sealed is None:
            return Mode.PLAINTEXT
        if secret is None:
            return None
        try:
            self._vault.adopt(Unlocked.open(row, secret))
        except WrongSecret:
            return None
        return self.mode

    def row(self) -> KeyringRow | None:
        """Return the keyring's row."""
        return run_query(self._database, self._vault.peek)

    def count(self) -> int:
        """Return how many values there are in the encrypted columns."""
        return sum(count_values(self._database, column) for column in COLUMNS)

    def scan(self) -> dict[str, InUse]:
        """Read the form and the key id of every value, by ``table.column``."""
        return scan(self._database)

    def check(self, progress: Progress = _silent) -> dict[str, Checked]:
        """Open every value, by ``table.column``; writes nothing."""
        return check(self._database, self._vault, progress)

    def is_clean(self, checked: dict[str, Checked]) -> bool:
        """Tell whether a check found nothing wrong; in mode encrypted plaintext is."""
        return not any(
            found.unreadable
            or found.digest_mismatches
            or (found.plaintext and self.mode is Mode.ENCRYPTED)
            for found in checked.values()
        )

    # -- operations ---------------------------------------------------------------------------

    def encrypt(
        self, secret: Secret, progress: Progress = _silent, *, dry_run: bool = False
    ) -> Outcome:
        """Seal what lies in the clear; makes the keyring where there is none.

        Raises:
            WrongSecret: when there are values in GPROXY's format, and the secret opens none.
            KeyringLost: when there are values that a lost keyring has sealed.
            InvalidValue: when a value would be too long for its column once it is sealed.
        """
        check_room(self._database)
        if dry_run:
            to_seal = all_forms(self.scan())[Form.PLAINTEXT]
            changed = self.mode in (Mode.PLAINTEXT, Mode.DECRYPTING) or to_seal > 0
            return Outcome(self.mode, changed=changed, sealed=to_seal)
        with self._session():
            self._database.overwrite_deleted()
            while self.mode is Mode.PLAINTEXT:
                created = create_keyring(
                    self._database, self._vault, secret, even_if_decrypted=True
                )
                if created is None:  # another process was first
                    self._unlock(secret)
            if self.mode is Mode.DECRYPTING or (
                self.mode is Mode.ENCRYPTED and all_forms(self.scan())[Form.PLAINTEXT]
            ):
                self._change(_to_migrating, keep_gproxy_off=True)
            return self._reseal(progress, scrub=True)

    def change_secret(self, old: Secret, new: Secret, *, dry_run: bool = False) -> Outcome:
        """Seal the keyring under a new secret: one row is written, no value is touched.

        Raises:
            SecretError: when both secrets are the same.
            ConfigError: when the database is in GPROXY's mode, or not encrypted.
            WrongSecret: when neither secret opens the keyring.
        """
        with self._session():
            kdf = Kdf.new()
            key: Key | None = None
            while True:
                state, is_new = self._open_with(old, new)
                self._vault.adopt(state)
                if old == new:
                    raise SecretError("the new secret is the present one: choose another")
                if is_new:
                    return Outcome(self.mode, notes=["the new secret is already in effect"])
                self._refuse_v2("change-secret")
                if dry_run:
                    return Outcome(self.mode, changed=True)
                if key is None:
                    warn_if_short(new)
                    self._database.overwrite_deleted()
                    key = kdf.derive(new)
                if self._put_under(kdf, key, new):
                    return self._scrubbed(Outcome(self.mode, changed=True))

    def rotate_key(self, progress: Progress = _silent, *, dry_run: bool = False) -> Outcome:
        """Seal all values under a new data key, and drop the old ones.

        Raises:
            ConfigError: when the database is not in mode encrypted.
        """
        self._refuse_v2("rotate-key")
        _check_rotates(self.mode)
        if dry_run:
            return Outcome(self.mode, changed=True, sealed=all_kids(self.scan()).total())
        with self._session():
            self._change(_to_new_key)
            return self._reseal(progress)

    def upgrade(self, progress: Progress = _silent, *, dry_run: bool = False) -> Outcome:
        """Bring a database in GPROXY's format to ours; GPROXY must be stopped before.

        Raises:
            ConfigError: when the database is neither in GPROXY's mode nor on the way from it.
            InvalidValue: when a value would be too long for its column once it is sealed.
        """
        mode = self.mode
        if mode is Mode.ENCRYPTED:
            return Outcome(mode, notes=["the database has no value in GPROXY's format"])
        if mode not in (Mode.V2, Mode.MIGRATING):
            raise ConfigError(
                f"upgrade needs mode v2, and the database is in mode {mode}: run `gproxy-storage "
                "encryption encrypt`"
            )
        check_room(self._database)
        if dry_run:
            forms = all_forms(self.scan())
            return Outcome(mode, changed=True, sealed=forms[Form.V2] + forms[Form.PLAINTEXT])
        with self._session():
            self._database.overwrite_deleted()
            if mode is Mode.V2:
                self._change(_from_v2, keep_gproxy_off=True)
            return self._reseal(progress, scrub=True)

    def decrypt(self, progress: Progress = _silent, *, dry_run: bool = False) -> Outcome:
        """Open all values and store them in the clear, and take out the keyring.

        Stops with the keyring in place where a value does not open.

        Raises:
            ConfigError: when there are values in GPROXY's format.
        """
        mode = self.mode
        if mode is Mode.PLAINTEXT:
            return Outcome(mode, notes=["the database is not encrypted"])
        self._refuse_v2("decrypt")
        if dry_run:
            return Outcome(mode, changed=True, sealed=all_kids(self.scan()).total())
        with self._session():
            self._change(_to_decrypting, unless_decrypted=True)
            done = reseal(self._database, self._vault, progress)
            if not done.unreadable:
                take_out_keyring(self._database, self._vault)
            return Outcome(self.mode, True, done.sealed, done.unreadable)

    # -- inside -------------------------------------------------------------------------------

    def _session(self) -> AbstractContextManager[None]:
        if self._database.in_transaction():
            raise ConfigError("keys cannot be changed inside a transaction: leave it first")
        return session(self._database)

    def _change(self, change: Change, **options: bool) -> None:
        change_keyring(self._database, self._vault, change, **options)

    def _reseal(self, progress: Progress, *, scrub: bool = False) -> Outcome:
        done = reseal(self._database, self._vault, progress)
        dropped = drop_unused(self._database, self._vault)
        outcome = Outcome(self.mode, True, done.sealed, done.unreadable, dropped)
        return self._scrubbed(outcome) if scrub else outcome

    def _unlock(self, secret: Secret) -> None:
        row = self._vault.peek()
        if row is not None and row.sealed is not None:
            self._vault.adopt(Unlocked.open(row, secret))

    def _open_with(self, old: Secret, new: Secret) -> tuple[Unlocked, bool]:
        """Open the keyring with the old secret, or the new one; tell whether it was the new."""
        row = self._vault.peek()
        if row is None or row.sealed is None:
            raise ConfigError(
                "the database is not encrypted: set DATABASE_SECRET_KEY and run `gproxy-storage "
                "encryption encrypt`"
            )
        try:
            return Unlocked.open(row, old), False
        except WrongSecret as exc:
            wrong = exc
        try:
            return Unlocked.open(row, new), True
        except WrongSecret:
            raise wrong from None

    def _put_under(self, kdf: Kdf, key: Key, new: Secret) -> bool:
        """Seal the keyring under another key; False where the secret was changed meanwhile."""

        def put() -> Unlocked | None:
            opened = self._vault.state.reopened(self._vault.lock())
            if opened is None or not opened.is_sealed:
                return None
            state, row = opened.under(kdf, key, new).resealed(opened.keyring)
            state.reopened(row)  # or it is not committed
            self._vault.write(row)
            return state

        state = run_transaction(self._database, put)
        if state is not None:
            self._vault.adopt(state)
        return state is not None

    def _refuse_v2(self, command: str) -> None:
        if self.mode is Mode.V2 or self._vault.keyring.has_v2:
            raise ConfigError(
                f"{command} cannot be done while there are values in GPROXY's format: stop GPROXY "
                "and run `gproxy-storage encryption upgrade` first"
            )

    def _scrubbed(self, outcome: Outcome) -> Outcome:
        if not self._database.scrub():
            outcome.notes.append(
                "what was overwritten may still lie in the file, for others use the database: run "
                "VACUUM and PRAGMA wal_checkpoint(TRUNCATE) when they have stopped"
            )
        return outcome


def _to_migrating(keyring: Keyring) -> Keyring | None:
    return None if keyring.mode is Mode.MIGRATING else keyring.with_mode(Mode.MIGRATING)


def _from_v2(keyring: Keyring) -> Keyring | None:
    return keyring.with_mode(Mode.MIGRATING) if keyring.mode is Mode.V2 else None


def _to_decrypting(keyring: Keyring) -> Keyring | None:
    return None if keyring.mode is Mode.DECRYPTING else keyring.with_mode(Mode.DECRYPTING)


def _check_rotates(mode: Mode) -> None:
    if mode is not Mode.ENCRYPTED:
        raise ConfigError(
            f"rotate-key needs mode encrypted, and the database is in mode {mode}: run "
            "`gproxy-storage encryption encrypt` first"
        )


def _to_new_key(keyring: Keyring) -> Keyring | None:
    _check_rotates(keyring.mode)  # another command may have changed it
    # Where there is a key that is not active, an earlier rotation was cut off, and is taken up.
    return keyring.with_new_key() if len(keyring.kids) == 1 else None
