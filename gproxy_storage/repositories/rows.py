"""Rows of models, built from a cursor's tuples.

Peewee sets the attributes of a row one by one, which takes several times as long. What is set here
is its own and not public: tests/contract/test_statements.py notices when it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import peewee

from ..models import Table

M = TypeVar("M", bound=Table)


def row_reader(model: type[M], fields: Sequence[peewee.Field[Any]]) -> Callable[[Sequence[Any]], M]:
    """Generate the function that builds a row from a tuple of columns, as Peewee's cursors do.

    For each column it has an inline test for the type of value that the field's `python_value`
    returns unchanged, and calls that for all others::

        row.__data__ = {"name": v0 if v0 is None or type(v0) is str else read0(v0)}

    Args:
        fields: of the columns in their order; those of another model are of the row that the
            model's reference to it points to.
    """
    names: dict[str, Any] = {"new": object.__new__}
    lines = [f"def read(row):\n    {', '.join(f'v{at}' for at in range(len(fields)))}, = row"]
    references = {target: key.name for key, target in model._meta.refs.items()}
    owners = dict.fromkeys([model, *(field.model for field in fields)])
    for number, owner in enumerate(owners):
        names[f"model{number}"] = owner
        data = [
            f"{field.name!r}: {_value(field, at, names)}"
            for at, field in enumerate(fields)
            if field.model is owner
        ]
        lines += [
            f"    row{number} = new(model{number})",
            f"    row{number}.__data__ = {{{', '.join(data)}}}",
            f"    row{number}._dirty = set()",
            f"    row{number}.__rel__ = {{}}",
        ]
        if number:
            lines.append(f"    row0.__rel__[{references[owner]!r}] = row{number}")
    lines.append("    return row0")
    # The text consists of the models' own names.
    exec("\n".join(lines), names)  # noqa: S102 - see above
    read: Callable[[Sequence[Any]], M] = names["read"]
    return read


def _value(field: Any, at: int, names: dict[str, Any]) -> str:
    """Return the expression for the value of a column; add what it needs to `names`."""
    names[f"read{at}"] = field.python_value
    kind = getattr(field, "read_unchanged", None)
    unchanged = f" or type(v{at}) is {kind.__name__}" if kind else ""
    return f"v{at} if v{at} is None{unchanged} else read{at}(v{at})"


def new_row(model: type[M], data: dict[str, Any]) -> M:
    """Return a stored row with these values by the names of fields."""
    row = model.__new__(model)
    row.__data__ = data
    row._dirty = set()  # type: ignore[attr-defined]  # not in its stubs
    row.__rel__ = {}
    return row
