"""Scans of the encrypted columns: which keys are in use, and whether every value opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.keyring import Keyring
from ..errors import CryptoError, PlaintextFound
from ..keyring_manager import KeyringManager
from .columns import COLUMNS, EncryptedColumn, stored_values
from .outcome import Evidence

OnProgress = Callable[[int], None]
"""Called with a number of rows when they are done."""


@dataclass
class InUse:
    """The forms and keys of stored values, which are not opened.

    Attributes:
        kids: the number of values sealed under each data key.
        forms: the number of values of each form.
        suspects: the data keys under which malformed values may be sealed.
    """

    kids: Counter[str] = field(default_factory=Counter)
    forms: Counter[Form] = field(default_factory=Counter)
    suspects: set[str] = field(default_factory=set)

    def add(self, column: EncryptedColumn, stored: Any, kids: Collection[str]) -> None:
        """Count a stored value; `kids` are the ids of all data keys."""
        form, envelope = column.examined(stored)
        self.forms[form] += 1
        if envelope is not None:
            if envelope.kid is not None:
                self.kids[envelope.kid] += 1
        elif form is Form.MALFORMED:
            # It may be repaired by hand, which needs its key: any whose id occurs in it, else all.
            self.suspects.update({kid for kid in kids if kid in str(stored)} or kids)


def scan(database: Backend, kids: Collection[str] = ()) -> dict[str, InUse]:
    """Read the form and the key id of every value, by ``table.column``."""
    found = {column.name: InUse() for column in COLUMNS}
    for column in COLUMNS:
        in_use = found[column.name]
        for _, stored, _ in stored_values(database, column):
            in_use.add(column, stored, kids)
    return found


def scan_others(database: Backend, keyring: Keyring) -> InUse:
    """Read the form and the key id of the values that are not under the active key.

    Some that are under it may be among them, depending on how the database stores JSON.
    """
    found = InUse()
    for column in COLUMNS:
        for stored in _others(database, column, keyring):
            found.add(column, stored, keyring.kids)
    return found


def has_plaintext(database: Backend, keyring: Keyring) -> bool:
    """Tell whether a value is in the clear."""
    return any(
        column.form(stored) is Form.PLAINTEXT
        for column in COLUMNS
        for stored in _others(database, column, keyring)
    )


def _others(database: Backend, column: EncryptedColumn, keyring: Keyring) -> Iterator[Any]:
    # The database finds the values that are as the last commands left them, which are nearly all,
    # in a fraction of the time that reading and parsing them takes.
    kid = keyring.active_kid
    wanted = None if kid is None else column.is_other(database, kid)
    return (stored for _, stored, _ in stored_values(database, column, wanted))


def total(found: dict[str, InUse]) -> InUse:
    """Add up all columns."""
    result = InUse()
    for in_use in found.values():
        result.kids += in_use.kids
        result.forms += in_use.forms
        result.suspects |= in_use.suspects
    return result


@dataclass
class Checked:
    """The result of checking one encrypted column.

    Attributes:
        rows: number of values.
        unreadable: the errors of values that do not open in their place.
        plaintext: primary keys of rows whose value is in the clear.
        digest_mismatches: primary keys of rows whose digest does not match their value.
    """

    rows: int = 0
    unreadable: Evidence[CryptoError] = field(default_factory=Evidence)
    plaintext: Evidence[int] = field(default_factory=Evidence)
    digest_mismatches: Evidence[int] = field(default_factory=Evidence)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-able values."""
        return {
            "rows": self.rows,
            "unreadable": self.unreadable.count,
            "plaintext": self.plaintext.count,
            "digest_mismatches": self.digest_mismatches.count,
        }


def check(database: Backend, manager: KeyringManager, progress: OnProgress) -> dict[str, Checked]:
    """Open every value, by ``table.column``; writes nothing."""
    found = {}
    for column in COLUMNS:
        checked = found[column.name] = Checked()
        for pk, stored, digest in stored_values(database, column):
            _check_row(checked, manager, column, (pk, stored, digest))
            progress(1)
    return found


def _check_row(
    checked: Checked,
    manager: KeyringManager,
    column: EncryptedColumn,
    row: tuple[int, Any, str | None],
) -> None:
    pk, stored, digest = row
    checked.rows += 1
    if column.form(stored) is Form.PLAINTEXT:
        checked.plaintext.add(pk)
    binding = column.field.binding(pk)

    def attempt(keyring: Keyring) -> bool:
        value = column.field.opened(keyring, stored, binding)
        return digest is None or digest in keyring.lookup_digests(value)

    try:
        matches = manager.retrying(manager.keyring, attempt)
    except PlaintextFound:
        return  # counted above
    except CryptoError as exc:
        checked.unreadable.add(exc)
        return
    if not matches:
        checked.digest_mismatches.add(pk)
