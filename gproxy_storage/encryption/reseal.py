"""Re-sealing: bring every encrypted value to the form and key that the keyring writes now.

In order of primary keys, a few hundred rows a transaction, each under the fence. Killed anywhere,
it is run again: what is at its target already is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Backend
from ..crypto.envelope import Document, Envelope, parse_json, parse_text
from ..crypto.keyring import Keyring
from ..crypto.place import Place
from ..crypto.refusals import malformed
from ..database import run_transaction
from ..errors import CryptoError, InvalidValue
from ..sealed_fields import EncryptedJSONField, SealedField
from ..vault import Vault
from .columns import COLUMNS, Column
from .outcome import Evidence
from .scan import Progress

BATCH_ROWS = 200


@dataclass
class Resealed:
    """What re-sealing did.

    Attributes:
        sealed: values that were written anew.
        unreadable: the errors of values that do not open, without the values; these are left as
            they are.
    """

    sealed: int = 0
    unreadable: Evidence[CryptoError] = field(default_factory=Evidence)


def reseal(database: Backend, vault: Vault, progress: Progress) -> Resealed:
    """Bring all values to the vault's present form."""
    done = Resealed()
    for column in COLUMNS:
        after: int | None = None  # ids below 1 are ids, too
        while True:
            batch = _Batch(database, vault, column, after)
            rows = run_transaction(database, batch.run)
            done.sealed += batch.sealed
            done.unreadable.add(*batch.unreadable)
            progress(len(rows))
            if len(rows) < BATCH_ROWS:
                break
            after = rows[-1]
    return done


class _Batch:
    """The rows of a column after a primary key; `run` may be called again, after a rollback."""

    def __init__(self, database: Backend, vault: Vault, column: Column, after: int | None) -> None:
        self._database = database
        self._vault = vault
        self._column = column
        self._after = after
        self.sealed = 0
        self.unreadable: list[CryptoError] = []

    def run(self) -> list[int]:
        self.sealed = 0
        self.unreadable = []
        keyring = self._vault.fence()
        column = self._column
        primary_key: Any = column.model._meta.primary_key
        selected = [primary_key, column.field, *([column.digest] if column.digest else [])]
        query = (
            column.model.select(*selected)
            .where(column.field.is_null(False))
            .order_by(primary_key)
            .limit(BATCH_ROWS)
        )
        if self._after is not None:
            query = query.where(primary_key > self._after)
        rows = list(self._database.lock_rows(query).tuples())
        for pk, sealed, *digest in rows:
            self._row(pk, sealed.stored, digest, keyring)
        return [row[0] for row in rows]

    def _row(self, pk: int, stored: Any, digest: list[str], keyring: Keyring) -> None:
        column, sealed_field = self._column, self._column.field
        place = sealed_field.place(pk)
        try:
            if _is_at_target(sealed_field, stored, place, keyring):
                return
            value = sealed_field.opened(keyring, stored, place)
            ticket = sealed_field.ticket(value, pk, keyring)
        except CryptoError as exc:
            self.unreadable.append(exc)
            return
        except InvalidValue as exc:  # JSON's readers take numbers that no writer may give
            self.unreadable.append(malformed(place, f"it cannot be written again: {exc}"))
            return
        self.sealed += 1
        changes: dict[Any, Any] = {sealed_field: ticket}
        if column.digest and digest != [new := keyring.digest(value)]:
            changes[column.digest] = new
        column.model.update(changes).where(column.model._meta.primary_key == pk).execute()


def _is_at_target(sealed_field: SealedField, stored: Any, place: Place, keyring: Keyring) -> bool:
    """Tell whether a stored value is of the form and key that the keyring writes."""
    parsed: Envelope | Document | None
    if isinstance(sealed_field, EncryptedJSONField):
        parsed = parse_json(stored, place)
    else:
        parsed = parse_text(stored, place)
    return keyring.is_current(parsed)
