"""Tells OSErrors that a signal handler raised from those of system calls."""

from __future__ import annotations

from types import TracebackType


def raise_interruption(exc: OSError) -> None:
    """Raise an OSError again if no system call caused it, such as a time limit's TimeoutError."""
    if exc.errno is None:
        raise exc


class SystemErrorsIgnored:
    """A context manager that suppresses OSErrors of system calls."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(exc, OSError) and exc.errno is not None
