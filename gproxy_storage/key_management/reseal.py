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
        after: int | None = None
        while True:
            batch = partial(_reseal_batch, database, manager, decider, after)
            decisions = run_transaction(database, batch)
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


def _reseal_batch(
    database: Backend, manager: KeyringManager, decider: Decider, after: int | None
) -> list[Decision]:
    """Reseal the rows after a primary key; may be called again after a rollback."""
    keyring, column = manager.lock_shared(), decider.column
    query = column.select(column.field.is_null(False), after, ROWS_PER_TRANSACTION)
    decisions = decider.decide(column.read(database.lock_rows(query)), keyring)
    for decision in decisions:
        if decision.written is not None:
            changes: dict[Any, Any] = {column.field: column.field.admit(decision.written)}
            if decision.digest is not None:
                changes[column.digest] = decision.digest
            is_row = column.model._meta.primary_key == decision.pk
            column.model.update(changes).where(is_row).execute()
    return decisions
