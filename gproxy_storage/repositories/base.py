"""What repositories share: reading rows by filters, writing them in transactions, deleting."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

import peewee

from ..backends.base import Backend
from ..backends.bulk import parts
from ..database import run_query, run_transaction
from ..errors import ConflictError, InvalidValue, MissingReference, NotFoundError
from ..models import Table
from .arguments import (
    KEEP,
    Kept,
    require_id,
    require_ids,
    require_limit,
    require_reference,
    require_text,
)
from .conflicts import explained
from .keywords import StrictKeywords

__all__ = [
    "ANY",
    "KEEP",
    "BaseRepository",
    "Change",
    "Filter",
    "Repository",
    "condition",
    "now",
]

M = TypeVar("M", bound=Table)
T = TypeVar("T")

BATCH_ROWS = 500
"""How many rows `iter` reads at a time, and `delete` deletes in one statement."""


class Absent(enum.Enum):
    """The type of ANY: a filter that was not given."""

    ANY = "any"


ANY: Final = Absent.ANY
"""The default of every filter: all rows. None, by contrast, means NULL."""

Filter: TypeAlias = T | Collection[T] | Absent
"""A filter: a value means equal, a list, tuple or set means one of, ANY means all."""

Change: TypeAlias = T | Kept
"""A change: a value to store, or KEEP."""


class BaseRepository(StrictKeywords, Generic[M]):
    """One table's rows: reading them and writing them, each call in a session of its own.

    A subclass gives each public method, a verb, its real signature and calls the `_method` for it.

    Attributes:
        model: the table.
        filters: the TypedDict of what `list`, `iter` and `count` filter by.
        not_blank: columns whose text must say something.
    """

    model: type[M]
    not_blank: ClassVar[tuple[str, ...]] = ()

    def __init__(self, database: Backend) -> None:
        self._database = database

    @property
    def _key(self) -> peewee.Field[Any]:
        key = self.model._meta.primary_key
        assert isinstance(key, peewee.Field)  # noqa: S101 - for the types: no table lacks one
        return key

    @property
    def _natural_key(self) -> Sequence[peewee.Field[Any]]:
        return [self.model._meta.fields[name] for name in self.model.natural_key]

    def _read(self, callback: Callable[[], T]) -> T:
        return run_query(self._database, callback)

    def _write(self, callback: Callable[[], T]) -> T:
        return run_transaction(self._database, callback)

    # -- reading ------------------------------------------------------------------------------

    def _select(self, **filters: Any) -> peewee.ModelSelect[M]:
        query = self.model.select()
        conditions = [
            self._condition(name, value) for name, value in filters.items() if value is not ANY
        ]
        return query.where(*conditions) if conditions else query

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        """Return the condition that one filter asks for."""
        return condition(getattr(self.model, name), value)

    def _find(self, **filters: Any) -> M | None:
        if self._key.name in filters:  # one id: a list would give whichever row comes first
            require_id(self._key.name, filters[self._key.name])
        self._check_references(filters)
        found: M | None = self._read(lambda: self._select(**filters).get_or_none())
        return found

    def _get(self, **filters: Any) -> M:
        row = self._find(**filters)
        if row is None:
            raise self._not_found(**filters)
        return row

    def _list(
        self, *, after_id: int | None = None, limit: int | None = None, **filters: Any
    ) -> list[M]:
        """Return the rows that fit by primary key: from the first one after `after_id`."""
        key = self._key
        query = self._select(**filters).order_by(key)
        if after_id is not None:
            query = query.where(key > require_id("after_id", after_id))
        if require_limit("limit", limit) is not None:
            query = query.limit(limit)
        return self._read(lambda: list(query))

    def _iter(self, **filters: Any) -> Iterator[M]:
        """Return the rows that fit by primary key, read in batches as they are asked for.

        No connection is held between two batches, unless the caller's session holds one. A row
        inserted or deleted meanwhile may be seen or not; no row is seen twice.
        """
        self._select(**filters).sql()  # a filter that cannot be is refused here, not later
        return self._batches(filters)

    def _batches(self, filters: Mapping[str, Any]) -> Iterator[M]:
        after_id: int | None = None
        while True:
            rows = self._list(after_id=after_id, limit=BATCH_ROWS, **filters)
            yield from rows
            if len(rows) < BATCH_ROWS:
                return
            after_id = rows[-1].get_id()

    def _count(self, **filters: Any) -> int:
        return int(self._read(lambda: self._select(**filters).count()))

    def _not_found(self, **filters: Any) -> NotFoundError:
        table = self.model._meta.table_name
        key = next(iter(filters.values())) if len(filters) == 1 else filters
        named = ", ".join(f"{name} {value!r}" for name, value in filters.items())
        return NotFoundError(f"{table} has no row with {named}", table=table, key=key)

    # -- what verbs that write call ------------------------------------------------------------

    def _create(self, **values: Any) -> M:
        """Insert a row of these values, references as rows or ids, and return it with its id."""
        return self._insert(**self._prepared(values))

    def _create_or_update(self, values: Mapping[str, Any], *, keep: Collection[str] = ()) -> M:
        """Insert such a row, or give the one with its natural key these values, and return it.

        Args:
            keep: what a row that exists keeps, beside `created_at`.
        """
        values = self._prepared(values)
        return self._upsert(self._natural_key, values, keep={"created_at", *keep})

    def _update(self, row_id: int, changes: Mapping[str, Any]) -> M:
        """Change columns of one row and return it; without a change it stays as it is.

        Raises:
            NotFoundError: when there is no such row, and nothing was written.
        """
        key = self._key.name
        given = {name: value for name, value in changes.items() if value is not KEEP}
        self._check(given)
        require_id(key, row_id)

        def write() -> M:
            row: M | None = self._select(**{key: row_id}).get_or_none()
            if row is None or not self._save(row, given):
                raise self._not_found(**{key: row_id})
            return row

        with self._naming_reference(given), self._naming_row(given):
            return self._write(write)

    def _delete(self, ids: int | Iterable[int]) -> int:
        return self._write_all(self.model.delete(), require_ids("ids", ids))

    # -- writing ------------------------------------------------------------------------------

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a new row, checked, with the time in the columns for it."""
        at, fields = now(), self.model._meta.fields
        times = {name: at for name in ("created_at", "updated_at") if name in fields}
        self._check(values)
        return {**values, **times}

    def _insert(self, **values: Any) -> M:
        """Insert one row of prepared values."""

        def write() -> M:
            row = self.model(**values)  # a new one each attempt: a failed one may have left an id
            row.save(force_insert=True)
            return row

        with self._naming_reference(values), self._naming_row(values, creating=True):
            return self._write(write)

    def _save(self, row: M, changes: Mapping[str, Any]) -> bool:
        """Store the changes of a row that was just read; False when it is gone."""
        if not changes:
            return True
        if "updated_at" in self.model._meta.fields:
            changes = {**changes, "updated_at": now()}
        for name, value in changes.items():
            setattr(row, name, value)
        return bool(row.save())

    def _upsert(
        self,
        key: Sequence[peewee.Field[Any]],
        values: Mapping[str, Any],
        *,
        keep: Collection[str],
    ) -> M:
        """Insert a row of prepared values, or update the one with the same natural key.

        One statement, then the row is read by its key: drivers answer with no id or a wrong one.
        Not for tables with secret columns, which are written through rows only.

        Args:
            key: the fields of the natural key.
            values: every column by its field's name, without the id, which MySQL would update by.
            keep: what an update leaves as it is.
        """
        named = {field.name for field in key}
        fields = self.model._meta.combined
        taken = [fields[name] for name in values if name not in {*named, *keep}]
        upsert = self._database.upsert(self.model.insert(**values), key, take=taken)
        found = [field == values[field.name] for field in key]

        def write() -> M:
            upsert.execute()
            row: M = self.model.select().where(*found).get()
            return row

        with self._naming_reference(values):
            return self._write(write)

    def _insert_or_update(
        self,
        find: Callable[[], M | None],
        values: Mapping[str, Any],
        changes: Mapping[str, Any],
    ) -> M:
        """Update the row that `find` finds, else insert one: for tables with secret columns.

        Args:
            values: of a new row, prepared.
            changes: to one that exists; some of these.
        """

        def write() -> M:
            row = find()
            if row is None:
                try:
                    return self._insert(**values)
                except ConflictError:  # another was faster
                    row = find()
                    if row is None:
                        raise
            if not self._save(row, changes):  # deleted meanwhile
                return self._insert(**values)
            return row

        return self._write(write)

    def _write_all(self, query: Any, ids: Sequence[int]) -> int:
        """Run an update or delete for the rows with these ids, all or none; return how many fit."""
        queries = [query.where(self._key.in_(part)) for part in parts(ids, BATCH_ROWS)]
        if not queries:
            return 0
        return self._write(lambda: sum(int(each.execute()) for each in queries))

    # -- checks and errors ----------------------------------------------------------------------

    def _check(self, values: Mapping[str, Any]) -> None:
        """Refuse what the fields let pass: NULL where there must be a value, blank names."""
        self._check_references(values)
        for name, value in values.items():
            if name in self.not_blank:
                require_text(name, value)
            elif value is None and not _takes_none(self.model._meta.combined[name]):
                raise InvalidValue(f"{name} must not be None", argument=name)

    def _check_references(self, values: Mapping[str, Any]) -> None:
        """Refuse what is neither a row of the table that a field refers to nor an id of one."""
        for field, target in self.model._meta.refs.items():
            if field.name in values and not (field.null and values[field.name] is None):
                require_reference(field.name, values[field.name], target)

    @contextmanager
    def _naming_row(self, values: Mapping[str, Any], *, creating: bool = False) -> Iterator[None]:
        """Say which row exists already, and what to do about it."""
        try:
            yield
        except ConflictError as exc:
            upsert = creating and hasattr(self, "upsert")
            raise explained(exc, self.model, values, upsert=upsert) from exc.__cause__

    @contextmanager
    def _naming_reference(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Say which argument pointed to no row: servers name a constraint, SQLite nothing."""
        try:
            yield
        except MissingReference as exc:
            keys = [
                field
                for field in self.model._meta.refs
                if values.get(field.name, values.get(field.column_name)) is not None
            ]
            named = [field for field in keys if field.constraint_name == exc.argument] or keys
            if len(keys) > 1:  # of several that are missing, always the first
                missing = self._read(
                    lambda: [key for key in keys if _points_to_nothing(key, values)]
                )
                named = missing or named
            if not named:
                raise
            table = named[0].rel_model._meta.table_name
            raise MissingReference(
                f"{named[0].name} points to a row of {table} that does not exist",
                argument=named[0].name,
            ) from exc


class Repository(BaseRepository[M]):
    """A table whose rows are read and deleted by their ids."""

    def get(self, row_id: int, /) -> M:
        """Return the row with that id.

        Raises:
            NotFoundError: when there is none.
            InvalidValue: when the id is no int.
        """
        return self._get(**{self._key.name: row_id})

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete rows by id, all or none, and their dependents as the foreign keys say.

        Args:
            ids: one or several; an empty list deletes nothing.
        Returns:
            Number of rows deleted; ids without a row count nothing.
        Raises:
            InvalidValue: when an id is no int.
        """
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every row and their dependents, in one transaction; return how many there were."""
        return int(self._write(lambda: self.model.delete().execute()))


def _points_to_nothing(key: peewee.ForeignKeyField, values: Mapping[str, Any]) -> bool:
    value = values.get(key.name, values.get(key.column_name))
    return not key.rel_model.select().where(key.rel_field == value).exists()


def _takes_none(field: peewee.Field[Any]) -> bool:
    return bool(field.null or field.auto_increment)  # an id of None is one to be made


def condition(field: peewee.Field[Any], value: Any) -> peewee.Expression:
    """Return the condition that a filter's value asks of a field."""
    if value is None:
        return field.is_null()
    if isinstance(value, list | tuple | set | frozenset):
        database: Backend = field.model._meta.database
        one_of = database.one_of(field, [item for item in value if item is not None])
        return one_of | field.is_null() if None in value else one_of
    equal: peewee.Expression = field == value
    return equal


def now() -> datetime:
    """Return the time as rows carry it: aware, UTC."""
    return datetime.now(UTC)
