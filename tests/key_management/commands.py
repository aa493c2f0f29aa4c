"""The real commands as processes, run to their end or killed between two statements."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from tests import leaks
from tests.key_management.load import Done, Threads
from tests.key_management.support import SECRET
from tests.processes import run_python, start_python
from tests.support import Child


def command(
    dsn: str, *arguments: str, cwd: Path, settings: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``gproxy-storage encryption ...`` on a database under the tests' secret."""
    return run_python(
        "-m",
        "gproxy_storage",
        "encryption",
        *arguments,
        settings={"GPROXY_DSN": dsn, "DATABASE_SECRET_KEY": SECRET, **(settings or {})},
        cwd=cwd,
    )


def outcome(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what a command that was given --json printed; it has succeeded."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def count_steps(database: Backend, before: Callable[[int], None]) -> None:
    """Call `before` with 1, 2, ... before each statement, BEGIN and COMMIT of a database."""
    steps = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            before(steps)
            return call(*arguments, **options)

        return step

    for name in ("execute_sql", "begin", "commit"):
        setattr(database, name, counted(getattr(database, name)))


def killed_at(step: int, start: Callable[[], Storage], run: Callable[[Storage], object]) -> bool:
    """Run an operation in a child that is killed before its nth step; False when it ended first."""

    def child() -> str:
        def before(number: int) -> None:
            if number == step:
                os.kill(os.getpid(), signal.SIGKILL)

        storage = start()
        count_steps(storage.database, before)
        run(storage)
        return "ended"

    process = Child(child)
    said = process.result()
    assert process.exit_code in (0, -signal.SIGKILL), said
    return process.exit_code != 0


@contextmanager
def load(
    storage: Storage, dsn: str, rows: int, api_key: str, secret: str | None
) -> Iterator[list[Done]]:
    """Four threads on the storage and four in another process; what they did, at the end."""
    half = rows // 2
    arguments = ["-m", "tests.key_management.load", dsn, "1", str(half + 1), api_key]
    settings = {} if secret is None else {"DATABASE_SECRET_KEY": secret}
    done: list[Done] = []
    with start_python(arguments, settings) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        said = next((line for line in lines if line == "ready\n"), "nothing")
        assert said == "ready\n"
        threads = Threads(storage, range(half + 1, rows + 1), api_key)
        try:
            yield done
        finally:
            done += threads.stop()
        process.stdin.close()
        said = process.stdout.read()
        leaks.check(said, "the output of the load")
        for one in json.loads(said.splitlines()[-1]):
            versions = {int(number): version for number, version in one["versions"].items()}
            done.append(Done(**one | {"versions": versions}))
