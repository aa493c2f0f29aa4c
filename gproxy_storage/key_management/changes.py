"""Changes: each replaces the keyring in one transaction that locks out all writers of secrets.

The keyring is opened again under the lock, so that a change is applied to the current one, whatever
another command did meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.keyring import Keyring
from ..crypto.keyset import Mode
from ..errors import WrongSecret
from ..keyring_manager import TABLE, KeyringManager
from ..unlocked import KeyringRow, Unlocked
from . import gproxy
from .scan import InUse, scan_others

KeyringChange = Callable[[Keyring], Keyring | None]
"""Returns the new keyring, or None to leave it as it is."""


def change_keyring(
    database: Backend,
    manager: KeyringManager,
    change: KeyringChange,
    *,
    block_gproxy: bool = False,
    unless_decrypted: bool = False,
) -> None:
    """Write a changed keyring and use it.

    Args:
        block_gproxy: record in the same transaction that GPROXY must not start on this database.
        unless_decrypted: change nothing if another process has decrypted the database.
    Raises:
        WrongSecret: when its secret was changed meanwhile, or it was removed.
    """
    if block_gproxy:
        gproxy.prepare_ledger(database)

    def changed(row: KeyringRow) -> Unlocked:
        if unless_decrypted and row.sealed is None and row.decrypted:
            return Unlocked.plaintext(row)
        opened = _opened(manager, row)
        keyring = change(opened.keyring)
        if keyring is None:
            return opened
        if block_gproxy:
            gproxy.block(database)
        return opened.resealed(keyring)

    manager.change(changed)


def drop_unused(database: Backend, manager: KeyringManager) -> int:
    """Drop the keys that no value needs; switch to mode encrypted when all values are in v3.

    Returns:
        How many data keys were dropped.
    """
    while True:
        before = manager.state
        # Keys not in use now stay unused: the shared lock makes all writers use the active key.
        in_use = scan_others(database, before.keyring)
        after = manager.change(partial(_finished, manager, before, in_use))
        if after is not None:
            return len(before.keyring.kids) - len(after.keyring.kids)
        manager.refresh()


def _finished(
    manager: KeyringManager, before: Unlocked, in_use: InUse, row: KeyringRow
) -> Unlocked | None:
    if not before.is_of(row):  # another command has changed the keyring since before the scan
        return None
    opened = _opened(manager, row)
    keyring = without_unused(opened.keyring, in_use)
    return opened if keyring is opened.keyring else opened.resealed(keyring)


def without_unused(keyring: Keyring, in_use: InUse) -> Keyring:
    """Return the keyring without the keys that no value needs; itself if there are none."""
    needed = in_use.kids.keys() | in_use.suspects | {keyring.active_kid or ""}
    unused = keyring.kids - needed
    found = keyring.without_keys(unused) if unused else keyring
    forms = in_use.forms
    if keyring.mode is Mode.MIGRATING and not forms[Form.V2]:
        mode = Mode.MIGRATING if forms[Form.PLAINTEXT] else Mode.ENCRYPTED
        if found.has_v2 or mode is not keyring.mode:
            found = found.with_v2(None, mode=mode)
    return found


def remove_keyring(database: Backend, manager: KeyringManager) -> None:
    """Remove the keyring of a database in mode decrypting, whose values are all in the clear."""

    def removed(row: KeyringRow) -> Unlocked:
        if row.sealed is None:  # another process was first
            return Unlocked.plaintext(row)
        opened = _opened(manager, row)
        if opened.keyring.mode is not Mode.DECRYPTING:
            return opened  # another command has switched encryption on again
        gproxy.unblock(database)
        return Unlocked.plaintext(KeyringRow(opened.generation + 1, None, None, decrypted=True))

    manager.change(removed)


def _opened(manager: KeyringManager, row: KeyringRow) -> Unlocked:
    """Open the row that was read under the lock with this process's key."""
    state = manager.state.reopened(row)
    if state is None or row.sealed is None:
        raise WrongSecret(
            "another process has changed the secret, or decrypted the database, meanwhile: check "
            "`gproxy-storage encryption status` and run the command again",
            table=TABLE,
        )
    return state
