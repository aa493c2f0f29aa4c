"""Resealing: bring every encrypted value to the form and key that the keyring writes now.

In order of primary keys, some hundred rows per transaction, each under the shared lock, written by
one statement where that can be. It may be run again after any interruption: values that are up to
date are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    for together in _together(decisions):
        _write(database, column, together)
    return decisions


def _together(decisions: Iterable[Decision]) -> Iterator[list[Decision]]:
    """Divide what is to be written, in order, into parts that can be written at once."""
    part: list[Decision] = []
    for decision in decisions:
        if decision.written is None:
            continue
        if part and (decision.follows or (decision.digest is None) != (part[0].digest is None)):
            yield part
            part = []
        part.append(decision)
    if part:
        yield part


def _write(database: Backend, column: EncryptedColumn, decisions: Sequence[Decision]) -> None:
    """Write values, and their digests if they change."""
    field, pk = column.field, column.model._meta.primary_key
    columns: dict[Any, list[Any]] = {
        pk: [one.pk for one in decisions],
        field: [field.admit(one.written) for one in decisions if one.written is not None],
    }
    if decisions[0].digest is not None:
        columns[column.digest] = [one.digest for one in decisions]
    database.update_many(list(columns), list(zip(*columns.values(), strict=True)))
