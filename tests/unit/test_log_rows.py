"""Rows of the logs: the types that callers see are those of the models' columns."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Required, get_origin, get_type_hints

import peewee
import pytest

from gproxy_storage.backends.bulk import Kind
from gproxy_storage.errors import InvalidValue
from gproxy_storage.fields import (
    BodyField,
    BooleanField,
    CharField,
    HeadersField,
    MoneyField,
    TextField,
    UtcDateTimeField,
)
from gproxy_storage.log_rows import (
    DOWNSTREAM_REQUESTS,
    LOGS,
    UPSTREAM_REQUESTS,
    USAGES,
    LogTable,
    keyword,
    row_check,
)
from gproxy_storage.models import Usage
from gproxy_storage.repositories.redaction import REDACTORS
from gproxy_storage.row_types import (
    Body,
    DownstreamRow,
    Headers,
    SubmittedDownstreamRow,
    UpstreamRow,
    UsageRow,
)
from tests.cases import for_each
from tests.support import sample_row

ROWS: list[tuple[LogTable, Any]] = [
    (USAGES, UsageRow),
    (UPSTREAM_REQUESTS, UpstreamRow),
    (DOWNSTREAM_REQUESTS, DownstreamRow),
    (DOWNSTREAM_REQUESTS, SubmittedDownstreamRow),
]
TYPES: dict[type[Any], tuple[str, Any]] = {
    BooleanField: ("bool", bool),
    TextField: ("str", str),
    CharField: ("str", str),
    UtcDateTimeField: ("datetime", datetime),
    MoneyField: ("Amount", Decimal | int | float | str),
    BodyField: ("Body", Body),
    HeadersField: ("Headers", Headers),
}
"""The type of a row's value, by its name in row_types.py; that of all other fields is int."""
AT = datetime(2026, 3, 4, tzinfo=UTC)


@for_each(("log", "row"), ROWS)
def test_a_row_has_the_columns_of_its_model(log: LogTable, row: Any) -> None:
    """The message is the line that row_types.py should have."""
    where = f"{row.__name__}, or a class that it extends, in row_types.py"
    hints, written = get_type_hints(row), get_type_hints(row, include_extras=True)
    for key in hints.keys() - set(map(keyword, log.arguments)):
        pytest.fail(f"{where}: remove `{key}`, which is no column of {log.bulk.name}")
    for name in log.arguments:
        field, key = log.model._meta.columns[name], keyword(name)
        may_be_none = field.null or name == "at" or callable(field.default)
        if field.primary_key:
            may_be_none = row is DownstreamRow
        text, taken = TYPES.get(type(field), ("int", int))
        if may_be_none:
            text, taken = f"{text} | None", taken | None
        if is_required := field.default is None and not may_be_none:
            text = f"Required[{text}]"
        assert key in hints, f"{where}: add `{key}: {text}`"

        must = get_origin(written[key]) is Required or key in row.__required_keys__
        fits = hints[key] == taken and must == is_required
        assert fits, f"{where}: it should be `{key}: {text}`"


class Late(peewee.Model):
    """A log with a column in the wrong place."""

    created_at = UtcDateTimeField()
    cache_tier = CharField(null=True)


def test_a_column_below_created_at_is_refused() -> None:
    model: Any = Late
    refused = r"^Late\.cache_tier is below created_at, .*: move it above created_at in models\.py$"
    with pytest.raises(TypeError, match=refused):
        LogTable.of(model, has_trace_id=False)


def test_values_are_given_by_name() -> None:
    """However the model orders its columns, each value reaches its own."""
    for log in LOGS:
        check = row_check(log, max_body_bytes=100, redactors={})
        given = sample_row(log)
        row = dict(zip(log.bulk.columns, check(**dict(reversed(given.items()))), strict=True))
        values = log.values(given, AT)
        for name in log.arguments:
            value = row[name]
            assert value == log.model._meta.columns[name].db_value(values[name]) or name == "at"


@for_each(
    ("log", "given", "message"),
    [
        (USAGES, "input_token", "usages have no input_token: did you mean 'input_tokens'?"),
        (USAGES, "userid", "usages have no userid: did you mean 'user_id'?"),
        (USAGES, "zzz", "usages have no zzz: correct its name, or leave it out"),
        (UPSTREAM_REQUESTS, "request_header", "did you mean 'request_headers'"),
    ],
)
def test_an_unknown_keyword_suggests_the_nearest(log: LogTable, given: str, message: str) -> None:
    required = {"request_method": "GET"} if log is UPSTREAM_REQUESTS else {}
    with pytest.raises(InvalidValue, match=message) as caught:
        row_check(log, max_body_bytes=9, redactors={})(**required, **{given: 1})
    assert caught.value.argument == given
    with pytest.raises(TypeError, match=rf"^record\(\) got an unexpected .*'{given}'"):
        log.values({**required, given: 1}, AT)


def test_a_missing_keyword_is_a_type_error() -> None:
    check = row_check(UPSTREAM_REQUESTS, max_body_bytes=9, redactors={})
    with pytest.raises(TypeError, match=r"^submit_upstream_request\(\) .*'request_method'$"):
        check()
    with pytest.raises(TypeError, match=r"^record\(\) missing .*'request_method'$"):
        UPSTREAM_REQUESTS.values({}, AT)


def test_a_cost_is_rounded_as_money_is() -> None:
    """Costs that are rounded already, their neighbours, and any others."""
    check, chance = row_check(USAGES, max_body_bytes=9, redactors={}), random.Random(7)
    for digits in range(16):
        for _ in range(200):
            rounded = chance.randrange(10**digits) / 1e9
            costs = [rounded, *(math.nextafter(rounded, to) for to in (0.0, 1e6)), rounded + 5e-10]
            for cost in (*costs, chance.uniform(0, 10 ** (digits - 9))):
                stored = check(cost=cost)[USAGES.bulk.columns.index("cost")]
                assert stored == Usage.cost.db_value(cost), cost


def test_a_usage_needs_neither_redaction_nor_a_limit_of_bytes() -> None:
    """For a sink checks it without them."""
    assert not REDACTORS.keys() & set(USAGES.arguments)
    assert not USAGES.bulk.of_kind(Kind.BYTES)
