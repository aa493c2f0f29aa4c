"""Progress: how far a long command is, and how it ends when it is interrupted."""

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
"""How often a line is written where there is no terminal."""

_LIVE_EVERY_S = 0.2

EXIT_INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


class Interrupted(click.ClickException):
    """Ctrl-C in a command: every command here can be run again."""

    exit_code = EXIT_INTERRUPTED

    def __init__(self) -> None:
        super().__init__("Interrupted. What was done is kept: run it again to finish.")

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message without the word Error."""
        click.echo(self.format_message(), file=file or sys.stderr)


class Progress:
    """What was done of a number of things; call it with how many more are.

    Args:
        doing: the first word of each line.
        total: how many there are; where more come while the command runs, they count as well.
    """

    def __init__(self, doing: str, total: int, unit: str) -> None:
        self._doing = doing
        self._total = total
        self._unit = unit
        self._started = time.monotonic()
        self._done = 0

    def __call__(self, done: int = 1) -> None:
        """Count what was done."""
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
def progress(
    doing: str, total: int, unit: str = "values", *, line_every_s: float = LINE_EVERY_S
) -> Iterator[Progress]:
    """Show on stderr how far the block is: live on a terminal, elsewhere in a line each 10 s.

    By a thread of its own, so that lines come while one step takes long. A block that is done
    sooner writes no line.

    Args:
        doing: what is done, for example ``writing``.
    """
    shown = Progress(doing, total, unit)
    stream = sys.stderr
    is_live = stream.isatty()
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(_LIVE_EVERY_S if is_live else line_every_s):
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
    except (OSError, ValueError):  # nobody reads it any more, which is no reason to stop
        pass


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
