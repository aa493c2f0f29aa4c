"""The base of repositories: reads rows by filters, writes and deletes them in transactions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypeVar

import peewee

from ..backends.bulk import parts
from ..database import run_transaction
from ..errors import ConflictError, InvalidValue, MissingReference
from ..models import Table
from .arguments import (
    KEEP,
    Kept,
    require_id,
    require_ids,
    require_text,
)
from .conflicts import explained
from .reading import Reading
from .statements import Insert, Slot

M = TypeVar("M", bound=Table)
T = TypeVar("T")

BATCH_ROWS = 500
"""Number of rows that one statement of `delete` deletes."""


Change: TypeAlias = T | Kept
"""A change: a value to store, or KEEP."""


class BaseRepository(Reading[M]):
    """Reads and writes the rows of one table, each call in its own session.

    A subclass defines each public method, a verb, with its real signature and calls `_method`.

    Attributes:
        not_blank: columns whose text must not be blank.
    """

    not_blank: ClassVar[tuple[str, ...]] = ()

    def _write(self, callback: Callable[[], T]) -> T:
        return run_transaction(self._database, callback)

    def _write_row(
        self, values: Mapping[str, Any], callback: Callable[[], T], *, creating: bool = False
    ) -> T:
        """Like `_write`; a ConflictError names the row that exists already, and what to do."""
        try:
            return self._write(callback)
        except ConflictError as exc:
            upsert = creating and hasattr(self, "upsert")
            raise explained(exc, self.model, values, upsert=upsert) from exc.__cause__

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

        with self._naming_reference(given):
            return self._write_row(given, write)

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

        with self._naming_reference(values):
            return self._write_row(values, write, creating=True)

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


def _points_to_nothing(key: peewee.ForeignKeyField, values: Mapping[str, Any]) -> bool:
    value = values.get(key.name, values.get(key.column_name))
    return not key.rel_model.select().where(key.rel_field == value).exists()


def now() -> datetime:
    """Return the current time in the form of rows: aware, UTC."""
    return datetime.now(UTC)
