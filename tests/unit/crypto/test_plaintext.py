"""What may be sealed or written in the clear, and what not."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from gproxy_storage.crypto.encoding import Malformed
from gproxy_storage.crypto.plaintext import Marked, check_text, dump_json, load_json
from gproxy_storage.errors import InvalidValue
from tests.cases import for_each

from .support import chain


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@for_each("text", ["", " enc:", "ENC:v3", "enc", "é😀", "$gproxy_enc", "a\x1c\n"])
def test_text_is_taken_as_it_is(text: str) -> None:
    assert check_text(text, "password") is text


@for_each(
    ("text", "why"),
    [
        ("enc:", "begins with 'enc:'"),
        ("enc:canary", "begins with 'enc:'"),
        ("enc:v3:pending", "begins with 'enc:'"),
        ("canary\0", "NUL"),
        ("canary\ud800", "lone surrogate"),
        ("\udcffcanary", "lone surrogate"),
        (b"canary", "must be a str, not bytes"),
        (None, "must be a str, not NoneType"),
    ],
)
def test_text_that_is_refused(text: Any, why: str) -> None:
    with pytest.raises(InvalidValue, match=f"password .*{why}") as caught:
        check_text(text, "password")

    assert caught.value.argument == "password"
    assert "canary" not in str(caught.value)
    assert list(chain(caught.value)) == [caught.value]


@for_each(
    ("document", "text"),
    [
        (None, "null"),
        ({}, "{}"),
        ("", '""'),
        ("enc:v3:x", '"enc:v3:x"'),  # a text within JSON is not taken for a sealed one
        ({"a": ["$gproxy_enc", 1, 2.5, None, True]}, '{"a":["$gproxy_enc",1,2.5,null,true]}'),
        ({"é": "😀\n"}, '{"é":"😀\\n"}'),
        ((1, (2,)), "[1,[2]]"),
        (2**64 - 1, "18446744073709551615"),
        (-(2**63), "-9223372036854775808"),
        (1e300, "1e+300"),
        (HTTPStatus.OK, "200"),  # a subclass of int
    ],
)
def test_json_is_compact(document: Any, text: str) -> None:
    assert dump_json(document, "secret_json") == text
    assert dump_json(load_json(text), "secret_json") == text


@for_each(
    ("document", "why"),
    [
        (float("nan"), "holds NaN or infinity"),
        ({"canary": [float("inf")]}, "holds NaN or infinity"),
        ([-float("inf")], "holds NaN or infinity"),
        ({"$gproxy_enc": "v3"}, "holds a member '\\$gproxy_enc'"),
        ({"$gproxy_enc": None, "canary": 1}, "holds a member '\\$gproxy_enc'"),
        ([{"canary": {"$gproxy_enc": "v2"}}], "holds a member '\\$gproxy_enc'"),
        ({"canary": "\0"}, "NUL"),
        ({"canary\0": 1}, "NUL"),
        ({"canary": "\ud800"}, "lone surrogate"),
        ({"\ud800canary": 1}, "lone surrogate"),
        (2**64, "integer beyond 64 bits"),
        ([-(2**63) - 1], "integer beyond 64 bits"),
        ({1: "canary"}, "a key that is a int"),
        ({None: "canary"}, "a key that is a NoneType"),
        ({"canary": b"canary"}, "holds a bytes"),
        ({"canary": {1}}, "holds a set"),
        (object(), "holds a object"),
        (endless(), "over 127 levels deep, or contains itself"),
        (nested(128), "over 127 levels deep"),
    ],
)
def test_json_that_is_refused(document: Any, why: str) -> None:
    with pytest.raises(InvalidValue, match=f"secret_json .*{why}") as caught:
        dump_json(document, "secret_json")

    assert caught.value.argument == "secret_json"
    assert "canary" not in str(caught.value)
    assert list(chain(caught.value)) == [caught.value]


def test_the_deepest_json_makes_the_round_trip() -> None:
    assert load_json(dump_json(nested(127), "secret_json")) == nested(127)


@for_each(
    "text",
    [
        "",
        "{",
        "canary",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "[1]x",
        "'a'",
        "\ufeff{}",
        "1" * 5000,
        "[" * 100_000,
        '{"a":"\n"}',
        '{"canary":01}',
    ],
)
def test_invalid_json_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        load_json(text)

    assert str(caught.value) == "it is not JSON"
    assert list(chain(caught.value)) == [caught.value]


@for_each(
    "spell",
    [
        lambda name: f'"{name}"',
        lambda name: '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"',
        lambda name: '"' + "".join(f"\\u{ord(c):04X}" for c in name[:1]) + name[1:] + '"',
    ],
)
def test_a_marked_object_is_found_however_it_is_spelled(spell: Callable[[str], str]) -> None:
    marked = f'{{{spell("$gproxy_enc")}:"v3"}}'

    assert load_json(marked) == Marked([("$gproxy_enc", "v3")])
    assert isinstance(load_json(f" {marked} "), Marked)
    for around in (f"[{marked}]", f'{{"a":{marked}}}', f'[1,{{"a":[[{marked}]]}},2]'):
        with pytest.raises(Malformed) as caught:
            load_json(around)
        assert str(caught.value) == "it holds '$gproxy_enc' inside its document"


@for_each("document", [["$gproxy_enc"], {"a": "$gproxy_enc"}, {"$gproxy_enc2": "\\u"}, "\\u0024"])
def test_what_looks_similar_is_not_marked(document: Any) -> None:
    assert load_json(dump_json(document, "secret_json")) == document
