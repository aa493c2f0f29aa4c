"""Keyword arguments: the error for an unknown one suggests the nearest known one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import CO_VARARGS, CO_VARKEYWORDS, cleandoc
from types import FunctionType
from typing import Any, ClassVar

from ..dsn.text import nearest


class StrictKeywords:
    """A class whose public methods suggest a name in place of an unknown keyword argument.

    Python does so from 3.13 on, but not for the keys of ``**filters``.

    Attributes:
        filters: the TypedDict of the ``**filters`` of its methods.
    """

    filters: ClassVar[type[Any]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in list(vars(cls).items()):
            if isinstance(method, FunctionType) and not name.startswith("_"):
                setattr(cls, name, _strict(method, cls))


def _strict(method: FunctionType, cls: type[StrictKeywords]) -> Callable[..., Any]:
    """Return a method that checks its keyword arguments, if it has keyword-only ones."""
    code = method.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    known = frozenset(names[max(1, code.co_posonlyargcount) :])
    doc = method.__doc__
    if code.co_flags & CO_VARKEYWORDS:
        rest = code.co_varnames[len(names) + bool(code.co_flags & CO_VARARGS)]
        if rest != "filters":
            return method  # a row's columns, which `log_rows.LogTable` checks
        known |= cls.filters.__optional_keys__
        doc = f"{cleandoc(doc or '')}\n\nFilters: {', '.join(cls.filters.__annotations__)}."
    elif not code.co_kwonlyargcount:
        return method

    @wraps(method)
    def call(self: Any, /, *args: Any, **given: Any) -> Any:
        if not known.issuperset(given):
            name = next(name for name in given if name not in known)
            raise TypeError(
                f"{method.__name__}() got an unexpected keyword argument {name!r}; "
                f"{nearest(name, sorted(known))}known are {', '.join(sorted(known))}"
            )
        return method(self, *args, **given)

    call.__doc__ = doc
    return call
