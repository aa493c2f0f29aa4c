"""Getting server programs that the machine lacks; one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .base import NoServerError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 600


def servers_dir() -> Path:
    """Return where server programs are unpacked: kept between runs, safe to delete.

    For root not in the checkout: that may lie where the account that runs servers cannot get to.
    """
    chosen = os.environ.get("GPROXY_TEST_SERVERS_DIR")
    if chosen:
        return Path(chosen)
    return Path("/opt/gproxy-test-servers") if os.geteuid() == 0 else REPOSITORY / ".servers"


@contextmanager
def _locked(name: str) -> Iterator[Path]:
    """Hold a lock file of the servers' directory while installing; yields the directory."""
    directory = servers_dir()
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = (directory / f".{name}.lock").open("w")
    except OSError as error:
        raise NoServerError(f"cannot write to {directory}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def pip_install(requirement: str, name: str) -> Path:
    """Install one package without its dependencies into a directory of its own.

    On demand rather than as a dependency of the tests, which would have everybody download a
    server who has one; and not into the virtual environment, which may be root's alone.

    Raises:
        NoServerError: pip fails; the message ends with its last line.
    """
    with _locked(name) as directory:
        target = directory / name
        if not target.is_dir():
            staging = directory / f".{name}.partial"
            shutil.rmtree(staging, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            _run([*pip, "--only-binary=:all:", "--no-compile", "--target", staging, requirement])
            staging.chmod(0o755)
            staging.rename(target)
    return target


def apt_install(*packages: str) -> None:
    """Install Debian packages that bring programs but no service.

    Raises:
        NoServerError: not root, no apt-get, or it fails; the message says which.
    """
    if shutil.which("apt-get") is None:
        raise NoServerError(f"no {packages[0]}, and no apt-get to install it")
    if os.geteuid() != 0:
        raise NoServerError(f"no {packages[0]}, and installing it takes root")
    with _locked("apt"):
        install: list[str | Path] = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
        install += ["--no-install-recommends", "install", *packages]
        try:
            _run(install)
        except NoServerError:  # package lists are missing or old
            _run(["apt-get", "-q", "update"])
            _run(install)


def run_installer(script: Path, *arguments: str, **environment: str) -> None:
    """Run an installation script that does its own locking.

    Raises:
        NoServerError: it fails; the message ends with its last line.
    """
    _run(["bash", script, *arguments], environment)


def _run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={
                **os.environ,
                **(environment or {}),
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
            },
            check=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in error.stdout.splitlines() if line.strip()]
        raise NoServerError(f"{_words(command)} failed: {lines[-1] if lines else error}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise NoServerError(f"{_words(command)} failed: {error}") from None


def _words(command: Sequence[str | Path]) -> str:
    """Shorten a command line to what tells a reader which it was."""
    return " ".join([Path(command[0]).name, *(str(word) for word in command[1:] if word)])[:80]
