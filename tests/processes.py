"""Python processes of tests: a plain environment, warnings as errors, searched output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import leaks

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 600

PLAINTEXT_WARNING = (
    "secrets are stored in the clear: set DATABASE_SECRET_KEY to encrypt them (`gproxy-storage "
    "keygen` makes one)\n"
)
"""What a program that sets up no logging shows on stderr when it opens a plaintext database."""


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment that finds the package and has only the given settings of it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GPROXY_", "DATABASE_SECRET", "PG", "PYTHON", "COV_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **(settings or {})}


def run_python(
    *arguments: str | Path,
    settings: Mapping[str, str] | None = None,
    cwd: Path,
    stdin: str = "",
    timeout_s: float = TIMEOUT_S,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments to its end, whatever that is."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(settings),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        input=stdin,
        **options,
    )
    leaks.check(done.stdout, "stdout of a subprocess")
    leaks.check(done.stderr, "stderr of a subprocess")
    return done


class Program(subprocess.Popen[str]):
    """A process whose block does not wait for its end when an assertion leaves the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self.kill()
        super().__exit__(exc_type, value, traceback)


def start_python(arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> Program:
    """Start Python with pipes for its standard streams."""
    return Program(
        [sys.executable, *arguments],
        env=environment(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
