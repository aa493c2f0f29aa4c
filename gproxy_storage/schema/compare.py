"""Compares a live table with its declaration: what is missing, incompatible, narrower or extra.

By definition, never by name: an index with the same columns but another name will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..backends.widths import Shortfall
from .definitions import Column, Definition, ForeignKey, IndexDefinition
from .retired import RETIRED, RetiredIndex
from .snapshot import LiveColumn, LiveForeignKey, LiveIndex, LiveTable

_Named = IndexDefinition | ForeignKey


class Comparison:
    """The differences between a live table, or None, and its definition.

    Attributes:
        new_columns, new_indexes, new_foreign_keys: what an existing table lacks and can be added.
        retired: indexes of earlier releases that it still has.
        narrow: the columns that are narrower than declared, with the shortfall of each.
        widen_clauses: the ALTER TABLE clauses for those of them that can be changed.
        missing, incompatible, narrower, extra: the differences of each level, for people.
    """

    def __init__(
        self,
        definition: Definition,
        live: LiveTable | None,
        occupied: Mapping[str, Sequence[str]],
    ) -> None:
        self.new_columns: list[Column] = []
        self.new_indexes: list[IndexDefinition] = []
        self.new_foreign_keys: list[ForeignKey] = []
        self.retired: list[RetiredIndex] = []
        self.narrow: dict[str, Shortfall] = {}
        self.widen_clauses: dict[str, str] = {}
        self.missing: list[str] = []
        self.incompatible: list[str] = []
        self.narrower: list[str] = []
        self.extra: list[str] = []
        self._definition = definition
        self._occupied = occupied
        if live is None:
            self.missing.append("the table")
            names: list[_Named] = [*definition.indexes, *definition.foreign_keys]
            for wanted in names:
                self._refuse_occupied(wanted, live)
        elif live.kind != "table":
            article = "an" if live.kind[0] in "AEIOaeio" else "a"
            self.incompatible.append(f"{article} {live.kind} has the name of the table")
        else:
            self._compare_columns(live)
            key, declared = live.primary_key, definition.primary_key
            if key != declared:
                self.incompatible.append(
                    f"the primary key is ({', '.join(key)}), not ({', '.join(declared)})"
                )
            self._compare_indexes(live)
            self._compare_foreign_keys(live)

    # -- columns ------------------------------------------------------------------------------

    def _compare_columns(self, live: LiveTable) -> None:
        for column in self._definition.columns:
            there = live.columns.get(column.name)
            if there is not None:
                self.incompatible += _column_problems(column, there)
            elif column.addable:
                self.new_columns.append(column)
                self.missing.append(f"column {column.name}")
            else:
                self.incompatible.append(
                    f"column {column.name} is missing, and is NOT NULL without a default: existing "
                    "rows would have no value for it"
                )
        self._compare_widths(live)
        self._compare_collations(live)
        wanted = {column.name for column in self._definition.columns}
        for name, there in live.columns.items():
            if name in wanted:
                continue
            if there.nullable or there.has_default or there.generated or there.auto_increment:
                self.extra.append(f"column {there.name} ({there.type})")
            else:
                self.incompatible.append(
                    f"column {there.name} is unknown and is NOT NULL without a default: every "
                    "insert would fail"
                )

    def _compare_widths(self, live: LiveTable) -> None:
        groups: dict[str, list[str]] = {}
        for column in self._definition.columns:
            there = live.columns.get(column.name)
            if there is None or there.shortfall is None or _column_problems(column, there):
                continue
            self.narrow[column.name] = there.shortfall
            what = f"{there.type}, not {column.type}: {there.shortfall.cost}"
            obstacle = self._widening_obstacle(column, live)
            if obstacle:
                what += f"; {obstacle}"
            else:
                self.widen_clauses[column.name] = there.widen_clause
            groups.setdefault(what, []).append(column.name)
        self.narrower = [f"{', '.join(names)}: {what}" for what, names in groups.items()]

    def _widening_obstacle(self, column: Column, live: LiveTable) -> str | None:
        keys = {key.column for key in self._definition.foreign_keys}
        if column.primary_key or column.name in keys:
            return "change it by hand, with the keys that refer to it"
        if not column.indexable:
            for index in live.indexes:
                if not index.prefix and column.name in (name for name, _ in index.columns):
                    return f"index {index.name} prevents that: drop it first"
        return None

    def _compare_collations(self, live: LiveTable) -> None:
        names: dict[str, list[str]] = {}
        for column in self._definition.columns:
            there = live.columns.get(column.name)
            if there is not None and column.families == {"text"}:
                names.setdefault(there.collation, []).append(column.name)
        declared = self._definition.collation
        names.pop(declared or "", None)
        self.extra += [
            f"text in {', '.join(columns)} compares by {collation}"
            + (f", not {declared}" if declared else "")
            + ": texts that differ in case or accents may be treated as equal"
            for collation, columns in names.items()
        ]

    # -- indexes ------------------------------------------------------------------------------

    def _compare_indexes(self, live: LiveTable) -> None:
        serving: set[str] = set()
        for index in self._definition.indexes:
            names = [name for name, _ in index.columns]
            alike = [one for one in live.indexes if [name for name, _ in one.columns] == names]
            serves = {there.name for there in alike if _serves(there, index)}
            serving |= serves
            if serves:
                continue
            unenforced = (one for one in alike if one.unique and (one.prefix or not one.valid))
            if index.unique and (there := next(unenforced, None)):
                self.incompatible.append(
                    f"unique index {there.name} "
                    + ("covers only a prefix" if there.prefix else "is INVALID: drop it")
                )
            elif not self._refuse_occupied(index, live):
                self.new_indexes.append(index)
                kind = "unique index" if index.unique else "index"
                self.missing.append(f"{kind} on {', '.join(names)}")
        # InnoDB adds an index for each foreign key automatically.
        serving |= {
            there.name
            for there in live.indexes
            for key in self._definition.foreign_keys
            if [name for name, _ in there.columns] == [key.column] and not there.unique
        }
        for there in live.indexes:
            if there.name not in serving and not there.primary:
                retired = [index for index in RETIRED if index.is_(live.name, there)]
                self.retired += retired
                kind = "unique index" if there.unique else "index"
                action = ", which sync drops" if retired else ""
                self.extra.append(f"{kind} {there.name}{action}")

    def _refuse_occupied(self, wanted: _Named, live: LiveTable | None) -> bool:
        """Report it when another object has the name that an index or foreign key would get."""
        anywhere = isinstance(wanted, ForeignKey) == self._definition.one_alter
        holders = [
            # Not of a missing table: it was created while the schema was read.
            holder
            for holder in self._occupied.get(wanted.name, ())
            if (live is not None if holder == self._definition.name else anywhere)
        ]
        if holders:
            self.incompatible.append(
                f"the name {wanted.name} is taken by another object ({', '.join(holders)}): "
                "rename or drop that"
            )
        return bool(holders)

    # -- foreign keys -------------------------------------------------------------------------

    def _compare_foreign_keys(self, live: LiveTable) -> None:
        for key in self._definition.foreign_keys:
            there = [one for one in live.foreign_keys if one.columns == (key.column,)]
            if there:
                for one in there:
                    self.incompatible += _foreign_key_problems(key, one)
            elif key.column in live.columns and not self._definition.can_add_foreign_keys:
                self.incompatible.append(
                    f"column {key.column} has no foreign key to {key.target}, and this database "
                    "cannot add one to an existing column"
                )
            elif not self._refuse_occupied(key, live):
                self.new_foreign_keys.append(key)
                self.missing.append(f"foreign key of {key.column} to {key.target}")
        wanted = {(key.column,) for key in self._definition.foreign_keys}
        self.extra += [
            f"foreign key {one.name}" for one in live.foreign_keys if one.columns not in wanted
        ]


def _column_problems(column: Column, there: LiveColumn) -> list[str]:
    name = f"column {column.name}"
    if there.family not in column.families:
        return [
            f"{name} is of {f'type {there.type}' if there.type else 'no type'}, not {column.type}"
        ]
    if there.generated:
        return [f"{name} is generated, against the model"]
    if column.primary_key:
        if column.auto_increment and not there.auto_increment:
            return [f"{name} generates no keys"]
        return []
    if there.nullable != column.nullable:
        return [
            f"{name} is {'NULL' if there.nullable else 'NOT NULL'}, against the model's "
            f"{'NULL' if column.nullable else 'NOT NULL'}"
        ]
    return []


def _serves(there: LiveIndex, index: IndexDefinition) -> bool:
    """Whether a live index of the same columns can stand for the wanted one."""
    if not there.valid or there.partial or there.prefix:
        return False
    if index.unique:
        return there.unique  # in any direction
    directions = {
        live_desc == wanted_desc
        for (_, live_desc), (_, wanted_desc) in zip(there.columns, index.columns, strict=True)
    }
    return len(directions) == 1  # all the same, or all reversed


def _foreign_key_problems(key: ForeignKey, there: LiveForeignKey) -> list[str]:
    where = f"the foreign key {there.name} of {key.column}"
    if there.target != key.target or there.target_columns not in ((), (key.target_column,)):
        target = ", ".join(there.target_columns) or "its primary key"
        return [f"{where} points to {there.target} ({target}), not to {key.target}"]
    if there.on_delete and there.on_delete != key.on_delete:
        return [f"{where} is ON DELETE {there.on_delete}, not ON DELETE {key.on_delete}"]
    if not there.valid:
        return [f"{where} is NOT VALID: rows may refer to missing rows; validate it"]
    return []
