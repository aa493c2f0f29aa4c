"""Changes: one transaction each that replaces the keyring, held against all who write secrets.

The keyring is opened again under the lock, so that a change is made to what is there, whatever
another command did meanwhile.
"""

from __future__ import annotations

from collections import Counter
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
from .scan import all_forms, all_kids, scan

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
        vault.write(row)
        return state

    vault.adopt(run_transaction(database, write))


def drop_unused(database: Backend, vault: Vault) -> int:
    """Drop the keys that no value uses; mode encrypted when all values are sealed our way.

    Returns:
        How many data keys were dropped.
    """
    while True:
        state = vault.state
        in_use = scan(database)
        kids, forms = all_kids(in_use), all_forms(in_use)
        # Nobody uses any of these any more: who writes uses the active key, as the fence says.
        unused = state.keyring.kids - kids.keys() - {state.keyring.active_kid or ""}
        # Only if no other command has changed the keyring since before the scan.
        if _finish(database, vault, state.generation, unused, forms):
            return len(unused)


def _finish(
    database: Backend, vault: Vault, generation: int, unused: frozenset[str], forms: Counter[Form]
) -> bool:
    def write() -> Unlocked | None:
        opened = _opened(vault, vault.lock())
        if opened.generation != generation:
            return None
        keyring = _finished(opened.keyring, unused, forms)
        if keyring is None:
            return opened
        state, row = opened.resealed(keyring)
        vault.write(row)
        return state

    state = run_transaction(database, write)
    if state is None:
        vault.refresh()
        return False
    vault.adopt(state)
    return True


def _finished(keyring: Keyring, unused: frozenset[str], forms: Counter[Form]) -> Keyring | None:
    """Return the keyring without what no value needs, or None when it is as it should be."""
    finished = keyring.without_keys(unused) if unused else keyring
    if keyring.mode is Mode.MIGRATING and not forms[Form.V2]:
        mode = Mode.MIGRATING if forms[Form.PLAINTEXT] else Mode.ENCRYPTED
        if finished.has_v2 or mode is not keyring.mode:
            finished = finished.with_v2(None, mode=mode)
    return None if finished is keyring else finished


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
        gproxy.let_in(database)
        vault.write(row)
        return Unlocked.plaintext(row)

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
