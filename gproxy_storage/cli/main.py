"""The command group: its options, and the translation of errors to exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..dsn import Dsn
from ..errors import StorageError
from .encryption import encryption, keygen
from .options import Options
from .progress import Interrupted
from .schema import status, sync
from .spool import spool


class _Group(click.Group):
    """Show a StorageError as one line and exit with 1, or raise it under --debug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as exc:
            if exc.option_name not in {name for option in self.params for name in option.opts}:
                raise
            hint = (
                f"{exc.message} It goes before the command: {ctx.info_name} {exc.option_name} ..."
            )
            raise click.NoSuchOption(exc.option_name, hint, ctx=exc.ctx) from None
        except KeyboardInterrupt:
            raise Interrupted from None
        except StorageError as exc:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(" ".join(str(exc).split())) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--dsn",
    metavar="DSN",
    help="The database. Others can read a command line: a DSN with a password belongs in "
    "GPROXY_DSN.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The directory of the default SQLite file; overrides GPROXY_DATA_DIR.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The TOML file with [global] dsn and data_dir; overrides GPROXY_CONFIG.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="gproxy-storage")
@click.pass_context
def main(
    ctx: click.Context, dsn: str | None, data_dir: Path | None, config: Path | None, debug: bool
) -> None:
    """Administer the storage of an LLM proxy.

    The database is the one of GPROXY_DSN, else of `dsn` in gproxy.toml, else a SQLite file in
    GPROXY_DATA_DIR (./data). The options below go before the command's name.

    Exit codes: 0 done, 1 it failed and says why, 2 the command line is wrong, 3 a dry run found
    something to do, 130 interrupted: run it again to finish.
    """
    del debug  # read by _Group
    parsed = None if dsn is None else Dsn.parse(dsn, setting="--dsn")
    ctx.obj = Options(parsed, data_dir, config)


for command in (status, sync, keygen, encryption, spool):
    main.add_command(command)
