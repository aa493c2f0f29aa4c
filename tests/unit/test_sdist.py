"""The source distribution has what it takes to test the package and to read about it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.processes import ROOT

FOLDERS = ("gproxy_storage", "docs", "examples", "tests", ".ci")
PATTERNS = ("*.md", "*.py", "*.toml", "*.cfg", "LICENSE", "Makefile", "MANIFEST.in")


def test_the_sdist_is_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder)
    for pattern in PATTERNS:
        for file in ROOT.glob(pattern):
            shutil.copy(file, source)
    wanted = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    subprocess.run([sys.executable, "setup.py", "--quiet", "sdist"], cwd=source, check=True)

    (archive,) = (source / "dist").iterdir()
    with tarfile.open(archive) as tar:
        members = {name.partition("/")[2] for name in tar.getnames()}
        files = {member for member in members if not (source / member).is_dir()}
    assert wanted - files == set()
    added = files - wanted - {"PKG-INFO"}
    assert {name for name in added if not name.startswith("gproxy_storage.egg-info/")} == set()
