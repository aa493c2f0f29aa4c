"""Model patterns: what fits, what applies, what can be found by equality."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gproxy_storage.errors import InvalidValue
from gproxy_storage.repositories.patterns import (
    MAX_PATTERN_LENGTH,
    candidates,
    closest,
    matches,
    require_model,
    require_pattern,
)
from tests.cases import for_each


@for_each(
    ("pattern", "model", "fits"),
    [
        ("gpt-4", "gpt-4", True),
        ("gpt-4", "gpt-4.1", False),
        ("gpt-4", "GPT-4", False),
        ("gpt-4", "gpt-", False),
        ("gpt-*", "gpt-4", True),
        ("gpt-*", "gpt-", True),
        ("gpt-*", "gpt", False),
        ("gpt-*", "my-gpt-4", False),
        ("gpt-*", "GPT-4", False),
        ("*-mini", "gpt-4-mini", True),
        ("*-mini", "-mini", True),
        ("*-mini", "mini", False),
        ("*-mini", "gpt-4-mini-2", False),
        ("*", "anything", True),
        ("*", "*", True),
        # Characters that mean something elsewhere mean themselves here.
        ("a_c", "abc", False),
        ("a%*", "abc", False),
        ("a%*", "a%bc", True),
        ("a?c", "abc", False),
        ("[ab]*", "a", False),
        ("gpt.*", "gpt-4", False),
        ("a\\*", "a*", False),
        ("é*", "él", True),
        ("é*", "e\u0301l", False),  # another spelling of the same letter is another text
        ("😀*", "😀x", True),
        ("gpt-4 ", "gpt-4", False),
        # What a request may try: the name of a model is never taken for a pattern.
        ("gpt-4", "*", False),
        ("gpt-4", "gpt-*", False),
        ("gpt-*", "gpt-*", True),
        ("gpt-4*", "gpt-*", False),
        # Stored by another program: no wildcard inside, and at both ends only the last counts.
        ("a*c", "abc", False),
        ("a*c", "a*c", True),
        ("*b*", "abc", False),
        ("*b*", "*bc", True),
    ],
)
def test_a_pattern_fits_the_names_it_describes(pattern: str, model: str, fits: bool) -> None:
    assert matches(pattern, model) is fits
    assert (pattern in candidates(model)) is fits


@for_each(
    ("patterns", "applies"),
    [
        ("* gpt-* gpt-4* *-mini gpt-4-mini", "gpt-4-mini"),
        ("* gpt-* gpt-4* *-mini", "gpt-4*"),
        ("* gpt-* *4-mini *-mini", "gpt-*"),
        ("* g* *pt-4-mini", "g*"),
        ("* *-mini *4-mini *i", "*4-mini"),
        ("* *i", "*i"),
        ("*", "*"),
        ("gpt-4 gpt-4.* *-maxi", None),
        ("gpt-4-mini*", "gpt-4-mini*"),
        ("gpt-4-mini* gpt-4-mini", "gpt-4-mini"),
        ("", None),
    ],
)
def test_the_closest_pattern_applies(patterns: str, applies: str | None) -> None:
    for order in (patterns.split(), patterns.split()[::-1]):
        assert closest(order, "gpt-4-mini") == applies


TEXT = st.text(st.sampled_from("ab*_%é"), min_size=1, max_size=6)


@given(TEXT, TEXT)
@example("**", "_*")
def test_candidates_are_the_patterns_that_fit(pattern: str, model: str) -> None:
    assert (pattern in candidates(model)) is matches(pattern, model)


@given(st.lists(TEXT), TEXT)
def test_what_applies_fits_best(patterns: list[str], model: str) -> None:
    applies = closest(patterns, model)
    fitting = [pattern for pattern in patterns if matches(pattern, model)]

    assert (applies in fitting) if fitting else (applies is None)
    if model in patterns:
        assert applies == model
    elif applies is not None:
        prefixes = [each for each in fitting if each.endswith("*") and each != "*"]
        assert len(applies) == max(
            map(len, prefixes or [each for each in fitting if each != "*"]), default=1
        )


@for_each("length", [1, 254, 255, 256, 10**6])
def test_a_long_name_has_few_candidates(length: int) -> None:
    found = candidates("x" * length)

    assert len(found) <= 2 * MAX_PATTERN_LENGTH
    assert max(map(len, found)) <= MAX_PATTERN_LENGTH
    assert "*" in found
    assert (f"{'x' * 254}*" in found) is (length >= 254)
    assert ("x" * length in found) is (length <= 255)
    assert len(set(found)) == len(found)


@for_each("pattern", ["gpt-4", "gpt-*", "*-mini", "*", "a b", "é", "%_*"])
def test_what_is_a_pattern(pattern: str) -> None:
    assert require_pattern("model_pattern", pattern) == pattern


@for_each(
    "pattern", ["", " ", "**", "*a*", "a*b", "a*b*", "*a*b", "***", "\ud800", None, 7, b"gpt"]
)
def test_what_is_no_pattern(pattern: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        require_pattern("model_pattern", pattern)
    assert caught.value.argument == "model_pattern"


@for_each("model", ["", " ", "a\0", "\ud800", None, 7, b"gpt"])
def test_what_is_no_model(model: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        require_model("model", model)
    assert caught.value.argument == "model"
