"""What importing the package costs, and what it leaves for later."""

from __future__ import annotations

import statistics
import tomllib
from pathlib import Path

import pytest

from tests.processes import run_python

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
RUFF = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
LATER = RUFF["flake8-tidy-imports"]["banned-module-level-imports"]
LATER += ["click", "asyncio", "hypothesis", "pytest"]
LATER += [f"gproxy_storage.repositories.{name}" for name in ("quotas", "usages")]
ALONE = "peewee, cryptography.hazmat.primitives.ciphers.aead"

PROGRAM = """
import time
began = time.process_time()  # of the processor: what else runs does not count
import {modules}
print(time.process_time() - began)
"""


def test_what_is_not_always_needed_is_imported_later(tmp_path: Path) -> None:
    program = f"import sys, gproxy_storage; print([m for m in {LATER} if m in sys.modules])"

    assert run_python("-c", program, cwd=tmp_path).stdout == "[]\n"


@pytest.mark.slow
def test_importing_costs_at_most_1_6_times_the_dependencies(tmp_path: Path) -> None:
    def seconds(modules: str) -> float:
        done = run_python("-c", PROGRAM.format(modules=modules), cwd=tmp_path)
        return float(done.stdout)

    for modules in (ALONE, "gproxy_storage"):  # compiles, and fills the system's caches
        seconds(modules)
    pairs = [(seconds(ALONE), seconds("gproxy_storage")) for _ in range(60)]
    alone, whole = (statistics.median(times) for times in zip(*pairs, strict=True))

    assert whole / alone <= 1.6
