"""``spool``: what waits in spool files for the database, and storing it now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..errors import WriteError
from ..sink.inspection import SpoolReport, look_at
from ..storage import Storage
from .schema import JSON, load_settings

if TYPE_CHECKING:
    from .main import Options


@click.group()
def spool() -> None:
    """Rows that a sink could not store: the database was away, or refused them."""


@spool.command("status")
@JSON
@click.pass_obj
def spool_status(options: Options, as_json: bool) -> None:
    """Show the spool files under the data directory; needs no database, changes nothing."""
    report = look_at(load_settings(options).data_dir / "spool")
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
        return
    click.echo(f"directory  {report.directory}")
    show(report)


@spool.command("replay")
@JSON
@click.pass_obj
def spool_replay(options: Options, as_json: bool) -> None:
    """Store what spool files hold, each batch once, and delete them.

    Files of running processes are left to them. Exit code 1 when something is left that no
    process has.
    """
    with Storage.open(
        dsn=options.dsn, data_dir=options.data_dir, config=options.config, sync=False
    ) as storage:
        done = storage.replay_spool()
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=2))
    else:
        click.echo(
            f"{done.written} rows stored, {done.rejected} rejected, {done.skipped} batches had "
            f"been stored before, {done.damaged} damaged stretches passed over."
        )
    if done.refused:
        raise WriteError("; ".join(done.refused))


def show(report: SpoolReport) -> None:
    """Print what waits, and what was set aside, for a person."""
    for file in report.files:
        holder = "in use" if file.in_use else "left by a process that ended"
        click.echo(
            f"  {file.path.name}  {file.rows} rows in {file.batches} batches, "
            f"{file.size_bytes} bytes, {holder}"
        )
        for damage in file.damages:
            click.echo(f"    damaged: {damage.length} bytes at offset {damage.offset}")
        if file.problem:
            click.echo(f"    {file.problem}")
    for path, rows in report.rejects.items():
        click.echo(f"  {path.name}  {rows} rows that the database refused")
    for path in report.damaged:
        click.echo(f"  {path.name}  set aside after its sound records were stored")
    if not report:
        click.echo("nothing waits")


def found_in(report: SpoolReport) -> dict[str, Any]:
    """Return the sums, for `status`."""
    return {
        "rows": sum(file.rows for file in report.files),
        "bytes": sum(file.size_bytes for file in report.files),
        "rejected_rows": sum(report.rejects.values()),
    }
