"""GPROXY's ledger: which rows a database lacks, and which routing rules its third step drops."""

from __future__ import annotations

import json

import pytest

from gproxy_storage import Dsn
from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.key_management.gproxy import LEDGER, STEPS
from gproxy_storage.schema.ledger import without_realtime_rules
from gproxy_storage.schema.sync import plan, sync
from tests import servers
from tests.cases import for_each
from tests.schema.test_failures import as_reader
from tests.support import opened

REALTIME = (
    "openai_realtime_websocket",
    "realtime_client_secret_create",
    "realtime_call_accept",
    "realtime_call_create",
    "realtime_call_hangup",
    "realtime_call_refer",
    "realtime_call_reject",
)
KEPT = {"route": {"operation": "generate_content", "protocol": "openai"}}


def from_(operation: object) -> dict[str, object]:
    return {"implementation": "Passthrough", "route": {"operation": operation}}


def to(operation: object) -> dict[str, object]:
    implementation = {"TransformTo": {"destination": {"operation": operation}}}
    return {"implementation": implementation, "route": KEPT["route"]}


@for_each("operation", REALTIME)
@for_each("rule", [from_, to])
def test_a_rule_with_a_realtime_operation_is_dropped(rule: object, operation: str) -> None:
    assert callable(rule)
    table = {"z": [1, {"ä": 1.5}], "rules": [KEPT, rule(operation), KEPT], "a": None}
    stripped = without_realtime_rules(json.dumps(table))
    assert stripped is not None
    assert stripped == json.dumps(
        {**table, "rules": [KEPT, KEPT]}, ensure_ascii=False, separators=(",", ":")
    )
    assert without_realtime_rules(stripped) is None


@for_each(
    "table",
    [
        {},
        [],
        None,
        "rules",
        {"rules": []},
        {"rules": None},
        {"rules": {"route": {"operation": REALTIME[0]}}},
        [from_(REALTIME[0])],
        {"a": {"rules": [from_(REALTIME[0])]}},
        {"rules": [[from_(REALTIME[0])], REALTIME[0], None, 1, {}]},
        {"rules": [{"route": REALTIME[0]}, {"operation": REALTIME[0]}, {"route": None}]},
        {"rules": [from_("realtime_call_future"), from_("openai_realtime_websockets"), to("x")]},
        {"rules": [from_(REALTIME[0].upper()), from_([REALTIME[0]]), from_({REALTIME[0]: 1})]},
        {"rules": [{"implementation": {"Other": {"destination": {"operation": REALTIME[0]}}}}]},
        {"rules": [{"implementation": {"TransformTo": REALTIME[0]}}]},
    ],
)
def test_similar_routing_rules_are_kept(table: object) -> None:
    assert without_realtime_rules(json.dumps(table)) is None


@for_each("text", ["", "{", '{"rules": [', "[" * 100_000])
def test_invalid_json_is_kept(text: str) -> None:
    assert without_realtime_rules(text) is None


def test_a_new_database_has_all_rows(empty: Backend) -> None:
    first, second, *_ = plan(empty).steps  # before any table could have rows
    assert (first.table, second.table) == (LEDGER, LEDGER)
    assert second.sql.startswith("INSERT ")
    sync(empty)
    with session(empty):
        rows = empty.query(f"SELECT version, applied_at FROM {LEDGER} ORDER BY version")
    assert rows == [(step, 0) for step in STEPS]
    assert not plan(empty).drift


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_role_that_may_not_read_the_ledger_starts(empty: Backend, server: servers.Server) -> None:
    """One with rights on our tables only. (MySQL and MariaDB do not show it the table.)"""
    sync(empty)
    with as_reader(server, empty.database) as dsn:
        role = Dsn.parse(dsn).user
        server.execute(f"REVOKE ALL ON {LEDGER} FROM {role}", database=empty.database)
        with opened(dsn) as reader:
            assert not sync(reader)
            assert not plan(reader).drift
