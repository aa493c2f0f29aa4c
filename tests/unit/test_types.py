"""What type checkers make of a user's code: typed_code.py says what is right and what is not.

What holds for every foreign key and every repository is written by `every_one` below.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.models import TABLES
from gproxy_storage.repositories.base import BaseRepository, Repository
from gproxy_storage.repositories.registry import registered

CODE = Path(__file__).with_name("typed_code.py")
ROOT = Path(__file__).parents[2]  # where checkers find a package that is installed for editing
SETTINGS = {
    "typeCheckingMode": "standard",
    "reportUnnecessaryTypeIgnoreComment": "error",
    "extraPaths": [str(ROOT)],
}
CHECKERS = {
    "mypy": ["mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache"],
    # Pyright itself, without what its own package downloads when it runs.
    "pyright": ["basedpyright", "--level=error", f"--pythonpath={sys.executable}"],
}


@pytest.mark.parametrize("checker", list(CHECKERS))
def test_a_users_code(checker: str, tmp_path: Path) -> None:
    """In a directory of its own: without this repository's settings."""
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
    (tmp_path / CODE.name).write_text(CODE.read_text())
    lines = list(every_one())
    assert len(lines) > 100
    (tmp_path / "every_one.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", *CHECKERS[checker]]
    if checker == "mypy":
        command += [CODE.name, "every_one.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def every_one() -> Iterator[str]:
    """Code that asserts the types of each foreign key's row, and of each repository's rows.

    A line with an ignore is a mistake that type checkers must find: one not needed is an error.
    """
    yield "from typing import assert_type"
    yield "from gproxy_storage import Storage, models"
    for model in TABLES:
        for key, target in model._meta.refs.items():
            row, or_none = f"models.{model.__name__}()", " | None" * key.null
            yield f"assert_type({row}.{key.name}, models.{target.__name__}{or_none})"
            yield f"assert_type({row}.{key.column_name}, int{or_none})"
    yield "storage = Storage.open()"
    for name, kind in registered(Storage).items():
        if issubclass(kind, Repository):
            yield f"assert_type(storage.{name}.get(1), models.{kind.model.__name__})"
            yield f"storage.{name}.delete('1')  # type: ignore[arg-type]"
        if issubclass(kind, BaseRepository) and hasattr(kind, "filters"):
            for verb in ("list", "iter", "count"):
                yield f"storage.{name}.{verb}(no_filter=1)  # type: ignore[call-arg]"
