"""The settings of every SQLite connection, however the library was compiled."""

from __future__ import annotations

from typing import Final

PRAGMAS: Final = {
    "case_sensitive_like": "off",
    "count_changes": "off",
    "defer_foreign_keys": "off",
    "empty_result_callbacks": "off",
    "foreign_keys": "on",
    "full_column_names": "off",
    "ignore_check_constraints": "off",
    "legacy_alter_table": "off",
    "locking_mode": "normal",
    "query_only": "off",
    "read_uncommitted": "off",
    "recursive_triggers": "off",
    "reverse_unordered_selects": "off",
    "short_column_names": "on",
    "writable_schema": "off",
}
"""Every connection's settings; SQLite ignores those that it does not know."""

SCRIPT: Final = "; ".join(f"PRAGMA {name} = {value}" for name, value in PRAGMAS.items())
