"""Reports on spool files, without a database, lock or key."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .records import Damage, Header, SpoolError, scan, start_of_records
from .rejects import SUFFIX as REJECTS_SUFFIX
from .rejects import read_rejects
from .spool import DAMAGED_SUFFIX, SUFFIX, is_locked, open_regular


@dataclass(frozen=True, slots=True)
class SpoolFileReport:
    """The content of a spool file.

    Attributes:
        batches: number of valid records; those of a running process may be stored already.
        rows: number of rows in them.
        size_bytes: their size in the file.
        in_use: whether a process uses it.
        kid: the id of the key that seals it, or None.
        damages: its unreadable parts.
        problem: why it cannot be used, or None.
    """

    path: Path
    batches: int = 0
    rows: int = 0
    size_bytes: int = 0
    in_use: bool = False
    kid: str | None = None
    damages: tuple[Damage, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SpoolReport:
    """The content of a spool directory; falsy without spool, rejects and damaged files.

    Attributes:
        files: spool files with records, or with a problem.
        rejects: path of a rejects file -> its number of rows.
        damaged: files with unreadable parts that were kept under another name.
        others: files that are not a sink's.
    """

    directory: Path
    files: tuple[SpoolFileReport, ...] = ()
    rejects: dict[Path, int] = field(default_factory=dict)
    damaged: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows that wait, including those in files that cannot be replayed."""
        return sum(file.rows for file in self.files)

    def __bool__(self) -> bool:
        return bool(self.files or self.rejects or self.damaged)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "directory": str(self.directory),
            "files": [
                {**asdict(file), "path": str(file.path), "damages": list(map(asdict, file.damages))}
                for file in self.files
            ],
            "rejects": {str(path): rows for path, rows in self.rejects.items()},
            "damaged": [str(path) for path in self.damaged],
            "others": [str(path) for path in self.others],
        }


def inspect_spool(directory: Path) -> SpoolReport:
    """Report on a spool directory; one that does not exist counts as empty."""
    files = [_inspect_file(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    others = [
        path
        for path in sorted(directory.glob("*"))
        if path.suffix not in (SUFFIX, REJECTS_SUFFIX, DAMAGED_SUFFIX)
    ]
    rejects = {}
    for path in sorted(directory.glob(f"*{REJECTS_SUFFIX}")):
        try:
            rejects[path] = len(read_rejects(path))
        except OSError:
            others.append(path)
    return SpoolReport(
        directory,
        tuple(file for file in files if file.batches or file.damages or file.problem),
        rejects,
        tuple(sorted(directory.glob(f"*{DAMAGED_SUFFIX}"))),
        tuple(others),
    )


def _inspect_file(path: Path) -> SpoolFileReport:
    try:
        with open_regular(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return SpoolFileReport(path)
            in_use = is_locked(file)
            problem = kid = None
            start, note_at = 0, None
            try:
                header, note_at = Header.read(file, path)
                start, kid = start_of_records(file, note_at), header.kid
            except SpoolError as exc:
                problem = str(exc)
            records, damages = scan(file, start, note_at)
            size = file.seek(0, os.SEEK_END) - start
    except FileNotFoundError:  # its process has just removed it
        return SpoolFileReport(path)
    except OSError as exc:
        return SpoolFileReport(path, problem=f"{path} cannot be read: {exc.strerror}")

    return SpoolFileReport(
        path,
        batches=len(records),
        rows=sum(record.rows for record in records),
        size_bytes=size if records else 0,
        in_use=in_use,
        kid=kid,
        # Without a valid header everything but the records would count as damage.
        damages=() if problem else tuple(damages),
        problem=problem,
    )
