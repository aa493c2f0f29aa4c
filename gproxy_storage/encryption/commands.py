"""Encryption: what changes the keys of a database, while others read and write it.

Each operation raises the keyring's generation in a transaction that holds its row against every
writer, and re-seals values row by row under the fence. Killed anywhere, it is run again; two at
once both finish.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.kdf import Kdf
from ..crypto.keyring import Keyring
from ..crypto.keyset import Mode
from ..database import run_query, run_transaction, session
from ..errors import ConfigError, CryptoError, SecretError, WrongSecret
from ..secret import Secret
from ..vault import TABLE, KeyringRow, Unlocked, Vault
from . import gproxy
from .reseal import reseal
from .scan import Checked, InUse, check, scan
from .startup import Candidate, check_v2, warn_if_short

Progress = Callable[[int], None]


def _silent(_: int) -> None:
    """Show no progress."""


@dataclass
class Outcome:
    """What an operation did, or would do.

    Attributes:
        mode: the database's mode after it.
        changed: whether anything was written, or would be.
        sealed: values that were written anew.
        unreadable: an error for each value that does not open; they were left as they are.
        keys_dropped: data keys that no value uses any more.
        notes: what else to know.
    """

    mode: Mode
    changed: bool = False
    sealed: int = 0
    unreadable: list[CryptoError] = field(default_factory=list)
    keys_dropped: int = 0
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-able values."""
        return {
            "mode": self.mode.value,
            "changed": self.changed,
            "sealed": self.sealed,
            "unreadable": [str(error) for error in self.unreadable],
            "keys_dropped": self.keys_dropped,
            "notes": self.notes,
        }


class Encryption:
    """The keys of one database, and what may be done to them.

    Every method may run while other processes use the database.
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
        """
        mode = self.mode
        if dry_run:
            forms = _forms(self.scan())
            to_seal = forms[Form.PLAINTEXT]
            return Outcome(mode, changed=mode is not Mode.ENCRYPTED or to_seal > 0, sealed=to_seal)
        with session(self._database):
            self._database.overwrite_deleted()
            if mode is Mode.PLAINTEXT:
                self._create(secret)
            elif mode is Mode.DECRYPTING or (
                mode is Mode.ENCRYPTED and _forms(self.scan())[Form.PLAINTEXT]
            ):
                self._change(_to_migrating, before=self._keep_gproxy_off)
            return self._reseal_and_finish(progress, scrub=True)

    def change_secret(self, old: Secret, new: Secret, *, dry_run: bool = False) -> Outcome:
        """Seal the keyring under a new secret: one row is written, no value is touched.

        Raises:
            SecretError: when both secrets are the same.
            ConfigError: when the database is in GPROXY's mode, or not encrypted.
            WrongSecret: when neither secret opens the keyring.
        """
        with session(self._database):
            row = self._vault.peek()
            if row is None or row.sealed is None:
                raise ConfigError(
                    "the database is not encrypted: set DATABASE_SECRET_KEY and run "
                    "`gproxy-storage encryption encrypt`"
                )
            state, is_new = _open_with(row, old, new)
            self._vault.adopt(state)
            if old == new:
                raise SecretError("the new secret is the present one: choose another")
            if is_new:
                return Outcome(self.mode, notes=["the new secret is already in effect"])
            warn_if_short(new)
            self._refuse_v2("change-secret")
            if dry_run:
                return Outcome(self.mode, changed=True)
            self._database.overwrite_deleted()
            kdf = Kdf.new()
            key = kdf.derive(new)

            def change() -> Unlocked:
                opened = self._opened(self._vault.lock())
                sealed_under_new = Unlocked(opened.keyring, opened.generation, str(kdf), key)
                changed, new_row = sealed_under_new.resealed(opened.keyring)
                Unlocked.open(new_row, new)  # before it is committed
                self._vault.write(new_row)
                return changed

            self._vault.adopt(run_transaction(self._database, change))
            return self._scrubbed(Outcome(self.mode, changed=True))

    def rotate_key(self, progress: Progress = _silent, *, dry_run: bool = False) -> Outcome:
        """Seal all values under a new data key, and drop the old ones.

        Raises:
            ConfigError: when the database is not in mode encrypted.
        """
        if self.mode is not Mode.ENCRYPTED:
            self._refuse_v2("rotate-key")
            raise ConfigError(
                f"rotate-key needs mode encrypted, and the database is in mode {self.mode}: run "
                "`gproxy-storage encryption encrypt` first"
            )
        if dry_run:
            in_use = self.scan()
            return Outcome(self.mode, changed=True, sealed=sum(_kids(in_use).values()))
        with session(self._database):
            # A key that is not active: an earlier rotation was cut off, and is taken up.
            self._change(lambda keyring: keyring.with_new_key() if len(keyring.kids) == 1 else None)
            return self._reseal_and_finish(progress)

    def upgrade(self, progress: Progress = _silent, *, dry_run: bool = False) -> Outcome:
        """Bring a database in GPROXY's format to ours; GPROXY must be stopped before.

        Raises:
            ConfigError: when the database is neither in GPROXY's mode nor on the way from it.
        """
        mode = self.mode
        if mode is Mode.ENCRYPTED:
            return Outcome(mode, notes=["the database has no value in GPROXY's format"])
        if mode not in (Mode.V2, Mode.MIGRATING):
            raise ConfigError(
                f"upgrade needs mode v2, and the database is in mode {mode}: run `gproxy-storage "
                "encryption encrypt`"
            )
        if dry_run:
            forms = _forms(self.scan())
            return Outcome(mode, changed=True, sealed=forms[Form.V2] + forms[Form.PLAINTEXT])
        with session(self._database):
            self._database.overwrite_deleted()
            if mode is Mode.V2:
                self._change(_to_migrating, before=self._keep_gproxy_off)
            return self._reseal_and_finish(progress, scrub=True)

    def decrypt(self, progress: Progress = _silent, *, dry_run: bool = False) -> Outcome:
        """Open all values and store them in the clear, and drop the keyring.

        Stops with the keyring in place where a value does not open.

        Raises:
            ConfigError: when there are values in GPROXY's format.
        """
        mode = self.mode
        if mode is Mode.PLAINTEXT:
            return Outcome(mode, notes=["the database is not encrypted"])
        self._refuse_v2("decrypt")
        if dry_run:
            return Outcome(mode, changed=True, sealed=sum(_kids(self.scan()).values()))
        with session(self._database):
            self._change(
                lambda keyring: (
                    None if keyring.mode is Mode.DECRYPTING else keyring.with_mode(Mode.DECRYPTING)
                )
            )
            done = reseal(self._database, self._vault, progress)
            outcome = Outcome(self.mode, True, done.sealed, done.unreadable)
            if not done.unreadable:
                self._drop_keyring()
                outcome.mode = self.mode
            return outcome

    # -- inside -------------------------------------------------------------------------------

    def _create(self, secret: Secret) -> None:
        candidate = Candidate.prepare(secret)
        check_v2(self._database, candidate.v2)
        gproxy.prepare_ledger(self._database)

        def create() -> Unlocked:
            row = self._vault.lock()
            if row.sealed is not None:
                return Unlocked.open(row, secret)  # by another process meanwhile
            has_v2 = _forms(self.scan())[Form.V2] > 0
            mode = Mode.V2 if has_v2 or gproxy.gproxy_uses(self._database) else Mode.MIGRATING
            state, sealed_row = candidate.sealed(mode, row.generation)
            if mode is not Mode.V2:
                gproxy.keep_off(self._database)
            self._vault.write(sealed_row)
            return state

        self._vault.adopt(run_transaction(self._database, create))

    def _change(
        self,
        change: Callable[[Keyring], Keyring | None],
        *,
        before: Callable[[], None] | None = None,
        generation: int | None = None,
    ) -> bool:
        """Write a changed keyring; False when its generation is not the one that was asked for.

        Args:
            change: returns the new keyring, or None to leave it as it is.
            before: called in the same transaction, under the lock.
        """
        if before is not None:
            gproxy.prepare_ledger(self._database)

        def write() -> Unlocked | None:
            opened = self._opened(self._vault.lock())
            if generation is not None and opened.generation != generation:
                return None
            keyring = change(opened.keyring)
            if keyring is None:
                return opened
            if before is not None:
                before()
            state, row = opened.resealed(keyring)
            self._vault.write(row)
            return state

        state = run_transaction(self._database, write)
        if state is None:
            self._vault.refresh()
            return False
        self._vault.adopt(state)
        return True

    def _reseal_and_finish(self, progress: Progress, *, scrub: bool = False) -> Outcome:
        done = reseal(self._database, self._vault, progress)
        dropped = self._finish()
        outcome = Outcome(
            self.mode,
            changed=True,
            sealed=done.sealed,
            unreadable=done.unreadable,
            keys_dropped=dropped,
        )
        return self._scrubbed(outcome) if scrub else outcome

    def _finish(self) -> int:
        """Drop the keys that no value uses; mode encrypted when nothing else is left."""
        while True:
            state = self._vault.state
            in_use = scan(self._database)
            kids, forms = _kids(in_use), _forms(in_use)
            unused = state.keyring.kids - kids.keys() - {state.keyring.active_kid or ""}

            def finish(keyring: Keyring, unused: frozenset[str] = unused) -> Keyring | None:
                return _finished(keyring, unused, forms)  # noqa: B023 - called at once

            # Only if no other command has changed the keyring since the scan.
            if self._change(finish, generation=state.generation):
                return len(unused)

    def _drop_keyring(self) -> None:
        def drop() -> Unlocked:
            opened = self._opened(self._vault.lock())
            if opened.keyring.mode is not Mode.DECRYPTING:
                return opened  # another command has turned it round
            row = KeyringRow(opened.generation + 1, None, None, decrypted=True)
            gproxy.let_in(self._database)
            self._vault.write(row)
            return Unlocked.plaintext(row)

        self._vault.adopt(run_transaction(self._database, drop))

    def _opened(self, row: KeyringRow) -> Unlocked:
        """Open the row as it is under the lock with the key at hand."""
        state = self._vault.state.reopened(row)
        if state is None or row.sealed is None:
            raise WrongSecret(
                "another process has changed the secret, or decrypted the database, meanwhile: "
                "look at `gproxy-storage encryption status` and run the command again",
                table=TABLE,
            )
        return state

    def _keep_gproxy_off(self) -> None:
        gproxy.keep_off(self._database)

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


def _open_with(row: KeyringRow, old: Secret, new: Secret) -> tuple[Unlocked, bool]:
    """Open with the old secret, or the new one; tell whether it was the new one."""
    try:
        return Unlocked.open(row, old), False
    except WrongSecret as exc:
        wrong = exc
    try:
        return Unlocked.open(row, new), True
    except WrongSecret:
        raise wrong from None


def _to_migrating(keyring: Keyring) -> Keyring | None:
    return None if keyring.mode is Mode.MIGRATING else keyring.with_mode(Mode.MIGRATING)


def _finished(keyring: Keyring, unused: frozenset[str], forms: Counter[Form]) -> Keyring | None:
    """Return the keyring without what no value needs, or None when it is as it should be."""
    finished = keyring.without_keys(unused) if unused else keyring
    if keyring.mode is Mode.MIGRATING and not forms[Form.V2]:
        mode = Mode.MIGRATING if forms[Form.PLAINTEXT] else Mode.ENCRYPTED
        if finished.has_v2 or mode is not keyring.mode:
            finished = finished.with_v2(None, mode=mode)
    return None if finished is keyring else finished


def _forms(in_use: dict[str, InUse]) -> Counter[Form]:
    return sum((found.forms for found in in_use.values()), Counter[Form]())


def _kids(in_use: dict[str, InUse]) -> Counter[str]:
    return sum((found.kids for found in in_use.values()), Counter[str]())
