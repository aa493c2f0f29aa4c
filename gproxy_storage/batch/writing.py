"""Writes the calls of a batch in one transaction, with the result of one after the other.

Calls that insert or upsert rows, without another call between them, form a run. It is written table
by table, parents first: writes of the same row are merged, and a statement writes many rows. Every
other call is made on its repository.

A run is not written in the order of its calls, so its error may not be that of the first call that
fails. Then the batch is written again, carefully: a run that fails is bisected, down to single
calls, which are made on their repositories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Self, TypeAlias

from ..backends.base import Backend
from ..backends.bulk import parts
from ..database import run_transaction
from ..errors import ConflictError, InvalidValue, NotFoundError
from ..models import ENCRYPTED_FIELDS, TABLES, Table, User, UserModelPermission
from ..repositories.permission_rows import lock_users
from ..repositories.reading import condition
from .calls import Call, Calls, PendingId, RealIds, RowWrite, primary_key

CALL_ERRORS = (ConflictError, InvalidValue, NotFoundError)
"""Errors that a single call may cause."""

_ROWS_A_STATEMENT = 256
_STATEMENT_BYTES = 2**22
"""MariaDB accepts 16 MiB by default, and escaping may double the size."""

_Key: TypeAlias = tuple[Any, ...]
"""What identifies a row in a run: its natural key, else its id, which may be pending."""

_Rows: TypeAlias = dict[_Key, RowWrite]

_Reference: TypeAlias = tuple[type[Table], int]
"""A reference to a row: its table and its id, which may be pending."""


class BatchWriter:
    """One attempt at writing calls.

    Attributes:
        ids: those of the rows that the calls wrote and that exist in the end.
        written, deleted: table -> number of rows.
    """

    def __init__(self, database: Backend, calls: Calls, *, carefully: bool) -> None:
        self._database = database
        self._calls = calls
        self._carefully = carefully
        self._deletes = [call for call in calls.recorded if call.deletes is not None]
        self._deleted_ids = {row_id for call in self._deletes for row_id in call.deletes or ()}
        self.ids = RealIds()
        self.written: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()

    def write(self) -> Self:
        """Write everything, inside a transaction."""
        self._lock_users()
        for in_run, calls in groupby(self._calls.recorded, key=self._is_in_run):
            if not in_run:
                for call in calls:
                    self._make(call)
            elif self._carefully:
                self._write_carefully([*calls])
            else:
                self.written += self._write_run([*calls])
        if self._deletes or self._carefully:
            self._forget_ids()
        return self

    def _is_in_run(self, call: Call) -> bool:
        """Whether a call can be written in a run, which does not give ids of logs' rows."""
        needs_id = call.model.is_log and call.pending_id in self._deleted_ids
        return bool(call.writes) and not needs_id

    def _lock_users(self) -> None:
        """Lock all users that are written or referred to, before anything else.

        Needed if permissions lock users later, or if several runs lock rows, each in its own order.
        In the order of their ids, so that one of two batches waits and they do not deadlock.
        """
        writes = [call.writes[0] for call in self._calls.recorded if call.writes]
        grants = any(write.model is UserModelPermission for write in writes)
        if not grants and len(writes) in (0, len(self._calls.recorded)):
            return
        named = {(write.values["name"],) for write in writes if write.model is User}
        ids = {row.id for row in self._stored(User, named, User.id, User.name).values()} | {
            row_id
            for write in writes
            for _, (target, row_id) in _references(write)
            if target is User and not isinstance(row_id, PendingId)
        }
        for part in parts(sorted(ids), _ROWS_A_STATEMENT):
            users = User.select(User.id).where(condition(User.id, part)).order_by(User.id)
            list(self._database.lock_rows(users))

    # -- single calls -------------------------------------------------------------------------

    def _make(self, call: Call) -> None:
        """Make a call on its repository."""
        calls = self._calls
        repositories = calls.with_savepoints if self._carefully else calls.without_savepoints
        result = call.make(repositories[call.model], self.ids)
        if call.pending_id is not None:
            self.ids[call.pending_id] = result.get_id()
        if not (call.writes and call.writes[0].names):
            counts = self.written if call.deletes is None else self.deleted
            rows = 1 if isinstance(result, Table) else int(result)
            counts[call.model._meta.table_name] += rows

    def _write_carefully(self, calls: Sequence[Call]) -> None:
        """Write a run so that its error is that of the first call that fails."""
        if len(calls) == 1:
            self._make(calls[0])
            return
        with suppress(*CALL_ERRORS):
            self.written += run_transaction(self._database, partial(self._write_run, calls))
            return
        half = len(calls) // 2
        self._write_carefully(calls[:half])
        self._write_carefully(calls[half:])

    def _forget_ids(self) -> None:
        """Forget the ids of rows that later calls deleted, and those of logs."""
        written = {
            (call.model, call.pending_id)
            for call in self._calls.recorded
            if call.pending_id is not None and call.pending_id in self.ids
        }
        missing = self._missing(written)
        for row in written:
            if row in missing or row[0].is_log:
                del self.ids[row[1]]

    # -- runs ---------------------------------------------------------------------------------

    def _write_run(self, calls: Sequence[Call]) -> Counter[str]:
        """Write a run; return table -> number of rows."""
        missing = self._missing_parents(calls)
        writes: dict[type[Table], list[RowWrite]] = defaultdict(list)
        for call in calls:
            row, *costs = call.writes
            if call.model.is_log:
                nulls = {name for name, parent in _references(row) if parent in missing}
                row = replace(row, values=row.values | dict.fromkeys(nulls))
                costs = [] if "user" in nulls else costs
            for write in (row, *costs):
                writes[write.model].append(write)
        counts: Counter[str] = Counter()
        for model in TABLES:
            if model in writes:
                rows = self._merged(model, writes[model])
                write_rows = self._write_sealed if model in ENCRYPTED_FIELDS else self._write_many
                write_rows(model, rows)
                counts[model._meta.table_name] = len(rows)
        return counts

    def _missing_parents(self, calls: Sequence[Call]) -> set[_Reference]:
        """Return the rows that logs refer to and that do not exist."""
        in_run = {call.pending_id for call in calls}
        parents = {
            parent
            for call in calls
            if call.model.is_log
            for _, parent in _references(call.writes[0])
            if parent[1] not in in_run
        }
        return self._missing(parents)

    def _merged(self, model: type[Table], writes: Iterable[RowWrite]) -> _Rows:
        """Merge a table's writes by row, and read the ids of rows that are only named."""
        rows: _Rows = {}
        named: _Rows = {}
        for given in writes:
            write = given.resolved(self.ids)
            key = tuple(write.values[name] for name in model.natural_key)
            key = key or (write.values.get(primary_key(model).name, *write.pending_ids),)
            merged = named if write.names and key not in rows else rows
            if key not in merged:
                merged[key] = write
            elif write.take is None:
                raise _undecided(model)
            else:
                merged[key].merge(write)
        if self._read_ids(model, named):
            raise _undecided(model)
        return rows

    def _write_sealed(self, model: type[Table], rows: _Rows) -> None:
        """Write rows with secrets one by one, because each row seals its own values."""
        stored = self._stored(model, rows)
        if any(rows[key].take is None for key in stored.keys() & rows.keys()):
            raise _undecided(model)
        for key, row in sorted(rows.items(), key=lambda each: _order(model, each[0])):
            found = stored.get(key) or model(**row.values)
            for name in row.take or ():
                setattr(found, name, row.values[name])
            if not found.save(force_insert=key not in stored):
                raise _undecided(model)  # it was deleted meanwhile
            self.ids |= dict.fromkeys(row.pending_ids, found.get_id())

    def _write_many(self, model: type[Table], rows: _Rows) -> None:
        """Write rows, many per statement, and read their ids."""
        if model is UserModelPermission:
            lock_users(self._database, (row.values["user"] for row in rows.values()))
            rows = self._read_ids(model, rows)
        ordered = [*rows.items()]
        if model.natural_key or not self._carefully:  # else ids are generated in the order of calls
            ordered.sort(key=lambda each: (_kind(model, each[1]), _order(model, each[0])))
        for _, alike in groupby(ordered, key=lambda each: _kind(model, each[1])):
            for part in _statements(alike):
                self._insert(model, [*part.values()])
                if self._read_ids(model, part):
                    raise _undecided(model)

    def _insert(self, model: type[Table], rows: Sequence[RowWrite]) -> None:
        """Insert or upsert rows of one kind in one statement."""
        insert = model.insert_many([row.values for row in rows])
        fields, key = model._meta.fields, primary_key(model)
        if rows[0].take is not None:
            insert = self._database.upsert(
                insert,
                [fields[name] for name in model.natural_key],
                take=[fields[name] for name in sorted(rows[0].take)],
                add=[fields[name] for name in sorted(rows[0].add)],
            )
        elif key.name in rows[0].values:
            self._database.will_insert_id(key, max(row.values[key.name] for row in rows))
        insert.execute()

    # -- reading ------------------------------------------------------------------------------

    def _read_ids(self, model: type[Table], rows: _Rows) -> _Rows:
        """Read ids by natural key, as drivers may return wrong ones; return the missing rows."""
        fields = [model._meta.fields[name] for name in model.natural_key]
        wanted = {key: row for key, row in rows.items() if row.pending_ids and fields}
        stored = self._stored(model, wanted, primary_key(model), *fields)
        for key, row in wanted.items():
            if key in stored:
                self.ids |= dict.fromkeys(row.pending_ids, stored[key].get_id())
        return {key: row for key, row in wanted.items() if key not in stored}

    def _stored(self, model: type[Table], keys: Collection[_Key], *columns: Any) -> dict[_Key, Any]:
        """Read the rows with these natural keys; none if the table has no natural key.

        Each column of a key is compared separately, because not every database compares tuples:
        there may be more rows than keys. Of several rows with a key, the lowest id counts.

        Args:
            columns: those to read; none for all.
        """
        names = model.natural_key
        query = model.select(*columns).order_by(primary_key(model))
        found: dict[_Key, Any] = {}
        for part in parts(sorted(keys, key=_sortable) if names else (), _ROWS_A_STATEMENT):
            same = [
                condition(model._meta.fields[name], {key[position] for key in part})
                for position, name in enumerate(names)
            ]
            for row in query.where(*same):
                found.setdefault(tuple(row.__data__[name] for name in names), row)
        return found

    def _missing(self, rows: Collection[_Reference]) -> set[_Reference]:
        """Return those of the rows that do not exist."""
        ids: dict[type[Table], set[int]] = defaultdict(set)
        for model, row_id in rows:
            ids[model].add(self.ids.of(row_id))
        found = {
            (model, row.get_id())
            for model, of_table in ids.items()
            for part in parts(sorted(of_table), _ROWS_A_STATEMENT)
            for row in model.select(primary_key(model)).where(condition(primary_key(model), part))
        }
        return {row for row in rows if (row[0], self.ids.of(row[1])) not in found}


def _references(write: RowWrite) -> Iterator[tuple[str, _Reference]]:
    """Return the references of a row, by field."""
    for key, target in write.model._meta.refs.items():
        if write.values[key.name] is not None:
            yield key.name, (target, write.values[key.name])


def _kind(model: type[Table], row: RowWrite) -> tuple[Any, ...]:
    """Return what the rows of a statement must share; given ids come before generated ones."""
    has_id = primary_key(model).name in row.values
    take = sorted(row.take or ())
    return not has_id, row.take is None, take, sorted(row.add), sorted(row.values)


def _order(model: type[Table], key: _Key) -> _Key:
    """Return the sort key of rows, so that two batches lock them in the same order."""
    return _sortable(key) if model.natural_key else ()


def _sortable(key: _Key) -> _Key:
    """Return a key that can be sorted; None comes first."""
    return tuple((value is not None, value) for value in key)


def _statements(rows: Iterable[tuple[_Key, RowWrite]]) -> Iterator[_Rows]:
    """Split rows by the limits of a statement, in number and in bytes: bodies may be large."""
    statement: _Rows = {}
    size_bytes = 0
    for key, row in rows:
        values = row.values.values()
        row_bytes = sum(len(value) for value in values if isinstance(value, str | bytes))
        full = len(statement) == _ROWS_A_STATEMENT or size_bytes + row_bytes > _STATEMENT_BYTES
        if statement and full:
            yield statement
            statement, size_bytes = {}, 0
        statement[key] = row
        size_bytes += row_bytes
    if statement:
        yield statement


def _undecided(model: type[Table]) -> ConflictError:
    """Return the error for a case that only single calls can decide."""
    return ConflictError("rows of one natural key", table=model._meta.table_name)
