"""Tells OSErrors that a signal handler raised from those of system calls."""

from __future__ import annotations


def raise_interruption(exc: OSError) -> None:
    """Raise an OSError again if no system call caused it, such as a time limit's TimeoutError."""
    if exc.errno is None:
        raise exc
