"""Decisions: how a stored value is changed under a keyring; for runs and dry runs alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..backends.base import Backend
from ..backends.widths import WIDEN
from ..crypto.crypto_errors import malformed
from ..crypto.keyring import Keyring
from ..errors import CryptoError, InvalidValue
from .columns import EncryptedColumn, StoredRow


class Decision(NamedTuple):
    """How one value is changed: it is rewritten, or left as it is.

    Attributes:
        written: the value to store.
        digest: the digest to store, if it changes.
        error: why the value cannot be resealed. If all three are None, it is up to date.
        follows: its digest was that of an earlier row, which must be written by then.
    """

    pk: int
    stored: Any
    written: str | None = None
    digest: str | None = None
    error: CryptoError | None = None
    follows: bool = False


class Decider:
    """Decides on the rows of a column, in the order of their primary keys."""

    def __init__(self, database: Backend, column: EncryptedColumn) -> None:
        self._database = database
        self.column = column
        lack = (database.narrow or {}).get(column.name)
        self._longest = lack.max_characters if lack else None
        self._left: set[int] = set()

    def decide(self, rows: Sequence[StoredRow], keyring: Keyring) -> list[Decision]:
        """Return a decision for each row; writes nothing.

        Args:
            rows: those that follow the ones of the last call; after a rollback, the same again.
        """
        decisions = [self._decide(row, keyring) for row in rows]
        holders = self._holders([one.digest for one in decisions if one.digest])
        found = []
        for one in decisions:
            holder = holders.get(one.digest or "", one.pk)
            # Of the rows before this one, only those that were left still have their old digest.
            is_taken = holder > one.pk or (holder != one.pk and holder in self._left)
            why = f"its digest is that of row {holder}"
            decision = self._refused(one, why) if is_taken else one
            if decision.error is not None:
                self._left.add(decision.pk)
            elif holder != one.pk:
                decision = decision._replace(follows=True)
            found.append(decision)
        return found

    def _decide(self, row: StoredRow, keyring: Keyring) -> Decision:
        pk, stored, digest = row
        field = self.column.field
        binding = field.binding(pk)
        try:
            parsed = field.parse(stored, binding)
            if keyring.is_current(parsed):
                return Decision(pk, stored)
            value = field.opened_parsed(keyring, stored, parsed, binding)
            written = field.sealed(keyring, value, binding)
        except CryptoError as exc:
            return Decision(pk, stored, error=exc)
        except InvalidValue as exc:  # stored JSON may hold numbers that must not be written
            return self._refused(Decision(pk, stored), str(exc))
        if self._longest is not None and len(written) > self._longest:
            return self._refused(
                Decision(pk, stored),
                f"it would have {len(written)} characters, and its column takes {self._longest}: "
                f"run {WIDEN}",
            )
        changed = keyring.digest(value) if field.digest else None
        return Decision(pk, stored, written, None if changed == digest else changed)

    def _refused(self, decision: Decision, why: str) -> Decision:
        binding = self.column.field.binding(decision.pk)
        error = malformed(binding, f"it cannot be rewritten: {why}")
        return Decision(decision.pk, decision.stored, error=error)

    def _holders(self, digests: Sequence[str]) -> dict[str, int]:
        """Return the rows that already have these digests, for the column is unique."""
        if not digests:
            return {}
        model: Any = self.column.model
        digest = self.column.digest
        wanted = self._database.one_of(digest, digests)
        query = model.select(digest, model._meta.primary_key).where(wanted)
        return dict(query.tuples())
