"""Model patterns: `gpt-4.1` names one model, `gpt-*` a prefix, `*-mini` a suffix, `*` every model.

Patterns are case-sensitive. A `*` is a wildcard only at one end; a pattern with another is refused
when it is stored, and one that another program stored matches only itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InvalidValue
from .arguments import require_text

EVERY = "*"
"""The pattern that matches every model."""

MAX_PATTERN_LENGTH = 255
"""Maximum number of characters of a pattern: the length of its column."""


def require_pattern(argument: str, value: Any) -> str:
    """Return a pattern that is not blank, with at most one `*`, which begins or ends it."""
    pattern = require_text(argument, value)
    if pattern != EVERY and "*" in pattern[1:-1] + pattern[:1] * pattern.endswith("*"):
        raise InvalidValue(
            f"{argument} may have one *, as its first or its last character", argument=argument
        )
    return pattern


def require_model(argument: str, value: Any) -> str:
    """Return the name of a model in a request."""
    model = require_text(argument, value)
    if "\0" in model:
        raise InvalidValue(f"{argument} must not hold a NUL character", argument=argument)
    return model


def matches(pattern: str, model: str) -> bool:
    """Tell whether a pattern matches a model."""
    if pattern.endswith("*"):
        return model.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return model.endswith(pattern[1:])
    return pattern == model


def precedence(pattern: str, model: str) -> tuple[int, int]:
    """Return how closely a pattern matches a model; of several that match, the greatest applies.

    The model itself, then the longest prefix, then the longest suffix, then `*`. GPROXY's rule
    does not mention suffixes; their rank here changes nothing that the rule decides.
    """
    if pattern == model:
        return 3, 0
    if pattern == EVERY:
        return 0, 0
    return (2 if pattern.endswith("*") else 1), len(pattern)


def closest(patterns: Iterable[str], model: str) -> str | None:
    """Return the pattern that applies to a model, or None if none matches."""
    matching = [pattern for pattern in patterns if matches(pattern, model)]
    return max(matching, key=lambda pattern: precedence(pattern, model), default=None)


def candidates(model: str) -> list[str]:
    """Return every pattern that matches a model and fits into its column.

    They are few (twice the model's length), so an index finds the stored ones by equality; LIKE
    would read every pattern of the user and treat ``_`` and ``%`` as wildcards.
    """
    longest = min(len(model), MAX_PATTERN_LENGTH - 1)
    prefixes = [f"{model[:length]}*" for length in range(longest + 1)]  # `*` first
    # A pattern with a `*` at each end counts as a prefix: see `matches`.
    suffixes = [
        f"*{model[len(model) - length :]}"
        for length in range(1, longest + 1)
        if not model.endswith("*")
    ]
    exact = [model] if len(model) <= MAX_PATTERN_LENGTH else []
    return [*exact, *prefixes, *suffixes]
