"""Logs of requests: stored redacted, read without bodies, found by what they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import peewee
import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError, InvalidValue, NotFoundError, ReadError
from gproxy_storage.log_rows import DOWNSTREAM_REQUESTS, UPSTREAM_REQUESTS, keyword
from gproxy_storage.models import (
    Credential,
    DownstreamRequest,
    Provider,
    Table,
    UpstreamRequest,
    User,
    UserKey,
)
from gproxy_storage.repositories.redaction import REDACTED
from tests.cases import for_each
from tests.contract.support import NOW, in_threads, insert, refused_unasked, rows_of
from tests.support import SQLITE_ALONE, assert_query_count, sample_row
from tests.values import EVERY_BYTE

HEADERS = [["Authorization", "Bearer x"], ["X-Trace", "1"], ["X-Trace", "2"]]
KEPT_HEADERS = [["Authorization", REDACTED], ["X-Trace", "1"], ["X-Trace", "2"]]
BODIES = ("request_body", "response_body")


def upstream(storage: Storage, **given: Any) -> UpstreamRequest:
    return storage.upstream_requests.record(**{"request_method": "POST", **given})


def downstream(storage: Storage, **given: Any) -> DownstreamRequest:
    return storage.downstream_requests.record(
        **{"request_method": "POST", "request_path": "/v1/messages", **given}
    )


SIDES: list[Callable[..., Any]] = [upstream, downstream]


def repository(storage: Storage, record: Callable[..., Any]) -> Any:
    return storage.upstream_requests if record is upstream else storage.downstream_requests


def ids(rows: Any) -> list[int]:
    return [row.trace_id for row in rows]


def new(storage: Storage, model: type[Table]) -> int:
    with storage.session():
        return int(insert(model).get_id())


# -- recording ----------------------------------------------------------------------------------


def stored_row(storage: Storage, model: type[Table]) -> dict[str, Any]:
    """Return the only row of a table, by column."""
    columns = [field.column_name for field in model._meta.sorted_fields]
    with storage.session():
        (row,) = rows_of(model, *columns)
    return dict(zip(columns, row, strict=True))


def test_everything_of_an_upstream_request_is_stored(storage: Storage) -> None:
    given = sample_row(
        UPSTREAM_REQUESTS,
        downstream_trace_id=2**62,
        at=NOW,
        internal=True,
        provider_id=new(storage, Provider),
        credential_id=new(storage, Credential),
        request_method="PATCH",
        request_headers=HEADERS,
        request_url="https://user:pw@api.example.com/v1?alt=sse&key=AIza#x",
        request_body=EVERY_BYTE,
        response_status=529,
        response_headers={"Set-Cookie": ["a", "b"]},
        response_body=b"",
        initial_latency_ms=0,
        total_latency_ms=2**40,
    )
    row = upstream(storage, **given)

    assert stored_row(storage, UpstreamRequest) == {
        **{name: given[keyword(name)] for name in UPSTREAM_REQUESTS.arguments},
        "trace_id": row.trace_id,
        "request_url": f"https://{REDACTED}@api.example.com/v1?alt=sse&key={REDACTED}#x",
        "request_headers_json": KEPT_HEADERS,
        "response_headers_json": {"Set-Cookie": REDACTED},
        "created_at": row.created_at,
    }


def test_everything_of_a_downstream_request_is_stored(storage: Storage) -> None:
    given = sample_row(
        DOWNSTREAM_REQUESTS,
        trace_id=2**40,
        at=NOW,
        internal=False,
        user_id=new(storage, User),
        user_key_id=new(storage, UserKey),
        request_method="POST",
        request_headers={"x-api-key": "sk", "accept": "*/*"},
        request_path="/v1beta/models/gemini:streamGenerateContent",
        request_query="alt=sse&key=AIza",
        request_body=b"{}",
        response_status=200,
        response_headers=None,
        response_body=EVERY_BYTE,
    )
    row = downstream(storage, **given)

    assert stored_row(storage, DownstreamRequest) == {
        **{name: given[keyword(name)] for name in DOWNSTREAM_REQUESTS.arguments},
        "request_query": f"alt=sse&key={REDACTED}",
        "request_headers_json": {"x-api-key": REDACTED, "accept": "*/*"},
        "response_headers_json": {},
        "created_at": row.created_at,
    }


@pytest.mark.parametrize("way", ["record", "batch", "sink"])
def test_no_credential_is_stored(storage: Storage, way: str) -> None:
    """Whatever carries it, and however it is stored."""

    class Name(str):
        __slots__ = ()

    secret = "s3cret"
    headers = [
        [Name("Authorization"), f"Bearer {secret}"],
        ["X-New-Gateway-Api-Key ", secret, secret],
        ["Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{secret}"],
        ["Referer", f"https://h/cb?next=https%3A%2F%2Fh%2F%3Fcode%3D{secret}"],
        ["Accept", "*/*"],
    ]
    query = f"alt=sse&X-Amz-Signature={secret};sig={secret}&%6bey={secret}"
    common: dict[str, Any] = {
        "request_method": "GET",
        "request_headers": headers,
        "response_headers": {name: values for name, *values in headers},
    }
    up = {**common, "request_url": f"https://u:{secret}@h/p?{query}#access_token={secret}"}
    down = {**common, "trace_id": 1, "request_path": f"/p?{query}", "request_query": query}
    match way:
        case "record":
            storage.upstream_requests.record(**up)
            storage.downstream_requests.record(**down)
        case "batch":
            with storage.batch() as batch:
                batch.upstream_requests.record(**up)
                batch.downstream_requests.record(**down)
        case "sink":
            with storage.sink() as sink:
                sink.submit_upstream_request(**up)
                sink.submit_downstream_request(**down)

    for row in (stored_row(storage, UpstreamRequest), stored_row(storage, DownstreamRequest)):
        assert secret not in repr(row)
        assert "alt=sse" in repr(row)
        assert row["request_headers_json"][-1] == ["Accept", "*/*"]


def test_redaction_can_be_left_out(storage: Storage) -> None:
    query = "key=AIza"
    up = upstream(storage, redact=False, request_headers=HEADERS, request_url=f"https://h/?{query}")
    down = downstream(storage, redact=False, request_headers=HEADERS, request_query=query)

    assert up.request_headers_json == down.request_headers_json == HEADERS
    assert (up.request_url, down.request_query) == (f"https://h/?{query}", query)


@pytest.mark.parametrize("record", SIDES)
def test_parents_that_are_gone_become_null(storage: Storage, record: Callable[..., Any]) -> None:
    parents = ("provider_id", "credential_id") if record is upstream else ("user_id", "user_key_id")
    there = new(storage, Provider if record is upstream else User)
    row = record(storage, **{parents[0]: there, parents[1]: 10**9})

    found = repository(storage, record).get(row.trace_id)
    assert [getattr(found, name) for name in parents] == [there, None]


# -- trace ids of the caller's ------------------------------------------------------------------


def test_generated_ids_keep_clear_of_given_ones(storage: Storage) -> None:
    first = downstream(storage).trace_id
    given = [first + 10, first + 5, first + 11]
    for trace_id in given:
        downstream(storage, trace_id=trace_id)
    later = [downstream(storage).trace_id for _ in range(3)]

    assert later == [first + 12, first + 13, first + 14]
    with pytest.raises(ConflictError) as caught:
        downstream(storage, trace_id=first + 5)
    assert caught.value.fields in ((), ("trace_id",))
    assert storage.downstream_requests.count() == 7


@for_each("given", [0, -1, -(2**63), 2**63 - 1, 2**63])
def test_an_id_that_no_other_could_follow_is_refused(storage: Storage, given: int) -> None:
    """By `record`, in a batch and by a sink alike, and ids are generated as before."""
    request: dict[str, Any] = {"trace_id": given, "request_method": "GET", "request_path": "/"}
    first = downstream(storage).trace_id
    with storage.sink() as sink, pytest.raises(InvalidValue) as caught:
        sink.submit_downstream_request(**request)
    assert caught.value.argument == "trace_id"
    with pytest.raises(InvalidValue, match="trace_id"):
        storage.downstream_requests.record(**request)
    with pytest.raises(InvalidValue, match="trace_id"), storage.batch() as batch:
        batch.downstream_requests.record(**request)
    assert downstream(storage).trace_id == first + 1


def test_ids_given_by_many_at_once(storage: Storage) -> None:
    start = downstream(storage).trace_id + 1

    def given(offset: int) -> Callable[[], None]:
        def work() -> None:
            for number in range(offset, 60, 6):
                downstream(storage, trace_id=start + number)

        return work

    in_threads(*(given(offset) for offset in range(6)))

    assert downstream(storage).trace_id == start + 60


def test_an_id_of_a_transaction_that_failed_stays_free(storage: Storage) -> None:
    given = downstream(storage).trace_id + 1000
    with pytest.raises(ZeroDivisionError), storage.transaction():  # noqa: PT012 - the block is the subject
        downstream(storage, trace_id=given)
        raise ZeroDivisionError

    assert downstream(storage, trace_id=given).trace_id == given
    assert downstream(storage).trace_id == given + 1


# -- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", SIDES)
def test_bodies_are_read_when_asked_for(storage: Storage, record: Callable[..., Any]) -> None:
    row = record(storage, request_body=b"in")
    logs = repository(storage, record)

    def without() -> list[Any]:
        return [logs.get(row.trace_id), *logs.list(), *logs.iter()]

    for found in (
        logs.get(row.trace_id, bodies=True),
        *logs.list(bodies=True),
        *logs.iter(bodies=True),
    ):
        assert (found.request_body, found.response_body) == (b"in", None)
    with assert_query_count(storage.database, 3) as statements:
        rows = without()
    assert not [sql for sql in statements.sent if "body" in sql]
    for found in rows:
        for name in BODIES:
            with pytest.raises(ReadError, match=f"^{name} was not read with its row.*bodies=True"):
                getattr(found, name)


@pytest.mark.parametrize("record", SIDES)
def test_bodies_are_cleared(storage: Storage, record: Callable[..., Any]) -> None:
    rows = [
        record(storage, request_body=b"a"),
        record(storage, response_body=b"b"),
        record(storage),
        record(storage, request_body=b"c", response_body=b"d"),
    ]
    logs = repository(storage, record)

    def with_bodies() -> list[int]:
        found = logs.list(bodies=True)
        return sorted(ids(row for row in found if row.request_body or row.response_body))

    with assert_query_count(storage.database, 0):
        assert logs.clear_bodies([]) == 0
    assert logs.clear_bodies([rows[0].trace_id, rows[2].trace_id, 10**9]) == 1
    assert with_bodies() == ids([rows[1], rows[3]])
    assert logs.clear_all_bodies() == 2
    assert logs.clear_all_bodies() == 0
    assert logs.count() == 4


# -- filters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", SIDES)
def test_filters_by_status_and_cause(storage: Storage, record: Callable[..., Any]) -> None:
    logs = repository(storage, record)
    rows = {
        status: record(storage, response_status=status, internal=status == 500)
        for status in (None, 200, 299, 300, 429, 500, 599)
    }

    def found(**filters: Any) -> list[int | None]:
        return [row.response_status for row in logs.list(**filters)][::-1]

    assert found(status=200) == [200]
    assert found(status=None) == [None]
    assert found(status=[200, 429, None]) == [None, 200, 429]
    assert found(status=range(200, 300)) == [200, 299]
    assert found(status=range(400, 600)) == [429, 500, 599]
    assert found(status=range(400, 400)) == []
    assert found(internal=True) == [500]
    assert found(internal=False, status=range(500, 600)) == [599]
    assert logs.count(status=range(200, 300)) == 2
    assert ids(logs.iter(status=429)) == [rows[429].trace_id]


@pytest.mark.parametrize("record", SIDES)
def test_filters_and_pages_by_time(storage: Storage, record: Callable[..., Any]) -> None:
    logs = repository(storage, record)
    step = timedelta(microseconds=1)
    rows = ids(record(storage, at=NOW + place * step) for place in range(4))

    assert ids(logs.list(since=NOW + step, until=NOW + 2 * step)) == rows[2:0:-1]
    page = logs.list(limit=3)
    assert ids(page) == rows[:0:-1]
    assert ids(logs.list(limit=3, cursor=page.next_cursor)) == rows[:1]
    assert logs.delete_before(NOW + 2 * step) == 2
    assert logs.delete(rows) == 2


def test_filters_by_part_of_the_path_or_url(storage: Storage) -> None:
    texts = ["/v1/Messages", "/v1/messages", "/100%/a_b", "/100x/aXb", "/\\x", "/é😀", "/É"]
    for text in texts:
        downstream(storage, request_path=text)
        upstream(storage, request_url=f"https://h{text}")
    upstream(storage, request_url=None)

    def found(part: str) -> list[str]:
        paths = [row.request_path for row in storage.downstream_requests.list(path_contains=part)]
        urls = [row.request_url for row in storage.upstream_requests.list(url_contains=part)]
        assert urls == [f"https://h{path}" for path in paths]
        assert storage.downstream_requests.count(path_contains=part) == len(paths)
        return paths[::-1]

    assert found("messages") == [texts[1]]
    assert found("essages") == texts[:2]
    assert found("%") == found("0%/a_b") == [texts[2]]
    assert found("_") == [texts[2]]
    assert found("\\") == [texts[4]]
    assert found("é") == [texts[5]]
    assert found("😀") == [texts[5]]
    assert found("'; --") == []


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_case_counts_in_tables_that_ignore_it(storage: Storage) -> None:
    """GPROXY's tables have the server's default collation."""
    database, table = storage.database, peewee.Table("looked_at")
    text: Any = table.c.text
    with storage.session():
        database.execute_sql(
            "CREATE TEMPORARY TABLE looked_at (text LONGTEXT COLLATE utf8mb4_general_ci)"
        )
        database.execute_sql("INSERT INTO looked_at VALUES ('/V1/É😀')")
        found = {
            part: table.select().where(database.contains(text, part)).count(database)
            for part in ("/V1", "/v1", "É", "E", "é", "😀", "😁")
        }
        database.execute_sql("DROP TEMPORARY TABLE looked_at")

    assert {part for part, rows in found.items() if rows} == {"/V1", "É", "😀"}


def test_filters_by_parents(storage: Storage) -> None:
    user, key = new(storage, User), new(storage, UserKey)
    with storage.session():
        provider = insert(Provider, channel="openai").get_id()
    credential = new(storage, Credential)
    down = downstream(storage, user_id=user, user_key_id=key)
    up = upstream(storage, provider_id=provider, downstream_trace_id=down.trace_id)
    other = upstream(storage, credential_id=credential)

    assert ids(storage.downstream_requests.list(user_id=user, user_key_id=[key])) == [down.trace_id]
    assert storage.downstream_requests.count(user_id=None) == 0
    assert ids(storage.upstream_requests.list(provider_id=provider)) == [up.trace_id]
    assert ids(storage.upstream_requests.list(channel="openai")) == [up.trace_id]
    assert ids(storage.upstream_requests.list(channel=["x"])) == []
    assert ids(storage.upstream_requests.list(credential_id=credential)) == [other.trace_id]
    assert ids(storage.upstream_requests.list(downstream_trace_id=down.trace_id)) == [up.trace_id]


# -- bad input ----------------------------------------------------------------------------------

BAD_VALUES: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    *((record, {"at": NOW.replace(tzinfo=None)}, "at") for record in SIDES),
    *((record, {"request_method": None}, "request_method") for record in SIDES),
    *((record, {"request_headers": {"a": {1}}}, "request_headers_json") for record in SIDES),
    *((record, {"response_headers": {1: "x"}}, "response_headers_json") for record in SIDES),
    *(
        (record, {"request_headers": shape}, "request_headers_json")
        for record in SIDES
        for shape in (
            *(float("nan"), "Authorization: sk", ["Authorization", "sk"], [["Authorization: sk"]]),
            *([{"name": "Authorization", "value": "sk"}], [[{"Authorization": "sk"}, "x"]]),
        )
    ),
    *((record, {"request_body": "text"}, "request_body") for record in SIDES),
    *((record, {"response_status": "200"}, "response_status") for record in SIDES),
    *((record, {"internal": 1}, "internal") for record in SIDES),
    (upstream, {"total_latency_ms": -1}, "total_latency_ms"),
    (upstream, {"initial_latency_ms": 1.5}, "initial_latency_ms"),
    (upstream, {"provider_id": "1"}, "provider_id"),
    (downstream, {"request_path": None}, "request_path"),
    (downstream, {"request_query": b"x"}, "request_query"),
    (downstream, {"user_id": 2**63}, "user_id"),
    *((downstream, {"trace_id": bad}, "trace_id") for bad in (0, -1, "1", True, 2**63)),
]


@for_each(("record", "given", "argument"), BAD_VALUES)
def test_bad_values_are_refused(
    storage: Storage, record: Callable[..., Any], given: dict[str, Any], argument: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        record(storage, **given)
    assert caught.value.argument == argument
    assert repository(storage, record).count() == 0


BAD_FILTERS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    *((record, {"status": "200"}, "response_status") for record in SIDES),
    *((record, {"internal": "false"}, "internal") for record in SIDES),
    *((record, {"since": 1}, "since") for record in SIDES),
    *((upstream, {"url_contains": bad}, "url_contains") for bad in ("", None, 1, "a\0", ["a"])),
    *((downstream, {"path_contains": bad}, "path_contains") for bad in ("", b"x")),
]


@SQLITE_ALONE
@for_each(("record", "filters", "argument"), BAD_FILTERS)
@for_each("method", ["list", "iter", "count"])
def test_bad_filters_are_refused(
    storage: Storage,
    record: Callable[..., Any],
    method: str,
    filters: dict[str, Any],
    argument: str,
) -> None:
    with refused_unasked(storage, argument):
        getattr(repository(storage, record), method)(**filters)


@SQLITE_ALONE
@for_each("record", SIDES)
@for_each("method", ["list", "iter", "count"])
@for_each("name", ["request_path", "trace_id", "users"])
def test_an_unknown_filter_is_a_type_error(
    storage: Storage, record: Callable[..., Any], method: str, name: str
) -> None:
    with refused_unasked(storage, kind=TypeError, match=f"'{name}'"):
        getattr(repository(storage, record), method)(**{name: 1})


@pytest.mark.parametrize("record", SIDES)
def test_a_request_that_is_not_there_is_not_found(
    storage: Storage, record: Callable[..., Any]
) -> None:
    logs = repository(storage, record)
    with pytest.raises(NotFoundError):
        logs.get(7)
    with pytest.raises(InvalidValue) as caught:
        logs.get("7")
    assert caught.value.argument == "trace_id"
    with pytest.raises(InvalidValue):
        logs.clear_bodies(["7"])
