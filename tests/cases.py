"""Tests over many cases: tables, of which one message says what fails, and drawn values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

Test = Callable[..., None]

_SHOWN = 200
"""How many characters of a value are shown."""


def for_each(names: str | Sequence[str], cases: Iterable[Any]) -> Callable[[Test], Test]:
    """Run a test for each case, in one item: `pytest.mark.parametrize` for tables.

    All cases run, whichever fail. Fixtures are set up once for all of them, so this is for tests
    that leave nothing behind. Several stand on top of each other for all combinations.

    Args:
        names: the parameters that a case gives, as `parametrize` takes them.
        cases: a value each for one name, a sequence of as many values for several; at least one.
    """
    given = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    rows = [dict(zip(given, [case] if len(given) == 1 else case, strict=True)) for case in cases]
    if not rows:
        raise ValueError("a table without cases proves nothing")

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            __tracebackhide__ = True  # the cases' own tracebacks are in the message
            failures = []
            for row in rows:
                try:
                    test(**fixtures, **row)
                except (Exception, pytest.fail.Exception) as error:
                    failures.append(_described(row, error))
            if failures:
                count = f"{len(failures)} of {len(rows)} cases fail"
                pytest.fail("\n\n".join([f"{count}:", *failures]), pytrace=False)

        # What is left is what pytest gives: fixtures and parameters.
        signature = inspect.signature(test)
        left = [each for each in signature.parameters.values() if each.name not in given]
        vars(run)["__signature__"] = signature.replace(parameters=left)
        return run

    return decorate


def for_any(cases: SearchStrategy[Any], *, quick: int, thorough: int) -> Callable[[Test], Test]:
    """Test a property of one argument: `quick` examples in `make test`, more in `make soak`."""

    def decorate(test: Test) -> Test:
        @pytest.mark.parametrize(
            "examples", [quick, pytest.param(thorough, marks=pytest.mark.slow)]
        )
        @functools.wraps(test)
        def run(examples: int) -> None:
            given_cases = given(cases)(test)
            settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])(
                given_cases
            )()

        vars(run)["__signature__"] = inspect.Signature(
            [inspect.Parameter("examples", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        )
        return run

    return decorate


def _described(row: Mapping[str, Any], error: BaseException) -> str:
    shown = []
    for name, value in row.items():
        text = repr(value)
        shown.append(f"{name}={text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'}")
    trace = pytest.ExceptionInfo.from_exception(error).getrepr(style="short")
    return f"-- {', '.join(shown)}\n{trace}"
