"""Ten processes that start at once on a new database with a secret: one keyring, all up."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from gproxy_storage import Storage
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.key_management.gproxy import STEPS, VERSION
from tests import leaks
from tests.key_management.support import SECRET, all_of, clean, keyring_row, ledger
from tests.processes import start_python
from tests.support import PATIENCE_S, SOME_BACKENDS

PROCESSES = 10

PROGRAM = """
import os, sys
from gproxy_storage import Storage

print("ready", flush=True)
sys.stdin.readline()
with Storage.open() as storage:
    storage.users.create(f"process {os.getpid()}", password=sys.argv[1])
    print(storage.encryption.mode, len({user.password for user in storage.users.list()}) > 0)
"""
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGg"


@SOME_BACKENDS
@pytest.mark.parametrize("synced", [True, False], ids=["synced", "empty"])
def test_processes_started_together_all_start(
    request: pytest.FixtureRequest, backend: str, synced: bool
) -> None:
    dsn = str(request.getfixturevalue("dsn" if synced else "database_dsn"))
    settings = {"GPROXY_DSN": dsn, "DATABASE_SECRET_KEY": SECRET}
    with ExitStack() as stack:
        started = [
            stack.enter_context(start_python(["-c", PROGRAM, HASH], settings))
            for _ in range(PROCESSES)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = []
        for process in started:
            said.append(process.communicate(timeout=PATIENCE_S)[0])
            leaks.check(said[-1], "the output of a process")

    assert said == ["encrypted True\n"] * PROCESSES
    assert keyring_row(dsn)[0] == 1
    assert ledger(dsn) == {*STEPS, VERSION}
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.ENCRYPTED
        assert all_of(storage.encryption.check()) == clean(PROCESSES)
        assert len(storage._keyring_manager.keyring.kids) == 1
