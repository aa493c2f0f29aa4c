"""The layers of CONTRIBUTING.md, checked against the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import gproxy_storage
from tests.cases import for_each

PACKAGE = Path(gproxy_storage.__file__).parent
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"

# From the top down: a module imports from its own layer and from those below it.
LAYERS = (
    ("cli",),
    ("storage",),
    ("sink",),
    ("batch",),
    ("repositories",),
    ("schema",),
    ("row_types", "log_rows"),
    ("key_management",),
    ("models",),
    ("fields", "encrypted_fields", "naming"),
    ("unlocked", "keyring_manager"),
    ("database",),
    ("backends",),
    ("crypto",),
    ("config",),
    ("dsn",),
    (
        "secret",
        "value_limits",
        "money",
        "row_times",
        "generated",
        "private_files",
        "setting_files",
        "forks",
        "interruptions",
    ),
    ("errors",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ENTRY_POINTS = {"__init__", "__main__"}  # of the package itself: they import from every layer
LEVEL_OF_INIT = LEVEL["storage"]  # which it imports

DIALECTS = {"sqlite", "postgres", "postgresql", "mysql", "mariadb"}
KNOWS_DIALECTS = {"backends", "dsn", "config"}

DATABASES = {"peewee", "playhouse", "sqlite3", "psycopg2", "pymysql"}


def modules() -> dict[str, ast.Module]:
    """Return each module of the package by its dotted name inside it."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def layer(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports, wherever it does so: other modules as ``.name``."""
    here = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            package = here[: len(here) - node.level]
            if node.module:
                yield "." + ".".join([*package, node.module])
            else:  # from . import name
                names = [".".join([*package, alias.name]) for alias in node.names]
                yield from ("." + (name if layer(name) in LEVEL else "__init__") for name in names)


def upward_imports(module: str, tree: ast.Module) -> list[str]:
    """Return the imports from a layer above the module's own."""
    level = LEVEL[layer(module)]
    found = []
    for name in imports(module, tree):
        inside = name.removeprefix(f"{PACKAGE.name}.") if not name.startswith(".") else name[1:]
        above = (LEVEL | {"__init__": LEVEL_OF_INIT}).get(layer(inside), -1) < level
        if name.startswith((".", f"{PACKAGE.name}.")) and above:
            found.append(name)
    return found


def named_dialects(tree: ast.AST) -> list[int]:
    """Return the lines that name a dialect in a string of its own."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in DIALECTS
    ]


def test_every_module_is_in_a_layer() -> None:
    assert {layer(module) for module in MODULES} <= {*LEVEL, *ENTRY_POINTS}


def test_contributing_lists_the_layers_in_this_order() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    listed = re.findall(r"`(\w+)(?:\.py|/)`", " ".join(cells))

    assert listed == [name for names in LAYERS for name in names]


@for_each("module", sorted(set(MODULES) - ENTRY_POINTS))
def test_imports_go_down(module: str) -> None:
    assert upward_imports(module, MODULES[module]) == []


def test_there_are_no_circular_imports() -> None:
    """Including those that only a type checker sees, and those within functions."""
    graph = {
        module: {target for name in imports(module, tree) for target in _modules(name[1:])}
        for module, tree in MODULES.items()
        if module not in ENTRY_POINTS
    }
    TopologicalSorter(graph).prepare()  # CycleError names the cycle


def _modules(name: str) -> set[str]:
    """Return the modules that an import of a module, or of a package, leads to."""
    return {name, f"{name}.__init__"} & MODULES.keys()


@for_each("module", [name for name in MODULES if layer(name) == "crypto"])
def test_cryptography_imports_no_database(module: str) -> None:
    assert not {name.partition(".")[0] for name in imports(module, MODULES[module])} & DATABASES


def test_the_pool_imports_no_database() -> None:
    found = set(imports("backends.pool", MODULES["backends.pool"]))

    assert not {name.partition(".")[0] for name in found} & DATABASES
    assert {name for name in found if name.startswith(".")} == {".errors"}


@for_each("module", [name for name in MODULES if layer(name) not in KNOWS_DIALECTS])
def test_only_backends_distinguish_dialects(module: str) -> None:
    tree = MODULES[module]
    if module == "database":
        tree.body = [node for node in tree.body if not _is_the_table_of_classes(node)]

    assert named_dialects(tree) == []


def _is_the_table_of_classes(node: ast.stmt) -> bool:
    """Whether a statement is the one table from a DSN's backend to its class."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_CLASSES"


# -- the rules can fail -------------------------------------------------------------------------


@for_each(
    ("module", "code", "found"),
    [
        ("errors", "from .dsn import Dsn", [".dsn"]),
        ("backends.sqlite", "from ..database import session", [".database"]),
        ("backends.sqlite", "from .. import models", [".models"]),
        ("crypto.keys", "from ..backends import Backend", [".backends"]),
        ("schema.plan", "def f():\n    from ..storage import Storage", [".storage"]),
        ("models", "from gproxy_storage.storage import Storage", ["gproxy_storage.storage"]),
        ("repositories.users", "from ..unheard_of import x", [".unheard_of"]),
        ("repositories.users", "from .. import __version__", [".__init__"]),
        ("cli.main", "from .. import __version__", []),
        ("repositories.users", "from ..models import User\nfrom .base import now", []),
        ("schema.sync", "import json\nfrom ..errors import SyncFailed", []),
    ],
)
def test_an_import_upwards_is_found(module: str, code: str, found: list[str]) -> None:
    assert upward_imports(module, ast.parse(code)) == found


@for_each(
    "code",
    [
        "if database.name == 'mysql': pass",
        "if name in ('sqlite', 'other'): pass",
        "match name:\n    case 'mariadb': pass",
        "table = {'postgres': 1}",
        "table['sqlite']",
    ],
)
def test_a_dialect_by_name_is_found(code: str) -> None:
    assert named_dialects(ast.parse(code))
