"""A child that ends as programs usually do, its interpreter finalised, harms the parent neither."""

from __future__ import annotations

from pathlib import Path

from gproxy_storage import Storage
from tests.processes import PLAINTEXT_WARNING, run_python

PROGRAM = """
import os, sys
from datetime import UTC, datetime
from gproxy_storage import Storage
from gproxy_storage.models import Provider

AT = datetime.now(UTC)
NAMES = iter(range(1_000_000))

def insert(rows):
    for _ in range(rows):
        Provider.create(name=f"{next(NAMES)}", channel="x", label="x" * 3000, settings_json={},
                        routing_json={}, created_at=AT, updated_at=AT)

with Storage.connect(os.environ["DSN"]) as storage, storage.session():
    if storage.database.name == "sqlite":
        # So that what is not committed yet is in the file already.
        storage.database.execute_sql("PRAGMA cache_size = 10")
        storage.database.execute_sql("PRAGMA cache_spill = 10")
    storage.database.begin()
    insert(400)
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert Provider.select().count() == 400
    insert(10)
    storage.database.commit()
    print(Provider.select().count())
"""


def test_a_child_that_exits(synced_dsn: str, tmp_path: Path, backend: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run_python(program, settings={"DSN": synced_dsn}, cwd=tmp_path)

    assert (done.stdout, done.stderr, done.returncode) == ("410\n", PLAINTEXT_WARNING, 0)
    with Storage.connect(synced_dsn) as storage, storage.session():
        assert len(storage.providers.list()) == 410
        if backend == "sqlite":
            assert storage.database.query("PRAGMA integrity_check") == [("ok",)]
