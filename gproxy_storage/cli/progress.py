"""Progress: shows the progress of a long command; Interrupted: its end by Ctrl-C."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

LINE_EVERY_S = 10.0
"""The interval of lines without a terminal."""

_LIVE_EVERY_S = 0.2

EXIT_INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as in shells."""


class Interrupted(click.ClickException):
    """Ctrl-C in a command: every command here can be run again."""

    exit_code = EXIT_INTERRUPTED

    def __init__(self) -> None:
        super().__init__("Interrupted. What was done is kept: run it again to finish.")

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message without the word Error."""
        click.echo(self.format_message(), file=file or sys.stderr)


class Progress:
    """Counts items that are done; call it with the number of further ones.

    Args:
        doing: what is done, the first word of each line, for example ``writing``.
        total: the expected number of items; there may be more in the end.
        unit: what is counted.
    """

    def __init__(self, doing: str, total: int, unit: str) -> None:
        self._doing = doing
        self._total = total
        self._unit = unit
        self._started = time.monotonic()
        self._done = 0

    def __call__(self, done: int = 1) -> None:
        """Count items as done."""
        self._done += done

    def __str__(self) -> str:
        done, total = self._done, max(self._done, self._total)
        share = 100 * done // total if total else 100
        text = f"{self._doing}: {done:,} of {total:,} {self._unit} ({share}%)"
        elapsed_s = time.monotonic() - self._started
        if not done or not elapsed_s or done == total:
            return text
        rate = done / elapsed_s
        pace = f"{rate:,.0f}/s" if rate >= 1 else f"{1 / rate:,.0f} s each"
        return f"{text}, {pace}, {_duration((total - done) / rate)} left"


@contextmanager
def progress(doing: str, total: int, unit: str = "values") -> Iterator[Progress]:
    """Show the block's progress on stderr: live on a terminal, else by a line every `LINE_EVERY_S`.

    Written by a thread of its own, so that lines appear while a step takes long. Without a terminal
    a block that ends sooner writes nothing. The arguments are those of `Progress`.
    """
    shown = Progress(doing, total, unit)
    stream = sys.stderr
    is_live = stream.isatty()
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(_LIVE_EVERY_S if is_live else LINE_EVERY_S):
            _write(stream, str(shown), is_live=is_live)

    thread = threading.Thread(target=show, name="gproxy-progress", daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        ended.set()
        thread.join()
        if is_live:
            _write(stream, str(shown), is_live=True)
            stream.write("\n")


def _write(stream: IO[str], text: str, *, is_live: bool) -> None:
    try:
        if is_live:
            width = shutil.get_terminal_size().columns - 1
            stream.write(f"\r{text[:width]:{width}}")
        else:
            stream.write(f"{text}\n")
        stream.flush()
    except (OSError, ValueError):  # stderr is closed, which is no reason to stop
        pass


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
