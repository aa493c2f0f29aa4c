"""What each user used and cost, month by month.

    python examples/usage_report.py [--dsn DSN] [--since DATE] [--until DATE] [--json | --csv]

Months are UTC's; both dates are included. Without --dsn it reads what GPROXY_DSN names, else
./data/gproxy.db. It changes nothing, not even the schema.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gproxy_storage import Storage, StorageError

COLUMNS = ("user", "month", "calls", "input_tokens", "output_tokens", "cost")


def report(storage: Storage, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return a row for each user and month with usages, by user and month."""
    names: dict[int | None, str] = {user.id: user.name for user in storage.users.list()}
    groups = storage.usages.summarize_by("user_id", "month", since=since, until=until)
    return [
        {
            "user": names.get(user_id, "(deleted or none)"),
            "month": f"{month:%Y-%m}",
            "calls": total.count,
            "input_tokens": total.input_tokens,
            "output_tokens": total.output_tokens,
            "cost": total.cost,
        }
        for (user_id, month), total in groups
    ]


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows for a person, with the sums at the end."""
    numbers = COLUMNS[2:]
    sums = {name: sum(row[name] for row in rows) for name in numbers}
    lines = [COLUMNS, *map(cells, rows), cells({"user": "total", "month": "", **sums})]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, line, widths, strict=True)
        )
        print("  ".join(padded).rstrip())


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row's values as a person reads them."""
    *values, cost = (row[name] for name in COLUMNS)
    return (*(f"{each:,}" if isinstance(each, int) else each for each in values), f"{cost:,.2f}")


def day(text: str) -> datetime:
    """Return the first moment of a day in UTC."""
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, then the database, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dsn", help="the database; else what the settings name")
    parser.add_argument(
        "--since",
        type=day,
        metavar="YYYY-MM-DD",
        default="1970-01-01",
        help="the first day, in UTC",
    )
    parser.add_argument(
        "--until", type=day, metavar="YYYY-MM-DD", default="9999-12-30", help="the last day, in UTC"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")
    options = parser.parse_args(arguments)

    until = options.until + timedelta(days=1) - timedelta(microseconds=1)
    with Storage.open(dsn=options.dsn, sync=False) as storage:
        rows = report(storage, options.since, until)

    if options.json:
        print(json.dumps(rows, indent=2, default=str))  # money as text: no digit is lost
    elif options.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        print_table(rows)


if __name__ == "__main__":
    try:
        main()
    except StorageError as exc:
        sys.exit(f"error: {exc}")
