"""Create users from a CSV file, each with an API key: all of them, or none.

The first line names the columns: `name`, and any of `password`, `admin` (yes or no) and `label` (of
the key). Without a password a user has API keys only. A password may be an Argon2 hash.

Prints `name,api_key` for each user, once everything is stored. This is the only time that the keys
are shown. When a line cannot be used, says which and why, for every such line, and creates nobody.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gproxy_storage import Storage, StorageError
from gproxy_storage.crypto.passwords import hash_password
from gproxy_storage.errors import ConflictError, InvalidValue

COLUMNS = ("name", "password", "admin", "label")
ADMIN = {"yes": True, "no": False, "": False}


class BadLinesError(Exception):
    """Lines that cannot be used, each with its number and the reason."""


@dataclass(frozen=True, repr=False)  # a repr would show the password
class Line:
    """One user to create; `number` is the line's in the file, counted from 1."""

    number: int
    name: str
    password: str | None
    is_admin: bool
    label: str | None


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be used, and why."""

    number: int
    reason: str


def read_lines(file: Iterable[str]) -> Iterator[Line | BadLine]:
    """Yield each line, or what is wrong with it."""
    reader = csv.reader(file, strict=True)
    header = next(reader, [])
    if "name" not in header or not set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        raise BadLinesError(
            f"line 1: it must name `name`, and no other than {', '.join(COLUMNS)}, each once"
        )
    for cells in reader:
        if not cells:
            continue
        row = dict(zip(header, cells, strict=False))
        admin = row.get("admin", "").strip().lower()
        if len(cells) != len(header):
            yield BadLine(reader.line_num, f"{len(cells)} cells instead of {len(header)}")
        elif admin not in ADMIN:
            yield BadLine(reader.line_num, "admin must be yes, no or empty")
        else:
            yield Line(
                number=reader.line_num,
                name=row["name"].strip(),
                password=row.get("password") or None,
                is_admin=ADMIN[admin],
                label=row.get("label") or None,
            )


def create_users(storage: Storage, lines: Iterable[Line | BadLine]) -> list[tuple[str, str]]:
    """Create the users in one transaction and return each name with its API key."""
    bad = {}
    good = []
    for line in lines:
        if isinstance(line, BadLine):
            bad[line.number] = line.reason
        else:
            # Hashing takes its time on purpose: not while the transaction keeps others waiting.
            good.append((line, line.password and hash_password(line.password)))
    created = []
    with storage.transaction():
        for line, password in good:
            try:
                with storage.transaction():  # a savepoint: the lines after it are tried as well
                    user = storage.users.create(
                        line.name, password=password, is_admin=line.is_admin
                    )
                    _, api_key = storage.keys.create(user, label=line.label)
            except (ConflictError, InvalidValue) as exc:
                bad[line.number] = str(exc)
            else:
                created.append((line.name, api_key))
        if bad:
            raise BadLinesError("\n".join(f"line {at}: {why}" for at, why in sorted(bad.items())))
    return created


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="the CSV file, in UTF-8; - for standard input")
    parser.add_argument("--dsn", help="the database; else what the settings name")
    options = parser.parse_args()
    try:
        # utf-8-sig: spreadsheets put a byte-order mark first.
        source = 0 if options.file == "-" else options.file
        with (
            open(source, encoding="utf-8-sig", newline="") as file,  # noqa: PTH123 - 0 is no path
            Storage.open(dsn=options.dsn) as storage,
        ):
            created = create_users(storage, read_lines(file))
    except BadLinesError as exc:
        sys.exit(f"{exc}\nnobody was created")
    except (StorageError, OSError, UnicodeDecodeError, csv.Error) as exc:
        sys.exit(f"error: {exc}\nnobody was created")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["name", "api_key"])
    writer.writerows(created)


if __name__ == "__main__":
    main()
