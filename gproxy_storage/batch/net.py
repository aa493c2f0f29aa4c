"""What is left to do of a batch's operations once each has been replayed on those before it.

Pure: no database. Rows are told apart by a key that holds for the whole batch: the natural key,
with the key of the other row in place of a reference; of tables without one, the id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from ..errors import ConflictError, MissingReference, NotFoundError
from ..models import (
    TABLES,
    Credential,
    Table,
    Usage,
    User,
    UserCredentialFile,
    UserKey,
    UserModelPermission,
    UserQuota,
)
from ..money import add
from ..repositories.conflicts import described
from .operations import (
    LOGS,
    NATURAL_KEYS,
    AddCost,
    Change,
    Delete,
    MarkDeleted,
    Named,
    Operation,
    PendingId,
    Put,
    Revoke,
    references,
)
from .stored import Row, Stored

Key: TypeAlias = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Entry:
    """A row that operations name, and what they come to.

    Attributes:
        stored_id: its id, where the database is known to have it.
        parents: field -> key of the row that it refers to; None is NULL.
        values: of a row to insert; None where none is put.
        taken: which of the values go to a row that exists; None where there must be none.
        update: changes to the row, which exists.
        added: cost to add, of a quota.
        rows: what callers were given for it.
    """

    model: type[Table]
    key: Key
    stored_id: int | None = None
    parents: dict[str, Key | None] = field(default_factory=dict)
    values: dict[str, Any] | None = None
    taken: set[str] | None = None
    update: dict[str, Any] = field(default_factory=dict)
    added: Decimal = Decimal(0)
    added_at: datetime | None = None
    rows: list[Table] = field(default_factory=list)

    @property
    def lives(self) -> bool:
        """Whether there is a row after the operations replayed so far."""
        return self.values is not None or self.stored_id is not None


class Net:
    """The operations, replayed.

    Attributes:
        doomed: table -> ids of stored rows to delete first.
        doomed_late: the same, after files have been moved away from under them.
        doomed_keys: table -> natural keys to delete if there are such rows.
        stored_ids: where a row was before the batch.
    """

    def __init__(self, operations: Iterable[Operation], stored: Stored) -> None:
        self.doomed: dict[type[Table], set[int]] = {}
        self.doomed_late: dict[type[Table], set[int]] = {}
        self.doomed_keys: dict[type[Table], set[Key]] = {}
        self.stored_ids: dict[tuple[type[Table], Key], int] = {}
        self._entries: dict[type[Table], dict[Key, Entry]] = {model: {} for model in TABLES}
        self._children: dict[tuple[type[Table], Key], list[Entry]] = {}
        self._keys: dict[tuple[type[Table], int], Key] = {}
        self._pending: dict[PendingId, Key] = {}
        self._aliases: dict[tuple[type[Table], Key], list[PendingId]] = {}
        for model in TABLES:
            for row_id, row in stored.get(model, {}).items():
                self._know(model, row_id, row)
        for operation in operations:
            self._replay(operation)

    def entries(self, model: type[Table]) -> Iterator[Entry]:
        """Return a table's entries that have something to write."""
        for entry in self._entries[model].values():
            if entry.values is not None or entry.update or entry.added_at is not None:
                yield entry

    def stored(self, model: type[Table]) -> list[int]:
        """Return the ids of a table's stored rows that operations name and do not delete."""
        ids = (entry.stored_id for entry in self._entries[model].values())
        return [row_id for row_id in ids if row_id is not None]

    # -- what the database has ----------------------------------------------------------------

    def _know(self, model: type[Table], row_id: int, row: Row) -> None:
        parents = {
            key.name: self._key_of(key.rel_model, row[key.name]) for key in references(model)
        }
        key = _key(model, row, parents, row_id)
        self._keys[model, row_id] = key
        self.stored_ids[model, key] = row_id
        entry = self._entry(model, key, parents)
        entry.stored_id = row_id

    def _entry(self, model: type[Table], key: Key, parents: Mapping[str, Key | None]) -> Entry:
        entry = self._entries[model].get(key)
        if entry is None:
            entry = self._entries[model][key] = Entry(model, key)
        self._hang(entry, parents)
        return entry

    def _hang(self, entry: Entry, parents: Mapping[str, Key | None]) -> None:
        for reference in references(entry.model):
            parent = parents[reference.name]
            entry.parents[reference.name] = parent
            if parent is not None:
                siblings = self._children.setdefault((reference.rel_model, parent), [])
                siblings.append(entry)

    def _key_of(self, model: type[Table], row_id: int | None) -> Key | None:
        """Return the key of the row with an id; None when there is none, or no more."""
        if row_id is None:
            return None
        if isinstance(row_id, PendingId):
            return self._pending.get(row_id)
        return self._keys.get((model, row_id))

    # -- replaying ----------------------------------------------------------------------------

    def _replay(self, operation: Operation) -> None:
        match operation:
            case Put():
                self._put(operation)
            case Change():
                self._change(operation)
            case Delete():
                self._delete(operation)
            case Revoke(model=model, values=values):
                parents = self._parents(model, values, strict=False)
                if parents is not None:
                    self._kill(model, _key(model, values, parents, None))
            case MarkDeleted():
                self._mark_deleted(operation)
            case AddCost(user_id=user_id, cost=cost, at=at):
                user = self._key_of(User, user_id)
                if user is None:
                    raise _missing("user", User)
                self._add_cost(user, cost, at)
            case Named():
                self._name(operation)

    def _put(self, put: Put) -> None:
        model = put.model
        parents = self._parents(model, put.values, strict=model not in LOGS)
        assert parents is not None  # noqa: S101 - for the types: strict, or a log
        key = _key(model, put.values, parents, put.row.get_id())
        entry = self._entry(model, key, parents)
        if put.changes is None:
            if entry.values is not None or entry.stored_id is not None:
                raise conflict(model, put.values)
            entry.values = dict(put.values)
        else:
            self._upsert(entry, put.values, put.changes)
        self._alias(entry, put.row)
        if model is Usage and parents["user"] is not None:
            self._add_cost(parents["user"], put.values["cost"], put.values["created_at"])

    def _upsert(self, entry: Entry, values: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        if entry.values is None:
            entry.values, entry.taken = dict(values), set()
        if entry.taken is not None:  # of a row that exists, what was changed before stays changed
            entry.taken |= entry.update.keys() | changes.keys()
        entry.values |= entry.update
        entry.values |= changes
        entry.update = {}
        if "cost_used" in changes:
            entry.added, entry.added_at = Decimal(0), None

    def _alias(self, entry: Entry, row: Table) -> None:
        pending = row.get_id()
        entry.rows.append(row)
        if isinstance(pending, PendingId):
            self._pending[pending] = entry.key
            self._aliases.setdefault((entry.model, entry.key), []).append(pending)

    def _name(self, named: Named) -> None:
        entry = self._entries[named.model].get((named.name,))
        if entry is None or not entry.lives:
            raise _not_found(named.model, "name", named.name)
        self._alias(entry, named.row)

    def _delete(self, delete: Delete) -> None:
        keys = [self._key_of(delete.model, row_id) for row_id in delete.ids]
        for key in keys:
            if key is not None:
                self._kill(delete.model, key)

    def _change(self, change: Change) -> None:
        key = self._key_of(change.model, change.row_id)
        if key is None:
            raise _not_found(change.model, "id", change.row_id)
        entry = self._entries[change.model][key]
        entry.rows.append(change.row)
        if entry.values is None:
            entry.update.update(change.changes)
        else:
            entry.values.update(change.changes)
            if entry.taken is not None:
                entry.taken |= change.changes.keys()

    def _mark_deleted(self, mark: MarkDeleted) -> None:
        changes = {"active": False, "deleted_at": mark.at, "updated_at": mark.at}
        for row_id in mark.ids:
            key = self._key_of(UserCredentialFile, row_id)
            entry = self._entries[UserCredentialFile].get(key or ())
            if entry is None:
                continue
            if entry.values is None:
                entry.update = entry.update or changes  # of the first time
            elif entry.values["active"]:
                entry.values |= changes

    def _add_cost(self, user: Key, cost: Decimal, at: datetime) -> None:
        entry = self._entry(UserQuota, (user,), {"user": user})
        if entry.values is not None and "cost_used" in (entry.taken or ()):
            entry.values |= {"cost_used": add(entry.values["cost_used"], cost), "updated_at": at}
        else:
            entry.added = add(entry.added, cost)
            entry.added_at = at

    def _parents(
        self, model: type[Table], values: Mapping[str, Any], *, strict: bool
    ) -> dict[str, Key | None] | None:
        """Return the keys of the rows that values refer to.

        Of a row that does not exist: None in its place, of logs; None for all, of what must not
        be strict; else an error.
        """
        parents: dict[str, Key | None] = {}
        for reference in references(model):
            row_id = values.get(reference.name)
            key = parents[reference.name] = self._key_of(reference.rel_model, row_id)
            if row_id is None or key is not None or model in LOGS:
                continue
            if strict:
                raise _missing(reference.name, reference.rel_model)
            return None
        return parents

    def _kill(self, model: type[Table], key: Key) -> None:
        """Delete a row and what hangs on it; drop what was to be written of them."""
        entry = self._entries[model].get(key)
        if entry is None or not entry.lives:
            if model in NATURAL_KEYS:
                self.doomed_keys.setdefault(model, set()).add(key)
            return
        self._doom(entry, late=self._may_lose_children(model))
        self._forget(entry)

    def _doom(self, entry: Entry, *, late: bool = False) -> None:
        """Have the row deleted, if it is stored."""
        if entry.stored_id is not None and entry.model is not UserModelPermission:
            doomed = self.doomed_late if late else self.doomed
            doomed.setdefault(entry.model, set()).add(entry.stored_id)
        elif entry.stored_id is not None or entry.taken is not None:
            # By its key: a permission may have several rows, which go together.
            self.doomed_keys.setdefault(entry.model, set()).add(entry.key)

    def _may_lose_children(self, model: type[Table]) -> bool:
        """Whether a stored file may have hung on the row, and was put under another by now."""
        files = self._entries[UserCredentialFile].values()
        return model in _MOVED_FROM and any(file.taken for file in files)

    def _forget(self, entry: Entry) -> None:
        place = entry.model, entry.key
        entry.values, entry.taken, entry.update = None, None, {}
        entry.added, entry.added_at, entry.rows = Decimal(0), None, []
        if entry.stored_id is not None:
            del self._keys[entry.model, entry.stored_id]
            entry.stored_id = None
        for pending in self._aliases.pop(place, ()):
            del self._pending[pending]
        for child in self._children.pop(place, ()):
            held = [
                key
                for key in references(child.model)
                if child.parents[key.name] == entry.key and key.rel_model is entry.model
            ]
            if any(key.on_delete == "CASCADE" for key in held):
                if child.model is UserCredentialFile:
                    self._doom(child)  # as stored it may hang on another
                self._forget(child)
            else:
                child.parents.update(dict.fromkeys((key.name for key in held), None))


_MOVED_FROM = (Credential, UserKey)
"""What a file hangs on beside its natural key: an upsert may put it under another."""


def _key(
    model: type[Table], values: Mapping[str, Any], parents: Mapping[str, Key | None], row_id: Any
) -> Key:
    names = NATURAL_KEYS.get(model)
    if names is None:
        return (row_id,)
    return tuple(parents[name] if name in parents else values[name] for name in names)


def _missing(argument: str, model: type[Table]) -> MissingReference:
    table = model._meta.table_name
    return MissingReference(
        f"{argument} points to a row of {table} that does not exist, or that the batch deletes "
        "before; nothing of the batch was written",
        argument=argument,
    )


def _not_found(model: type[Table], name: str, value: Any) -> NotFoundError:
    table = model._meta.table_name
    return NotFoundError(
        f"{table} has no row with {name} {value!r}; nothing of the batch was written",
        table=table,
        key=value,
    )


def conflict(model: type[Table], values: Mapping[str, Any]) -> ConflictError:
    """Return the error for a row that was to be new and is not."""
    table, names = model._meta.table_name, NATURAL_KEYS.get(model, ("id",))
    columns = [model._meta.fields[name].column_name for name in names]
    known = {name: value for name, value in values.items() if not isinstance(value, PendingId)}
    return ConflictError(
        f"a row of {table} with {described(model, columns, known)} is in the batch or exists: "
        f"use upsert, or another {names[-1]}; nothing of the batch was written",
        table=table,
        fields=columns,
    )
