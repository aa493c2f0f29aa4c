"""Scanning the encrypted columns: which keys are in use, and whether every value opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Backend
from ..crypto.envelope import Form
from ..crypto.keyring import Keyring
from ..errors import CryptoError, PlaintextFound
from ..vault import Vault
from .columns import COLUMNS, Column, stored_values
from .outcome import Evidence

Progress = Callable[[int], None]
"""Called with a number of rows, as they are done."""


@dataclass
class InUse:
    """What the encrypted columns hold, without opening it.

    Attributes:
        kids: how many values are sealed under each data key.
        forms: how many values there are of each form.
    """

    kids: Counter[str] = field(default_factory=Counter)
    forms: Counter[Form] = field(default_factory=Counter)


def scan(database: Backend) -> dict[str, InUse]:
    """Read the form and the key id of every value, by ``table.column``."""
    found = {column.name: InUse() for column in COLUMNS}
    for column in COLUMNS:
        in_use = found[column.name]
        for _, stored, _ in stored_values(database, column):
            form = column.form(stored)
            in_use.forms[form] += 1
            envelope = column.envelope(stored) if form is Form.V3 else None
            if envelope is not None and envelope.kid is not None:
                in_use.kids[envelope.kid] += 1
    return found


def all_forms(found: dict[str, InUse]) -> Counter[Form]:
    """Add up the forms of all columns."""
    return sum((in_use.forms for in_use in found.values()), Counter[Form]())


def all_kids(found: dict[str, InUse]) -> Counter[str]:
    """Add up the keys of all columns."""
    return sum((in_use.kids for in_use in found.values()), Counter[str]())


@dataclass
class Checked:
    """What a check found in one encrypted column.

    Attributes:
        rows: values that there are.
        unreadable: the errors of values that do not open in their place.
        plaintext: values that lie in the clear.
        digest_mismatches: primary keys of rows whose digest is not that of their value.
    """

    rows: int = 0
    unreadable: Evidence[CryptoError] = field(default_factory=Evidence)
    plaintext: int = 0
    digest_mismatches: Evidence[int] = field(default_factory=Evidence)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-able values."""
        return {
            "rows": self.rows,
            "unreadable": self.unreadable.count,
            "plaintext": self.plaintext,
            "digest_mismatches": self.digest_mismatches.count,
        }


def check(database: Backend, vault: Vault, progress: Progress) -> dict[str, Checked]:
    """Open every value, by ``table.column``; writes nothing."""
    found = {}
    for column in COLUMNS:
        checked = found[column.name] = Checked()
        for pk, stored, digest in stored_values(database, column):
            _check_row(checked, vault, column, (pk, stored, digest))
            progress(1)
    return found


def _check_row(
    checked: Checked, vault: Vault, column: Column, row: tuple[int, Any, str | None]
) -> None:
    pk, stored, digest = row
    checked.rows += 1
    if column.form(stored) is Form.PLAINTEXT:
        checked.plaintext += 1
    place = column.field.place(pk)

    def attempt(keyring: Keyring) -> bool:
        value = column.field.opened(keyring, stored, place)
        return digest is None or digest in keyring.lookup_digests(value)

    try:
        fits = vault.retrying(vault.keyring, attempt)
    except PlaintextFound:
        return  # counted
    except CryptoError as exc:
        checked.unreadable.add(exc)
        return
    if not fits:
        checked.digest_mismatches.add(pk)
