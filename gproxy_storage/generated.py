"""Functions generated from a text, where a loop over columns would take most of the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def function(name: str, parameters: str, lines: Iterable[str], names: Mapping[str, Any]) -> Any:
    """Return a new function.

    Args:
        name: shown in Python's errors for wrong arguments.
        parameters: as they are written between the parentheses.
        lines: of its body. They consist of names and constants of this package, never of values.
        names: what the text refers to.
    """
    body = "".join(f"\n    {line}" for line in lines)
    found = dict(names)
    exec(f"def {name}({parameters}):{body}", found)  # noqa: S102 - its text is the package's own
    return found[name]
