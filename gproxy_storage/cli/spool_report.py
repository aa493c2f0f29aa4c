"""The output of spool reports for people."""

from __future__ import annotations

import click

from ..sink.inspection import SpoolReport


def show_spool(report: SpoolReport) -> None:
    """Print a report on a spool directory."""
    for file in report.files:
        if file.problem and not file.batches:
            click.echo(f"  {file.path.name}  is not a spool file")
        else:
            holder = "in use" if file.in_use else "left by a process that ended"
            click.echo(
                f"  {file.path.name}  {file.rows} rows in {file.batches} batches, "
                f"{file.size_bytes} bytes, {holder}"
            )
        for damage in file.damages:
            what = "missing" if damage.missing else "damaged"
            click.echo(f"    {what}: {damage.length} bytes at offset {damage.offset}")
        if file.problem:
            click.echo(f"    {file.problem}")
    for path, rows in report.rejects.items():
        click.echo(f"  {path.name}  {rows} rows that the database refused")
    for path in report.damaged:
        click.echo(f"  {path.name}  kept after its valid records were stored")
    for path in report.others:
        click.echo(f"  {path.name}  is not a sink's file and is left as it is")
