"""WriteBatch: records calls and writes them."""

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
from .writing import CALL_ERRORS, BatchWriter


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The result of a batch.

    Attributes:
        recorded: number of calls.
        written: table -> number of rows inserted or updated, without tables that have none; a row
            that calls of one run write several times counts once (see `WriteBatch`).
        deleted: table -> number of rows deleted by calls, without their dependents.
    """

    recorded: int
    written: Mapping[str, int]
    deleted: Mapping[str, int]


class _Recorded(Repositories):
    """The base of classes whose repositories record their writes."""

    def __init__(self, database: Backend, calls: Calls) -> None:
        super().__init__(database)
        self._calls = calls

    def _make(self, kind: type[Any]) -> Any:
        return recording(kind, self._database, self._calls)


class BatchAccess(_Recorded, AccessRepositories):
    """The repositories of permissions and limits; see `Access`."""


class WriteBatch(_Recorded, TableRepositories):
    """Records many writes to all tables, then makes them in one transaction.

    The repositories have the methods and checks of the storage's, but only record their writes;
    those that change whichever rows are stored, such as `delete_all`, raise a TypeError. A call
    returns the row as it will be stored. Its id is valid within the batch; when that is
    written, it becomes the real one, or None for logs and rows that were deleted again:

        with storage.batch() as batch:
            openai = batch.providers.upsert("openai", channel="openai")
            batch.credentials.create(openai, kind="api_key", secret={"api_key": "..."})

    The result is that of the calls one after the other, in fewer statements: a run of calls that
    create, upsert, grant or record, without another call between them, is written table by table,
    many rows per statement. Of several upserts of a row, the last counts.

    For one thread at a time. Leaving the block writes; leaving it by an exception discards.
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
        """Return a row that refers to a provider by name, stored or in this batch.

        If there is none, writing the batch raises NotFoundError.
        """
        return named(self.providers, name)

    def user(self, name: str) -> User:
        """Return a row that refers to a user by name; see `provider`."""
        return named(self.users, name)

    def write(self) -> BatchReport:
        """Make the recorded calls, all or none, and forget them.

        In one transaction, which is retried after a lock, a deadlock or a lost connection; inside
        the caller's transaction, in a savepoint. The error is that of the first call that fails.
        After it, the calls are still recorded: write again, or discard.

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
        """Forget the recorded calls."""
        self._calls.clear()

    def _written(self) -> BatchWriter:
        def attempt(carefully: bool) -> BatchWriter:
            return BatchWriter(self._database, self._calls, carefully=carefully).write()

        with suppress(*CALL_ERRORS):
            return run_transaction(self._database, lambda: attempt(carefully=False))
        return run_transaction(self._database, lambda: attempt(carefully=True))
