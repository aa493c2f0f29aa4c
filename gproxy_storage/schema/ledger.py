"""GPROXY's migrations: those that its ledger lacks are done here and recorded in it.

GPROXY would run them when it starts, and on PostgreSQL fail. Of the four steps, a rename and a new
column are part of our schema, and dropping `models.alias_of` is not wanted. The last one deletes
routing rules of operations that GPROXY no longer has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from ..backends.base import Backend
from ..key_management.gproxy import LEDGER, STEPS

_REALTIME = frozenset(
    {
        "openai_realtime_websocket",
        "realtime_client_secret_create",
        "realtime_call_accept",
        "realtime_call_create",
        "realtime_call_hangup",
        "realtime_call_refer",
        "realtime_call_reject",
    }
)

STRIP_SQL = "UPDATE providers SET routing_json = ? WHERE id = ?"
"""The statement that `strip_realtime_rules` executes for each provider with such rules."""


def missing_steps(versions: Collection[str] | None) -> list[str]:
    """Return the steps that a ledger lacks, in GPROXY's order.

    Empty for a ledger that cannot be read: then it cannot be written either.
    """
    return [] if versions is None else [step for step in STEPS if step not in versions]


def insert_sql(missing: Collection[str]) -> str:
    """Return the INSERT that records steps in the ledger; those done here have the date 0."""
    rows = ", ".join(f"('{step}', 0)" for step in missing)
    return f"INSERT INTO {LEDGER} (version, applied_at) VALUES {rows}"  # noqa: S608 - our own names


def strip_realtime_rules(database: Backend) -> None:
    """Delete the routing rules whose source or destination is a realtime operation.

    In one transaction; providers without such rules are not written.
    """
    select = f"SELECT id, CAST(routing_json AS {database.json_text}) FROM providers"  # noqa: S608 - a constant
    with database.atomic():
        for provider_id, text in database.query(f"{select} {database.exclusive_lock}".rstrip()):
            stripped = without_realtime_rules(text)
            if stripped is not None:
                sql = STRIP_SQL.replace("?", database.param)
                database.execute_sql(sql, (stripped, provider_id))


def without_realtime_rules(text: str) -> str | None:
    """Return a routing table's JSON without these rules; None if it has none, or is not JSON."""
    try:
        table = json.loads(text)
        rules = table.get("rules") if isinstance(table, dict) else None
        if not isinstance(rules, list):
            return None
        kept = [rule for rule in rules if _REALTIME.isdisjoint(_operations(rule))]
        if len(kept) == len(rules):
            return None
        return json.dumps(
            {**table, "rules": kept}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
    except (RecursionError, ValueError):
        return None


def _operations(rule: Any) -> Iterator[str]:
    for path in (("route",), ("implementation", "TransformTo", "destination")):
        found = rule
        for name in (*path, "operation"):
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, str):
            yield found
