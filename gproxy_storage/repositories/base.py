"""The base of repositories: reads rows by filters, writes and deletes them in transactions."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

import peewee
from peewee import SQL, fn

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
from .statements import COLLECTIONS, Form, Insert, Select, Slot, Statement, Statements

M = TypeVar("M", bound=Table)
S = TypeVar("S", bound=Statement)
T = TypeVar("T")

BATCH_ROWS = 500
"""Number of rows that `iter` reads at a time and that one statement of `delete` deletes."""


class Absent(enum.Enum):
    """The type of ANY, a filter that was not passed."""

    ANY = "any"


ANY: Final = Absent.ANY
"""The default of every filter: all rows. None, by contrast, means NULL."""

Filter: TypeAlias = T | Collection[T] | Absent
"""A filter: a value means equal; a list, tuple or set means one of them; ANY means all."""

Change: TypeAlias = T | Kept
"""A change: a value to store, or KEEP."""


class BaseRepository(StrictKeywords, Generic[M]):
    """Reads and writes the rows of one table, each call in its own session.

    A subclass defines each public method, a verb, with its real signature and calls `_method`.

    Attributes:
        model: the table.
        filters: the TypedDict of the filters of `list`, `iter` and `count`.
        not_blank: columns whose text must not be blank.
    """

    model: type[M]
    not_blank: ClassVar[tuple[str, ...]] = ()

    def __init__(self, database: Backend) -> None:
        self._database = database
        self._statements = Statements()

    @cached_property
    def _key(self) -> peewee.Field[Any]:
        key = self.model._meta.primary_key
        assert isinstance(key, peewee.Field)  # noqa: S101 - for type checkers: every table has one
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
        """Return the query for the matching rows, to sum them up."""
        return self._matching(self._checked(filters))

    def _checked(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the filters that were passed, or raise InvalidValue."""
        return {
            name: self._filter(name, value) for name, value in filters.items() if value is not ANY
        }

    def _filter(self, name: str, value: Any) -> Any:  # noqa: ARG002 - for subclasses
        """Return a filter's value; refuse one that its field would take. Fields check the rest."""
        return value

    def _matching(self, filters: Mapping[str, Any]) -> peewee.ModelSelect[M]:
        """Return the query for the rows that match checked filters, or slots in their place."""
        query = self.model.select()
        conditions = [self._condition(name, value) for name, value in filters.items()]
        return query.where(*conditions) if conditions else query

    def _condition(self, name: str, value: Any) -> peewee.Expression:
        """Return the SQL condition of one filter."""
        return condition(getattr(self.model, name), value)

    def _compiled(
        self,
        kind: Hashable,
        filters: Mapping[str, Any],
        make: Callable[..., S],
        *given: Any,
    ) -> tuple[S, list[Any]]:
        """Return a statement about the matching rows, and its parameters.

        Args:
            kind: names what `make` makes.
            make: takes the query for the matching rows, and a slot for each of `given`.
            given: further values of the statement.
        Raises:
            InvalidValue: when a value is invalid.
        """
        form = Form.of(self._checked(filters))
        values = [*form.values, *given]

        def compiled() -> S:
            slots = (Slot(position) for position in range(len(form.values), len(values)))
            return make(self._matching(form.filters()), *slots)

        if form.names is None:
            statement = compiled()
        else:
            statement = self._statements.get((kind, *form.names), compiled)
        return statement, statement.bind(values)

    def _find(self, **filters: Any) -> M | None:
        if self._key.name in filters:  # only one id: a list would return any of its rows
            require_id(self._key.name, filters[self._key.name])
        self._check_references(filters)
        return self._read(self._reading_first(filters))

    def _first(self, **filters: Any) -> M | None:
        """Return the first matching row, in this thread's session, without further checks."""
        return self._reading_first(filters)()

    def _reading_first(self, filters: Mapping[str, Any]) -> Callable[[], M | None]:
        statement, parameters = self._compiled("first", filters, _select_first)
        return partial(statement.first, self._database, parameters)

    def _get(self, **filters: Any) -> M:
        row = self._find(**filters)
        if row is None:
            raise self._not_found(**filters)
        return row

    def _list(
        self, *, after_id: int | None = None, limit: int | None = None, **filters: Any
    ) -> list[M]:
        """Return the matching rows by primary key, beginning after `after_id`."""
        return self._read(self._reading_list(after_id, limit, filters))

    def _reading_list(
        self, after_id: int | None, limit: int | None, filters: Mapping[str, Any]
    ) -> Callable[[], list[M]]:
        key = self._key
        given: list[Any] = []
        if after_id is not None:
            given.append(require_id("after_id", after_id))
        if limit is not None:
            given.append(require_limit("limit", limit))

        def make(query: peewee.ModelSelect[M], *slots: Any) -> Select[M]:
            rest = [*slots]
            query = query.order_by(key)
            if after_id is not None:
                query = query.where(key > rest.pop(0))
            return Select(query if limit is None else query.limit(rest.pop(0)))

        kind = ("list", after_id is None, limit is None)
        statement, parameters = self._compiled(kind, filters, make, *given)
        return partial(statement.rows, self._database, parameters)

    def _iter(self, **filters: Any) -> Iterator[M]:
        """Iterate over the matching rows by primary key, reading them in batches.

        No connection is held between two batches, unless the caller's session holds one. A row
        inserted or deleted meanwhile may or may not be returned; no row is returned twice.
        """
        read = self._reading_list(None, BATCH_ROWS, filters)  # refuses an invalid filter now
        return self._batches(read, filters)

    def _batches(self, read: Callable[[], list[M]], filters: Mapping[str, Any]) -> Iterator[M]:
        while True:
            rows = self._read(read)
            yield from rows
            if len(rows) < BATCH_ROWS:
                return
            read = self._reading_list(rows[-1].get_id(), BATCH_ROWS, filters)

    def _count(self, **filters: Any) -> int:
        statement, parameters = self._compiled("count", filters, _count_rows)
        return int(self._read(lambda: self._database.query(statement.sql, parameters))[0][0])

    def _not_found(self, **filters: Any) -> NotFoundError:
        table = self.model._meta.table_name
        key = next(iter(filters.values())) if len(filters) == 1 else filters
        named = ", ".join(f"{name} {value!r}" for name, value in filters.items())
        return NotFoundError(f"{table} has no row with {named}", table=table, key=key)

    # -- writing: called by verbs ---------------------------------------------------------------

    def _create(self, **values: Any) -> M:
        """Insert a row and return it with its id; references among the values are rows or ids."""
        return self._insert(**self._prepared(values))

    def _create_or_update(self, values: Mapping[str, Any], *, keep: Collection[str] = ()) -> M:
        """Insert a row, or update all but `created_at` and `keep` of the one with its key."""
        values = self._prepared(values)
        return self._upsert(self._natural_key, values, keep={"created_at", *keep})

    def _update(self, row_id: int, changes: Mapping[str, Any]) -> M:
        """Change columns of one row and return it; without changes, nothing is written."""
        key = self._key.name
        given = {name: value for name, value in changes.items() if value is not KEEP}
        self._check(given)
        require_id(key, row_id)

        def write() -> M:
            row = self._first(**{key: row_id})
            if row is None or not self._save(row, given):
                raise self._not_found(**{key: row_id})
            return row

        with self._naming_reference(given), self._naming_row(given):
            return self._write(write)

    def _delete(self, ids: int | Iterable[int]) -> int:
        return self._write_all(self.model.delete(), require_ids("ids", ids))

    # -- writing: implementation ----------------------------------------------------------------

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check the values of a new row; return them with `created_at` and `updated_at`."""
        at, fields = now(), self.model._meta.fields
        times = {name: at for name in ("created_at", "updated_at") if name in fields}
        self._check(values)
        return {**values, **times}

    def _insert(self, **values: Any) -> M:
        """Insert one row of prepared values."""

        def write() -> M:
            row = self.model(**values)  # anew in each attempt: a failed one may have set the id
            row.save(force_insert=True)
            return row

        with self._naming_reference(values), self._naming_row(values, creating=True):
            return self._write(write)

    def _save(self, row: M, changes: Mapping[str, Any]) -> bool:
        """Store the changes of a row that was just read; False when it was deleted."""
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

        One statement; then the row is read by its key, because drivers return no id or a wrong
        one. Not for tables with secret columns, which are written only by saving rows. The values
        are without the id, by which MySQL would update.
        """
        named = {field.name: values[field.name] for field in key}

        def upserting(query: Any) -> Any:
            fields = self.model._meta.combined
            taken = [fields[name] for name in values if name not in {*named, *keep}]
            return self._database.upsert(query, key, take=taken)

        upsert = self._statements.get(
            ("upsert", frozenset(keep), *values), lambda: self._inserting(values, upserting)
        )
        parameters = upsert.bind([*values.values()])

        def write() -> M:
            self._database.execute_sql(upsert.sql, parameters)
            row = self._first(**named)
            assert row is not None  # noqa: S101 - for type checkers: it is locked
            return row

        with self._naming_reference(values):
            return self._write(write)

    def _inserting(self, columns: Iterable[str], finish: Callable[[Any], Any]) -> Insert:
        """Return the statement that inserts a row, with slots in the order of the columns.

        Args:
            finish: takes the query, and returns the one to execute.
        """
        fields = {name: self.model._meta.combined[name] for name in columns}
        slots = {name: Slot(at, field.db_value) for at, (name, field) in enumerate(fields.items())}
        return Insert(finish(self.model.insert(**slots)), [*fields.values()])

    def _insert_or_update(
        self,
        find: Callable[[], M | None],
        values: Mapping[str, Any],
        changes: Mapping[str, Any],
    ) -> M:
        """Update the row that `find` returns, else insert one; for tables with secret columns."""

        def write() -> M:
            row = find()
            if row is None:
                try:
                    return self._insert(**values)
                except ConflictError:  # another call inserted it first
                    row = find()
                    if row is None:
                        raise
            if not self._save(row, changes):  # deleted meanwhile
                return self._insert(**values)
            return row

        return self._write(write)

    def _write_all(self, query: Any, ids: Sequence[int]) -> int:
        """Update or delete the rows with these ids, all or none; return how many there were."""
        queries = [query.where(self._key.in_(part)) for part in parts(ids, BATCH_ROWS)]
        if not queries:
            return 0
        return self._write(lambda: sum(int(each.execute()) for each in queries))

    # -- checks and errors ----------------------------------------------------------------------

    def _check(self, values: Mapping[str, Any]) -> None:
        """Refuse what fields accept: NULL in a column that needs a value, and blank names."""
        self._check_references(values)
        for name in self._limited:
            if name not in values:
                continue
            if name in self.not_blank:
                require_text(name, values[name])
            elif values[name] is None:
                raise InvalidValue(f"{name} must not be None", argument=name)

    @cached_property
    def _limited(self) -> Sequence[str]:
        """Names of fields, or their columns, that must not be NULL, or not be blank."""
        return [
            name
            for name, field in self.model._meta.combined.items()
            # A generated key is None.
            if name in self.not_blank or not (field.null or field.auto_increment)
        ]

    def _check_references(self, values: Mapping[str, Any]) -> None:
        """Refuse a reference that is neither a row of the table referred to nor an id."""
        for field, target in self.model._meta.refs.items():
            if field.name in values and not (field.null and values[field.name] is None):
                require_reference(field.name, values[field.name], target)

    @contextmanager
    def _naming_row(self, values: Mapping[str, Any], *, creating: bool = False) -> Iterator[None]:
        """Make a ConflictError name the row that exists already, and what to do."""
        try:
            yield
        except ConflictError as exc:
            upsert = creating and hasattr(self, "upsert")
            raise explained(exc, self.model, values, upsert=upsert) from exc.__cause__

    @contextmanager
    def _naming_reference(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Make a MissingReference name its argument: servers name a constraint, SQLite nothing."""
        try:
            yield
        except MissingReference as exc:
            keys = [
                field
                for field in self.model._meta.refs
                if values.get(field.name, values.get(field.column_name)) is not None
            ]
            named = [field for field in keys if field.constraint_name == exc.argument] or keys
            if len(keys) > 1:  # if several are missing, always name the first
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
    """A repository of a table whose rows are read and deleted by id."""

    def get(self, row_id: int, /) -> M:
        """Return the row with that id.

        Raises:
            NotFoundError: when there is none.
            InvalidValue: when the id is not an int.
        """
        return self._get(**{self._key.name: row_id})

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete rows by id, all or none, with their dependents as the foreign keys define.

        Args:
            ids: one or several; an empty list deletes nothing.
        Returns:
            Number of rows deleted; ids without a row are ignored.
        Raises:
            InvalidValue: when an id is not an int.
        """
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete all rows and their dependents in one transaction; return how many there were."""
        return int(self._write(lambda: self.model.delete().execute()))


def _select_first(query: peewee.ModelSelect[M]) -> Select[M]:
    return Select(query.limit(1))


def _count_rows(query: peewee.ModelSelect[Any]) -> Statement:
    return Statement(query.select(fn.COUNT(SQL("*"))))


def _points_to_nothing(key: peewee.ForeignKeyField, values: Mapping[str, Any]) -> bool:
    value = values.get(key.name, values.get(key.column_name))
    return not key.rel_model.select().where(key.rel_field == value).exists()


def condition(field: peewee.Field[Any], value: Any) -> peewee.Expression:
    """Return the SQL condition of a field for a filter's value."""
    if value is None:
        return field.is_null()
    if isinstance(value, COLLECTIONS):
        database: Backend = field.model._meta.database
        one_of = database.one_of(field, [item for item in value if item is not None])
        return one_of | field.is_null() if None in value else one_of
    equal: peewee.Expression = field == value
    return equal


def now() -> datetime:
    """Return the current time in the form of rows: aware, UTC."""
    return datetime.now(UTC)
