"""Directories and files for their owner only, whatever the umask says."""

from __future__ import annotations

import os
from pathlib import Path


def create_directory(path: Path) -> None:
    """Make a directory of mode 0700, and so each one above it that is missing.

    What exists is left as it is.

    Raises:
        OSError: when one cannot be made, or the path is something else.
    """
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        if path.parent.exists():  # /proc, where nothing can be made
            raise
        create_directory(path.parent)
        create_directory(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)  # the umask takes bits away: 0o277 would leave one nobody can write


def create_file(path: Path, flags: int = os.O_RDWR | os.O_EXCL) -> int:
    """Open a file that is made with mode 0600 where it is missing; return its descriptor.

    Args:
        flags: for `os.open`; O_EXCL refuses a file that exists.
    Raises:
        OSError: when it cannot be made or opened.
    """
    descriptor = os.open(path, os.O_CREAT | flags, 0o600)
    if not os.fstat(descriptor).st_size:  # ours, and new
        os.fchmod(descriptor, 0o600)
    return descriptor
