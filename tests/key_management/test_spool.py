"""The spool of an encrypted database: sealed, replayed, and in the way of `decrypt`."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gproxy_storage import Storage
from gproxy_storage.cli import main
from gproxy_storage.models import DownstreamRequest
from gproxy_storage.sink.destination import SpoolCipher, find_database_id
from gproxy_storage.sink.rejects import read_rejects
from tests.contract.support import until
from tests.key_management.support import SECRET, keyring_row, query
from tests.processes import run_python, start_python
from tests.support import PATIENCE_S

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

BODY = b"canary/body+\xc3\xa9 of a request, longer than what is looked for"
TRACE_ID = 7_000_000_001

# Its writer never gets on, so that rows go to the spool; then it ends without a word.
DIES = """
import os
from gproxy_storage import Storage
with Storage.connect(os.environ["DSN"], os.environ["SECRET"], data_dir="data") as storage:
    sink = storage.sink(max_queue_rows=3, when_full="spool")
    sink._writer.storing.acquire()
    for number in (1, 1, 2, 3):
        sink.submit_downstream_request(
            trace_id=7_000_000_000 + number, request_method="POST", request_path="/",
            request_body=os.environb[b"BODY"],
        )
    assert sink.stats().spooled == 3
    os._exit(0)
"""


@pytest.fixture
def spool(dsn: str, tmp_path: Path) -> Path:
    """What a process left: three rows in the spool, two of them with one key."""
    with Storage.connect(dsn, SECRET) as storage, storage.session():
        DownstreamRequest.delete().execute()
    settings = {"DSN": dsn, "SECRET": SECRET, "BODY": os.fsdecode(BODY)}
    done = run_python("-c", DIES, settings=settings, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "data" / "spool"


def content(spool: Path) -> bytes:
    return b"".join(path.read_bytes() for path in spool.iterdir())


def test_spooled_rows_and_rejects_are_sealed(dsn: str, spool: Path) -> None:
    in_the_clear = (BODY[:12], base64.b64encode(BODY)[:16], b"request_method")
    assert len(content(spool)) > 3 * len(BODY)
    assert not any(text in content(spool) for text in in_the_clear)

    waiting = [*spool.glob("*.spool")]
    with Storage.connect(dsn, SECRET, data_dir=spool.parent) as storage:
        with storage.sink() as sink:
            assert sink.flush()
            until(lambda: sink.stats().adopted == 2 and not any(path.exists() for path in waiting))
        assert sink.stats().adopted == 2
        with storage.session():
            found = DownstreamRequest.select().order_by(DownstreamRequest.trace_id)
            assert [(row.trace_id, row.request_body) for row in found] == [
                (TRACE_ID, BODY),
                (TRACE_ID + 1, BODY),
            ]
        (path,) = spool.iterdir()
        assert not any(text in content(spool) for text in in_the_clear)
        (reject,) = read_rejects(path)
        database = find_database_id(storage.database)
        place = f"{database}/{path.stem}/1/downstream_requests/{reject['place']}"
        opened = SpoolCipher(storage._keyring_manager.keyring.spool).open(
            base64.b64decode(reject["sealed"]), place.encode()
        )
    assert opened is not None
    assert base64.b64decode(json.loads(opened)["request_body"]) == BODY


def test_the_keyring_stays_while_sealed_rows_wait(dsn: str, spool: Path) -> None:
    def run(*arguments: str) -> Result:
        env = {"GPROXY_DSN": dsn, "DATABASE_SECRET_KEY": SECRET}
        options = ["--data-dir", str(spool.parent), *arguments]
        return CliRunner(env=env).invoke(main, options, prog_name="gproxy-storage")

    row, before = keyring_row(dsn), content(spool)
    refused = run("encryption", "decrypt", "--yes")
    assert refused.exit_code != 0
    assert "spool replay` first" in refused.stderr
    assert (keyring_row(dsn), content(spool)) == (row, before)

    assert "2 rows stored, 1 rejected" in run("spool", "replay").output
    assert run("encryption", "decrypt", "--yes").exit_code == 0


# A sink that continues while its database is recreated, and spools; then its process is killed.
LIVES_ON = """
import os, sys, time
from gproxy_storage import Storage
dsn, secret, data_dir = (os.environ[name] for name in ("DSN", "SECRET", "DATA"))
with Storage.connect(dsn, secret, data_dir=data_dir) as storage:
    sink = storage.sink(max_queue_rows=3, when_full="spool")
    writer = sink._writer

    def submit(*numbers):
        for number in numbers:
            sink.submit_downstream_request(
                trace_id=7_000_000_000 + number, request_method="POST", request_path="/",
                request_body=os.environb[b"BODY"],
            )

    submit(1)
    assert sink.flush(60)
    before = writer.spool_file.header
    print("ready", flush=True)
    sys.stdin.readline()
    submit(2)
    deadline = time.monotonic() + 120
    while sink.stats().written < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    now = writer.spool_file.header
    assert now.database != before.database and now.kid != before.kid
    with writer.storing:
        submit(3, 4, 5, 6)
        assert sink.stats().spooled >= 3, sink.stats()
        os._exit(0)
"""


def test_a_sink_continues_with_a_recreated_database(dsn: str, tmp_path: Path) -> None:
    """What it spools is for the database that is there, under the key that this one has."""
    reset_logs(dsn)
    data = tmp_path / "data"
    settings = {"DSN": dsn, "SECRET": SECRET, "BODY": os.fsdecode(BODY), "DATA": str(data)}
    with start_python(["-c", LIVES_ON], settings) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        reset_logs(dsn)
        query(dsn, "DELETE FROM encryption_keys")
        with Storage.connect(dsn, SECRET):
            pass
        process.stdin.write("\n")
        process.stdin.close()
        said = process.stdout.read()
        assert process.wait(PATIENCE_S) == 0, said
    with Storage.connect(dsn, SECRET, data_dir=data) as storage:
        done = storage.replay_spool()
        assert done.refused == ()
        assert done.written >= 3
        with storage.session():
            found = {row.trace_id - 7_000_000_000 for row in DownstreamRequest.select()}
    assert {2, 3, 4, 5} <= found


def reset_logs(dsn: str) -> None:
    """Make what a sink writes as in a new database."""
    for table in ("downstream_requests", "write_batches", "storage_state"):
        query(dsn, f"DELETE FROM {table}")


def test_a_sink_that_cannot_open_the_keyring_reports_it(
    encrypted: Storage, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    with encrypted.sink() as sink:
        assert sink._writer is not None
        destination = sink._writer._destination
        query(dsn, "UPDATE encryption_keys SET sealed = NULL, kdf = NULL")
        with encrypted.session():
            for _ in range(2):
                destination.refresh()
        assert caplog.text.count("sealed under the former key: the keyring was removed") == 1
        assert destination.cipher is not None
