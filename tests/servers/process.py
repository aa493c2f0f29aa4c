"""Servers that the tests start for themselves, and may stop, kill and restart."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Final, Self

from .base import NoServerError, Server
from .workspace import (
    environment,
    kill_processes_in,
    last_line,
    make_directory,
    remove_directory,
    server_account,
)

START_TIMEOUT_S: Final = 600
STOP_TIMEOUT_S: Final = 30
_GUARDIAN: Final = Path(__file__).with_name("guardian.py")


class PrivateServer(ABC):
    """A server on a free loopback port with its own data, as an unprivileged account.

    Killed when the process that started it is gone, even by SIGKILL (see guardian.py). Port, data
    and passwords stay the same over `stop`, `kill` and `restart`; `close` deletes the data.

    Args:
        durable: keep the server's own durability settings. By default nothing is forced to disk,
            which is faster and loses data only in a crash of the machine or, by some tenths of a
            second, of the server.
        options: further command-line options of the server.
    """

    backend: ClassVar[str]

    def __init__(self, *, durable: bool = False, options: Sequence[str] = ()) -> None:
        self.durable = durable
        self.options = tuple(options)
        self.port = 0
        self.admin_password = secrets.token_hex(16)
        self._directory: Path | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._server: Server | None = None
        self._owner = os.getpid()
        self._prepared = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "not running"
        return f"<{type(self).__name__} on port {self.port}, {state}>"

    @property
    def directory(self) -> Path:
        """Where data, sockets and log are."""
        if self._directory is None:
            raise RuntimeError("the server was never started, or is closed")
        return self._directory

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def run_dir(self) -> Path:
        """The directory of sockets and start-up files."""
        return self.directory / "run"

    @property
    def log(self) -> Path:
        """What the server and its preparation print."""
        return self.directory / "log"

    @property
    def running(self) -> bool:
        """Whether the server's process runs."""
        return self._guardian is not None and self._guardian.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if not self.running:
            raise RuntimeError("the server is not running")
        return self._pid

    @property
    def dsn(self) -> str:
        """The administrator's DSN, password included."""
        return self.server.admin_dsn

    @property
    def server(self) -> Server:
        """Administrative access; valid over restarts."""
        if self._server is None:
            raise RuntimeError("the server was never started, or is closed")
        return self._server

    @abstractmethod
    def _make_server(self) -> Server:
        """Return the administrative access; the port is known by now."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create the data directory's contents; the first start only."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line of the server in the foreground."""

    def start(self) -> Self:
        """Start the server, create its data first if there are none, and wait until it answers.

        Raises:
            NoServerError: it does not come up; the message ends with the last line of its log.
        """
        if self.running:
            raise RuntimeError(f"already running: {self!r}")
        self._end(signal.SIGKILL)  # the rest of one that has ended
        try:
            if not self._prepared:
                self._directory = self._directory or make_directory(self.backend)
                self.port = free_port()
                self._server = self._make_server()
                self._prepare()
            self._launch()
            self._wait_until_ready()
            if not self._prepared:
                self.server.open()
            self._prepared = True
        except BaseException:
            self._end(signal.SIGKILL)
            if not self._prepared:
                self.close()
            raise
        return self

    def stop(self, *, immediate: bool = False) -> None:
        """Shut the server down, cutting connections.

        Args:
            immediate: leave recovery to the next start (MySQL and MariaDB: as `kill`).
        Raises:
            TimeoutError: it took over 30 s, and was killed then.
        """
        self._end(self._stop_signal(immediate=immediate))

    def kill(self) -> None:
        """Kill the server and all its processes with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop the server if it is running, and start it on the same port and data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop the server and delete its data. May be called twice; does nothing in a fork."""
        if os.getpid() != self._owner:
            return
        self.kill()
        if self._directory is not None:
            remove_directory(self._directory)
            self._directory = None
        self._server = None
        self._prepared = False

    def _stop_signal(self, *, immediate: bool) -> int:
        return signal.SIGKILL if immediate else signal.SIGTERM

    def _launch(self) -> None:
        account = server_account()
        task = {
            "command": self._command(),
            "log": str(self.log),
            "cwd": str(self.data_dir),
            "env": environment(),
            "user": account.uid if account else None,
            "group": account.gid if account else None,
        }
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARDIAN), json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Ctrl-C in a terminal is for pytest, which then stops its servers in its own order
            start_new_session=True,
        )
        line = _pipe(self._guardian.stdout).readline()
        if not line:
            reason = _pipe(self._guardian.stderr).read().decode(errors="replace").strip()
            raise NoServerError(f"cannot be started: {reason[-300:]}")
        self._pid = int(line)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.server.connect().close()
            except Exception as error:
                if not self.running:
                    reason = f"ended while starting: {last_line(self.log)}"
                    raise NoServerError(reason) from error
                if time.monotonic() > deadline:
                    reason = f"not ready within {START_TIMEOUT_S} s: {last_line(self.log)}"
                    raise NoServerError(reason) from error
                time.sleep(0.03)
            else:
                return

    def _end(self, signum: int) -> None:
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            with guardian:
                control = _pipe(guardian.stdin)
                with contextlib.suppress(BrokenPipeError):  # it has ended
                    control.write(f"{int(signum)}\n".encode())
                try:
                    guardian.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    control.close()  # it kills the server then
                    guardian.wait(STOP_TIMEOUT_S)
                    raise TimeoutError(f"no end {STOP_TIMEOUT_S} s after signal {signum}") from None
        if self._directory is not None:
            # PostgreSQL's children notice their parent's death, but not at once
            kill_processes_in(self._directory)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the guardian was started without pipes")
    return stream


def free_port() -> int:
    """Return a loopback port that is free now.

    Below the range of outgoing connections: a client that keeps trying a port of that range while
    its server is down may be given the very port, and connects to itself.
    """
    while True:
        port = random.randint(20000, 31999)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
