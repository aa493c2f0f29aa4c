"""Directories, accounts and processes of private servers, and clearing up after killed runs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .base import NoServerError, process_exists

# Short, because the path of a unix socket may have no more than about 100 bytes; and in /tmp
# whatever TMPDIR says, because the account that runs the server must be able to get there.
BASE: Final = Path("/tmp").resolve()
PREFIX: Final = "gproxy-srv-"

_PATIENCE_S: Final = 600.0


@dataclass(frozen=True)
class Account:
    """The user and group that a server runs as, numeric."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """Return whom to run servers as: nobody when root (they refuse root), else the caller."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def server_identity() -> dict[str, Any]:
    """Return the arguments that make `subprocess` run something as the server's account."""
    account = server_account()
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def version_of(program: Path) -> str:
    """Return what `program --version` says when the server's account runs it, or nothing.

    Nothing also when it is missing, or lies where that account cannot get to.
    """
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(program), "--version"],
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE_S,
            **server_identity(),
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def environment() -> dict[str, str]:
    """Return a plain environment for servers: none of the caller's PG*, MYSQL* or locale."""
    path = os.environ.get("PATH", "")
    return {"PATH": f"{path}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


def run_as_server(command: Sequence[str | Path], *, log: Path) -> None:
    """Run a preparatory command as the server's account, its output appended to a log.

    Raises:
        NoServerError: it cannot be started or fails; the message ends with its last line.
    """
    program = Path(command[0]).name
    try:
        with log.open("ab") as output:
            subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(),
                check=True,
                timeout=_PATIENCE_S,
                **server_identity(),
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoServerError(f"{program} failed: {last_line(log) or error}") from error


def last_line(log: Path) -> str:
    """Return the last line with text of a log, or nothing."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def make_directory(kind: str) -> Path:
    """Make the directory of a private server; its name says which process it belongs to.

    Holds `data/` and `run/` (sockets, start-up files), both the server account's alone.
    """
    pid = os.getpid()
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{pid}-{_started(pid)}-{kind}-", dir=BASE))
    path.chmod(0o711)
    account = server_account()
    for name in ("data", "run"):
        child = path / name
        child.mkdir(mode=0o700)
        if account is not None:
            os.chown(child, account.uid, account.gid)
    return path


def processes_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is in a directory.

    That is how a private server is recognised: all of them go to their data directory, and nobody
    else has business there.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            where = (entry / "cwd").readlink()
        except OSError:
            continue  # ended meanwhile, or somebody else's
        if where.is_relative_to(directory):
            found.append(int(entry.name))
    return found


def kill_processes_in(directory: Path, timeout_s: float = _PATIENCE_S) -> None:
    """Kill what still runs in a directory, and wait until it is gone."""
    deadline = time.monotonic() + timeout_s
    while pids := processes_in(directory):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {pids} in {directory} outlive SIGKILL")
        time.sleep(0.02)


def remove_directory(path: Path) -> None:
    """Kill what runs in a private server's directory and delete it."""
    kill_processes_in(path)
    shutil.rmtree(path, ignore_errors=True)


def reap() -> list[Path]:
    """Remove the private servers of runs that were killed; return their directories."""
    reaped = []
    for path in BASE.glob(f"{PREFIX}*"):
        try:
            status = path.lstat()
            pid, started = path.name.removeprefix(PREFIX).split("-")[:2]
            mine = status.st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
            alive = process_exists(int(pid)) and _started(int(pid)) == int(started)
        except (FileNotFoundError, ValueError):
            continue
        if mine and not alive:
            remove_directory(path)
            reaped.append(path)
    return reaped


def _started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot: tells a reused id from the old."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0  # gone, or a system without /proc, where the id alone has to do
    return int(text.rpartition(")")[2].split()[19])
