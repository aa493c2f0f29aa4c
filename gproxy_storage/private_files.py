"""Directories and files with access for their owner only, whatever the umask."""

from __future__ import annotations

import os
from pathlib import Path


def create_directory(path: Path) -> None:
    """Create a directory with mode 0700, and its missing parents likewise.

    Existing directories are left as they are.

    Raises:
        OSError: when one cannot be created, or the path exists and is no directory.
    """
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        if path.parent.exists():  # such as /proc, where nothing can be created
            raise
        create_directory(path.parent)
        create_directory(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)  # the umask removes bits: under 0o277 nobody could write here


def create_file(path: Path, flags: int = os.O_RDWR | os.O_EXCL) -> int:
    """Open a file, created with mode 0600 if it is missing; return its descriptor.

    Args:
        flags: for `os.open`; O_EXCL refuses an existing file.
    Raises:
        OSError: when it cannot be created or opened.
    """
    descriptor = os.open(path, os.O_CREAT | flags, 0o600)
    if not os.fstat(descriptor).st_size:  # it is new
        os.fchmod(descriptor, 0o600)
    return descriptor
