"""Changes: one transaction each that replaces the keyring, held against all who write secrets.

The keyring is opened again under the lock, so that a change is made to what is there, whatever
another command did meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.keyring import Keyring
from ..crypto.keyset import Mode
from ..database import run_transaction
from ..errors import WrongSecret
from ..unlocked import KeyringRow, Unlocked
from ..vault import TABLE, Vault
from . import gproxy
from .scan import InUse, scan, together

Change = Callable[[Keyring], Keyring | None]
"""Returns the new keyring, or None to leave it as it is."""


def change_keyring(
    database: Backend,
    vault: Vault,
    change: Change,
    *,
    keep_gproxy_off: bool = False,
    unless_decrypted: bool = False,
) -> None:
    """Write a changed keyring and work under it.

    Args:
        keep_gproxy_off: record in the same transaction that GPROXY must not start here any more.
        unless_decrypted: change nothing where another process has decrypted the database.
    Raises:
        WrongSecret: when it was put under another secret meanwhile, or taken out.
    """
    if keep_gproxy_off:
        gproxy.prepare_ledger(database)

    def write() -> Unlocked:
        held = vault.lock()
        if unless_decrypted and held.sealed is None and held.decrypted:
            return Unlocked.plaintext(held)
        opened = _opened(vault, held)
        keyring = change(opened.keyring)
        if keyring is None:
            return opened
        if keep_gproxy_off:
            gproxy.keep_off(database)
        state, row = opened.resealed(keyring)
        vault.write(state, row)
        return state

    vault.adopt(run_transaction(database, write))


def drop_unused(database: Backend, vault: Vault) -> int:
    """Drop the keys that no value needs; mode encrypted when all values are sealed our way.

    Returns:
        How many data keys were dropped.
    """
    while True:
        state = vault.state
        # Nobody uses what is not in here any more: who writes uses the active key, by the fence.
        in_use = together(scan(database, state.keyring.kids))
        dropped = _finish(database, vault, state, in_use)
        # Only if no other command has changed the keyring since before the scan.
        if dropped is not None:
            return dropped


def _finish(database: Backend, vault: Vault, before: Unlocked, in_use: InUse) -> int | None:
    def write() -> tuple[Unlocked, int] | None:
        row = vault.lock()
        if not before.is_of(row):
            return None
        opened = _opened(vault, row)
        keyring = finished(opened.keyring, in_use)
        if keyring is opened.keyring:
            return opened, 0
        state, row = opened.resealed(keyring)
        vault.write(state, row)
        return state, len(opened.keyring.kids) - len(keyring.kids)

    done = run_transaction(database, write)
    if done is None:
        vault.refresh()
        return None
    state, dropped = done
    vault.adopt(state)
    return dropped


def finished(keyring: Keyring, in_use: InUse) -> Keyring:
    """Return the keyring without what no value needs, or as it is when that is nothing."""
    needed = in_use.kids.keys() | in_use.suspects | {keyring.active_kid or ""}
    unused = keyring.kids - needed
    found = keyring.without_keys(unused) if unused else keyring
    forms = in_use.forms
    if keyring.mode is Mode.MIGRATING and not forms[Form.V2]:
        mode = Mode.MIGRATING if forms[Form.PLAINTEXT] else Mode.ENCRYPTED
        if found.has_v2 or mode is not keyring.mode:
            found = found.with_v2(None, mode=mode)
    return found


def take_out_keyring(database: Backend, vault: Vault) -> None:
    """Leave the database plaintext, where it is in mode decrypting and all is in the clear."""

    def take_out() -> Unlocked:
        row = vault.lock()
        if row.sealed is None:  # another process was first
            return Unlocked.plaintext(row)
        opened = _opened(vault, row)
        if opened.keyring.mode is not Mode.DECRYPTING:
            return opened  # another command has turned it round
        row = KeyringRow(opened.generation + 1, None, None, decrypted=True)
        state = Unlocked.plaintext(row)
        gproxy.let_in(database)
        vault.write(state, row)
        return state

    vault.adopt(run_transaction(database, take_out))


def _opened(vault: Vault, row: KeyringRow) -> Unlocked:
    """Open the row as it is under the lock with the key at hand."""
    state = vault.state.reopened(row)
    if state is None or row.sealed is None:
        raise WrongSecret(
            "another process has changed the secret, or decrypted the database, meanwhile: look at "
            "`gproxy-storage encryption status` and run the command again",
            table=TABLE,
        )
    return state
