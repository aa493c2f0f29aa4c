"""Encryption: the operations that change the keys of a database while it is in use.

Each operation changes the keyring in one transaction and reseals values batch by batch under the
shared lock. All are idempotent and safe to run concurrently.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from ..backends.base import Backend
from ..crypto.kdf import Kdf
from ..crypto.keyring import Keyring
from ..crypto.keys import Key
from ..crypto.keyset import Mode
from ..database import run_query, session
from ..errors import ConfigError, KeyringLost, SecretError, WrongSecret
from ..keyring_manager import KeyringManager
from ..secret import Secret
from ..unlocked import KeyringRow, Unlocked
from .capacity import check_capacity
from .changes import KeyringChange, change_keyring, drop_unused, remove_keyring, without_unused
from .columns import COLUMNS, count_values
from .creation import create_keyring, dry_run_keyring
from .outcome import Outcome
from .reseal import dry_run_reseal, reseal
from .scan import Checked, InUse, OnProgress, check, has_plaintext, scan
from .startup import warn_if_short


def _silent(_: int) -> None:
    """Show no progress."""


class Encryption:
    """The keys of one database, and the operations that change them.

    Every method may run while other processes use the database. Those that change something use
    several transactions, and raise ConfigError inside of one; with `dry_run` they change nothing
    and return what they would do. After an interruption, run them again. `progress` is called with
    the number of values done since its last call.
    """

    def __init__(self, database: Backend, manager: KeyringManager) -> None:
        self._database = database
        self._manager = manager

    # -- queries ------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The database's encryption mode, read from it.

        Raises:
            SecretChanged: when this process lacks the keyring's secret.
            KeyringLost: when the keyring was removed while this process ran.
        """
        self._manager.refresh()
        return self._manager.keyring.mode

    @property
    def keys(self) -> list[str]:
        """The ids of the known data keys, the active one first."""
        keyring = self._manager.keyring
        return [kid for kid in (keyring.active_kid,) if kid] + _inactive(keyring)

    def try_secret(self, secret: Secret | None) -> Mode | None:
        """Open the keyring with a secret and return the database's mode.

        Returns:
            The mode; None if the secret is missing or wrong.
        """
        row = self.row()
        if row is None or row.sealed is None:
            return Mode.PLAINTEXT
        if secret is None:
            return None
        try:
            self._manager.adopt(Unlocked.open(row, secret))
        except WrongSecret:
            return None
        return self._manager.keyring.mode

    def row(self) -> KeyringRow | None:
        """Return the keyring's row; None if it, or its table, does not exist."""
        return run_query(self._database, self._manager.peek)

    def count(self) -> int:
        """Return the number of values in the encrypted columns."""
        return sum(count_values(self._database, column) for column in COLUMNS)

    def scan(self) -> dict[str, InUse]:
        """Read the form and the key id of every value, by ``table.column``."""
        return scan(self._database, self._manager.keyring.kids)

    def check(self, progress: OnProgress = _silent) -> dict[str, Checked]:
        """Open every value and compare its digest, by ``table.column``; writes nothing."""
        return check(self._database, self._manager, progress)

    def is_clean(self, checked: dict[str, Checked]) -> bool:
        """Tell whether a check found nothing wrong; plaintext is wrong in mode encrypted only."""
        return not any(
            found.unreadable
            or found.digest_mismatches
            or (found.plaintext and self._manager.keyring.mode is Mode.ENCRYPTED)
            for found in checked.values()
        )

    # -- operations ---------------------------------------------------------------------------

    def encrypt(
        self, secret: Secret, progress: OnProgress = _silent, *, dry_run: bool = False
    ) -> Outcome:
        """Seal plaintext values; create the keyring if there is none.

        Raises:
            WrongSecret: when there are values in GPROXY's format, and the secret opens none.
            KeyringLost: when there are values sealed under a lost keyring.
            InvalidValue: when a value would be too long for its column once it is sealed.
        """
        with self._session(dry_run=dry_run):
            self._overwrite_deleted(dry_run)
            check_capacity(self._database)
            self._unlock(secret)
            before = self._manager.state
            keyring = self._keyring_for(secret, dry_run=dry_run)
            change = None
            if keyring.mode is Mode.DECRYPTING or (
                keyring.mode is Mode.ENCRYPTED and has_plaintext(self._database, keyring)
            ):
                change = _to_migrating
            return self._carry_out(before, change, progress, dry_run, seals=True, keyring=keyring)

    def change_secret(self, old: Secret, new: Secret, *, dry_run: bool = False) -> Outcome:
        """Seal the keyring under a new secret: writes one row, and no values.

        Raises:
            SecretError: when both secrets are the same.
            ConfigError: when the database is in GPROXY's mode, or not encrypted.
            WrongSecret: when neither secret opens the keyring.
        """
        with self._session(dry_run=dry_run):
            self._overwrite_deleted(dry_run)
            kdf = Kdf.new()
            key: Key | None = None
            while True:
                state, is_new = self._open_with(old, new)
                self._manager.adopt(state)
                if old == new:
                    raise SecretError("the new secret is the present one: choose another")
                if is_new:
                    return Outcome(
                        state.keyring.mode, notes=["the new secret is already in effect"]
                    )
                if self._manager.keyring.mode is Mode.V2:  # GPROXY's key is derived from the secret
                    raise _in_gproxys_format("change-secret")
                if dry_run:
                    return Outcome(state.keyring.mode, changed=True)
                if key is None:
                    warn_if_short(new)
                    key = kdf.derive(new)
                if self._put_under(kdf, key, new):
                    return self._scrubbed(Outcome(state.keyring.mode, changed=True))

    def rotate_key(self, progress: OnProgress = _silent, *, dry_run: bool = False) -> Outcome:
        """Seal all values under a new data key, and drop the old ones.

        A value that does not open is left as it is, and its key is kept. An interrupted rotation is
        finished instead, without a new key.

        Raises:
            ConfigError: when the database is neither in mode encrypted nor migrating to it.
        """
        with self._session(dry_run=dry_run):
            self._manager.refresh()
            before = self._manager.state
            _check_rotates(before.keyring.mode)
            change = self._new_key()
            outcome = self._carry_out(before, change, progress, dry_run)
            if change is None:
                outcome.notes.append(
                    "this finishes an earlier rotation; the next one creates a new key"
                )
            return outcome

    def upgrade(self, progress: OnProgress = _silent, *, dry_run: bool = False) -> Outcome:
        """Convert a database from GPROXY's format to format v3; stop GPROXY first.

        Raises:
            ConfigError: when the database is neither in GPROXY's mode nor migrating from it.
            InvalidValue: when a value would be too long for its column once it is sealed.
        """
        with self._session(dry_run=dry_run):
            self._overwrite_deleted(dry_run)
            self._manager.refresh()
            before = self._manager.state
            mode = before.keyring.mode
            if mode is Mode.ENCRYPTED:
                return Outcome(mode, notes=["the database has no value in GPROXY's format"])
            if mode not in (Mode.V2, Mode.MIGRATING):
                raise ConfigError(
                    f"upgrade needs mode v2, and the database is in mode {mode}: run "
                    "`gproxy-storage encryption encrypt`"
                )
            check_capacity(self._database)
            change = _from_v2 if mode is Mode.V2 else None
            return self._carry_out(before, change, progress, dry_run, seals=True)

    def decrypt(self, progress: OnProgress = _silent, *, dry_run: bool = False) -> Outcome:
        """Store all values in the clear, and remove the keyring.

        If a value does not open, the keyring is kept.

        Raises:
            ConfigError: when there are values in GPROXY's format.
        """
        with self._session(dry_run=dry_run):
            self._refresh_unless_decrypted()
            before = self._manager.state
            if before.keyring.mode is Mode.PLAINTEXT:
                return Outcome(Mode.PLAINTEXT, notes=["the database is not encrypted"])
            if before.keyring.has_v2:
                raise _in_gproxys_format("decrypt")
            outcome = self._carry_out(before, _to_decrypting, progress, dry_run)
            if outcome.unreadable:
                outcome.notes.append(
                    "the keyring is kept, for not all values open: overwrite them or delete their "
                    "rows, and run it again"
                )
            return outcome

    # -- private ------------------------------------------------------------------------------

    def _session(self, *, dry_run: bool) -> AbstractContextManager[None]:
        if not dry_run and self._database.in_transaction():
            raise ConfigError("keys cannot be changed inside a transaction: leave it first")
        return session(self._database)

    def _keyring_for(self, secret: Secret, *, dry_run: bool) -> Keyring:
        """Return the keyring to encrypt under; create it if there is none, except in a dry run."""
        if dry_run:
            keyring = self._manager.keyring
            is_missing = keyring.mode is Mode.PLAINTEXT
            return dry_run_keyring(self._database, secret) if is_missing else keyring
        while self._manager.keyring.mode is Mode.PLAINTEXT:
            created = create_keyring(self._database, self._manager, secret, even_if_decrypted=True)
            if created is None:  # another process was first
                self._unlock(secret)
        return self._manager.keyring

    def _new_key(self) -> KeyringChange | None:
        """Return the change to a new data key; None if an earlier rotation is to be finished.

        A rotation was interrupted if an inactive key has values that open, or no values. A key that
        has only values that do not open is kept, and is no reason not to rotate.
        """
        keyring = self._manager.keyring
        if len(keyring.kids) > 1:
            pending = dry_run_reseal(self._database, keyring, _silent)
            if pending.sealed or without_unused(keyring, pending.left).kids != keyring.kids:
                return None

        def change(now: Keyring) -> Keyring | None:
            _check_rotates(now.mode)  # another command may have changed it
            return now.with_new_key() if now.kids == keyring.kids else None

        return change

    def _carry_out(
        self,
        before: Unlocked,
        change: KeyringChange | None,
        progress: OnProgress,
        dry_run: bool,
        *,
        seals: bool = False,
        keyring: Keyring | None = None,
    ) -> Outcome:
        """Change the keyring, reseal all values, drop unused keys; or do a dry run of that.

        Args:
            before: the state when the operation began.
            seals: values in the clear or in GPROXY's format are sealed, so that GPROXY must not
                start on this database, and what was overwritten is removed from the file.
            keyring: the one that a dry run begins with, if not that of `before`.
        """
        if dry_run:
            keyring = keyring or before.keyring
            target = (change and change(keyring)) or keyring
            done = dry_run_reseal(self._database, target, progress)
            if change is not _to_decrypting:
                final = without_unused(target, done.left)
            else:
                final = target if done.unreadable else Keyring.plaintext()
            dropped = len(target.kids) - len(final.kids)
        else:
            if change is not None:
                change_keyring(
                    self._database,
                    self._manager,
                    change,
                    block_gproxy=seals,
                    unless_decrypted=change is _to_decrypting,
                )
            done = reseal(self._database, self._manager, progress)
            dropped = 0
            if change is not _to_decrypting:
                dropped = drop_unused(self._database, self._manager)
            elif not done.unreadable:
                remove_keyring(self._database, self._manager)
            final = self._manager.keyring
        state = self._manager.state
        changed = final is not state.keyring or state.generation != before.generation
        outcome = Outcome(
            final.mode,
            changed or done.sealed > 0,
            done.sealed,
            done.unreadable,
            0 if final.mode is Mode.PLAINTEXT else dropped,
            _inactive(final),
        )
        return self._scrubbed(outcome) if seals and not dry_run else outcome

    # Each operation begins by reading the keyring again: another process, or an interrupted
    # operation of this one, may have changed it.

    def _unlock(self, secret: Secret) -> None:
        row = self._manager.peek()
        if row is None or row.sealed is None:
            self._manager.refresh()
        elif not self._manager.state.is_of(row):
            self._manager.adopt(Unlocked.open(row, secret))

    def _refresh_unless_decrypted(self) -> None:
        try:
            self._manager.refresh()
        except KeyringLost:
            row = self._manager.peek()
            if row is None or row.sealed is not None or not row.decrypted:
                raise
            self._manager.adopt(Unlocked.plaintext(row))

    def _open_with(self, old: Secret, new: Secret) -> tuple[Unlocked, bool]:
        """Open the keyring with the old or the new secret; return whether it was the new one."""
        row = self._manager.peek()
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
        """Seal the keyring under another key; False if the secret was changed meanwhile."""

        def put(row: KeyringRow) -> Unlocked | None:
            opened = self._manager.state.reopened(row)
            if opened is None or not opened.is_sealed:
                return None
            return opened.under(kdf, key, new).resealed(opened.keyring)

        return self._manager.change(put) is not None

    def _overwrite_deleted(self, dry_run: bool) -> None:
        if not dry_run:
            self._database.overwrite_deleted()

    def _scrubbed(self, outcome: Outcome) -> Outcome:
        if not self._database.scrub():
            outcome.notes.append(
                "overwritten values may still be in the file, for other processes use it: run "
                "VACUUM and PRAGMA wal_checkpoint(TRUNCATE) when they have stopped"
            )
        return outcome


def _inactive(keyring: Keyring) -> list[str]:
    return sorted(keyring.kids - {keyring.active_kid or ""})


def _in_gproxys_format(command: str) -> ConfigError:
    return ConfigError(
        f"{command} cannot be done while there are values in GPROXY's format: stop GPROXY "
        "and run `gproxy-storage encryption upgrade` first"
    )


def _to_migrating(keyring: Keyring) -> Keyring | None:
    return None if keyring.mode is Mode.MIGRATING else keyring.with_mode(Mode.MIGRATING)


def _from_v2(keyring: Keyring) -> Keyring | None:
    return keyring.with_mode(Mode.MIGRATING) if keyring.mode is Mode.V2 else None


def _to_decrypting(keyring: Keyring) -> Keyring | None:
    return None if keyring.mode is Mode.DECRYPTING else keyring.with_mode(Mode.DECRYPTING)


def _check_rotates(mode: Mode) -> None:
    # Also in mode migrating: a value that cannot be sealed must not prevent rotations.
    if mode is Mode.V2:
        raise _in_gproxys_format("rotate-key")
    if mode not in (Mode.ENCRYPTED, Mode.MIGRATING):
        raise ConfigError(
            f"rotate-key needs mode encrypted, and the database is in mode {mode}: run "
            "`gproxy-storage encryption encrypt` first"
        )
