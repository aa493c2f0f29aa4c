"""What type checkers make of a user's code: typed_code.py says what is right and what is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import peewee
import pytest

from gproxy_storage.models import TABLES, Table

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
    command = [sys.executable, "-m", *CHECKERS[checker]]
    if checker == "mypy":
        command.append(CODE.name)
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_foreign_key_is_in_it() -> None:
    asserted = re.findall(r"assert_type\((\w+\.\w+), (\w+)( \| None)?\)", CODE.read_text())
    keys = [
        (f"{_name(model)}.{key.name}", key.rel_model.__name__, " | None" if key.null else "")
        for model in TABLES
        for key in model._meta.sorted_fields
        if isinstance(key, peewee.ForeignKeyField)
    ]
    assert len(keys) > 20
    assert set(keys) <= set(asserted)


def _name(model: type[Table]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=M)(?=Mo)", "_", model.__name__).lower()
