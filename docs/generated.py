"""Directives that write parts of the reference from the code, so that the two cannot differ.

``repositories``: every repository that a Storage has, with its verbs; the option ``logs`` gives
those that read the logs; without it, all others. ``tables``: every table with its columns,
types and indexes. ``dsn-parameters``: the parameters of a backend's DSN.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_type_hints

import peewee
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gproxy_storage import Storage, db_from_dsn
from gproxy_storage.dsn.rules import POOL, REFUSED, RULES
from gproxy_storage.encrypted_fields import EncryptedField
from gproxy_storage.fields import MoneyField, UtcDateTimeField
from gproxy_storage.models import ENCRYPTED_FIELDS, INDEXES, TABLES, Ledger, Table
from gproxy_storage.repositories.base import BaseRepository
from gproxy_storage.repositories.dashboard import Dashboard
from gproxy_storage.repositories.logs import Log
from gproxy_storage.repositories.registry import registered
from gproxy_storage.schema.definitions import Definition, definitions

COMMON_VERBS = (
    *("create", "get", "find", "list", "iter", "count"),
    *("update", "upsert", "delete", "delete_all"),
)
"""The verbs that most repositories have, in the order in which the page explains them."""


class Reached(NamedTuple):
    """A repository and its path from a Storage, such as ``access.models``."""

    path: str
    kind: type[Any]

    @property
    def reads_logs(self) -> bool:
        return issubclass(self.kind, Log | Dashboard)

    def verbs(self) -> list[str]:
        return [
            name for name, _ in inspect.getmembers(self.kind, inspect.isfunction) if name[0] != "_"
        ]

    def keywords(self) -> dict[str, type[Any]]:
        """The TypedDicts of keyword arguments that its verbs take, by name."""
        found = {}
        for verb in self.verbs():
            for hint in get_type_hints(getattr(self.kind, verb)).values():
                for part in get_args(hint):
                    if hasattr(part, "__required_keys__"):
                        found[part.__name__] = part
        return found


def reached() -> list[Reached]:
    """Return every repository of a Storage, by its path."""
    return [Reached(path, kind) for path, kind in sorted(registered(Storage).items())]


class Generated(SphinxDirective, ABC):
    """Content in Markdown, written by `lines`."""

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.lines())
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """Yield the lines of Markdown."""


class Repositories(Generated):
    """``repositories``, see above."""

    option_spec = {"logs": directives.flag}  # noqa: RUF012 - docutils' interface

    def lines(self) -> Iterator[str]:
        wanted = [each for each in reached() if each.reads_logs == ("logs" in self.options)]
        if "logs" not in self.options:
            yield from _overview(wanted)
        shown: set[str] = set()
        for each in wanted:
            yield f"\n## `storage.{each.path}`\n"
            yield from _on_delete(each)
            yield from _autoclass(
                each.kind, "members", "inherited-members", "exclude-members: model, filters"
            )
            for name, keywords in each.keywords().items():
                if name.endswith("Filters") and name not in shown:
                    shown.add(name)
                    yield from _autoclass(keywords, "members", "undoc-members")


def _overview(repositories: list[Reached]) -> Iterator[str]:
    yield "| `storage.` | holds | further verbs | lacks |"
    yield "| --- | --- | --- | --- |"
    for path, kind in repositories:
        verbs = Reached(path, kind).verbs()
        own = [verb for verb in verbs if verb not in COMMON_VERBS]
        lacks = [verb for verb in COMMON_VERBS if verb not in verbs]
        if not issubclass(kind, BaseRepository):
            lacks = ["all of them"]
        what = (kind.__doc__ or "").partition(".")[0]
        cells = [f"[`{path}`](#storage-{path.replace('.', '-').replace('_', '-')})", what]
        cells += [", ".join(f"`{verb}`" for verb in own), ", ".join(lacks)]
        yield f"| {' | '.join(cells)} |"


def _on_delete(repository: Reached) -> Iterator[str]:
    """Say what happens to a deleted row's dependents."""
    if "delete" not in repository.verbs():
        return
    deleted: list[type[Table]] = [repository.kind.model]
    kept: dict[str, None] = {}
    for parent in deleted:  # which grows
        for child in TABLES:
            for field, target in child._meta.refs.items():
                if target is not parent:
                    continue
                if field.on_delete == "SET NULL":
                    kept[f"`{child._meta.table_name}`"] = None
                elif child not in deleted:
                    deleted.append(child)
    gone = [f"`{child._meta.table_name}`" for child in deleted[1:]]
    if gone:
        yield f"Deleting a row deletes its rows of {', '.join(gone)}, too."
    if kept:
        yield f"Rows of {', '.join(kept)} are kept, with NULL for it."
    yield ""


def _autoclass(kind: type[Any], *options: str) -> Iterator[str]:
    yield "```{eval-rst}"
    yield f".. autoclass:: {kind.__module__}.{kind.__qualname__}()"
    for option in options:
        name, _, value = option.partition(": ")
        yield f"   :{name}: {value}"
    yield "```"


class Tables(Generated):
    """``tables``, see above."""

    def lines(self) -> Iterator[str]:
        rendered = [_definitions(dsn) for dsn in _DSNS.values()]
        models: list[type[Table]] = [*TABLES, Ledger]
        for model in models:
            name = model._meta.table_name
            yield f"\n## `{name}`\n"
            yield from _autoclass(model)
            yield from _columns(model, [tables[name] for tables in rendered])
            yield from _indexes(model)


_DSNS = {
    "SQLite": "sqlite://nowhere.db",
    "PostgreSQL": "postgres://nobody@nowhere/db",
    "MySQL, MariaDB": "mysql://nobody@nowhere/db",
}
"""A DSN of each kind of backend, to render types; no connection is made."""


def _definitions(dsn: str) -> dict[str, Definition]:
    return {definition.name: definition for definition in definitions(db_from_dsn(dsn))}


def _columns(model: type[Table], definitions: list[Definition]) -> Iterator[str]:
    yield f"\n| column | {' | '.join(_DSNS)} | notes |"
    yield f"| --- | {' | '.join('---' for _ in _DSNS)} | --- |"
    for position, field in enumerate(model._meta.sorted_fields):
        columns = [definition.columns[position] for definition in definitions]
        types = [column.type for column in columns]
        yield f"| `{field.column_name}` | {' | '.join(types)} | {', '.join(_notes(field))} |"


def _notes(field: peewee.Field[Any]) -> Iterator[str]:
    if field.primary_key:
        yield "primary key"
    if isinstance(field, peewee.ForeignKeyField):
        yield f"[`{field.rel_model._meta.table_name}`](#{_anchor(field.rel_model)})"
        yield "set to NULL" if field.on_delete == "SET NULL" else "deleted with it"
    if field.null:
        yield "may be NULL"
    if isinstance(field, EncryptedField):
        yield "encrypted"
    if any(each.digest == field.name for each in ENCRYPTED_FIELDS.get(field.model, ())):
        yield "digest, for lookups"
    if isinstance(field, MoneyField):
        yield "money"
    if isinstance(field, UtcDateTimeField):
        yield "time"
    for constraint in field.constraints or ():
        if isinstance(constraint, peewee.SQL):
            yield constraint.sql


def _anchor(model: type[Table]) -> str:
    return str(model._meta.table_name).replace("_", "-")


def _indexes(model: type[Table]) -> Iterator[str]:
    for index in INDEXES.get(model, ()):
        columns = ", ".join(
            f"`{name}`{' descending' if descends else ''}" for name, descends in index.columns
        )
        yield f"- {'Unique index' if index.unique else 'Index'} `{index.name}`: {columns}"


class DsnParameters(Generated):
    """``dsn-parameters``, see above; its argument is the backend, ``pool`` or ``refused``."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        (of,) = self.arguments
        yield "| parameter | value |"
        yield "| --- | --- |"
        if of == "refused":
            yield from (f"| `{name}` | {why} |" for name, why in REFUSED.items())
            return
        rules = dict([("pool", POOL), *RULES.items()])[of]
        for name, rule in rules.items():
            if rules is POOL or name not in POOL:
                yield f"| `{name}` | {rule.expected} |"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    for kind in registered(Storage).values():
        for name, method in list(vars(kind).items()):
            if (inner := getattr(method, "__wrapped__", None)) is not None:
                # Sphinx looks up the types of overloads in the module of the wrapper.
                inner.__doc__ = method.__doc__
                setattr(kind, name, inner)
    app.add_directive("repositories", Repositories)
    app.add_directive("tables", Tables)
    app.add_directive("dsn-parameters", DsnParameters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
