"""Any combination of filters, on any backend, finds what the same filter in Python finds."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gproxy_storage import Storage
from gproxy_storage.models import (
    Credential,
    DownstreamRequest,
    Provider,
    UpstreamRequest,
    Usage,
    User,
    UserKey,
)
from gproxy_storage.repositories.summaries import TOKENS
from tests.contract.support import NOW, insert

ROWS = 60
CHANNELS = ("openai", "claude", "Claude")
MODELS = ("gpt", "GPT", "gpt ", "ä", None)
TEXTS = ("/v1/a", "/V1/a", "/v1/100%_b", "/é?x=\\", "/😀")
STATUSES = (None, 200, 201, 404, 500)

examples = settings(
    max_examples=40,
    # The rows are made once and only read.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class World:
    """Rows of all three logs, and a function for each filter that says what it means."""

    def __init__(self, storage: Storage) -> None:
        chance = random.Random(7)
        with storage.transaction():
            users = [insert(User).id for _ in range(3)]
            keys = [insert(UserKey).id for _ in range(3)]
            providers = [insert(Provider, channel=channel).id for channel in CHANNELS]
            credentials = [insert(Credential).id for _ in range(3)]
            self.channels = dict(zip(providers, CHANNELS, strict=True))
            self.times = [
                *(NOW + timedelta(microseconds=place) for place in range(4)),
                *(NOW + timedelta(hours=hours) for hours in (-9999, 1, 24, 999)),
            ]
            for _ in range(ROWS):
                made = {
                    "at": chance.choice(self.times),
                    "user_id": chance.choice([*users, None]),
                    "user_key_id": chance.choice([*keys, None]),
                }
                sent = {
                    "at": chance.choice(self.times),
                    "provider_id": chance.choice([*providers, None]),
                    "credential_id": chance.choice([*credentials, None]),
                    "downstream_trace_id": chance.choice([1, 2, None]),
                }
                asked = {
                    "internal": chance.random() < 0.5,
                    "request_method": "POST",
                    "response_status": chance.choice(STATUSES),
                    "request_headers_json": {},
                    "response_headers_json": {},
                    "created_at": NOW,
                }
                used = {
                    "model": chance.choice(MODELS),
                    "operation": chance.choice(("generate", "embed")),
                    "protocol": chance.choice(("openai", "claude")),
                    "cost": chance.randrange(100) / 64,
                    **{field.name: chance.choice([None, 2**40, 3]) for field in TOKENS},
                    "created_at": NOW,
                }
                Usage.create(**{**sent, **made, **used})
                insert(UpstreamRequest, **sent, **asked, request_url=chance.choice([*TEXTS, None]))
                insert(DownstreamRequest, **made, **asked, request_path=chance.choice(TEXTS))
        self.ids = {
            "user_id": users,
            "user_key_id": keys,
            "provider_id": providers,
            "credential_id": credentials,
            "downstream_trace_id": [1, 2],
        }
        with storage.session():
            self.rows = {
                model: sorted(model.select(), key=lambda row: (row.at, row.trace_id), reverse=True)
                for model in (Usage, UpstreamRequest, DownstreamRequest)
            }

    def filters(self, model: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
        """Some of a log's filters, each with a value that some rows have, or none."""
        optional: dict[str, st.SearchStrategy[Any]] = {
            "since": st.sampled_from([*self.times, datetime(2000, 1, 1, tzinfo=UTC)]),
            "until": st.sampled_from([*self.times, datetime(2100, 1, 1, tzinfo=UTC)]),
        }
        columns = {field.column_name for field in model._meta.sorted_fields}
        for name, values in self.ids.items():
            if name in columns:
                optional[name] = one_or_some([*values, None, 10**9])
        if "provider_id" in columns:
            optional["channel"] = one_or_some([*CHANNELS, "OPENAI"])
        if model is Usage:
            optional["model"] = one_or_some([*MODELS, "Ä"])
            optional["operation"] = one_or_some(["generate", "embed", "Embed"])
            optional["protocol"] = one_or_some(["openai", "claude"])
        else:
            optional["status"] = one_or_some([*STATUSES, 7]) | st.builds(
                range, st.integers(100, 500), st.integers(100, 600)
            )
            optional["internal"] = one_or_some([True, False])
            part = "url_contains" if model is UpstreamRequest else "path_contains"
            optional[part] = st.sampled_from(["/v1", "V", "%", "_", "\\", "é", "😀", "É", "x"])
        return st.fixed_dictionaries({}, optional=optional)

    def fits(self, row: Any, filters: dict[str, Any]) -> bool:
        """Say in Python whether a row fits."""
        meanings: dict[str, Callable[[Any], bool]] = {
            "since": lambda bound: row.at >= bound,
            "until": lambda bound: row.at <= bound,
            "channel": lambda value: is_of(self.channels.get(row.provider_id), value),
            "status": lambda value: is_of(row.response_status, value),
            "url_contains": lambda part: part in (row.request_url or ""),
            "path_contains": lambda part: part in row.request_path,
        }
        return all(
            meanings[name](value) if name in meanings else is_of(getattr(row, name), value)
            for name, value in filters.items()
        )

    def expected(self, model: type[Any], filters: dict[str, Any]) -> list[Any]:
        """Return the matching rows, newest first."""
        return [row for row in self.rows[model] if self.fits(row, filters)]


def is_of(value: Any, wanted: Any) -> bool:
    several = isinstance(wanted, Collection) and not isinstance(wanted, str)
    return value in wanted if several else value == wanted


def one_or_some(values: Iterable[Any]) -> st.SearchStrategy[Any]:
    value = st.sampled_from(list(values))
    several = st.lists(value, max_size=3)
    return value | several | several.map(tuple) | several.map(set)


def ids(rows: Iterable[Any]) -> list[int]:
    return [row.trace_id for row in rows]


def test_filters_of_each_log(storage: Storage) -> None:
    world = World(storage)
    logs: dict[Any, Any] = {
        Usage: storage.usages,
        UpstreamRequest: storage.upstream_requests,
        DownstreamRequest: storage.downstream_requests,
    }

    @examples
    @given(st.data(), st.sampled_from(list(logs)), st.integers(1, 20))
    def check(data: st.DataObject, model: Any, limit: int) -> None:
        filters = data.draw(world.filters(model))
        log, expected = logs[model], ids(world.expected(model, filters))

        assert ids(log.list(limit=None, **filters)) == expected
        assert log.count(**filters) == len(expected)
        first = log.list(limit=limit, **filters)
        assert ids(first) == expected[:limit]
        if first.next_cursor is None:
            assert len(expected) <= limit
        else:
            second = log.list(limit=limit, cursor=first.next_cursor, **filters)
            assert ids(second) == expected[limit : 2 * limit] != []

    with storage.session():
        check()


def start_of(name: str, at: datetime) -> datetime:
    fields: dict[str, Any] = {"minute": 0, "second": 0, "microsecond": 0}
    if name != "hour":
        fields["hour"] = 0
    if name == "month":
        fields["day"] = 1
    return at.replace(**fields)


def test_groups_are_those_of_python(storage: Storage) -> None:
    world = World(storage)
    columns = ["user_id", "user_key_id", "provider_id", "credential_id", "model", "operation"]
    times = ["hour", "day", "month"]

    @examples
    @given(
        world.filters(Usage),
        st.lists(st.sampled_from([*columns, "protocol", *times]), min_size=1, max_size=3),
    )
    def check(filters: dict[str, Any], by: list[Any]) -> None:
        groups = defaultdict(list)
        for row in world.expected(Usage, filters):
            key = tuple(
                start_of(name, row.at) if name in times else getattr(row, name) for name in by
            )
            groups[key].append(row)
        found = storage.usages.summarize_by(*by, **filters)

        assert [group.key for group in found] == sorted(
            groups, key=lambda key: [(value is not None, value) for value in key]
        )
        for key, total in found:
            assert total.count == len(groups[key])
            assert total.cost == sum(row.cost for row in groups[key])
            for field in TOKENS:
                assert getattr(total, field.name) == sum(
                    getattr(row, field.name) or 0 for row in groups[key]
                )

    with storage.session():
        check()
