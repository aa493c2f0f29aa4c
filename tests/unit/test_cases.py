"""Tests over tables: every case runs, and the message has the evidence of each that fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from tests.cases import for_any, for_each

CASES = [(1, "a"), (2, "b"), (3, "c")]


def test_every_case_runs_once_and_in_order() -> None:
    seen = []

    @for_each(("number", "text"), CASES)
    def check(number: int, text: str) -> None:
        seen.append((number, text))

    check()
    assert seen == CASES


def test_all_failures_are_in_one_message() -> None:
    @for_each("number, text", CASES)
    def check(number: int, text: str) -> None:
        assert number == 2, f"odd: {number}"

    with pytest.raises(pytest.fail.Exception) as caught:
        check()
    message = str(caught.value)
    assert message.startswith("2 of 3 cases fail:")
    assert "-- number=1, text='a'\n" in message
    assert "-- number=3, text='c'\n" in message
    assert "number=2" not in message
    assert "odd: 1" in message
    assert 'assert number == 2, f"odd: {number}"' in message, "the line that failed"


def test_what_should_have_been_raised_and_an_error_are_failures_too() -> None:
    @for_each("call", [lambda: None, lambda: {"a": 1}["k"], lambda: int("x")])
    def check(call: Callable[[], object]) -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            call()

    with pytest.raises(pytest.fail.Exception) as caught:
        check()
    assert str(caught.value).startswith("2 of 3 cases fail:")
    assert "DID NOT RAISE" in str(caught.value)
    assert "KeyError: 'k'" in str(caught.value)


def test_combinations_stand_on_top_of_each_other() -> None:
    seen = []

    @for_each("a", [1, 2])
    @for_each("b", "xy")
    def check(a: int, b: str) -> None:
        seen.append((a, b))

    check()
    assert seen == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_pytest_gives_what_no_case_gives(tmp_path: object) -> None:
    @pytest.mark.slow
    @for_each("number", [1, 2])
    def check(number: int, tmp_path: object) -> None:
        assert tmp_path

    assert list(inspect.signature(check).parameters) == ["tmp_path"]
    assert [mark.name for mark in vars(check)["pytestmark"]] == ["slow"]
    check(tmp_path=tmp_path)


def test_long_values_are_shown_in_part() -> None:
    @for_each("text", ["x" * 10_000])
    def check(text: str) -> None:
        raise ValueError

    with pytest.raises(pytest.fail.Exception) as caught:
        check()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("names", "cases"), [("a", []), ("a, b", [(1,)]), ("a, b", [(1, 2, 3)])])
def test_a_table_that_is_none(names: str, cases: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"zip\(\)|without cases"):
        for_each(names, cases)


def test_a_property_is_tried_as_often_as_it_says() -> None:
    seen = []

    @for_any(st.integers(), quick=7, thorough=70)
    def check(number: int) -> None:
        seen.append(number)

    check(examples=7)
    assert len(seen) == 7
    (mark,) = vars(check)["pytestmark"]
    quick, thorough = mark.args[1]
    assert (quick, thorough.values, thorough.marks[0].name) == (7, (70,), "slow")


def test_a_property_that_does_not_hold_fails() -> None:
    @for_any(st.integers(), quick=50, thorough=50)
    def check(number: int) -> None:
        assert number < 10

    with pytest.raises(AssertionError):
        check(examples=50)
