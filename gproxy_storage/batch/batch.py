"""WriteBatch: the calls of a batch, and writing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from ..backends.base import Backend
from ..database import MAX_ATTEMPTS, run_query, run_transaction
from ..errors import ConflictError, MissingReference, StorageError
from ..models import Provider, Table, User
from ..repositories.arguments import require_text
from ..repositories.base import condition
from ..repositories.catalog import Catalog
from ..repositories.credentials import Credentials
from ..repositories.downstream_requests import DownstreamRequests
from ..repositories.files import ClaudeFiles, Files
from ..repositories.keys import Keys
from ..repositories.limits import RateLimits
from ..repositories.permissions import FilePermissions, ModelPermissions
from ..repositories.providers import Providers
from ..repositories.quotas import Quotas
from ..repositories.settings import ProxySettings
from ..repositories.statuses import Statuses
from ..repositories.upstream_requests import UpstreamRequests
from ..repositories.usages import Usages
from ..repositories.users import Users
from .net import Net, conflict
from .operations import LOGS, NATURAL_KEYS, Delete, Named, Operation, PendingId, Put
from .recording import recording
from .stored import read_stored
from .writing import THROUGH_ROWS, Writer

N = TypeVar("N", Provider, User)

_MOST_LOOKED_FOR = 1000  # rows, to name the one that exists


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch did.

    Attributes:
        recorded: how many calls it held.
        written: table -> rows inserted or updated; tables without one are left out.
        deleted: table -> rows deleted by call, those that went with them not counted.
    """

    recorded: int
    written: Mapping[str, int]
    deleted: Mapping[str, int]


class BatchAccess:
    """What users may do: see `Access`."""

    def __init__(self, database: Backend, batch: WriteBatch) -> None:
        self.models = recording(ModelPermissions, database, batch)
        self.files = recording(FilePermissions, database, batch)
        self.limits = recording(RateLimits, database, batch)


class WriteBatch:
    """Many writes over all aggregates, held back and then made in one transaction.

    The repositories are the storage's own: the same methods, checks and errors for bad input, but
    writing only records. A call returns the row as it will be. Its id is good within the batch;
    when that is written it becomes the real one, or None, of logs and of what was deleted again:

        with storage.batch() as batch:
            openai = batch.providers.upsert("openai", channel="openai")
            batch.credentials.create(openai, kind="api_key", secret={"api_key": "..."})

    The result is that of the calls one after the other, in fewer statements: of several upserts
    of a row the last counts, a deletion drops what was to be written of the row and of what hangs
    on it, and log rows are all appended. Rows that exist keep their `created_at` and their id,
    unless they were deleted in between.

    One thread at a time. Leaving the block writes; leaving it by an exception discards.
    """

    def __init__(self, database: Backend) -> None:
        self._database = database
        self._operations: list[Operation] = []
        self._last_id = 0
        self._replayed = False
        self._latest: dict[tuple[Any, ...], Table] = {}
        self.providers = recording(Providers, database, self)
        self.credentials = recording(Credentials, database, self)
        self.statuses = recording(Statuses, database, self)
        self.users = recording(Users, database, self)
        self.keys = recording(Keys, database, self)
        self.catalog = recording(Catalog, database, self)
        self.access = BatchAccess(database, self)
        self.files = recording(Files, database, self)
        self.claude_files = recording(ClaudeFiles, database, self)
        self.settings = recording(ProxySettings, database, self)
        self.quotas = recording(Quotas, database, self)
        self.usages = recording(Usages, database, self)
        self.upstream_requests = recording(UpstreamRequests, database, self)
        self.downstream_requests = recording(DownstreamRequests, database, self)

    def __len__(self) -> int:
        """Return how many calls are recorded."""
        return len(self._operations)

    def __repr__(self) -> str:
        return f"<WriteBatch of {len(self)} calls>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.write()
        else:
            self.discard()

    def provider(self, name: str) -> Provider:
        """Return a row to refer to a provider by name, stored or in this batch.

        Whether there is one is found out when the batch is written (NotFoundError).
        """
        return self._refer(Provider, name)

    def user(self, name: str) -> User:
        """Return a row to refer to a user by name; see `provider`."""
        return self._refer(User, name)

    def write(self) -> BatchReport:
        """Write what was recorded, all or nothing, and begin anew.

        In one transaction, which is retried on a lock, a deadlock or a lost connection; inside a
        transaction of the caller's it is a savepoint of that. After an error the calls are still
        recorded: write again, or discard.

        Raises:
            ConflictError: when a row that was to be created exists.
            MissingReference: when a row points to one that does not exist.
            NotFoundError: when a row that was to be changed does not exist.
        """
        if not self._operations:
            return BatchReport(0, {}, {})
        done = self._written()
        for put in self._puts():
            if isinstance(put.row.get_id(), PendingId):
                _set_id(put.row, None)
        for row, row_id in done.ids:
            _set_id(row, row_id)
        report = BatchReport(len(self), done.written, done.deleted)
        self.discard()
        return report

    def discard(self) -> None:
        """Forget what was recorded."""
        self._operations = []
        self._latest = {}

    # -- what recording repositories ask for --------------------------------------------------

    def add(self, operation: Operation) -> None:
        """Keep an operation."""
        self._operations.append(operation)
        if isinstance(operation, Put):
            row = operation.row
            self._latest[operation.model, "id", row.get_id()] = row
            if operation.model in (Provider, User):
                self._latest[operation.model, "name", operation.values["name"]] = row
        elif isinstance(operation, Delete) and operation.model in (Provider, User):
            for row_id in operation.ids:
                gone: Any = self._latest.pop((operation.model, "id", row_id), None)
                if gone is not None:
                    self._latest.pop((operation.model, "name", gone.name), None)

    def new_id(self) -> PendingId:
        """Return an id for a row that is not stored yet."""
        self._last_id -= 1
        return PendingId(self._last_id)

    def pending_row(self, model: type[Table], filters: Mapping[str, Any]) -> Table | None:
        """Return the row that was put last and is told apart by these filters."""
        if len(filters) != 1:
            return None
        ((name, value),) = filters.items()
        return self._latest.get((model, name, value))

    def _refer(self, model: type[N], name: str) -> N:
        row = model(id=self.new_id(), name=require_text("name", name))
        self.add(Named(model, row, name))
        return row

    def _written(self) -> Writer:
        """Write, and again when what was found at the beginning was no longer so at the end.

        Another writer may have inserted a row that was to be upserted through rows, or deleted
        what a log's row refers to. Looking again finds that out.
        """
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return run_transaction(self._database, self._attempt)
            except (ConflictError, MissingReference) as exc:
                if not self._may_be_outdated(exc):
                    if isinstance(exc, ConflictError) and self._replayed:
                        raise self._explained(exc) from exc.__cause__
                    raise
        return run_transaction(self._database, self._attempt)

    def _explained(self, exc: ConflictError) -> ConflictError:
        """Return the error for the row that exists, where it is found: many went in at once."""
        for put in self._puts()[:_MOST_LOOKED_FOR]:
            model, names = put.model, NATURAL_KEYS.get(put.model, ())
            if put.changes is not None or not names or model._meta.table_name != exc.table:
                continue
            if any(isinstance(put.values[name], PendingId) for name in names):
                continue
            same = [condition(model._meta.fields[name], put.values[name]) for name in names]
            if run_query(self._database, model.select().where(*same).exists):
                return conflict(model, put.values)
        return exc

    def _may_be_outdated(self, exc: StorageError) -> bool:
        if not self._replayed:
            return False  # it was so when we looked
        if isinstance(exc, MissingReference):
            return any(put.model in LOGS for put in self._puts())
        return any(put.model in THROUGH_ROWS and put.changes is not None for put in self._puts())

    def _puts(self) -> list[Put]:
        return [operation for operation in self._operations if isinstance(operation, Put)]

    def _attempt(self) -> Writer:
        self._replayed = False
        net = Net(self._operations, read_stored(self._operations))
        self._replayed = True
        writer = Writer(self._database, net)
        writer.write()
        return writer


def _set_id(row: Table, row_id: int | None) -> None:
    key: Any = row._meta.primary_key
    setattr(row, key.name, row_id)
