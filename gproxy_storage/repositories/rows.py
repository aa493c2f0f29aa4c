"""Rows of models, built from a cursor's tuples.

Peewee sets the attributes of a row one by one, which takes several times as long. What is set here
is its own and not public: tests/contract/test_statements.py notices when it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import peewee

from ..fields import UNUSUAL
from ..generated import function
from ..models import Table

M = TypeVar("M", bound=Table)


def row_reader(model: type[M], fields: Sequence[peewee.Field[Any]]) -> Callable[[Sequence[Any]], M]:
    """Generate the function that builds a row from a tuple of columns, as Peewee's cursors do.

    It first takes each value for a usual one: unchanged if it is of the type that the field's
    `python_value` returns unchanged, or converted by the field's `read_usual`. Where that fails
    each value is read by `python_value`, which may raise ReadError::

        row.__data__ = {"name": v0 if v0 is None or type(v0) is str else exact0(v0)}

    Args:
        fields: of the columns in their order; those of another model are of the row that the
            model's reference to it points to.
    """
    references = {target: key.name for key, target in model._meta.refs.items()}
    owners = [*dict.fromkeys([model, *(field.model for field in fields)])]
    names: dict[str, Any] = {"new": object.__new__, "UNUSUAL": UNUSUAL}
    rows = []
    for number, owner in enumerate(owners):
        names[f"model{number}"] = owner
        rows += [
            f"row{number} = new(model{number})",
            f"row{number}._dirty = set()",
            f"row{number}.__rel__ = {{}}",
        ]
        if number:
            rows.append(f"row0.__rel__[{references[owner]!r}] = row{number}")
    unpacked = "".join(f"v{at}, " for at in range(len(fields)))
    usual, exact = (
        [
            f"row{number}.__data__ = {{{_items(fields, owner, value, names)}}}"
            for number, owner in enumerate(owners)
        ]
        for value in (_usual, _exact)
    )
    lines = [
        f"{unpacked}= row",
        *rows,
        "try:",
        *(f"    {line}" for line in (*usual, "return row0")),
        "except UNUSUAL:",
        "    pass",  # below, for the error's context would show the value
        *exact,
        "return row0",
    ]
    read: Callable[[Sequence[Any]], M] = function("read", "row", lines, names)
    return read


def _items(
    fields: Sequence[Any],
    owner: type[Table],
    value: Callable[[Any, int, dict[str, Any]], str],
    names: dict[str, Any],
) -> str:
    items = [(field, at) for at, field in enumerate(fields) if field.model is owner]
    return ", ".join(f"{field.name!r}: {value(field, at, names)}" for field, at in items)


def _usual(field: Any, at: int, names: dict[str, Any]) -> str:
    """Return the expression for a usual value of a column; add what it needs to `names`."""
    convert = getattr(field, "read_usual", None)
    if convert is None:
        kind = getattr(field, "read_unchanged", None)
        unchanged = f"v{at} is None or type(v{at}) is {kind.__name__}" if kind else f"v{at} is None"
        return f"v{at} if {unchanged} else {_exact(field, at, names)}"
    names[f"usual{at}"] = convert
    return f"None if v{at} is None else usual{at}(v{at})"


def _exact(field: Any, at: int, names: dict[str, Any]) -> str:
    names[f"exact{at}"] = field.python_value
    return f"exact{at}(v{at})"


def new_row(model: type[M], data: dict[str, Any]) -> M:
    """Return a stored row with these values by the names of fields."""
    row = model.__new__(model)
    row.__data__ = data
    row._dirty = set()  # type: ignore[attr-defined]  # not in its stubs
    row.__rel__ = {}
    return row
