"""The sink while the database is away: restarts, cut and hanging connections, killed processes."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy_storage import Dsn, Storage
from gproxy_storage.crypto.keys import Key
from gproxy_storage.models import SinkWriter, Usage, User, UserQuota
from gproxy_storage.sink.destination import Destination, SpoolCipher
from gproxy_storage.sink.records import Header
from gproxy_storage.sink.sink import Sink
from tests import servers
from tests.contract.support import insert, rows_of, until
from tests.fault.tcp_proxy import TcpProxy
from tests.processes import PLAINTEXT_WARNING, run_python, start_python
from tests.support import PATIENCE_S

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
COST = 0.25


def make_users(storage: Storage, count: int = 10) -> list[int]:
    with storage.session():
        return [insert(User).id for _ in range(count)]


def submit(sink: Sink, users: list[int], rows: range) -> None:
    for number in rows:
        sink.submit_usage(
            user_id=users[number % len(users)],
            downstream_trace_id=number,
            input_tokens=number,
            cost=COST,
        )


def assert_stored_once(storage: Storage, users: list[int], rows: int) -> None:
    """Each row is there, none twice, and the quotas hold the cost of exactly these."""
    with storage.session():
        numbers = [row[0] for row in rows_of(Usage, "downstream_trace_id")]
        costs = sorted(rows_of(UserQuota, "user_id", "cost_used"))
    assert len(numbers) == rows
    assert set(numbers) == set(range(rows))
    share = Counter(users[number % len(users)] for number in range(rows))
    assert costs == [(user, share[user] * COST) for user in sorted(users)]
    assert storage.usages.summarize().input_tokens == rows * (rows - 1) // 2


def spool_files(storage: Storage) -> list[Path]:
    return sorted(storage.spool_dir.glob("*.spool"))


@pytest.fixture
def proxy(server: servers.Server, synced_dsn: str) -> Iterator[TcpProxy]:
    """A proxy in front of the backend's server."""
    with TcpProxy(Dsn.parse(synced_dsn).hosts[0].port or 0) as running:
        yield running


@pytest.fixture
def storage(proxy: TcpProxy, synced_dsn: str, tmp_path: Path) -> Iterator[Storage]:
    """A storage that reaches its server through the proxy."""
    with Storage.connect(proxy.dsn(synced_dsn), data_dir=tmp_path) as opened:
        yield opened
        proxy.resume()


# -- short outages ------------------------------------------------------------------------------


@only_servers
def test_an_outage_goes_through_the_spool(storage: Storage, proxy: TcpProxy) -> None:
    users = make_users(storage)
    with storage.sink(flush_rows=20) as sink:
        submit(sink, users, range(100))
        assert sink.flush(PATIENCE_S)
        proxy.refuse()
        submit(sink, users, range(100, 500))
        assert sink.flush(PATIENCE_S)
        found = sink.stats()
        assert (found.written, found.spooled, found.spool_batches) == (100, 400, 20)
        assert found.away is not None
        assert servers.TEST_PASSWORD not in found.away
        submit(sink, users, range(500, 600))
        proxy.resume()
        rows = 600
        while sink.stats().away is not None:  # later batches must not overtake those in the spool
            submit(sink, users, range(rows, rows + 20))
            rows += 20
            time.sleep(0.005)
        submit(sink, users, range(rows, rows + 100))
        rows += 100
        until(lambda: sink.stats().written == rows)
    found = sink.stats()
    assert (found.queued, found.spool_bytes, found.away) == (0, 0, None)
    assert_stored_once(storage, users, rows)
    assert spool_files(storage) == []


@only_servers
def test_what_is_spooled_at_the_end_is_the_next_processes(
    storage: Storage, proxy: TcpProxy
) -> None:
    users = make_users(storage)
    first = storage.sink(flush_rows=20)
    submit(first, users, range(50))
    assert first.flush(PATIENCE_S)
    proxy.refuse()
    submit(first, users, range(50, 130))
    first.close(timeout_s=2)
    (path,) = spool_files(storage)
    assert first.stats().spooled == 80

    proxy.resume()
    with storage.sink() as second:
        until(lambda: second.stats().adopted == 80)
        until(lambda: not path.exists())
    assert_stored_once(storage, users, 130)
    with storage.session():
        assert storage.database.query("SELECT count(*) FROM write_batches") == [(0,)]


@only_servers
def test_a_replay_that_was_cut_off_is_no_duplicate(storage: Storage, proxy: TcpProxy) -> None:
    """The batches are committed, the file is not emptied yet: as after a crash in between."""
    users = make_users(storage)
    first = storage.sink(flush_rows=20)
    proxy.refuse()
    submit(first, users, range(100))
    first.close(timeout_s=1)
    (path,) = spool_files(storage)
    content = path.read_bytes()
    proxy.resume()
    with storage.sink() as second:
        until(lambda: not path.exists())
    # Its row in write_batches goes with the file; a crash before that leaves both.
    with storage.session():
        storage.database.execute_sql(
            f"INSERT INTO write_batches (writer, seq, at) "
            f"SELECT '{path.stem}', 5, max(created_at) FROM usages"
        )
    path.write_bytes(content)
    with storage.sink() as third:
        until(lambda: not path.exists())
        assert third.stats().adopted == 0
    assert second.stats().adopted == 100
    assert_stored_once(storage, users, 100)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_damaged_and_foreign_spools_do_not_block_others(
    storage: Storage, proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    users = make_users(storage)
    sinks = [storage.sink(flush_rows=20) for _ in range(3)]
    proxy.refuse()
    for place, sink in enumerate(sinks):
        submit(sink, users, range(place * 60, place * 60 + 60))
        sink.close(timeout_s=1)
    paths = {sink.stats().spooled: 0 for sink in sinks}
    assert paths == {60: 0}
    damaged, foreign, sound = (
        next(path for path in spool_files(storage) if _writer_name(sink) in path.name)
        for sink in sinks
    )
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    _, _, records = foreign.read_bytes().partition(b"\n")
    foreign.write_bytes(Header("0" * 32, foreign.stem, None).to_bytes() + records)

    proxy.resume()
    with storage.sink() as sink:
        until(lambda: sink.stats().adopted == 40 + 60)
    assert sorted(path.name for path in storage.spool_dir.iterdir()) == sorted(
        [damaged.with_suffix(".damaged").name, foreign.name]
    )
    assert "for another database" in caplog.text
    assert "were skipped" in caplog.text
    with storage.session():
        numbers = {row[0] for row in rows_of(Usage, "downstream_trace_id")}
    assert numbers == {*range(20), *range(40, 60), *range(120, 180)}
    assert sound.exists() is False
    with storage.session():
        writers = {row[0] for row in rows_of(SinkWriter, "writer")}
    # Brought back by hand, its sound batches are known.
    assert damaged.stem in writers
    assert sound.stem not in writers


def _writer_name(sink: Sink) -> str:
    assert sink._writer is not None
    return sink._writer._name


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_sealed_spools(storage: Storage, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    users = make_users(storage)
    cipher = SpoolCipher(Key.generate())

    def open_sink(cipher: SpoolCipher | None) -> Sink:
        monkeypatch.setattr(Destination, "cipher", cipher)
        return storage.sink()

    sink = open_sink(cipher)
    proxy.refuse()
    sink.submit_upstream_request(request_method="GET", request_body=b"a secret body")
    submit(sink, users, range(30))
    sink.close(timeout_s=1)
    (path,) = spool_files(storage)
    assert b"secret" not in path.read_bytes()
    assert b"c2VjcmV0" not in path.read_bytes()
    proxy.resume()
    with open_sink(None) as without:
        writer = without._writer
        assert writer is not None
        until(lambda: path in writer.orphans.refused)
        assert without.stats().adopted == 0
        assert path.exists()
    with open_sink(cipher) as again:
        until(lambda: again.stats().adopted == 31)
    assert_stored_once(storage, users, 30)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_full_spool_and_the_database_away(storage: Storage, proxy: TcpProxy) -> None:
    """Then the queue fills, and callers wait; nothing is lost."""
    users = make_users(storage)
    sink = storage.sink(flush_rows=10, max_queue_rows=50, max_spool_bytes=6000, retry_s=0.2)
    proxy.refuse()
    thread = threading.Thread(target=submit, args=(sink, users, range(300)))
    thread.start()
    until(lambda: sink.stats().queued >= 50)
    time.sleep(0.5)
    assert sink.stats().submitted < 150
    proxy.resume()
    thread.join(PATIENCE_S)
    sink.close()
    assert_stored_once(storage, users, 300)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_batch_that_the_spool_cannot_hold_goes_first(storage: Storage, proxy: TcpProxy) -> None:
    """Later, smaller ones are in the file already; stored first, they would hide it."""
    users = make_users(storage)
    sink = storage.sink(
        flush_rows=5, max_queue_rows=5, when_full="spool", max_spool_bytes=20_000, retry_s=0.2
    )
    proxy.refuse()
    sink.submit_upstream_request(request_method="GET", request_body=b"x" * 30_000)
    assert not sink.flush(1)
    submit(sink, users, range(30))
    assert sink.stats().spooled > 0
    proxy.resume()
    sink.close()
    assert_stored_once(storage, users, 30)
    assert storage.upstream_requests.count() == 1


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_lost_rows_are_reported(storage: Storage, proxy: TcpProxy) -> None:
    from gproxy_storage.errors import WriteError

    users = make_users(storage)
    sink = storage.sink(flush_rows=10, max_spool_bytes=6000, retry_s=0.2)
    proxy.refuse()
    submit(sink, users, range(100))
    with pytest.raises(
        WriteError, match=r"^\d+ rows could neither be stored nor spooled"
    ) as caught:
        sink.close(timeout_s=1)
    lost = int(str(caught.value).split()[0])
    assert lost + sink.stats().spooled == 100
    proxy.resume()
    with storage.sink() as again:
        until(lambda: again.stats().adopted == 100 - lost)


@only_servers
def test_a_database_that_hangs(storage: Storage, proxy: TcpProxy) -> None:
    users = make_users(storage)
    with storage.sink(flush_rows=20, stall_timeout_s=2, retry_s=2) as sink:
        submit(sink, users, range(100))
        until(lambda: sink.stats().written == 100)
        before = sink.stats().spooled  # on a machine that took two seconds for a batch
        proxy.hang()
        submit(sink, users, range(100, 300))
        until(lambda: sink.stats().spooled == before + 200)
        proxy.cut()
        proxy.resume()
        until(lambda: sink.stats().written == 300)
    assert_stored_once(storage, users, 300)


# -- long ones ----------------------------------------------------------------------------------

ROWS = 200_000


@pytest.mark.slow
@only_servers
def test_a_server_that_stops_three_times(
    private_server: servers.PrivateServer, tmp_path: Path
) -> None:
    dsn = private_server.server.create_database(servers.database_name())
    down = {40_000: "stop", 90_000: "kill", 150_000: "stop"}
    up = {60_000, 110_000, 170_000}
    with Storage.connect(dsn, data_dir=tmp_path) as storage:
        users = make_users(storage)
        with storage.sink(flush_rows=1000) as sink:
            for start in range(0, ROWS, 10_000):
                if start in down:
                    until(lambda start=start: sink.stats().written > start - 40_000)  # type: ignore[misc]  # mypy cannot infer a lambda's default
                    getattr(private_server, down[start])()
                if start in up:
                    private_server.start()
                submit(sink, users, range(start, start + 10_000))
            until(lambda: sink.stats().written == ROWS)
            found = sink.stats()
        assert found.spooled > 20_000
        assert found.rejected == 0
        assert_stored_once(storage, users, ROWS)
        assert spool_files(storage) == []


@pytest.mark.slow
@only_servers
def test_connections_that_are_cut_and_hang(storage: Storage, proxy: TcpProxy) -> None:
    rows = 60_000
    users = make_users(storage)
    ended = threading.Event()
    random_ = random.Random(6)

    def disturb() -> None:
        while not ended.wait(random_.uniform(0.02, 0.4)):
            match random_.randrange(8):
                case 0:
                    proxy.refuse()
                    ended.wait(random_.uniform(0.0, 0.5))
                    proxy.resume()
                case 1:
                    proxy.hang()
                    ended.wait(random_.uniform(0.1, 2.0))
                    proxy.cut()
                    proxy.resume()
                case _:
                    proxy.cut()

    trouble = threading.Thread(target=disturb)
    with storage.sink(flush_rows=500, stall_timeout_s=1, retry_s=1) as sink:
        trouble.start()
        try:
            submit(sink, users, range(rows))
            until(lambda: sink.stats().written > rows // 2)
        finally:
            ended.set()
            trouble.join()
        until(lambda: sink.stats().written == rows)
        assert sink.stats().retried > 0
        assert sink.stats().rejected == 0
    assert_stored_once(storage, users, rows)


SUBMIT_AND_FLUSH = """
import os, sys
from itertools import count
from gproxy_storage import Storage
first = int(sys.argv[1])
with Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"], sync=False) as storage:
    sink = storage.sink(flush_rows=20, flush_after_s=0.01, retry_s=0.2)
    for number in count(first):
        sink.submit_usage(downstream_trace_id=number, user_id=int(sys.argv[2]), cost=0.25)
        if number % 50 == 49:
            assert sink.flush(60)
            print(number, flush=True)
"""


def flushed_until(line: str) -> int | None:
    """Read a whole number out of a line; others are cut off, or warn of a record that is."""
    return int(line) if line.endswith("\n") and line[:-1].isdigit() else None


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
def test_killed_at_twenty_points(synced_dsn: str, backend: str, tmp_path: Path) -> None:
    """The server's connection comes and goes meanwhile, so that some rows are in the spool."""
    random_ = random.Random(20)
    target = 1 if backend == "sqlite" else Dsn.parse(synced_dsn).hosts[0].port or 0
    flushed: list[range] = []
    spooled = 0
    with TcpProxy(target) as proxy, Storage.connect(synced_dsn, data_dir=tmp_path) as storage:
        (user,) = make_users(storage, 1)
        dsn = synced_dsn if backend == "sqlite" else proxy.dsn(synced_dsn)
        settings = {"DSN": dsn, "DATA_DIR": str(tmp_path)}
        for turn in range(20):
            first = turn * 1_000_000
            with start_python(["-c", SUBMIT_AND_FLUSH, str(first), str(user)], settings) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == PLAINTEXT_WARNING
                last = next(filter(None, map(flushed_until, process.stdout)))
                killer = threading.Timer(random_.uniform(0.0, 0.4), process.kill)
                killer.start()
                if turn % 2:
                    proxy.refuse()
                for line in process.stdout:
                    last = flushed_until(line) or last
                assert process.wait() == -signal.SIGKILL
            proxy.resume()
            flushed.append(range(first, last + 1))
            spooled += sum(path.stat().st_size > 1000 for path in spool_files(storage))
        with storage.sink() as sink:
            until(lambda: len(spool_files(storage)) == 1)
            assert sink.stats().rejected == 0
        with storage.session():
            stored = Counter(row[0] for row in rows_of(Usage, "downstream_trace_id"))
            costs = rows_of(UserQuota, "cost_used")
    for rows in flushed:
        assert all(stored[number] == 1 for number in rows)
    assert set(stored.values()) == {1}
    assert costs == [(len(stored) * COST,)]
    assert backend == "sqlite" or spooled > 0


MANY_ROWS = """
import os, sys
from gproxy_storage import Storage
with Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"], sync=False) as storage:
    with storage.sink() as sink:
        for number in range(int(sys.argv[1])):
            sink.submit_usage(
                user_id=number % 10 + 1, downstream_trace_id=number, cost=0.25, input_tokens=1
            )
    assert sink.stats().rejected == 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_two_processes_on_one_file(database_dsn: str, tmp_path: Path) -> None:
    with Storage.connect(database_dsn, data_dir=tmp_path) as storage:
        users = make_users(storage)
        assert users == list(range(1, 11))
    settings = {"DSN": database_dsn, "DATA_DIR": str(tmp_path)}
    processes = [start_python(["-c", MANY_ROWS, "50000"], settings) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    assert said == [PLAINTEXT_WARNING] * 2
    assert [process.returncode for process in processes] == [0, 0]
    with Storage.connect(database_dsn, data_dir=tmp_path) as storage:
        storage.replay_spool()
        assert storage.usages.summarize().count == 100_000
        assert storage.usages.summarize().cost == 25_000.0
        with storage.session():
            assert rows_of(UserQuota, "cost_used") == [(2500.0,)] * 10
        assert spool_files(storage) == []


# -- the interpreter's exit ---------------------------------------------------------------------

WITHOUT_CLOSE = """
import os, sys
from gproxy_storage import Storage
storage = Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"])
sink = storage.sink(flush_after_s=3600, flush_rows=1000)
def submit(rows):
    for number in range(rows):
        sink.submit_usage(cost=0.25)
submit(1234)
"""
ENDS = {
    "end of the program": "",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise SystemExit('bye')",
    "a thread": "import threading; threading.Thread(target=submit, args=(100,)).start()",
    "a forked child": "pid = os.fork(); submit(100)\nif pid: os.waitpid(pid, 0)",
    "Ctrl-C while it closes": """
import signal, threading, time
busy = sink._writer.storing
busy.acquire()  # the writer does not get on, as when the database hangs
def later():
    time.sleep(0.5)
    busy.release()
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    sink.close()
    signal.pause()
except KeyboardInterrupt:
    threading.Thread(target=later, daemon=True).start()
""",
    "a signal's handler that closes": """
import signal
def end(*_):
    sink.close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
os.kill(os.getpid(), signal.SIGTERM)
submit(1)
""",
    "multiprocessing": "import multiprocessing as m\nc = m.get_context('fork').Process("
    "target=submit, args=(100,))\nc.start(); c.join()",
}
MORE = {"a thread": 100, "a forked child": 200, "multiprocessing": 100}


def test_everything_submitted_is_stored_at_exit(synced_dsn: str, tmp_path: Path) -> None:
    stored_at_exit("end of the program", synced_dsn, tmp_path)


# How a process ends does not depend on the server.
@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("end", list(ENDS)[1:])
def test_whatever_ends_the_process(synced_dsn: str, tmp_path: Path, end: str) -> None:
    stored_at_exit(end, synced_dsn, tmp_path)


def stored_at_exit(end: str, synced_dsn: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_CLOSE + ENDS[end])
    settings = {"DSN": synced_dsn, "DATA_DIR": str(tmp_path)}
    if "fork" in ENDS[end]:
        settings["PYTHONWARNINGS"] = "error,ignore::DeprecationWarning"  # 3.12, of threads
    done = run_python(program, settings=settings, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    with Storage.connect(synced_dsn, data_dir=tmp_path) as storage:
        storage.replay_spool()  # where the machine is slow, some is left there
        assert storage.usages.summarize().count == 1234 + MORE.get(end, 0)
        assert spool_files(storage) == []
