"""What a signal handler raises is not the system's word, whatever class it has."""

from __future__ import annotations

from types import TracebackType


def raise_interruption(exc: OSError) -> None:
    """Raise an OSError that no system call returned again: the TimeoutError of a time limit."""
    if exc.errno is None:
        raise exc


class SystemErrorsIgnored:
    """A block after which it goes on where a system call failed in it."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(exc, OSError) and exc.errno is not None
