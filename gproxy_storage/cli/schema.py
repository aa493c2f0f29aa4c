"""``status`` and ``sync``: the state of the database, and the sync of its schema."""

from __future__ import annotations

from typing import Any

import click

from ..backends.widths import WIDEN
from ..sink.inspection import inspect_spool
from ..storage import Storage
from .options import EXIT_TO_DO, JSON, Options, printed, read_only
from .progress import progress
from .spool import show_spool


@click.command()
@JSON
@click.pass_obj
def status(options: Options, as_json: bool) -> None:
    """Show the database, its tables, row counts and drift.

    Changes nothing, and does not create a file.
    """
    settings = options.settings()
    with Storage.inspect(read_only(settings).dsn) as storage:
        plan = storage.plan()
        found: dict[str, Any] = {
            "backend": storage.database.name,
            "server_version": storage.database.version_text(),
            "dsn": str(settings.dsn),
            "tables": storage.row_counts(),
            "drift": plan.to_dict()["drift"],
        }
    spooled = inspect_spool(settings.data_dir / "spool")
    found["spool"] = spooled.to_dict()
    if printed(found, as_json):
        return
    counts = found["tables"]
    click.echo(f"backend  {found['backend']} {found['server_version']}")
    click.echo(f"dsn      {found['dsn']}")
    click.echo(f"tables   {sum(rows is not None for rows in counts.values())} of {len(counts)}")
    width = max(map(len, counts))
    for name, rows in counts.items():
        click.echo(f"  {name:{width}}  {'missing' if rows is None else rows:>10}")
    click.echo("drift    none" if not plan.drift else "drift")
    for drift in plan.drift:
        click.echo(f"  {drift.level.value:12}  {drift}")
    if spooled:
        click.echo("spool")
        show_spool(spooled)
    if plan.incompatible:
        click.echo("Opening the storage would fail: fix what is incompatible by hand.")
    elif plan:
        click.echo("Opening the storage, or `gproxy-storage sync`, adds what is missing.")
    if plan.narrower:
        click.echo(f"Only {WIDEN} changes what is narrower.")


@click.command()
@click.option(
    "--dry-run",
    is_flag=True,
    help=f"Print the SQL and do nothing. Exit code {EXIT_TO_DO} if there is something to do.",
)
@click.option(
    "--widen",
    is_flag=True,
    help="Also widen the columns that are narrower than declared. The database copies each such "
    "table, and its writers wait meanwhile.",
)
@JSON
@click.pass_context
def sync(ctx: click.Context, dry_run: bool, widen: bool, as_json: bool) -> None:
    """Bring the schema up to date, as opening the storage does.

    With --widen, run it again after an interruption.
    """
    options: Options = ctx.obj
    if dry_run:
        with Storage.inspect(read_only(options.settings()).dsn) as storage:
            plan = storage.plan(widen=widen)
        if not printed(plan.to_dict(), as_json):
            click.echo(str(plan))
        if plan.incompatible:
            ctx.exit(1)
        ctx.exit(EXIT_TO_DO if plan else 0)
    if widen:
        with Storage.for_schema(options.settings()) as storage:
            steps = len(storage.plan(widen=True).steps)
            with progress("widening", steps, "statements") as done:
                report = storage.sync(widen=True, progress=done)
    else:
        with Storage.from_settings(options.settings()) as storage:
            report = storage.sync() if storage.sync_report is None else storage.sync_report
    if printed(report.to_dict(), as_json):
        return
    for step in report.applied:
        click.echo(f"{step.sql};")
    click.echo(
        f"{len(report.applied)} steps applied in {report.elapsed_s:.2f} s."
        if report
        else "The schema is up to date."
    )
