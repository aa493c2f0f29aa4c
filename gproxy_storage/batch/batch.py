"""WriteBatch: the calls of a batch, and writing them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from ..backends.base import Backend
from ..database import run_transaction
from ..models import Provider, User
from ..repositories.registry import AccessRepositories, Repositories, TableRepositories
from .calls import Calls, primary_key
from .recording import named, recording
from .writing import FAULTS_OF_CALLS, Writer


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch did.

    Attributes:
        recorded: how many calls it held.
        written: table -> rows inserted or updated, those of calls gathered together once; tables
            without one are left out.
        deleted: table -> rows deleted by call, their dependents not counted.
    """

    recorded: int
    written: Mapping[str, int]
    deleted: Mapping[str, int]


class _Recorded(Repositories):
    """Has repositories as attributes that record what they would write."""

    def __init__(self, database: Backend, calls: Calls) -> None:
        super().__init__(database)
        self._calls = calls

    def _make(self, kind: type[Any]) -> Any:
        return recording(kind, self._database, self._calls)


class BatchAccess(_Recorded, AccessRepositories):
    """What users may do: see `Access`."""


class WriteBatch(_Recorded, TableRepositories):
    """Many writes over all aggregates, held back and then made in one transaction.

    The repositories are the storage's own: the same methods, checks and errors for bad input, but
    writing only records. A call returns the row as it will be. Its id is good within the batch;
    when that is written it becomes the real one, or None, of logs and of what was deleted again:

        with storage.batch() as batch:
            openai = batch.providers.upsert("openai", channel="openai")
            batch.credentials.create(openai, kind="api_key", secret={"api_key": "..."})

    The result is that of the calls one after the other, in fewer statements: calls that create,
    upsert, grant or record are gathered until another call comes, and are written table by table,
    many rows a statement. Of several upserts of a row the last counts.

    One thread at a time. Leaving the block writes; leaving it by an exception discards.
    """

    def __init__(self, database: Backend) -> None:
        super().__init__(database, Calls())
        self.access = BatchAccess(database, self._calls)

    def __len__(self) -> int:
        """Return how many calls are recorded."""
        return self._calls.count

    def __repr__(self) -> str:
        return f"<WriteBatch of {len(self)} calls>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is None:
            self.write()
        else:
            self.discard()

    def provider(self, name: str) -> Provider:
        """Return a row to refer to a provider by name, stored or in this batch.

        Whether there is one is found out when the batch is written (NotFoundError).
        """
        return named(self.providers, name)

    def user(self, name: str) -> User:
        """Return a row to refer to a user by name; see `provider`."""
        return named(self.users, name)

    def write(self) -> BatchReport:
        """Write what was recorded, all or nothing, and begin anew.

        In one transaction, which is retried on a lock, a deadlock or a lost connection; inside a
        transaction of the caller's it is a savepoint of that. An error is that of the first call
        that fails; after it the calls are still recorded: write again, or discard.

        Raises:
            ConflictError: when a row that was to be created exists.
            MissingReference: when a row points to one that does not exist.
            NotFoundError: when a row that was to be changed does not exist.
        """
        if not self._calls.recorded:
            return BatchReport(0, {}, {})
        done = self._written()
        for call in self._calls.recorded:
            if call.pending_id is not None:
                setattr(call.row, primary_key(call.model).name, done.ids.get(call.pending_id))
        report = BatchReport(len(self), dict(+done.written), dict(+done.deleted))
        self.discard()
        return report

    def discard(self) -> None:
        """Forget what was recorded."""
        self._calls.clear()

    def _written(self) -> Writer:
        with suppress(*FAULTS_OF_CALLS):
            return run_transaction(self._database, lambda: self._attempt(carefully=False))
        return run_transaction(self._database, lambda: self._attempt(carefully=True))

    def _attempt(self, *, carefully: bool) -> Writer:
        writer = Writer(self._database, self._calls, carefully=carefully)
        writer.write()
        return writer
