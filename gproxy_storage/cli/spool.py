"""``spool``: the rows that wait in spool files, and storing them now."""

from __future__ import annotations

import click

from ..errors import WriteError
from ..sink.inspection import SpoolReport, inspect_spool
from ..storage import Storage
from .options import EXIT_TO_DO, JSON, Options, existing, printed


@click.group()
def spool() -> None:
    """Inspect and store the rows that a sink could not store.

    The database was away, or refused them.
    """


@spool.command("status")
@JSON
@click.pass_obj
@click.pass_context
def spool_status(ctx: click.Context, options: Options, as_json: bool) -> None:
    """Show the spool files under the data directory.

    Needs no database and changes nothing. Exit code 3 when rows wait.
    """
    report = inspect_spool(options.settings().data_dir / "spool")
    if not printed(report.to_dict(), as_json):
        click.echo(f"directory  {report.directory}")
        show_spool(report)
        if not report:
            click.echo("nothing waits")
    ctx.exit(EXIT_TO_DO if report.rows else 0)


@spool.command("replay")
@JSON
@click.pass_obj
def spool_replay(options: Options, as_json: bool) -> None:
    """Store the batches of spool files, each once, and delete the files.

    Files of running processes are left to them. Exit code 1 if files are left that no process uses.
    """
    with Storage.from_settings(existing(options.settings()), sync=False) as storage:
        done = storage.replay_spool()
    if not printed(done.to_dict(), as_json):
        click.echo(
            f"{done.written} rows stored, {done.rejected} rejected, {done.skipped} batches had "
            f"been stored before, {done.damaged} damaged parts skipped."
        )
    if done.refused:
        raise WriteError("; ".join(done.refused))


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
