"""``spool``: the rows that wait in spool files, and storing them now."""

from __future__ import annotations

import json

import click

from ..errors import WriteError
from ..sink.inspection import inspect_spool
from ..storage import Storage
from .options import EXIT_TO_DO, JSON, Options, existing
from .spool_report import show_spool


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
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
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
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=2))
    else:
        click.echo(
            f"{done.written} rows stored, {done.rejected} rejected, {done.skipped} batches had "
            f"been stored before, {done.damaged} damaged parts skipped."
        )
    if done.refused:
        raise WriteError("; ".join(done.refused))
