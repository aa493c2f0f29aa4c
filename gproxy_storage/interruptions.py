"""What a signal handler raises is not the system's word, whatever class it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def raise_interruption(exc: OSError) -> None:
    """Raise an OSError that no system call returned again: the TimeoutError of a time limit."""
    if exc.errno is None:
        raise exc


@contextmanager
def ignoring_system_errors() -> Iterator[None]:
    """Go on after the block where a system call failed in it."""
    try:
        yield
    except OSError as exc:
        raise_interruption(exc)
