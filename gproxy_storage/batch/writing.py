"""Writes what is left to do, inside one transaction: deletes children first, then parents first.

Rows go in the order of their natural keys, so that of two batches at once one waits for the other
instead of a deadlock. Tables with secret columns are written through rows, which seal them now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

import peewee

from ..backends.base import Backend
from ..errors import NotFoundError
from ..models import (
    TABLES,
    Credential,
    GlobalSettings,
    Table,
    User,
    UserCredentialFile,
    UserKey,
    UserModelPermission,
    UserQuota,
)
from ..money import add
from ..repositories.permission_rows import lock_users
from .net import Entry, Key, Net, conflict
from .operations import NATURAL_KEYS, PendingId, references
from .stored import ROWS_A_STATEMENT, chunks, rows_with_keys, sortable

THROUGH_ROWS: tuple[type[Table], ...] = (GlobalSettings, Credential, User, UserKey)
"""Tables written a row a statement: those with secrets, and the one row of settings."""

_Values = dict[str, Any]

_STATEMENT_BYTES = 2**22
"""MariaDB takes 16 MiB by default, and escaping may double what is sent."""


class Writer:
    """One attempt at writing.

    Attributes:
        written, deleted: table -> number of rows.
        ids: the rows that callers were given, and their ids.
    """

    def __init__(self, database: Backend, net: Net) -> None:
        self._database = database
        self._net = net
        self._ids: dict[tuple[type[Table], Key], int] = {}
        self.written: dict[str, int] = {}
        self.deleted: dict[str, int] = {}
        self.ids: list[tuple[Table, int]] = []

    def write(self) -> None:
        """Write everything."""
        if any(self._net.entries(UserModelPermission)):
            # All, and before any other lock: of two who lock users one waits for the other.
            lock_users(self._database, self._net.stored(User), must_exist=False)
        for model in reversed(TABLES):
            found = self._doomed_by_key(model) | self._net.doomed.get(model, set())
            self._delete(model, found)
        for model in TABLES:
            self._put(model)
        for model in reversed(TABLES):
            self._delete(model, self._net.doomed_late.get(model, set()))

    # -- deleting -----------------------------------------------------------------------------

    def _doomed_by_key(self, model: type[Table]) -> set[int]:
        """Return the ids of the rows that are to go by their natural keys, where there are any."""
        keys = self._net.doomed_keys.get(model)
        if not keys:
            return set()
        places = [self._stored_key(model, key) for key in keys]
        stored = [place for place in places if place is not None]
        return {row["id"] for row in rows_with_keys(model, stored)}

    def _stored_key(self, model: type[Table], key: Key) -> tuple[Any, ...] | None:
        """Return a natural key with ids in place of keys; None when no stored row can have it."""
        parents = {each.name: each.rel_model for each in references(model)}
        found = []
        for name, value in zip(NATURAL_KEYS[model], key, strict=True):
            if name in parents and value is not None:
                row_id = self._net.stored_ids.get((parents[name], value))
                if row_id is None:
                    return None
                found.append(row_id)
            else:
                found.append(value)
        return tuple(found)

    def _delete(self, model: type[Table], ids: Iterable[int]) -> None:
        key: Any = model._meta.primary_key
        for chunk in chunks(sorted(ids)):
            rows = model.delete().where(key.in_(chunk)).execute()
            _count(self.deleted, model, int(rows))

    # -- writing ------------------------------------------------------------------------------

    def _put(self, model: type[Table]) -> None:
        entries = [(entry, self._values(entry)) for entry in self._net.entries(model)]
        if not entries:
            return
        if model is UserQuota:
            self._put_quotas(entries)
        elif model is UserModelPermission:
            self._put_permissions(entries)
        elif model in THROUGH_ROWS:
            self._put_rows(model, entries)
        else:
            self._put_many(model, entries)
        _count(self.written, model, len(entries))

    def _values(self, entry: Entry) -> _Values:
        """Return an entry's values with ids in place of references."""
        values = dict(entry.values if entry.values is not None else entry.update)
        for reference in references(entry.model):
            if reference.name in values:
                parent = entry.parents[reference.name]
                values[reference.name] = parent and self._id(reference.rel_model, parent)
        return values

    def _id(self, model: type[Table], key: Key) -> int:
        row_id = self._ids.get((model, key))
        return self._net.stored_ids[model, key] if row_id is None else row_id

    def _put_many(self, model: type[Table], entries: Sequence[tuple[Entry, _Values]]) -> None:
        """Insert or upsert rows, many a statement; change those known by id, one a statement."""
        self._update(model, [each for each in entries if each[0].values is None])
        puts = sorted(
            (each for each in entries if each[0].values is not None), key=lambda each: _group(*each)
        )
        for (_, taken, _names), group in groupby(puts, key=lambda each: _kind(*each)):
            for chunk in _statements(list(group)):
                self._insert(model, [values for _, values in chunk], taken)
                self._learn_ids(model, chunk)

    def _insert(
        self, model: type[Table], rows: Sequence[_Values], taken: tuple[str, ...] | None
    ) -> None:
        insert = model.insert_many(rows)
        if taken is None:
            key: Any = model._meta.primary_key
            given = [row[key.name] for row in rows if key.name in row]
            if given:
                self._database.will_insert_id(key, max(given))
        else:
            insert = self._database.upsert(insert, _unique(model), take=_fields(model, taken))
        insert.execute()

    def _learn_ids(self, model: type[Table], entries: Sequence[tuple[Entry, _Values]]) -> None:
        """Read the ids of written rows back by their natural keys: drivers answer with others."""
        if model not in NATURAL_KEYS:
            return  # a log's: nothing refers to them
        places = {_natural(model, values): entry for entry, values in entries}
        for row in rows_with_keys(model, places.keys()):
            entry = places.pop(_natural(model, row), None)
            if entry is not None:  # the first row of a permission that has several
                self._learn(entry, row["id"])

    def _learn(self, entry: Entry, row_id: int) -> None:
        self._ids[entry.model, entry.key] = row_id
        self.ids.extend((row, row_id) for row in entry.rows)

    # -- tables written through rows ----------------------------------------------------------

    def _put_rows(self, model: type[Table], entries: Sequence[tuple[Entry, _Values]]) -> None:
        existing = self._existing(model, entries)
        for entry, values in sorted(entries, key=lambda each: sortable(_order(*each))):
            row = existing.get(entry.key)
            if row is not None:
                names = values.keys() if entry.values is None else (entry.taken or ())
                _save(row, {name: values[name] for name in names})
            elif entry.values is None:
                raise _gone(entry)
            else:
                row = model(**values)
                row.save(force_insert=True)
            self._learn(entry, row.get_id())

    def _existing(
        self, model: type[Table], entries: Sequence[tuple[Entry, _Values]]
    ) -> dict[Key, Table]:
        """Read the rows that are to be changed."""
        changed = [entry for entry, _ in entries if entry.taken is not None or entry.values is None]
        places = {entry.stored_id: entry.key for entry in changed if entry.stored_id is not None}
        if model is GlobalSettings:
            places = dict.fromkeys((1,), changed[0].key)  # its one row
        key: Any = model._meta.primary_key
        return {
            places[row.get_id()]: row
            for chunk in chunks(sorted(places))
            for row in model.select().where(key.in_(chunk))
        }

    def _update(self, model: type[Table], entries: Sequence[tuple[Entry, _Values]]) -> None:
        existing = self._existing(model, entries)
        for entry, values in sorted(entries, key=lambda each: each[0].stored_id or 0):
            row = existing.get(entry.key)
            if row is None:
                raise _gone(entry)
            if not isinstance(row, UserCredentialFile) or row.active:
                _save(row, values)  # a file that was deleted before stays as it was
            self._learn(entry, row.get_id())

    # -- permissions to use models ------------------------------------------------------------

    def _put_permissions(self, entries: Sequence[tuple[Entry, _Values]]) -> None:
        """Insert those that are missing, while nobody else grants their users any."""
        lock_users(self._database, (values["user"] for _, values in entries))
        self._learn_ids(UserModelPermission, entries)
        self._put_many(UserModelPermission, self._unknown(entries))
        for _, values in self._unknown(entries):  # a collation takes another pattern for the same
            raise conflict(UserModelPermission, values)

    def _unknown(self, entries: Sequence[tuple[Entry, _Values]]) -> list[tuple[Entry, _Values]]:
        return [each for each in entries if (each[0].model, each[0].key) not in self._ids]

    # -- quotas -------------------------------------------------------------------------------

    def _put_quotas(self, entries: Sequence[tuple[Entry, _Values]]) -> None:
        """Set quotas and add costs; a cost is added to what is stored, whoever stored it."""
        rows = []
        for entry, values in entries:
            added = entry.added_at is not None
            row = {
                "quota": Decimal(0),
                "cost_used": Decimal(0),
                **values,
                "user": self._id(User, entry.key[0]),
            }
            if added:
                row |= {
                    "cost_used": add(row["cost_used"], entry.added),
                    "updated_at": entry.added_at,
                }
            rows.append(((*sorted(entry.taken or ()),), added, entry, row))
        rows.sort(key=lambda each: (each[0], each[1], each[3]["user"]))
        for (taken, added), group in groupby(rows, key=lambda each: each[:2]):
            names = {*taken, "updated_at"} - {"user"}
            for chunk in chunks(list(group)):
                insert = self._database.upsert(
                    UserQuota.insert_many([row for *_, row in chunk]),
                    [UserQuota.user],
                    take=_fields(UserQuota, names),
                    add=[UserQuota.cost_used] if added else [],
                )
                insert.execute()
                self._learn_ids(UserQuota, [(entry, row) for _, _, entry, row in chunk])


def _statements(
    entries: Sequence[tuple[Entry, _Values]],
) -> Iterator[Sequence[tuple[Entry, _Values]]]:
    """Cut rows into what one statement takes, in number and in bytes: bodies may be large."""
    statement: list[tuple[Entry, _Values]] = []
    size_bytes = 0
    for each in entries:
        row_bytes = sum(len(value) for value in each[1].values() if isinstance(value, str | bytes))
        full = len(statement) == ROWS_A_STATEMENT or size_bytes + row_bytes > _STATEMENT_BYTES
        if statement and full:
            yield statement
            statement, size_bytes = [], 0
        statement.append(each)
        size_bytes += row_bytes
    if statement:
        yield statement


def _save(row: Table, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        setattr(row, name, value)
    row.save()


def _count(counts: dict[str, int], model: type[Table], rows: int) -> None:
    table = model._meta.table_name
    counts[table] = counts.get(table, 0) + rows


def _fields(model: type[Table], names: Iterable[str]) -> list[peewee.Field[Any]]:
    return [model._meta.combined[name] for name in sorted(names)]


def _unique(model: type[Table]) -> list[peewee.Field[Any]]:
    """Return the fields of the unique index over a table's natural key."""
    return [model._meta.fields[name] for name in NATURAL_KEYS[model]]


def _natural(model: type[Table], values: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(values[name] for name in NATURAL_KEYS[model])


def _kind(entry: Entry, values: _Values) -> tuple[bool, tuple[str, ...] | None, tuple[str, ...]]:
    """Return what rows of one statement have in common."""
    taken = None if entry.taken is None else tuple(sorted(entry.taken))
    return taken is None, taken, tuple(sorted(values))


def _order(entry: Entry, values: _Values) -> tuple[Any, ...]:
    """Return what a row is ordered by: its natural key; of tables without one, as recorded."""
    if entry.model in NATURAL_KEYS:
        return _natural(entry.model, values) if entry.values is not None else entry.key
    own = entry.key[0]
    return (isinstance(own, PendingId), abs(own))


def _group(entry: Entry, values: _Values) -> tuple[Any, ...]:
    is_insert, taken, names = _kind(entry, values)
    return is_insert, taken or (), names, sortable(_order(entry, values))


def _gone(entry: Entry) -> NotFoundError:
    table = entry.model._meta.table_name
    return NotFoundError(
        f"{table} has no row with id {entry.stored_id} any more; nothing of the batch was written",
        table=table,
        key=entry.stored_id,
    )
