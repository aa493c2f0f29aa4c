"""Rows for bulk writing: refused by the rules of the models' fields, stored as the models store."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.backends.bulk import Kind
from gproxy_storage.errors import InvalidValue
from gproxy_storage.fields import BytesField, HeadersField, UtcDateTimeField
from gproxy_storage.log_rows import DOWNSTREAM_REQUESTS, LOGS, USAGES, LogTable, keyword, row_check
from gproxy_storage.models import DownstreamRequest, Provider, Usage, User
from tests.cases import for_each
from tests.contract.support import NOW, insert, rows_of
from tests.support import assert_query_count
from tests.values import (
    DOCUMENTS,
    EVERY_BYTE,
    INT32,
    INT64,
    MONEY,
    NAMES,
    TIMES,
    nested,
)

MAX_BODY_BYTES = 1000

GOOD: dict[type[peewee.Field[Any]], list[Any]] = {
    # Not the largest: SQLite and MySQL would generate no other after it.
    peewee.BigAutoField: [1, 2**40],
    peewee.BigIntegerField: INT64,
    peewee.IntegerField: INT32,
    peewee.DoubleField: [given for given, read in MONEY if -1 < Decimal(read) < 10**6],
    peewee.BooleanField: [True, False],
    peewee.TextField: [*NAMES, "", "x" * 70_000, "\t\\N\t\\.\r\n", "\\N", "a\\tb"],
    BytesField: [b"", EVERY_BYTE, b"\\x00\\'\t\n", bytearray(EVERY_BYTE), memoryview(EVERY_BYTE)],
    HeadersField: [
        *({"a": document} for document in DOCUMENTS),
        *(nested(31, dict), {"a\\b\tc": "d\\n\n\\"}, [], [["a", "b", "c"], ("a", "b")]),
    ],
    UtcDateTimeField: TIMES,
}
BAD: dict[type[peewee.Field[Any]], list[Any]] = {
    peewee.BigAutoField: [2**63, "1", True, 1.0],
    peewee.ForeignKeyField: [2**63, "1", True, 1.0],
    peewee.BigIntegerField: [2**63, -(2**63) - 1, "1", True, 1.0, math.nan],
    peewee.IntegerField: [2**31, "1", False, 1.0],
    peewee.DoubleField: [math.nan, math.inf, -math.inf, True, "one", 10**400, 1_000_001, 1e300],
    peewee.BooleanField: [1, 0, "false", "0"],
    peewee.TextField: [1, b"x", "a\0", "\ud800"],
    BytesField: ["text", 1, [1]],
    HeadersField: [
        *(math.nan, {"a": 2**63}, {1: 2}, [["\0", "a"]], nested(32, dict), {"a": b""}, "a: b", 1),
        *(["a", "b"], [["a: b"]], [{"a": "b"}], [[{"a": "b"}, "c"]]),
    ],
    UtcDateTimeField: [
        NOW.replace(tzinfo=None),
        NOW.isoformat(),
        NOW.date(),
        datetime.min.replace(tzinfo=TIMES[8].tzinfo),
        1,
    ],
}


def check_of(log: LogTable) -> Callable[..., tuple[Any, ...]]:
    return row_check(log, max_body_bytes=MAX_BODY_BYTES, redactors={})


def defaults(log: LogTable) -> dict[str, Any]:
    """The least that a row of a log needs."""
    samples = {Kind.NUMBER: 1, Kind.BOOL: True, Kind.TEXT: "", Kind.TIME: NOW, Kind.BYTES: b""}
    fields = log.model._meta.columns
    kinds = dict(zip(log.bulk.columns, log.bulk.kinds, strict=True))
    return {
        name: None
        if fields[name].null
        else ({} if isinstance(fields[name], HeadersField) else samples[kinds[name]])
        for name in log.arguments
        if name != "trace_id"
    }


def keywords(log: LogTable, given: dict[str, Any]) -> dict[str, Any]:
    """Return values by column as a caller gives them."""
    return {keyword(name): given.get(name) for name in log.arguments}


def columns_of(kind: type[peewee.Field[Any]]) -> list[tuple[LogTable, str]]:
    return [
        (log, name)
        for log in LOGS
        for name in log.arguments
        if _is(log.model._meta.columns[name], kind)
    ]


def _is(field: peewee.Field[Any], kind: type[peewee.Field[Any]]) -> bool:
    if kind is peewee.IntegerField:  # which the big ones are in Peewee
        return type(field).__mro__[1] is kind
    return isinstance(field, kind)


def at_least_zero(name: str) -> bool:
    return name == "cost" or "tokens" in name or "latency" in name


@for_each("kind", list(GOOD))
def test_good_values_are_stored_as_the_models_store_them(
    storage: Storage, kind: type[peewee.Field[Any]]
) -> None:
    for log, name in columns_of(kind):
        check = check_of(log)
        model, rows, expected = log.model, [], []
        with storage.transaction() as _:
            for number, value in enumerate(GOOD[kind]):
                if at_least_zero(name) and Decimal(value) < 0:
                    continue
                base = {} if log is not DOWNSTREAM_REQUESTS else {"trace_id": number + 1}
                given = {**defaults(log), **base, name: value}
                rows.append(check(**keywords(log, given)))
                created = model(**given, created_at=NOW)
                created.save(force_insert=True)
                expected.append(created.get_id())
            stored = [row[0] for row in rows_of(model, name)]
            model.delete().execute()
            storage.database.bulk_insert(log.bulk, rows)
            assert [row[0] for row in rows_of(model, name)] == stored
            model.delete().execute()


@for_each("kind", list(BAD))
def test_bad_values_are_refused_as_the_models_refuse_them(kind: type[peewee.Field[Any]]) -> None:
    for log, name in columns_of(kind):
        check = check_of(log)
        field = log.model._meta.columns[name]
        for value in BAD[kind]:
            given = {**defaults(log), "trace_id": 1, name: value}
            with pytest.raises(InvalidValue) as ours:
                check(**keywords(log, given))
            with pytest.raises(InvalidValue) as theirs:
                field.db_value(value)
            assert str(ours.value) == str(theirs.value)
            assert ours.value.argument == name


def test_what_the_models_leave_to_the_database_is_refused_at_once() -> None:
    for log in LOGS:
        check = check_of(log)
        for name in log.arguments:
            field = log.model._meta.columns[name]
            if field.null or name == "at" or callable(field.default):
                continue
            given = {**defaults(log), "trace_id": 1, name: None}
            with pytest.raises(InvalidValue, match=rf"^{name} must not be None$"):
                check(**keywords(log, given))


def test_negative_counts_and_long_bodies_are_refused() -> None:
    for log in LOGS:
        check = check_of(log)
        for name in log.arguments:
            value: Any = -1 if at_least_zero(name) else b"x" * (MAX_BODY_BYTES + 1)
            if not (at_least_zero(name) or name.endswith("_body")):
                continue
            given = {**defaults(log), "trace_id": 1}
            for bad in (value, float(value)) if name == "cost" else (value,):
                with pytest.raises(InvalidValue, match=name):
                    check(**keywords(log, {**given, name: bad}))
            if name.endswith("_body"):
                fits = {**given, name: value[:MAX_BODY_BYTES]}
                check(**keywords(log, fits))


def test_a_row_keeps_nothing_of_the_callers() -> None:
    check = check_of(DOWNSTREAM_REQUESTS)
    body, headers = bytearray(b"body"), {"a": ["b"]}
    given = {
        **defaults(DOWNSTREAM_REQUESTS),
        "trace_id": 1,
        "request_body": body,
        "request_headers_json": headers,
    }
    row = check(**keywords(DOWNSTREAM_REQUESTS, given))
    body[:], headers["a"] = b"DONE", []

    assert b"body" in row
    assert '{"a":["b"]}' in row


def test_many_rows_are_few_statements(storage: Storage) -> None:
    check = check_of(USAGES)
    with storage.session():
        user = insert(User)
        provider = insert(Provider)
    given = {**defaults(USAGES), "user_id": user.id, "provider_id": provider.id, "at": NOW}
    rows = [
        check(**keywords(USAGES, {**given, "at": NOW + timedelta(seconds=n)})) for n in range(1000)
    ]
    most = 4 if storage.database.name == "sqlite" else 1
    with storage.session(), assert_query_count(storage.database, most):
        storage.database.bulk_insert(USAGES.bulk, rows)
    with storage.session():
        assert Usage.select().count() == 1000
        assert Usage.select().where(Usage.user == user, Usage.provider == provider).count() == 1000


def test_a_large_row(storage: Storage) -> None:
    """Over PyMySQL's own length of a statement, and over a COPY's chunk."""
    check = row_check(DOWNSTREAM_REQUESTS, max_body_bytes=10**7, redactors={})
    body = EVERY_BYTE * 12_000
    given = {**defaults(DOWNSTREAM_REQUESTS), "request_body": body}
    rows = [check(**keywords(DOWNSTREAM_REQUESTS, {**given, "trace_id": n})) for n in (1, 2)]
    with storage.session():
        storage.database.bulk_insert(DOWNSTREAM_REQUESTS.bulk, rows)
        assert rows_of(DownstreamRequest, "request_body") == [(body,), (body,)]
