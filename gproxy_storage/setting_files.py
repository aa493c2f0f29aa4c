"""Reads files of settings: small, regular, UTF-8. Independent of the settings themselves."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from .interruptions import raise_interruption

MAX_BYTES = 2**20
"""The maximum size of a file of settings."""

MAX_KEY_PARTS = 64
"""The maximum number of parts in a dotted TOML key: the parser's time grows with its square."""

_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+"""
_DEEP_KEY = re.compile(rf"""(?<![\w-])(?:{_PART}\.[ \t]*+){{{MAX_KEY_PARTS}}}""")


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes | OSError:
    """Return the content of a regular file, or why it cannot be read; never blocks.

    A file of more than `limit` bytes is refused. The null device counts as an empty file.
    """
    try:
        # Opening a FIFO would block until there is a writer, and some devices never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            kind = os.fstat(descriptor)
            if not stat.S_ISREG(kind.st_mode) and not _is_null(kind):
                return _irregular(kind.st_mode)
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise_interruption(exc)
        if exc.errno == errno.ENXIO:
            return _irregular(stat.S_IFSOCK)
        return exc
    except ValueError:
        return OSError(errno.EINVAL, "its name contains a NUL")
    if len(content) > limit:
        return OSError(errno.EFBIG, f"it is longer than {limit} bytes")
    return content


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev


def _irregular(mode: int) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    names = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    what = names.get(stat.S_IFMT(mode), "a device")
    return OSError(errno.EINVAL, f"it is {what}, not a regular file")


def decoded(content: bytes | OSError) -> str | None:
    """Decode UTF-8 without its byte order mark; None if it is not UTF-8."""
    # In another error's context, a UnicodeDecodeError would show the content.
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig") if isinstance(content, bytes) else None
    return None


def parse_toml(text: str) -> dict[str, Any] | str:
    """Parse TOML; return the tables, or what is wrong with it without showing any of it."""
    import tomllib

    if _DEEP_KEY.search(text):
        return f"has a key of more than {MAX_KEY_PARTS} parts; shorten it"
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # ValueError: also an integer of too many digits
        position = re.search(r"\(at ([a-z0-9, ]+)\)$", str(exc))
    where = f" ({position[1]})" if position else ""
    return f"is not TOML{where}; correct it"
