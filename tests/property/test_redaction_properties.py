"""Redaction: whatever carries a credential, nothing that is stored holds it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from gproxy_storage.models import UpstreamRequest
from gproxy_storage.repositories import credential_names as names
from gproxy_storage.repositories.redaction import redact_headers, redact_query, redact_url

SECRET = "s3cret"

plain_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
harmless_names = st.sampled_from(["accept", "User-Agent", "x-request-id", "content-type"])


@st.composite
def spelled(draw: st.DrawFn, table: list[str]) -> str:
    """A name of a table, as somebody may write it: each letter in either case, words joined."""
    name = draw(st.sampled_from(table))
    upper = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    name = "".join(c.upper() if up else c for c, up in zip(name, upper, strict=True))
    name = name.replace("-", draw(st.sampled_from(["-", "_", ".", " "])))
    blanks = st.sampled_from(["", " ", "\t"])
    return draw(blanks) + name + draw(blanks)


header_names = spelled(sorted(names.HEADERS))
parameter_names = spelled(sorted({*names.HEADERS, *names.PARAMETERS}))


@st.composite
def parameters(draw: st.DrawFn) -> str:
    """Parameters of a query, one of them secret, in any percent-encoding that a name may have."""
    name = draw(parameter_names)
    escaped = draw(st.sets(st.integers(0, len(name) - 1)))
    raw = "".join(
        f"%{ord(c):02x}" if at in escaped else quote(c, safe="[]") for at, c in enumerate(name)
    )
    raw += draw(st.sampled_from(["", "[]", "[0]", "%00"]))
    others = st.sampled_from(["a=b", "alt=sse", "flag", "", "q=%20", "x=1?y=2", "é=ü"])
    before, after = draw(st.lists(others, max_size=3)), draw(st.lists(others, max_size=3))
    separator = draw(st.sampled_from(["&", ";"]))
    return separator.join([*before, f"{raw}={SECRET}", *after])


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL with a secret somewhere in it, or another URL with one in its parameters."""
    base = draw(st.sampled_from(["https://h/p", "/p", "//h", "wss://h:8443/v1/x@y", "HTTP://h"]))
    match draw(st.integers(0, 3)):
        case 0:
            login = draw(st.sampled_from([f"u:{SECRET}", SECRET, f"u@x:{SECRET}", f":{SECRET}"]))
            return f"https://{login}@h/p?a=b"
        case 1:
            return f"{base}{draw(st.sampled_from('?#;'))}{draw(parameters())}"
        case 2:
            return f"{base}?next={draw(urls())}"
    inner = draw(urls())
    for _ in range(draw(st.integers(1, 3))):
        inner = quote(inner, safe="")
    return f"{base}?next={inner}&a=b"


def stored(headers: Any) -> str:
    return str(UpstreamRequest.request_headers_json.db_value(redact_headers(headers)))


@given(
    st.lists(st.tuples(header_names | harmless_names, st.lists(st.none(), max_size=2))), st.data()
)
def test_no_secret_stays_in_headers(
    shape: list[tuple[str, list[None]]], data: st.DataObject
) -> None:
    harmless = {"accept", "User-Agent", "x-request-id", "content-type"}
    pairs = [
        (name, [data.draw(plain_text) if name in harmless else f"Bearer {SECRET}" for _ in values])
        for name, values in shape
    ]

    assert SECRET not in stored(dict(pairs))
    assert SECRET not in stored({name: values[0] for name, values in pairs if values})
    kept = stored([[name, *values] for name, values in pairs if values])
    assert SECRET not in kept
    for (name, values), found in zip(
        [each for each in pairs if each[1]], json.loads(kept), strict=True
    ):
        if name in harmless and not {"?", "#", "/", "="}.intersection(*values):
            assert found == [name, *values]


@given(urls(), st.sampled_from(["Location", "Referer", "X-Original-Url", "Link"]))
def test_no_secret_stays_in_urls(url: str, name: str) -> None:
    assert SECRET not in redact_url(url)
    assert SECRET not in stored({name: url})
    assert SECRET not in stored([(name, url, url)])


@given(parameters(), st.sampled_from(["", "?"]))
def test_no_secret_stays_in_queries(query: str, start: str) -> None:
    assert SECRET not in redact_query(start + query)


@given(st.text(), st.text())
def test_redaction_of_any_text_is_idempotent(name: str, value: str) -> None:
    for redact in (redact_url, redact_query):
        once = redact(value)
        assert redact(once) == once
    assert list(redact_headers({name: value})) == [name]
