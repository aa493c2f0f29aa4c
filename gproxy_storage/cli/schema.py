"""``status`` and ``sync``: what the database is, and bringing its schema up to date."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ..config import Settings
from ..storage import Storage

if TYPE_CHECKING:
    from .main import Options

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@click.command()
@_JSON
@click.pass_obj
def status(options: Options, as_json: bool) -> None:
    """Show the database, its tables and how many rows they hold; changes nothing."""
    settings = Settings.load(dsn=options.dsn, data_dir=options.data_dir, config=options.config)
    dsn = settings.dsn
    if dsn.mode == "rwc":
        dsn = dsn.replace(mode="rw")  # looking must not create the file
    with Storage.connect(dsn, settings.secret_key, sync=False) as storage:
        counts = storage.row_counts()
        found = {
            "backend": storage.database.name,
            "server_version": storage.database.version_text(),
            "dsn": str(settings.dsn),
            "tables": counts,
        }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"backend  {found['backend']} {found['server_version']}")
    click.echo(f"dsn      {found['dsn']}")
    width = max(map(len, counts))
    click.echo(f"tables   {sum(rows is not None for rows in counts.values())} of {len(counts)}")
    for name, rows in counts.items():
        click.echo(f"  {name:{width}}  {'missing' if rows is None else rows:>10}")
    if None in counts.values():
        click.echo("Run `gproxy-storage sync` to create what is missing.")


@click.command()
@_JSON
@click.pass_obj
def sync(options: Options, as_json: bool) -> None:
    """Bring the schema up to date, as opening the storage does."""
    with Storage.open(
        dsn=options.dsn, data_dir=options.data_dir, config=options.config, sync=False
    ) as storage:
        report = storage.sync()
    if as_json:
        click.echo(json.dumps({"applied": list(report.applied)}, indent=2))
    elif report.applied:
        for sql in report.applied:
            click.echo(sql)
        click.echo(f"{len(report.applied)} statements applied.")
    else:
        click.echo("The schema is up to date.")
