"""Options of the group and of several commands, and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..backends.sqlite_paths import inspection_dsn
from ..config import Settings
from ..dsn import Dsn

EXIT_TO_DO = 3
"""The exit code of a dry run that found something to do."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


class Options(NamedTuple):
    """The group's options; None for one that is not given."""

    dsn: Dsn | None
    data_dir: Path | None
    config: Path | None

    def settings(self) -> Settings:
        """Return the settings from the options, the environment and the files."""
        return Settings.load(dsn=self.dsn, data_dir=self.data_dir, config=self.config)


def printed(found: Any, as_json: bool) -> bool:
    """Print JSON-able values if JSON is wanted; return whether it is."""
    if as_json:
        click.echo(json.dumps(found, indent=2))
    return as_json


def read_only(settings: Settings) -> Settings:
    """Return settings with which opening the database changes nothing and creates no file."""
    return replace(settings, dsn=inspection_dsn(settings.dsn))


def existing(settings: Settings) -> Settings:
    """Return settings under which opening the database creates no file: there must be one."""
    if settings.dsn.mode != "rwc":
        return settings
    return replace(settings, dsn=settings.dsn.replace(mode="rw"))
