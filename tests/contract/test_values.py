"""Each type of field gives back what it was given, on every backend."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError, InvalidValue
from gproxy_storage.fields import MAX_JSON_DEPTH, MAX_JSON_KEY_BYTES
from gproxy_storage.models import (
    CredentialStatus,
    DownstreamRequest,
    Provider,
    Table,
    User,
    UserQuota,
    UserRateLimit,
)
from tests.contract.support import NOW, insert
from tests.values import (
    DOCUMENTS,
    EVERY_BYTE,
    INT32,
    INT64,
    MONEY,
    NAMES,
    TIMES,
    TOKYO,
    nested,
)


def round_trips(
    storage: Storage, model: type[Table], column: str, values: Iterable[Any]
) -> list[Any]:
    """Store each value in a row of its own and return what is read back, in order."""
    with storage.session():
        keys = [insert(model, **{column: value}).get_id() for value in values]
        return [getattr(model.get_by_id(key), column) for key in keys]


def test_a_refused_value_leaves_nothing(storage: Storage) -> None:
    """What each field refuses, and why, is tested without a database: tests/unit/test_fields.py."""
    with pytest.raises(InvalidValue, match="rpm must be between") as caught:
        with storage.transaction():
            insert(UserRateLimit, rpm=2**31)

    assert caught.value.argument == "rpm"
    counts = storage.row_counts()
    assert counts.pop("encryption_keys") == 1
    assert not any(counts.values())


# -- times --------------------------------------------------------------------------------------


def test_times_come_back_as_utc(storage: Storage) -> None:
    found = round_trips(storage, CredentialStatus, "checked_at", TIMES)

    assert found == TIMES
    assert {at.tzinfo for at in found} == {UTC}


def test_times_sort_and_compare(storage: Storage) -> None:
    times = [
        NOW.replace(microsecond=microsecond) + timedelta(seconds=second)
        for second in (-1, 0, 1)
        for microsecond in (0, 1, 100_000, 999_999)
    ]
    with storage.session():
        for at in reversed(times):
            insert(CredentialStatus, checked_at=at)
        column = CredentialStatus.checked_at
        query = CredentialStatus.select().order_by(column)
        assert [row.checked_at for row in query] == times
        for bound in times:
            local = bound.astimezone(TOKYO)
            assert query.where(column >= local).count() == len([t for t in times if t >= bound])
            assert query.where(column < local).count() == len([t for t in times if t < bound])
            assert query.where(column == local).count() == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("digits", range(10))
def test_times_as_sqlx_writes_them(storage: Storage, digits: int) -> None:
    fraction = "123456789"[:digits]
    stored = f"2026-03-04T05:06:07{'.' if digits else ''}{fraction}Z"
    with storage.session():
        row = insert(CredentialStatus)
        storage.database.execute_sql("UPDATE credential_statuses SET checked_at = ?", (stored,))
        found = CredentialStatus.get_by_id(row.id).checked_at

    microsecond = int(fraction[:6].ljust(6, "0"))  # what is finer is cut off
    assert found == datetime(2026, 3, 4, 5, 6, 7, microsecond, UTC)
    assert found.tzinfo is UTC


# -- text ---------------------------------------------------------------------------------------


def test_names_that_differ_are_different(storage: Storage) -> None:
    """Also under a unique key: by case, accent, blanks at the end, normal form."""
    with storage.session():
        ids = {name: insert(User, name=name).id for name in NAMES}

        assert {user.name: user.id for user in User.select()} == ids
        for name, user_id in ids.items():
            assert [user.id for user in User.select().where(User.name == name)] == [user_id]
            with pytest.raises(ConflictError), storage.transaction():
                insert(User, name=name)


def test_text_comes_back(storage: Storage) -> None:
    texts = ["", " ", *NAMES, "x" * 70_000, "\u20ac" * 70_000]

    assert round_trips(storage, DownstreamRequest, "request_path", texts) == texts


# -- numbers ------------------------------------------------------------------------------------


def test_integers_come_back(storage: Storage) -> None:
    assert round_trips(storage, UserRateLimit, "rpm", INT32) == INT32
    assert round_trips(storage, UserRateLimit, "total_tokens", INT64) == INT64


def test_money_comes_back_as_it_was_rounded(storage: Storage) -> None:
    found = round_trips(storage, UserQuota, "quota", [given for given, _ in MONEY])

    assert [f"{money:f}" for money in found] == [expected for _, expected in MONEY]


def test_bools_come_back_as_bools(storage: Storage) -> None:
    found = round_trips(storage, User, "is_admin", [True, False])

    assert found[0] is True
    assert found[1] is False


# -- bytes --------------------------------------------------------------------------------------


def test_bytes_come_back(storage: Storage) -> None:
    bodies = [
        b"",
        EVERY_BYTE,
        b"\xff\xfe\x00",
        b"\\x41'\"%s",
        EVERY_BYTE * 400,  # 100 KiB
        b"\0" * 2**16,  # one more than a BLOB of MySQL's
    ]
    found = round_trips(storage, DownstreamRequest, "request_body", bodies)

    assert found == bodies
    assert {type(body) for body in found} == {bytes}


@pytest.mark.parametrize("unit", [b"\0", EVERY_BYTE], ids=["zeros", "every byte"])
def test_a_body_of_5_mib_comes_back(
    storage: Storage, unit: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "peewee")  # its log of the statement is a hundred times slower
    body = unit * (5 * 2**20 // len(unit))
    (found,) = round_trips(storage, DownstreamRequest, "response_body", [body])

    assert type(found) is bytes
    assert found == body


def test_what_is_like_bytes_comes_back_as_bytes(storage: Storage) -> None:
    alike = [bytearray(EVERY_BYTE), memoryview(EVERY_BYTE)]

    assert round_trips(storage, DownstreamRequest, "request_body", alike) == [EVERY_BYTE] * 2


# -- JSON ---------------------------------------------------------------------------------------


def test_json_comes_back(storage: Storage) -> None:
    documents = [
        *DOCUMENTS,
        {"k" * MAX_JSON_KEY_BYTES: 1},
        ["x" * 100_000],
        list(range(5_000)),
        nested(MAX_JSON_DEPTH, list),
        nested(MAX_JSON_DEPTH, dict),
    ]
    found = round_trips(storage, Provider, "settings_json", documents)

    assert found == documents
    # 1 == 1.0 == True: the types, too.
    assert [sorted(map(repr, leaves(each))) for each in found] == [
        sorted(map(repr, leaves(each))) for each in documents
    ]


def leaves(value: Any) -> list[Any]:
    """Return what is neither an object nor an array in a document, in any order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
def test_the_depth_is_mariadbs_limit(storage: Storage) -> None:
    """So that a server that takes more, or less, is noticed."""
    texts = ["[" * depth + "]" * depth for depth in (MAX_JSON_DEPTH, MAX_JSON_DEPTH + 1)]
    with storage.session():
        found = storage.database.query("SELECT JSON_VALID(%s), JSON_VALID(%s)", texts)

    assert found == [(1, 0)]


def test_no_json_is_not_the_json_null(storage: Storage) -> None:
    """None is SQL's NULL; JSON's null, which others may store, is read as None too."""
    with storage.session():
        row = insert(CredentialStatus, health_json=None)
        is_null = CredentialStatus.health_json.is_null()
        assert CredentialStatus.get_by_id(row.id).health_json is None
        assert CredentialStatus.select().where(is_null).count() == 1
        storage.database.execute_sql("UPDATE credential_statuses SET health_json = 'null'")
        assert CredentialStatus.select().where(is_null).count() == 0
        assert CredentialStatus.get_by_id(row.id).health_json is None


def test_tuples_are_arrays(storage: Storage) -> None:
    given: list[Any] = [{"a": (1, (2,))}]

    assert round_trips(storage, Provider, "settings_json", given) == [{"a": [1, [2]]}]


# -- subclasses of the types, as other libraries have them ----------------------------------------


class Moment(datetime):
    """A datetime that calls itself something else, as pendulum's and pandas' do."""

    def __str__(self) -> str:
        return "MOMENT"

    __repr__ = isoformat = __str__  # type: ignore[assignment]  # whatever is asked for


class Model(str, enum.Enum):  # noqa: UP042 - as it was before StrEnum
    GPT = "gpt-4.1"


class Count(enum.IntEnum):
    SEVEN = 7


class Number(float):
    def __str__(self) -> str:
        return "NUMBER"

    __repr__ = __str__


class Markup(str):
    """Text that its methods change, as those of template engines do."""

    def _other(self, *_: object) -> str:
        return "OTHER"

    __str__ = __format__ = translate = replace = _other


class Octets(bytes):
    def __bytes__(self) -> bytes:
        return b"other"


def test_subclasses_are_stored_as_what_they_are(storage: Storage) -> None:
    at = Moment(2025, 10, 26, 0, 30, 1, 123456, tzinfo=UTC)
    usage = storage.usages.record(model=Model.GPT, at=at, cost=Number(0.25), input_tokens=Count(7))
    request = storage.downstream_requests.record(
        trace_id=Count(7),
        request_method=Model.GPT,
        request_path="/",
        at=at,
        request_body=Octets(b"\0\xff"),
        request_headers={"x": Model.GPT},
        response_status=Count(7),
    )

    found = storage.usages.get(usage.trace_id)
    assert (found.model, found.at, found.cost, found.input_tokens) == (
        *("gpt-4.1", at),
        *(Decimal("0.25"), 7),
    )
    stored = storage.downstream_requests.get(request.trace_id, bodies=True)
    assert (stored.request_method, stored.at, stored.response_status) == ("gpt-4.1", at, 7)
    assert (stored.request_body, stored.request_headers_json) == (b"\0\xff", {"x": "gpt-4.1"})
    assert storage.usages.count(since=at, until=at, model=[Model.GPT]) == 1
    assert storage.users.create(Model.GPT).name == "gpt-4.1"
    assert storage.users.find(name=Model.GPT) is not None


def test_text_of_a_subclass_is_stored_as_what_it_is(storage: Storage) -> None:
    storage.users.create(Markup("it's"))
    with storage.batch() as batch:
        batch.usages.record(model=Markup("it's"))
    with storage.sink() as sink:
        sink.submit_usage(model=Markup("it's"))
        sink.submit_upstream_request(
            request_method=Markup("it's"), request_headers={"x": Markup("y")}
        )

    assert [user.name for user in storage.users.list()] == ["it's"]
    assert storage.users.find(name=Markup("it's")) is not None
    assert storage.usages.count(model=Markup("it's")) == 2
    assert [usage.model for usage in storage.usages.list()] == ["it's"] * 2
    (request,) = storage.upstream_requests.list()
    assert (request.request_method, request.request_headers_json) == ("it's", {"x": "y"})
