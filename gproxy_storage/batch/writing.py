"""Writes the calls of a batch inside one transaction, with the result of one after the other.

Calls that put rows are gathered until another comes. Such a run is written table by table, parents
first: writes of the same row are merged, and many rows go in a statement. Every other call is made
through its repository.

A run is not written in the order of its calls, so the error that it meets need not be that of the
first call that fails. Then the batch is written anew, carefully: a run that fails is cut in halves,
down to single calls, which are made through their repositories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from ..backends.base import Backend
from ..backends.bulk import parts
from ..database import run_transaction
from ..errors import ConflictError, InvalidValue, NotFoundError
from ..models import SEALED_FIELDS, TABLES, Table, User, UserModelPermission
from ..repositories.base import condition
from ..repositories.permission_rows import lock_users
from .calls import Call, Calls, PendingId, RealIds, RowWrite, primary_key

FAULTS_OF_CALLS = (ConflictError, InvalidValue, NotFoundError)
"""Errors that one call is to blame for."""

_ROWS_A_STATEMENT = 256
_STATEMENT_BYTES = 2**22
"""MariaDB takes 16 MiB by default, and escaping may double what is sent."""

_Key: TypeAlias = tuple[Any, ...]
"""What identifies a row in a run: its natural key, else its id, which may be pending."""

_Rows: TypeAlias = dict[_Key, RowWrite]

_Reference: TypeAlias = tuple[type[Table], int]
"""A row as it is referred to: by its table and its id, which may be pending."""


class Writer:
    """One attempt at writing calls.

    Attributes:
        ids: those of the rows that the calls put, as far as they are left in the end.
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

    def write(self) -> None:
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

    def _is_in_run(self, call: Call) -> bool:
        """Whether a call can be written with others, which tells no ids of logs' rows."""
        needs_id = call.model.is_log and call.pending_id in self._deleted_ids
        return bool(call.writes) and not needs_id

    def _lock_users(self) -> None:
        """Lock all users that are put or referred to, before anything else.

        Needed where permissions lock users later, and where several runs lock rows, each in an
        order of its own. In the order of their ids, so that of two batches one waits for the other.
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

    # -- calls by themselves ------------------------------------------------------------------

    def _make(self, call: Call) -> None:
        """Make a call through its repository."""
        repositories = self._calls.alone if self._carefully else self._calls.joined
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
        with suppress(*FAULTS_OF_CALLS):
            self.written += run_transaction(self._database, partial(self._write_run, calls))
            return
        half = len(calls) // 2
        self._write_carefully(calls[:half])
        self._write_carefully(calls[half:])

    def _forget_ids(self) -> None:
        """Forget the ids of rows that later calls deleted, and those of logs."""
        put = {
            (call.model, call.pending_id)
            for call in self._calls.recorded
            if call.pending_id is not None and call.pending_id in self.ids
        }
        missing = self._missing(put)
        for row in put:
            if row in missing or row[0].is_log:
                del self.ids[row[1]]

    # -- runs ---------------------------------------------------------------------------------

    def _write_run(self, calls: Sequence[Call]) -> Counter[str]:
        """Write a run; return table -> number of rows."""
        gone = self._gone_parents(calls)
        writes: dict[type[Table], list[RowWrite]] = defaultdict(list)
        for call in calls:
            row, *costs = call.writes
            if call.model.is_log:
                nulls = {name for name, parent in _references(row) if parent in gone}
                row = replace(row, values=row.values | dict.fromkeys(nulls))
                costs = [] if "user" in nulls else costs
            for write in (row, *costs):
                writes[write.model].append(write)
        counts: Counter[str] = Counter()
        for model in TABLES:
            if model in writes:
                rows = self._merged(model, writes[model])
                write_rows = self._write_sealed if model in SEALED_FIELDS else self._write_many
                write_rows(model, rows)
                counts[model._meta.table_name] = len(rows)
        return counts

    def _gone_parents(self, calls: Sequence[Call]) -> set[_Reference]:
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
        """Return what a table's writes come to, and learn the ids of rows that are only named."""
        rows: _Rows = {}
        named: _Rows = {}
        for given in writes:
            write = given.resolved(self.ids)
            key = tuple(write.values[name] for name in model.natural_key)
            key = key or (write.values.get(primary_key(model).name, *write.pending_ids),)
            place = named if write.names and key not in rows else rows
            if key not in place:
                place[key] = write
            elif write.take is None:
                raise _unsettled(model)
            else:
                place[key].merge(write)
        if self._learn_ids(model, named):
            raise _unsettled(model)
        return rows

    def _write_sealed(self, model: type[Table], rows: _Rows) -> None:
        """Write rows with secrets, a row a statement: what seals them must know each."""
        stored = self._stored(model, rows)
        if any(rows[key].take is None for key in stored.keys() & rows.keys()):
            raise _unsettled(model)
        for key, row in sorted(rows.items(), key=lambda each: _order(model, each[0])):
            found = stored.get(key) or model(**row.values)
            for name in row.take or ():
                setattr(found, name, row.values[name])
            if not found.save(force_insert=key not in stored):
                raise _unsettled(model)  # it was deleted meanwhile
            self.ids |= dict.fromkeys(row.pending_ids, found.get_id())

    def _write_many(self, model: type[Table], rows: _Rows) -> None:
        """Write rows, many a statement, and learn their ids."""
        if model is UserModelPermission:
            lock_users(self._database, (row.values["user"] for row in rows.values()))
            rows = self._learn_ids(model, rows)
        ordered = [*rows.items()]
        if model.natural_key or not self._carefully:  # ids are given out in the order of calls
            ordered.sort(key=lambda each: (_kind(model, each[1]), _order(model, each[0])))
        for _, alike in groupby(ordered, key=lambda each: _kind(model, each[1])):
            for part in _statements(alike):
                self._insert(model, [*part.values()])
                if self._learn_ids(model, part):
                    raise _unsettled(model)

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

    # -- what the database has ----------------------------------------------------------------

    def _learn_ids(self, model: type[Table], rows: _Rows) -> _Rows:
        """Read the ids of rows by their natural keys, for drivers answer with others.

        Returns:
            The rows that are not there.
        """
        fields = [model._meta.fields[name] for name in model.natural_key]
        wanted = {key: row for key, row in rows.items() if row.pending_ids and fields}
        stored = self._stored(model, wanted, primary_key(model), *fields)
        for key, row in wanted.items():
            if key in stored:
                self.ids |= dict.fromkeys(row.pending_ids, stored[key].get_id())
        return {key: row for key, row in wanted.items() if key not in stored}

    def _stored(self, model: type[Table], keys: Collection[_Key], *columns: Any) -> dict[_Key, Any]:
        """Read the rows with these natural keys, none where there is no such key.

        Each column of a key by itself, for not every database compares tuples: there may be more
        rows than keys. Of several with the same key, it is the one with the lowest id.

        Args:
            columns: none for all.
        """
        names = model.natural_key
        query = model.select(*columns).order_by(primary_key(model))
        found: dict[_Key, Any] = {}
        for part in parts(sorted(keys, key=_sortable) if names else (), _ROWS_A_STATEMENT):
            same = [
                condition(model._meta.fields[name], {key[place] for key in part})
                for place, name in enumerate(names)
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
    """Return what a row refers to, by field."""
    for key, target in write.model._meta.refs.items():
        if write.values[key.name] is not None:
            yield key.name, (target, write.values[key.name])


def _kind(model: type[Table], row: RowWrite) -> tuple[Any, ...]:
    """Return what rows of one statement have in common; given ids come before generated ones."""
    has_id = primary_key(model).name in row.values
    take = sorted(row.take or ())
    return not has_id, row.take is None, take, sorted(row.add), sorted(row.values)


def _order(model: type[Table], key: _Key) -> _Key:
    """Return what rows are written in the order of: two batches lock them alike."""
    return _sortable(key) if model.natural_key else ()


def _sortable(key: _Key) -> _Key:
    """Return a key to sort by: None before everything."""
    return tuple((value is not None, value) for value in key)


def _statements(rows: Iterable[tuple[_Key, RowWrite]]) -> Iterator[_Rows]:
    """Cut rows into what one statement takes, in number and in bytes: bodies may be large."""
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


def _unsettled(model: type[Table]) -> ConflictError:
    """Return an error for what only calls one by one can tell."""
    return ConflictError("rows of one natural key", table=model._meta.table_name)
