"""Resealing: bring every encrypted value to the form and key that the keyring writes now.

In order of primary keys, some hundred rows per transaction, each under the shared lock. It may be
run again after any interruption: values that are up to date are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from ..backends.base import Backend
from ..crypto.keyring import Keyring
from ..database import run_query, run_transaction
from ..errors import CryptoError
from ..keyring_manager import KeyringManager
from .columns import COLUMNS, EncryptedColumn, stored_values
from .decisions import Decider, Decision
from .outcome import Evidence
from .scan import InUse, OnProgress

ROWS_PER_TRANSACTION = 200


@dataclass
class Resealed:
    """The result of resealing, or of its dry run.

    Attributes:
        sealed: number of values that were rewritten.
        unreadable: the errors of values that do not open and were left as they are.
        left: the forms and keys of these values.
    """

    sealed: int = 0
    unreadable: Evidence[CryptoError] = field(default_factory=Evidence)
    left: InUse = field(default_factory=InUse)

    def add(self, column: EncryptedColumn, decisions: Iterable[Decision], keyring: Keyring) -> None:
        """Count decisions."""
        for decision in decisions:
            self.sealed += decision.written is not None
            if decision.error is not None:
                self.unreadable.add(decision.error)
                self.left.add(column, decision.stored, keyring.kids)


def reseal(database: Backend, manager: KeyringManager, progress: OnProgress) -> Resealed:
    """Bring all values to the form and key of the manager's keyring."""
    done = Resealed()
    for column in COLUMNS:
        decider = Decider(database, column)
        after: int | None = None  # not 0: there may be ids below 1
        while True:
            batch = _Batch(database, manager, column, decider, after)
            decisions = run_transaction(database, batch.run)
            done.add(column, decisions, manager.keyring)
            progress(len(decisions))
            if len(decisions) < ROWS_PER_TRANSACTION:
                break
            after = decisions[-1].pk
    return done


def dry_run_reseal(database: Backend, keyring: Keyring, progress: OnProgress) -> Resealed:
    """Return what `reseal` would do under a keyring; writes nothing and locks nothing."""
    done = Resealed()
    for column in COLUMNS:
        decider = Decider(database, column)
        rows = stored_values(database, column)
        while batch := list(islice(rows, ROWS_PER_TRANSACTION)):
            decisions = run_query(database, partial(decider.decide, batch, keyring))
            done.add(column, decisions, keyring)
            progress(len(batch))
    return done


class _Batch:
    """The rows of a column after a primary key; `run` may be called again after a rollback."""

    def __init__(
        self,
        database: Backend,
        manager: KeyringManager,
        column: EncryptedColumn,
        decider: Decider,
        after: int | None,
    ) -> None:
        self._database = database
        self._keyring_manager = manager
        self._column = column
        self._decider = decider
        self._after = after

    def run(self) -> list[Decision]:
        keyring = self._keyring_manager.lock_shared()
        column = self._column
        primary_key: Any = column.model._meta.primary_key
        selected = [primary_key, column.field, *([column.digest] if column.digest else [])]
        query = (
            column.model.select(*selected)
            .where(column.field.is_null(False))
            .order_by(primary_key)
            .limit(ROWS_PER_TRANSACTION)
        )
        if self._after is not None:
            query = query.where(primary_key > self._after)
        rows = [
            (pk, sealed.stored, digest[0] if digest else None)
            for pk, sealed, *digest in self._database.lock_rows(query).tuples()
        ]
        decisions = self._decider.decide(rows, keyring)
        for decision in decisions:
            if decision.written is not None:
                self._write(decision.pk, decision.written, decision.digest)
        return decisions

    def _write(self, pk: int, written: str, digest: str | None) -> None:
        column = self._column
        changes: dict[Any, Any] = {column.field: column.field.admit(written)}
        if digest is not None:
            changes[column.digest] = digest
        column.model.update(changes).where(column.model._meta.primary_key == pk).execute()
