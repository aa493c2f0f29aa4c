"""Secret shows itself only when asked."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from gproxy_storage.secret import Secret
from tests.cases import for_each

TEXT = "correct horse battery"


@for_each(
    "show",
    [
        repr,
        str,
        ascii,
        "{}".format,
        "{:>40}".format,
        "{!r:s}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - this form is the subject
        lambda secret: repr({"key": [secret]}),
        lambda secret: str(ValueError(secret)),
        lambda secret: json.dumps(secret, default=str),
    ],
)
def test_no_way_of_showing_it_shows_it(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(TEXT))

    assert TEXT not in shown
    assert "***" in shown


def test_reveal_is_the_way_to_it() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_format_keeps_the_width() -> None:
    assert f"{Secret(TEXT):>5}" == "  ***"


@for_each(
    "take_away",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        *(lambda secret, p=p: pickle.dumps(secret, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ],
)
def test_it_is_not_pickled_or_copied(take_away: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        take_away(Secret(TEXT))

    assert TEXT not in str(caught.value)


def test_it_has_no_dict_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(Secret(TEXT))


@for_each(
    ("one", "other", "equal"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "ab", False),
        ("", "", True),
        ("é", "é", True),
        ("\udcff", "\udcff", True),  # not UTF-8: no UnicodeEncodeError that would hold it
        ("\udcff", "\udcfe", False),
    ],
)
def test_equality_is_by_value(one: str, other: str, equal: bool) -> None:
    assert (Secret(one) == Secret(other)) is equal
    assert (Secret(one) != Secret(other)) is not equal
    if equal:
        assert hash(Secret(one)) == hash(Secret(other))


def test_it_equals_no_string() -> None:
    assert Secret("a") != "a"
    assert Secret("a").__eq__("a") is NotImplemented


@for_each(("text", "truth"), [("", False), (" ", True), ("0", True)])
def test_it_is_true_unless_empty(text: str, truth: bool) -> None:
    assert bool(Secret(text)) is truth
