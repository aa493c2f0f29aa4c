"""Redaction: what is taken out of headers, URLs and queries, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy_storage.repositories.redaction import (
    REDACTED,
    SECRET_HEADERS,
    redact_headers,
    redact_query,
    redact_url,
)


@pytest.mark.parametrize("name", sorted(SECRET_HEADERS))
@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_secret_headers(name: str, spelled: Any) -> None:
    name = spelled(name)

    assert redact_headers({name: "Bearer x", "accept": "*/*"}) == {name: REDACTED, "accept": "*/*"}
    assert redact_headers([[name, "x"], ("Accept", "y"), (name, "z")]) == [
        [name, REDACTED],
        ["Accept", "y"],
        [name, REDACTED],
    ]


def test_several_values_of_one_header() -> None:
    assert redact_headers({"Set-Cookie": ["a=1", "b=2"]}) == {"Set-Cookie": REDACTED}
    assert redact_headers([["cookie", "a=1", "b=2"]]) == [["cookie", REDACTED, REDACTED]]


@pytest.mark.parametrize(
    "headers",
    [{"x-api-key-id": "1", "authorization-info": "x", "key": "y"}, {}, [], [["a", "b"]]],
)
def test_other_headers_stay(headers: Any) -> None:
    assert redact_headers(headers) == headers
    assert redact_headers(headers) is not headers


@pytest.mark.parametrize("headers", ["authorization: x", None, 1, [1], ["ab"], [[]], {1: 2}])
def test_what_are_no_headers_is_left_to_be_refused(headers: Any) -> None:
    assert redact_headers(headers) == headers


QUERIES = [
    ("key=AIza", "key={}"),
    ("?key=AIza", "?key={}"),
    ("alt=sse&key=AIza", "alt=sse&key={}"),
    ("key=a%26b&alt=sse", "key={}&alt=sse"),
    ("KEY=a&Key=b", "KEY={}&Key={}"),
    ("%6bey=a&k%65y=b&%4BEY=c", "%6bey={}&k%65y={}&%4BEY={}"),
    ("api_key=a;api-key=b&access_token=c", "api_key={};api-key={}&access_token={}"),
    ("key=a=b==", "key={}"),
    ("key=a?key=b", "key={}"),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_secrets_in_queries(query: str, expected: str) -> None:
    expected = expected.replace("{}", REDACTED)

    assert redact_query(query) == expected
    assert redact_url(f"/v1?{query.lstrip('?')}") == f"/v1?{expected.lstrip('?')}"
    assert redact_url(f"https://h/v1?x=1&{query.lstrip('?')}#top") == (
        f"https://h/v1?x=1&{expected.lstrip('?')}#top"
    )


@pytest.mark.parametrize(
    "query", ["", "key", "key=", "monkey=a", "keys=a", "page=key", "q=key&x=y", "a=b", None, 1]
)
def test_other_queries_stay(query: Any) -> None:
    assert redact_query(query) == query
    assert redact_url(f"/v1?{query}") == f"/v1?{query}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pass@host/v1", "https://{}@host/v1"),
        ("https://token@host:8443?key=x", "https://{}@host:8443?key={}"),
        ("https://us@er:p@ss@host/", "https://{}@host/"),
        ("https://host/v1/@me?x=a@b", "https://host/v1/@me?x=a@b"),
        ("/users/@me", "/users/@me"),
    ],
)
def test_user_information_in_urls(url: str, expected: str) -> None:
    assert redact_url(url) == expected.replace("{}", REDACTED)
