"""Signals that end a process by default: sinks are drained, and nobody's handler is replaced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gproxy_storage import Storage
from tests.processes import environment, run_python

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

BEGIN = """
import os, signal, sys, threading
from gproxy_storage import Storage
storage = Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"])
def open_sink():
    global sink
    sink = storage.sink(flush_after_s=3600, flush_rows=1000)
def submit(rows):
    for _ in range(rows):
        sink.submit_usage()
"""
DEFAULT, EXITS = -15, 128 + 15
ENDS: dict[str, tuple[str, int, int]] = {
    # what the program does, its exit code, the rows that are stored
    "SIGTERM": ("open_sink(); submit(50); os.kill(os.getpid(), 15); submit(1)", EXITS, 50),
    "SIGHUP": ("open_sink(); submit(50); os.kill(os.getpid(), 1); submit(1)", 128 + 1, 50),
    "a server's loop": (
        """
from wsgiref.simple_server import make_server
open_sink()
server = make_server("127.0.0.1", 0, lambda *_: [])
submit(50)
threading.Timer(0.1, os.kill, (os.getpid(), 15)).start()
server.serve_forever()
""",
        EXITS,
        50,
    ),
    "a second signal at the end": (
        """
open_sink()
close = sink.close
def interrupted_close():
    os.kill(os.getpid(), 15)
    close()
sink.close = interrupted_close
submit(50)
os.kill(os.getpid(), 15)
""",
        EXITS,
        50,
    ),
    "a forked child": (
        """
open_sink()
pid = os.fork()
submit(25)
if not pid:
    os.kill(os.getpid(), 15)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
""",
        0,
        50,
    ),
    "a child of multiprocessing": (
        """
import multiprocessing
open_sink()
def work():
    submit(50)
    os.kill(os.getpid(), 15)
child = multiprocessing.get_context("fork").Process(target=work)
child.start(); child.join()
assert child.exitcode == 143, child.exitcode
""",
        0,
        50,
    ),
    "a handler of before": (
        "signal.signal(15, lambda *_: sys.exit(7)); open_sink(); submit(50);"
        "os.kill(os.getpid(), 15)",
        7,
        50,
    ),
    "a handler of later": (
        "open_sink(); submit(50); signal.signal(15, lambda *_: sys.exit(7));"
        "os.kill(os.getpid(), 15)",
        7,
        50,
    ),
    "ignored before": (
        "signal.signal(15, signal.SIG_IGN); open_sink(); os.kill(os.getpid(), 15); submit(50)",
        0,
        50,
    ),
    "the default of later": (
        """
open_sink(); submit(50); assert sink.flush(60)
signal.signal(15, signal.SIG_DFL)
again = storage.sink()  # asks nothing any more
os.kill(os.getpid(), 15)
""",
        DEFAULT,
        50,
    ),
    "a handler in C": (
        """
import ctypes
@ctypes.CFUNCTYPE(None, ctypes.c_int)
def handler(_):
    pass
ctypes.CDLL(None).signal(15, handler)
open_sink(); os.kill(os.getpid(), 15); submit(50)
""",
        0,
        50,
    ),
    "no main thread": (
        """
thread = threading.Thread(target=open_sink); thread.start(); thread.join()
assert signal.getsignal(15) is signal.SIG_DFL
submit(50)
""",
        0,
        50,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_signal_ends_the_process_after_the_sink(
    synced_dsn: str, tmp_path: Path, end: str
) -> None:
    program, code, rows = ENDS[end]
    settings = {"DSN": synced_dsn, "DATA_DIR": str(tmp_path / "data")}
    if "fork" in program:
        settings["PYTHONWARNINGS"] = "error,ignore::DeprecationWarning"  # 3.12, of threads
    done = run_python("-c", BEGIN + program, settings=settings, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    with Storage.connect(synced_dsn, data_dir=tmp_path / "data") as storage:
        storage.replay_spool()
        assert storage.usages.count() == rows


ACKNOWLEDGES = (
    BEGIN
    + """
sink = storage.sink(max_queue_rows=30, flush_rows=10, when_full=sys.argv[1])
signal.signal(signal.SIGALRM, signal.getsignal(15))
sink.submit_usage()  # starts the thread: on a busy machine it may outlast the timer
os.write(1, b"!")
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
while True:
    sink.submit_usage()
    os.write(1, b"!")
"""
)


@pytest.mark.parametrize("when_full", ["block", "spool"])
def test_each_row_that_was_taken_is_stored_wherever_it_interrupts(
    synced_dsn: str, tmp_path: Path, when_full: str
) -> None:
    """In the queue's lock, in the wait for room: each row that was taken is stored."""
    settings = {"DSN": synced_dsn, "DATA_DIR": str(tmp_path / "data")}
    taken = stored = 0
    for turn in range(10):
        done = subprocess.run(
            [sys.executable, "-c", ACKNOWLEDGES, when_full, f"0.{turn + 1:02}"],
            env=environment(settings),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 128 + 14, done.stderr.decode()
        assert b"lost" not in done.stderr
        taken += done.stdout.count(b"!")
        with Storage.connect(synced_dsn, data_dir=tmp_path / "data") as storage:
            storage.replay_spool()
            before, stored = stored, storage.usages.count()
        assert stored > before
        assert 0 <= stored - taken <= turn + 1  # one may be stored and not acknowledged
