"""Warns where the reference lacks a public name: an export, a method, a row's field, a verb."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any, is_typeddict

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger

import gproxy_storage
from gproxy_storage import Sink, Storage, row_types
from gproxy_storage.repositories.registry import registered

INTERNAL = {
    f"gproxy_storage.{kind.__name__}.{name}"
    for kind, names in {
        Sink: ("before_fork", "after_fork_in_parent", "after_fork_in_child"),
    }.items()
    for name in names
}
"""Methods that only other modules of the package call."""


def public_names() -> Iterator[str]:
    """Yield the name of everything that a reader may look up."""
    for name in gproxy_storage.__all__:
        exported = getattr(gproxy_storage, name)
        path = f"gproxy_storage.{name}"
        yield path
        if isinstance(exported, type) and exported.__module__.startswith("gproxy_storage."):
            yield from (f"{path}.{member}" for member in _public_members(exported))
    for kind in registered(Storage).values():
        path = f"{kind.__module__}.{kind.__qualname__}"
        yield from (f"{path}.{verb}" for verb in _public_members(kind))


def _public_members(kind: type[Any]) -> Iterator[str]:
    for name, member in inspect.getmembers(kind):
        is_verb = isinstance(member, FunctionType | MethodType | property)
        ours = getattr(getattr(member, "fget", member), "__module__", "")
        if name[0] != "_" and is_verb and str(ours).startswith("gproxy_storage."):
            yield name


def undescribed_fields() -> Iterator[str]:
    """Yield the fields of rows that neither a row's docstring nor one it is made of describes."""
    rows = [kind for kind in vars(row_types).values() if is_typeddict(kind)]
    for row in rows:
        parts = [
            part for part in rows if part.__annotations__.items() <= row.__annotations__.items()
        ]
        described = "".join(part.__doc__ or "" for part in parts)
        for field in row.__annotations__:
            if f"\n        {field}: " not in described:
                yield f"{row.__name__}.{field}"


def check(_: Sphinx, env: BuildEnvironment) -> None:
    """Warn of each public name that no page describes."""
    described = env.domains.python_domain.objects
    for name in sorted({*public_names()} - INTERNAL - described.keys()):
        getLogger(__name__).warning("the reference does not describe %s", name)
    for name in undescribed_fields():
        getLogger(__name__).warning("the docstring does not describe %s", name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the check, which runs when all pages have been read."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
