"""The exports of `gproxy_storage`: the entry point, types of arguments and results, errors."""

from __future__ import annotations

import inspect
import re

import gproxy_storage
from gproxy_storage import Storage, errors
from tests.cases import for_each

EXPORTED = {name: getattr(gproxy_storage, name) for name in gproxy_storage.__all__}


def test_every_error_is_exported() -> None:
    ours = {name: each for name, each in vars(errors).items() if isinstance(each, type)}
    ours = {name: each for name, each in ours.items() if each.__module__ == errors.__name__}

    assert ours.items() <= EXPORTED.items()


@for_each("name", [name for name, _ in inspect.getmembers(Storage, callable) if name[0] != "_"])
def test_what_storage_takes_and_gives_is_exported(name: str) -> None:
    signature = inspect.signature(getattr(Storage, name))
    taken = [each.annotation for each in signature.parameters.values()]
    words = " ".join(map(str, [*taken, signature.return_annotation]))
    named = set(re.findall(r"\b[A-Z]\w+", words))
    known_elsewhere = {"None", "Path", "Self", "Literal", "Callable", "AbstractContextManager"}

    assert named - known_elsewhere <= EXPORTED.keys()
