"""Redaction: what is taken out of headers, URLs and queries, and what is not."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from typing import Any

from gproxy_storage.repositories import credential_names as names
from gproxy_storage.repositories import redaction
from gproxy_storage.repositories.redaction import (
    REDACTED,
    redact_headers,
    redact_query,
    redact_url,
)
from tests.cases import for_each


class Insensitive(str):
    """A name as some libraries make it: another value than its text says."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "host"

    def __hash__(self) -> int:
        return hash("host")

    def __str__(self) -> str:
        return "host"

    lower = casefold = __str__


class Header(enum.StrEnum):
    KEY = "X-Api-Key"


class OldHeader(str, enum.Enum):  # noqa: UP042 - as it was before StrEnum
    AUTHORIZATION = "Authorization"


SPELLINGS: list[Callable[[str], str]] = [
    str.lower,
    str.upper,
    str.title,
    str.swapcase,
    lambda name: f" {name}\t",
    lambda name: name.replace("-", "_"),
    lambda name: f"HTTP_{name.upper().replace('-', '_')}",
    lambda name: f"{name}-2",
    Insensitive,
]


@for_each("name", sorted(names.HEADERS))
@for_each("spelled", SPELLINGS)
def test_secret_headers_are_redacted_however_spelled(
    name: str, spelled: Callable[[str], str]
) -> None:
    name = spelled(name)
    redact_headers({"host": "h"})  # a name that is known to be harmless

    assert redact_headers({name: "Bearer x", "accept": "*/*"}) == {name: REDACTED, "accept": "*/*"}
    assert redact_headers([[name, "x"], ("Accept", "y"), (name, "z")]) == [
        [name, REDACTED],
        ["Accept", "y"],
        [name, REDACTED],
    ]


@for_each("name", [Header.KEY, OldHeader.AUTHORIZATION, b"Authorization", "x" * 300])
def test_names_that_are_no_plain_text(name: Any) -> None:
    assert redact_headers({name: "sk"}) == {name: REDACTED}
    assert redact_headers([(name, "sk", "sk")]) == [[name, REDACTED, REDACTED]]


@for_each(
    "name",
    [
        *("X-New-Gateway-Api-Key", "x-newapikey", "New-Token", "x-new-authorization", "new-auth"),
        *("X-New-Secret", "x-payload-signature", "X-Signature-256", "x-db-password", "new-cookie"),
        *("x-new-credential", "x-new-credentials", "x-admin-key", "x-jwt", "key"),
    ],
)
def test_unknown_names_with_typical_endings_are_secret(name: str) -> None:
    assert redact_headers({name: "sk"}) == {name: REDACTED}
    assert redact_query(f"{name}=sk") == f"{name}={REDACTED}"


def test_several_values_of_one_header() -> None:
    assert redact_headers({"Set-Cookie": ["a=1", "b=2"]}) == {"Set-Cookie": REDACTED}
    assert redact_headers([["cookie", "a=1", "b=2"]]) == [["cookie", REDACTED, REDACTED]]


HARMLESS = [
    *("x-api-key-id", "authorization-info", "openai-organization", "idempotency-key", "host"),
    *("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens-5min", "max_tokens", "maxtokens"),
    *("anthropic-ratelimit-tokens-reset", "sec-websocket-key", "access-control-allow-credentials"),
    *("page_token", "pageToken", "www-authenticate", "x-cache-key", "prompt_cache_key", "tokens"),
    *(
        "x-session-id",
        "monkey",
        "keys",
        "x-keyboard",
        "authority",
        ":path",
        "status-code",
        "author",
    ),
    *("encoding", "signed-headers", "x-amz-signedheaders", "token-type", "x-token-count", "codec"),
]


@for_each("name", HARMLESS)
def test_similar_names_are_not_redacted(name: str) -> None:
    for spelled in (str.lower, str.upper, str.title):
        headers = {spelled(name): "5"}
        assert redact_headers(headers) == headers
        assert redact_headers(headers) is not headers
        assert redact_query(f"{spelled(name)}=5&a=b") == f"{spelled(name)}=5&a=b"


def test_the_tables_are_written_as_names_are_compared() -> None:
    assert len(names.HEADERS) >= 40
    for name in (*names.HEADERS, *names.PARAMETERS, *names.HARMLESS):
        assert names.words_of(name) == name


@for_each(
    ("value", "expected"),
    [
        ("https://h/cb?code=c&state=s", "https://h/cb?code={}&state=s"),
        ("/cb#access_token=t&expires_in=9", "/cb#access_token={}&expires_in=9"),
        ("https://user:pw@h/", "https://{}@h/"),
        ('<https://h/?key=k>; rel="next"', '<https://h/?key={}; rel="next"'),
        (["/?sig=a", "/?se=b"], ["/?sig={}", "/?se=b"]),
        ({"url": "/?sig=a", "x-api-key": "b"}, {"url": "/?sig={}", "x-api-key": "{}"}),
        ("/cb;token=t", "/cb;token={}"),
        ("user:pw@h/", "{}@h/"),
        (None, None),
        (5, 5),
    ],
)
def test_urls_in_values_of_headers(value: Any, expected: Any) -> None:
    expected = json.loads(json.dumps(expected).replace("{}", REDACTED))

    for name in ("Location", "Referer", "x-original-url"):
        for _ in range(2):  # a name that was seen before, too
            assert redact_headers({name: value}) == {name: expected}
        assert redact_headers([(name, value)]) == [[name, expected]]


@for_each(
    "value", ["text/plain; token=t", "multipart/form-data; boundary=key", "user:pw@h", "100%"]
)
def test_values_that_are_not_urls_are_kept(value: str) -> None:
    for _ in range(2):
        assert redact_headers({"x-some-type": value}) == {"x-some-type": value}
    assert redact_headers([("x-some-type", value, value)]) == [["x-some-type", value, value]]


def test_what_is_remembered_of_names_is_bounded() -> None:
    for number in range(2 * redaction._MAX_PLAIN):
        redact_headers({f"x-{number}": "a"})

    assert len(redaction._plain) <= redaction._MAX_PLAIN


@for_each("headers", [{}, [], [["a", "b"]], {"a": [1, None, ["b"]]}])
def test_other_headers_are_kept(headers: Any) -> None:
    assert redact_headers(headers) == headers
    assert redact_headers(headers) is not headers


@for_each("headers", ["authorization: x", None, 1, [1], ["ab"], [[]], {1: 2}])
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
    ("key=;a&b", "key={}"),
    (
        "%256bey=a&+key=b&key[]=c&%00key=d&key%20=e",
        "%256bey={}&+key={}&key[]={}&%00key={}&key%20={}",
    ),
    ("X-Amz-Date=b&X-Amz-Signature=c", "X-Amz-Date=b&X-Amz-Signature={}"),
    ("sv=1&sig=a%3D&se=2", "sv=1&sig={}&se=2"),
    ("code=a&state=b&client_secret=c", "code={}&state=b&client_secret={}"),
    ("key%3Da&b=c", "key%3D{}&b=c"),
    ("next=https%3A%2F%2Fh%2F%3Fkey%3Da", "next=https%3A%2F%2Fh%2F%3Fkey%3D{}"),
    (
        "next=https%253A%252F%252Fh%252F%253Fkey%253Da",
        "next=https%253A%252F%252Fh%252F%253Fkey%253D{}",
    ),
    ("next=https://h/?token=a", "next=https://h/?token={}"),
    ("next=https%3A%2F%2Fu%3Ap%40h%2F", "next=https%3A%2F%2F{}%40h%2F"),
    ("a%3Fkey%3Db=1", "a%3Fkey%3D{}=1"),
]


@for_each(("query", "expected"), QUERIES)
def test_secrets_in_queries_are_redacted(query: str, expected: str) -> None:
    expected = expected.replace("{}", REDACTED)

    assert redact_query(query) == expected
    assert redact_url(f"/v1?{query.lstrip('?')}") == f"/v1?{expected.lstrip('?')}"
    assert redact_url(f"https://h/v1?x=1&{query.lstrip('?')}#top") == (
        f"https://h/v1?x=1&{expected.lstrip('?')}#top"
    )


@for_each(
    "query",
    [
        *("", "key", "key=", "monkey=a", "keys=a", "page=key", "q=key&x=y", "a=b", "q=100%&x=%20"),
        *("q=%E4%BD%A0%3D1", "%", "%%%25", "a=&b", "key=&a=b", None, 1),
    ],
)
def test_other_queries_are_kept(query: Any) -> None:
    assert redact_query(query) == query
    assert redact_url(f"/v1?{query}") == f"/v1?{query}"


@for_each(
    ("url", "expected"),
    [
        ("https://user:pass@host/v1", "https://{}@host/v1"),
        ("https://token@host:8443?key=x", "https://{}@host:8443?key={}"),
        ("https://us@er:p@ss@host/", "https://{}@host/"),
        ("https://host/v1/@me?x=a@b", "https://host/v1/@me?x=a@b"),
        ("/users/@me", "/users/@me"),
        ("https://host:8443/users/@me", "https://host:8443/users/@me"),
        ("/v1/models/claude@2024:rawPredict?alt=sse", "/v1/models/claude@2024:rawPredict?alt=sse"),
        ("https://[::1]:80/@x", "https://[::1]:80/@x"),
        ("https://user:p/q@host/", "https://{}@host/"),
        ("https://user:p?q#r@host/", "https://{}@host/"),
        ("//user:pass@host", "//{}@host"),
        ("https:/user:pass@host/", "https:/{}@host/"),
        ("https:user:pass@host/", "https:{}@host/"),
        (r"https:\\user:pass@host/", r"https:\\{}@host/"),
        ("user:pass@host/path", "{}@host/path"),
        ("HTTPS://user:pass@host/", "HTTPS://{}@host/"),
        ("postgres://u:p@h/db?password=x", "postgres://{}@h/db?password={}"),
        (
            "https://api.telegram.org/bot12:AAx/sendMessage",
            "https://api.telegram.org/bot12:{}/sendMessage",
        ),
        ("https://hooks.slack.com/services/T1/B2/x", "https://hooks.slack.com/services/T1/B2/{}"),
    ],
)
def test_user_information_in_urls(url: str, expected: str) -> None:
    assert redact_url(url) == expected.replace("{}", REDACTED)
