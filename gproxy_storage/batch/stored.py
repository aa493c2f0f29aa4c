"""What the database has of the rows that a batch names: a constant number of queries a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import peewee

from ..backends.bulk import parts
from ..models import TABLES, Provider, Table, User, UserCredentialFile
from .operations import (
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

T = TypeVar("T")

ROWS_A_STATEMENT = 256

Row: TypeAlias = dict[str, Any]
"""The id, the natural key and the references of a stored row, by field."""

Stored: TypeAlias = dict[type[Table], dict[int, Row]]

_BY_NAME = (Provider, User)


def read_stored(operations: Iterable[Operation]) -> Stored:
    """Read the rows that operations name, and those that they hang on, by id.

    Children before parents, so that each table is read once, up to 256 rows a statement.
    """
    ids, names = _named(operations)
    stored: Stored = {}
    for model in reversed(TABLES):
        rows = {**_by_ids(model, ids.get(model, set()))}
        if model in _BY_NAME:
            rows |= _by_names(model, names.get(model, set()))
        if rows:
            stored[model] = rows
        for key in references(model):
            found = {row[key.name] for row in rows.values()} - {None}
            ids.setdefault(key.rel_model, set()).update(found)
    return stored


def rows_with_keys(model: type[Table], keys: Collection[tuple[Any, ...]]) -> Iterator[Row]:
    """Read the rows with these natural keys, of references their ids; those of one key by id.

    Each column by itself, for not every database compares tuples; what fits in each column and
    not as a whole is left out here.
    """
    fields = [model._meta.fields[name] for name in NATURAL_KEYS[model]]
    for chunk in chunks(sorted(keys, key=sortable)):
        conditions = [_one_of(each, {key[at] for key in chunk}) for at, each in enumerate(fields)]
        wanted = set(chunk)
        key: Any = model._meta.primary_key
        for row in _select(model).where(*conditions).order_by(key).dicts():
            if tuple(row[each.name] for each in fields) in wanted:
                yield row


def sortable(key: Iterable[Any]) -> tuple[Any, ...]:
    """Return a key to sort by: None before everything."""
    return tuple((value is not None, value) for value in key)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces that one statement takes."""
    return parts(items, ROWS_A_STATEMENT)


def _named(
    operations: Iterable[Operation],
) -> tuple[dict[type[Table], set[int]], dict[type[Table], set[str]]]:
    """Return the ids and the names that operations mention."""
    ids: dict[type[Table], set[int]] = {}
    names: dict[type[Table], set[str]] = {}

    def mention(model: type[Table], *found: Any) -> None:
        real = (each for each in found if each is not None and not isinstance(each, PendingId))
        ids.setdefault(model, set()).update(real)

    for operation in operations:
        match operation:
            case Put(model=model, values=values) | Revoke(model=model, values=values):
                for key in references(model):
                    mention(key.rel_model, values.get(key.name))
                if model in _BY_NAME:
                    names.setdefault(model, set()).add(values["name"])
            case Change(model=model, row_id=row_id):
                mention(model, row_id)
            case Delete(model=model, ids=several):
                mention(model, *several)
            case MarkDeleted(ids=several):
                mention(UserCredentialFile, *several)
            case AddCost(user_id=user_id):
                mention(User, user_id)
            case Named(model=model, name=name):
                names.setdefault(model, set()).add(name)
    return ids, names


def _by_ids(model: type[Table], ids: Collection[int]) -> dict[int, Row]:
    key: Any = model._meta.primary_key
    return {
        row[key.name]: row
        for chunk in chunks(sorted(ids))
        for row in _select(model).where(key.in_(chunk)).dicts()
    }


def _by_names(model: Any, names: Collection[str]) -> dict[int, Row]:
    return {
        row["id"]: row
        for chunk in chunks(sorted(names))
        for row in _select(model).where(model.name.in_(chunk)).dicts()
        if row["name"] in names  # a collation may find others
    }


def _select(model: type[Table]) -> Any:
    wanted = {model._meta.primary_key.name, *NATURAL_KEYS.get(model, ())}  # type: ignore[union-attr]  # each table has one
    wanted |= {key.name for key in references(model)}
    return model.select(*(model._meta.fields[name] for name in sorted(wanted)))


def _one_of(field: peewee.Field[Any], values: Collection[Any]) -> Any:
    found: Any = field.in_(sorted(value for value in values if value is not None))
    return found | field.is_null() if None in values else found
