"""What the fields refuse, and what they give to the drivers; without a database."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import peewee
import pytest

from gproxy_storage.errors import InvalidValue, ReadError
from gproxy_storage.fields import (
    MAX_JSON_DEPTH,
    MAX_JSON_KEY_BYTES,
    BigIntegerField,
    IntegerField,
    JSONField,
)
from gproxy_storage.models import (
    CredentialStatus,
    DownstreamRequest,
    Provider,
    Usage,
    User,
    UserQuota,
    UserRateLimit,
)
from gproxy_storage.repositories.arguments import require_id
from tests.cases import for_each
from tests.values import (
    DOCUMENTS,
    EVERY_BYTE,
    INT32,
    INT64,
    NAMES,
    TIMES,
    TOKYO,
    nested,
)

NAIVE = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 - what must be refused


class Undecided(tzinfo):
    """A zone that does not know its offset: times in it are as good as naive."""

    def utcoffset(self, dt: datetime | None) -> None: ...
    def dst(self, dt: datetime | None) -> None: ...
    def tzname(self, dt: datetime | None) -> None: ...


LOOP: list[Any] = []
LOOP.append(LOOP)

REFUSED = [
    (CredentialStatus.checked_at, NAIVE, "no time zone"),
    (CredentialStatus.checked_at, NAIVE.replace(tzinfo=Undecided()), "no time zone"),
    (CredentialStatus.checked_at, datetime(1, 1, 1, tzinfo=TOKYO), "years 1 to 9999"),
    (
        CredentialStatus.checked_at,
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))),
        "years 1 to 9999",
    ),
    (CredentialStatus.checked_at, date(2026, 3, 4), "must be a datetime, not date"),
    (CredentialStatus.checked_at, "2026-03-04T05:06:07Z", "must be a datetime, not str"),
    (CredentialStatus.checked_at, 1.5, "must be a datetime, not float"),
    *(
        (field, value, why)
        for field in (User.name, DownstreamRequest.request_path)
        for value, why in [
            ("a\0b", "NUL"),
            ("a\ud800b", "lone surrogate"),
            ("\udfff", "lone surrogate"),
            (b"bytes", "must be a str, not bytes"),
            (1, "must be a str, not int"),
        ]
    ),
    (User.name, "x" * 256, "has 256 characters; its column takes 255"),
    (User.name, "😀" * 256, "has 256 characters; its column takes 255"),
    *((UserRateLimit.rpm, n, "must be between -2147483648 and") for n in (2**31, -(2**31) - 1)),
    *(
        (field, n, "must be between -9223372036854775808 and 9223372036854775807")
        for field in (UserRateLimit.total_tokens, User.id, Usage.user)
        for n in (2**63, -(2**63) - 1, 2**70)
    ),
    *(
        (field, value, "must be an int, not ")
        for field in (UserRateLimit.rpm, UserRateLimit.total_tokens, User.id)
        for value in (True, 1.0, "1", math.nan)
    ),
    (Usage.user, "1", "must be an int, not str"),
    *((UserQuota.quota, n, "must be finite") for n in (math.nan, math.inf, -math.inf)),
    *((UserQuota.quota, n, "must be finite") for n in ("NaN", "-inf", Decimal("sNaN"))),
    *((UserQuota.quota, n, "must be at most 9000000000") for n in (10**400, 9e9 + 1, "1e1000000")),
    (UserQuota.quota, -(10**400), "must be >= -9000000000"),
    *((UserQuota.quota, value, "must be a number, for example") for value in ("one", "", "1,5")),
    *((UserQuota.quota, value, "must be a Decimal, an int,") for value in (True, b"1", 1j)),
    *((Usage.cost, n, "must be at most 1000000") for n in (1_000_001, 1_000_000.0000000001)),
    *((User.is_admin, value, "must be a bool, not ") for value in (0, 1, "false", "", 1.0)),
    *(
        (DownstreamRequest.request_body, value, "must be bytes, not ")
        for value in ("text", 1, [1, 2])
    ),
    *(
        (Provider.settings_json, value, why)
        for value, why in [
            ([2**63], "64 bits"),
            ({"a": -(2**63) - 1}, "64 bits"),
            (math.nan, "NaN or infinity"),
            ([-math.inf], "NaN or infinity"),
            ({1: 2}, "must be a str, not int"),
            ({None: 2}, "must be a str, not NoneType"),
            ({"a\0": 1}, "NUL"),
            (["\0"], "NUL"),
            (["\ud800"], "surrogate"),
            ({"k" * (MAX_JSON_KEY_BYTES + 1): 1}, "key of more than 65535 bytes"),
            ({"\u20ac" * 30_000: 1}, "key of more than 65535 bytes"),
            ({1, 2}, "holds a set"),
            (b"{}", "holds a bytes"),
            (TIMES[0], "holds a datetime"),
            (nested(MAX_JSON_DEPTH + 1, list), "deeper than 31 levels"),
            (nested(MAX_JSON_DEPTH + 1, dict), "deeper than 31 levels"),
            (nested(100_000, list), "deeper than 31 levels"),
            (LOOP, "contains itself"),
        ]
    ),
]


def assert_carries_nothing(error: BaseException) -> None:
    """Fail where an error rides along that is shown, or that holds the value though it is not."""
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    assert not isinstance(error.__context__, UnicodeError | json.JSONDecodeError)


@for_each(("field", "value", "why"), REFUSED)
def test_what_is_no_value_of_a_field_is_refused(
    field: peewee.Field[Any], value: object, why: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        field.db_value(value)

    message = str(caught.value)
    assert why in message
    assert message == " ".join(message.split())
    assert message.startswith(f"{caught.value.argument} ")
    assert_carries_nothing(caught.value)


@for_each(
    ("field", "values"),
    [
        (User.name, NAMES),
        (DownstreamRequest.request_path, ["", *NAMES, "x" * 70_000]),
        (UserRateLimit.rpm, INT32),
        (UserRateLimit.total_tokens, INT64),
        (User.id, INT64),
        (UserQuota.quota, [0.0, 0.1, -0.1, 1e-9, 1234.56789, 9e9, -9e9]),
        (User.is_admin, [True, False]),
    ],
)
def test_valid_values_are_stored_unchanged(field: peewee.Field[Any], values: list[Any]) -> None:
    assert [field.db_value(value) for value in values] == values


@for_each(
    "field",
    [
        *(User.name, User.id, User.is_admin, User.created_at, DownstreamRequest.request_path),
        *(UserRateLimit.rpm, UserRateLimit.total_tokens, UserQuota.quota, Usage.user),
        *(DownstreamRequest.request_body, CredentialStatus.health_json),
    ],
)
def test_none_is_null(field: peewee.Field[Any]) -> None:
    assert field.db_value(None) is None
    assert field.python_value(None) is None


def test_times_become_utc() -> None:
    given = [CredentialStatus.checked_at.db_value(at) for at in TIMES]

    assert given == TIMES
    assert {at.tzinfo for at in given} == {UTC}


@for_each("wrap", [bytes, bytearray, memoryview])
def test_bytes_are_read_from_every_driver(wrap: Any) -> None:
    found = DownstreamRequest.request_body.python_value(wrap(EVERY_BYTE))

    assert type(found) is bytes
    assert found == EVERY_BYTE


@for_each("document", DOCUMENTS)
def test_json_is_compact_text(document: Any) -> None:
    text = Provider.settings_json.db_value(document)

    assert isinstance(text, str)
    assert "\n" not in text
    assert Provider.settings_json.python_value(text) == document


@for_each("text", ["{", "", "nul", "{'a': 1}", "[" * 100_000])
def test_what_is_no_json_is_not_read(text: str) -> None:
    with pytest.raises(
        ReadError, match=r"^providers\.settings_json holds a value that is not JSON$"
    ) as caught:
        Provider.settings_json.python_value(text)

    assert_carries_nothing(caught.value)


def test_a_subclass_of_int_is_checked_as_an_int() -> None:
    """`in range(...)` walks to find one: 2**31 steps for a status that is an enum's member."""
    stored = IntegerField().db_value(HTTPStatus.OK)
    assert stored == 200
    assert type(stored) is int  # PyMySQL knows no other
    assert BigIntegerField().db_value(HTTPStatus.NOT_FOUND) == 404
    assert JSONField().db_value([HTTPStatus.OK]) == "[200]"
    assert require_id("id", HTTPStatus.OK) == 200
