"""Rows of the logs: the types that callers see are those of the models' columns."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType
from typing import Any, Required, get_args, get_origin, get_type_hints

import pytest

from gproxy_storage.errors import InvalidValue
from gproxy_storage.fields import (
    BodyField,
    BooleanField,
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
from gproxy_storage.row_types import (
    Body,
    DownstreamRow,
    Headers,
    SubmittedDownstreamRow,
    UpstreamRow,
    UsageRow,
)
from tests.cases import for_each

ROWS: list[tuple[LogTable, Any]] = [
    (USAGES, UsageRow),
    (UPSTREAM_REQUESTS, UpstreamRow),
    (DOWNSTREAM_REQUESTS, DownstreamRow),
    (DOWNSTREAM_REQUESTS, SubmittedDownstreamRow),
]
TYPES = {
    BooleanField: {bool},
    TextField: {str},
    UtcDateTimeField: {datetime},
    MoneyField: {Decimal, int, float, str},
    BodyField: set(get_args(Body)),
    HeadersField: set(get_args(Headers)),
}
AT = datetime(2026, 3, 4, tzinfo=UTC)


@for_each(("log", "row"), ROWS)
def test_a_row_has_the_columns_of_its_model(log: LogTable, row: Any) -> None:
    hints, written = get_type_hints(row), get_type_hints(row, include_extras=True)
    assert sorted(hints) == sorted(map(keyword, log.arguments))
    for name in log.arguments:
        field = log.model._meta.columns[name]
        taken = set(get_args(hints[keyword(name)])) or {hints[keyword(name)]}
        may_be_none = field.null or name == "at" or callable(field.default)
        if field.primary_key:
            may_be_none = row is DownstreamRow
        assert (NoneType in taken) == may_be_none, name
        assert taken - {NoneType} == TYPES.get(type(field), {int}), name

        is_required = field.default is None and not may_be_none
        must = get_origin(written[keyword(name)]) is Required or name in row.__required_keys__
        assert must == is_required, name


def test_values_are_given_by_name() -> None:
    """However the model orders its columns, each value reaches its own."""
    for log in LOGS:
        check = row_check(log, max_body_bytes=100, redactors={})
        given: dict[str, Any] = {}
        for number, name in enumerate(log.arguments):
            match log.model._meta.columns[name]:
                case TextField():
                    given[keyword(name)] = name
                case BodyField():
                    given[keyword(name)] = name.encode()
                case BooleanField():
                    given[keyword(name)] = True
                case HeadersField():
                    given[keyword(name)] = {"name": name}
                case UtcDateTimeField():
                    given[keyword(name)] = AT
                case _:
                    given[keyword(name)] = number + 1
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
