"""The reference has every public name: what the package exports, every verb, every error."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, is_typeddict

import pytest

import gproxy_storage
from gproxy_storage import Sink, StorageError, WriteBatch
from gproxy_storage.repositories.access import Access
from gproxy_storage.repositories.base import Repository
from gproxy_storage.repositories.dashboard import Dashboard
from tests.docs.pages import DOCS

EXPORTED = {name: getattr(gproxy_storage, name) for name in gproxy_storage.__all__}

INTERNAL = {
    Sink: {"before_fork", "after_fork_in_parent", "after_fork_in_child"},
    WriteBatch: {"add", "new_id", "pending_row"},
}
"""What other modules of the package call, and nobody else."""


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all objects in the built documentation, from its inventory."""
    built = tmp_path_factory.mktemp("docs")
    build = [sys.executable, "-m", "sphinx", "-q", "-d", str(built / "doctrees"), str(DOCS)]
    subprocess.run([*build, str(built / "html")], check=True)
    return names_in(built / "html" / "objects.inv")


def names_in(inventory: Path) -> set[str]:
    *_, compressed = inventory.read_bytes().split(b"\n", 4)  # four lines of header
    return {line.split()[0] for line in zlib.decompress(compressed).decode().splitlines()}


def public_members(kind: type[Any]) -> Iterator[str]:
    for name, member in inspect.getmembers(kind):
        is_verb = inspect.isroutine(member) or isinstance(member, property)
        ours = getattr(getattr(member, "fget", member), "__module__", "")
        if name[0] != "_" and is_verb and str(ours).startswith("gproxy_storage."):
            yield name


def repositories(kind: type[Any] = Repository) -> Iterator[type[Any]]:
    """The classes of repositories that have a table; those of a batch are the same."""
    for each in kind.__subclasses__():
        if hasattr(each, "model") and each.__module__.startswith("gproxy_storage.repositories."):
            yield each
        yield from repositories(each)


def test_every_exported_name_is_documented(documented: set[str]) -> None:
    missing = {name for name in EXPORTED if f"gproxy_storage.{name}" not in documented}
    assert not missing


def test_every_method_of_an_exported_class_is_documented(documented: set[str]) -> None:
    for name, kind in EXPORTED.items():
        if isinstance(kind, type) and kind.__module__.startswith("gproxy_storage."):
            members = set(public_members(kind)) - INTERNAL.get(kind, set())
            missing = {
                each for each in members if f"gproxy_storage.{name}.{each}" not in documented
            }
            assert not missing, name


def test_every_field_of_a_row_is_documented(documented: set[str]) -> None:
    for name, row in EXPORTED.items():
        if is_typeddict(row):
            missing = {
                field
                for field in row.__annotations__
                if f"gproxy_storage.{name}.{field}" not in documented
            }
            assert not missing, name


def test_every_verb_of_a_repository_is_documented(documented: set[str]) -> None:
    kinds = {*repositories(), Access, Dashboard}
    assert len(kinds) > 15
    for kind in kinds:
        path = f"{kind.__module__}.{kind.__qualname__}"
        missing = {verb for verb in public_members(kind) if f"{path}.{verb}" not in documented}
        assert not missing, path


def test_every_error_has_its_cause_and_cure() -> None:
    lines = (DOCS / "reference" / "errors.md").read_text().splitlines()
    table = "".join(line for line in lines if line.startswith("|"))
    for name, kind in EXPORTED.items():
        if isinstance(kind, type) and issubclass(kind, StorageError) and kind is not StorageError:
            assert f"`{name}`" in table, name
