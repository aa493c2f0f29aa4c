"""Run benchmarks and print their ratios: `python -m tests.benchmarks [NAME...] [--backend ...]`."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import tests.benchmarks
from tests import servers
from tests.benchmarks import Figure


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 1 when a backend has no server."""
    names = sorted(
        module.name
        for module in pkgutil.iter_modules(tests.benchmarks.__path__)
        if not module.name.startswith("_")
    )
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; or all")
    parser.add_argument(
        "--backend",
        action="append",
        choices=servers.BACKENDS,
        help="this backend only; repeatable",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"no benchmark is named {sorted(unknown)[0]}: there are {', '.join(names)}")

    figures: list[Figure] = []
    missing = False
    try:
        for backend in options.backend or servers.BACKENDS:
            server = servers.available(backend)
            if isinstance(server, servers.Unavailable):
                print(f"{backend}: no server: {server.reason}", file=sys.stderr)
                missing = True
                continue
            for name in options.names or names:
                figures += _run(name, server)
    finally:
        servers.stop_all()
    print(table(figures))
    if options.json:
        found = {
            "python": platform.python_version(),
            "figures": [figure.to_dict() for figure in figures],
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if missing else 0


def _run(name: str, server: servers.Server) -> Iterator[Figure]:
    """Run one benchmark in a database of its own."""
    module = importlib.import_module(f"tests.benchmarks.{name}")
    database = servers.database_name()
    dsn = server.create_database(database)
    try:
        yield from module.run(server.backend, dsn)
    finally:
        server.drop_database(database)


def table(figures: Sequence[Figure]) -> str:
    """Lay the figures out for a person."""
    head = ("backend", "subject", "ours", "against", "", "time", "goal", "")
    rows = [head] + [
        (
            figure.backend,
            figure.subject,
            figure.words(figure.ours_s),
            figure.against,
            figure.words(figure.other_s),
            f"{figure.ratio:.2f}",
            "" if figure.most is None else f"<= {figure.most:.3g}",
            figure.verdict,
        )
        for figure in figures
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {2, 4, 5, 6}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
