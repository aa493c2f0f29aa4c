"""What a sink refuses at once: nothing is queued, nothing is stored."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConfigError
from gproxy_storage.models import Usage
from tests.cases import for_each
from tests.contract.support import NOW, refused_unasked, row_count
from tests.support import SQLITE_ALONE


@SQLITE_ALONE
@for_each(
    ("given", "argument"),
    [
        ({"cost": math.nan}, "cost"),
        ({"cost": -0.01}, "cost"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"at": NOW.replace(tzinfo=None)}, "at"),
        ({"operation": None}, "operation"),
        ({"user_id": "alice"}, "user_id"),
        ({"colour": "red"}, "colour"),
        ({"request_body": b""}, "request_body"),
    ],
)
def test_bad_usages_are_refused(storage: Storage, given: dict[str, Any], argument: str) -> None:
    with storage.sink() as sink:
        with refused_unasked(storage, argument):
            sink.submit_usage(**given)
        assert sink.stats().submitted == 0
    assert row_count(storage, Usage) == 0


@SQLITE_ALONE
def test_bad_requests_are_refused(storage: Storage) -> None:
    with storage.sink(max_body_bytes=10) as sink:
        for bad in (
            {"request_body": b"x" * 11},
            {"response_body": b"x" * 11},
            {"request_body": "text"},
            {"request_headers": {"a": math.nan}},
            {"response_status": 2**31},
            {"cost": 1.0},
        ):
            name = next(iter(bad))
            with refused_unasked(storage, match=name):
                sink.submit_upstream_request(**{"request_method": "GET", **bad})  # type: ignore[arg-type]  # the question
            with refused_unasked(storage, match=name):
                sink.submit_downstream_request(
                    **{"trace_id": 1, "request_method": "GET", "request_path": "/", **bad}  # type: ignore[arg-type]  # the question
                )
        sink.submit_upstream_request(request_method="GET", request_body=b"x" * 10)
        assert sink.stats().submitted == 1


@SQLITE_ALONE
@for_each("name", ["flush_rows", "flush_after_s", "max_queue_rows", "retry_s"])
@for_each("value", [0, -1, "1", True, math.nan, math.inf])
def test_bad_settings_are_refused(storage: Storage, name: str, value: Any) -> None:
    with refused_unasked(storage, kind=ConfigError, match=name):
        storage.sink(**{name: value})
    with refused_unasked(storage, kind=ConfigError, match="when_full"):
        storage.sink(when_full="drop")  # type: ignore[arg-type]  # the question
    assert not storage.spool_dir.exists()


def test_a_spool_directory_that_cannot_be_used(storage: Storage) -> None:
    storage.data_dir.write_text("a file")
    with pytest.raises(ConfigError, match=r"the spool directory .* cannot be used"):
        storage.sink()
    assert not storage._sinks
