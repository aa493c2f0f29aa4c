"""``keygen`` and ``encryption``: encryption at rest and its keys."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config import SECRET_KEY, SECRET_KEY_FILE, Settings, clean_secret, read_secret_file
from ..crypto.keyset import Mode
from ..errors import ConfigError, SchemaError, SecretError
from ..secret import Secret
from ..sink.inspection import inspect_spool
from ..storage import Storage
from .encryption_report import (
    check_to_dict,
    show_checked,
    show_outcome,
    show_status,
    status_to_dict,
)
from .options import EXIT_TO_DO, JSON, Options, printed, read_only
from .progress import progress

if TYPE_CHECKING:
    from ..key_management.commands import Encryption
    from ..key_management.outcome import Outcome
    from ..key_management.scan import OnProgress

NEW_SECRET_KEY = f"NEW_{SECRET_KEY}"
NEW_SECRET_KEY_FILE = f"NEW_{SECRET_KEY_FILE}"

_DRY_RUN = click.option(
    "--dry-run",
    is_flag=True,
    help=f"Show what would be done, without doing it. Exit code {EXIT_TO_DO} if that is anything.",
)


_YES = click.option("--yes", is_flag=True, help="Do not ask.")


def _operation(command: Callable[..., None]) -> Callable[..., None]:
    return _DRY_RUN(JSON(click.pass_context(command)))


@click.command()
@JSON
def keygen(as_json: bool) -> None:
    """Print a new random secret for DATABASE_SECRET_KEY.

    Keep a copy apart from the database and its backups: without it they cannot be read.
    """
    secret = secrets.token_urlsafe(32)
    click.echo(json.dumps({"secret": secret}) if as_json else secret)


@click.group()
def encryption() -> None:
    """Encrypt the secrets in the database, and change its keys.

    The secret is DATABASE_SECRET_KEY, or the content of the file DATABASE_SECRET_KEY_FILE; if
    neither is set, it is asked for on a terminal. Every command may run while the database is in
    use, and again after an interruption.
    """


@encryption.command()
@JSON
@click.pass_obj
def status(options: Options, as_json: bool) -> None:
    """Show the forms and keys of the encrypted columns' values.

    Opens no value and changes nothing; without the secret the mode is unknown.
    """
    settings = options.settings()
    with Storage.inspect(read_only(settings).dsn) as storage:
        mode = storage.encryption.try_secret(settings.secret_key)
        row = storage.encryption.row()
        keys = storage.encryption.keys
        in_use = {} if row is None else storage.encryption.scan()
    found = status_to_dict(row, mode, keys, in_use)
    if not printed(found, as_json):
        show_status(found)


@encryption.command()
@JSON
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Open every value in its place and compare every digest.

    Lists the rows that do not open, whose digest does not match, or that are in the clear. Changes
    nothing. Exit code 1 if something is wrong. It proves neither that values are the latest nor
    that no row is missing.
    """
    settings = read_only(_with_secret(ctx.obj.settings()))
    with Storage.from_settings(settings, sync=False) as storage:
        with progress("checking", _count(storage)) as done:
            checked = storage.encryption.check(done)
        is_clean = storage.encryption.is_clean(checked)
        mode = storage.encryption.mode
    if not printed(check_to_dict(checked, mode, is_clean=is_clean), as_json):
        show_checked(checked, mode, is_clean=is_clean)
    ctx.exit(0 if is_clean else 1)


@encryption.command()
@_operation
def encrypt(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Seal plaintext values; switch encryption on."""
    settings = _with_secret(ctx.obj.settings(), may_be_new=True)
    secret = settings.secret_key
    if secret is None:
        raise SecretError(f"{SECRET_KEY} is not set: set it, `gproxy-storage keygen` makes one")

    def seal(keys: Encryption, done: OnProgress) -> Outcome:
        is_new = keys.mode is Mode.PLAINTEXT and not dry_run
        outcome = keys.encrypt(secret, done, dry_run=dry_run)
        if is_new:
            outcome.notes.append(
                f"keep a copy of the secret away from the database, and set {SECRET_KEY} for every "
                "process"
            )
        return outcome

    _run(ctx, settings, seal, as_json)


@encryption.command("change-secret")
@_operation
def change_secret(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Change the database's secret; writes one row.

    The new secret is NEW_DATABASE_SECRET_KEY, or the content of the file
    NEW_DATABASE_SECRET_KEY_FILE, or is asked for. Set it as DATABASE_SECRET_KEY for every process
    afterwards. Old backups still need the old one.
    """
    settings = _with_secret(ctx.obj.settings())
    old = settings.secret_key
    if old is None:
        raise SecretError(f"{SECRET_KEY} is not set: set it to the current secret")
    new = _new_secret()
    dsn = read_only(settings).dsn if dry_run else settings.dsn
    with Storage.inspect(dsn) as storage:
        outcome = storage.encryption.change_secret(old, new, dry_run=dry_run)
    did = "would be changed" if dry_run else "was changed: set the new one for every process"
    what = f"the secret {did if outcome.changed else 'is unchanged'}"
    _report(ctx, outcome, dry_run=dry_run, as_json=as_json, what=what)


@encryption.command("rotate-key")
@_operation
def rotate_key(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Seal all values under a new data key, and drop the old one.

    Values that do not open are listed and left as they are, and their key is kept; the exit code is
    1 then. After a leak of the secret run change-secret first: this command does not change it.
    """
    settings = _with_secret(ctx.obj.settings())
    _run(ctx, settings, lambda keys, done: keys.rotate_key(done, dry_run=dry_run), as_json)


@encryption.command()
@_YES
@_operation
def upgrade(ctx: click.Context, dry_run: bool, as_json: bool, yes: bool) -> None:
    """Convert a database from GPROXY's format to format v3.

    Stop GPROXY first: it will not start on this database any more.
    """
    settings = _with_secret(ctx.obj.settings())
    if not (dry_run or yes):
        _confirm(ctx, "GPROXY will not start on this database any more. Is it stopped?")
    _run(ctx, settings, lambda keys, done: keys.upgrade(done, dry_run=dry_run), as_json)


@encryption.command()
@_YES
@_operation
def decrypt(ctx: click.Context, dry_run: bool, as_json: bool, yes: bool) -> None:
    """Store all secrets in the clear and remove the keyring."""
    settings = _with_secret(ctx.obj.settings())
    _refuse_sealed_spool(settings.data_dir / "spool")
    if not (dry_run or yes):
        _confirm(ctx, f"Store all secrets of {settings.dsn} in the clear?")
    _run(ctx, settings, lambda keys, done: keys.decrypt(done, dry_run=dry_run), as_json)


# -- private ----------------------------------------------------------------------------------


def _refuse_sealed_spool(directory: Path) -> None:
    """Refuse to remove the keyring while rows wait that only its spool key opens."""
    sealed = [
        file.path.name
        for file in inspect_spool(directory).files
        if file.batches and (file.kid or file.problem)
    ]
    if sealed:
        raise ConfigError(
            f"{directory} holds rows that open only with the keyring: {', '.join(sealed)}; run "
            "`gproxy-storage spool replay` first, with the secret, and stop the processes that "
            "use these files"
        )


def _run(
    ctx: click.Context,
    settings: Settings,
    operation: Callable[[Encryption, OnProgress], Outcome],
    as_json: bool,
) -> None:
    dry_run: bool = ctx.params["dry_run"]
    if dry_run:
        settings = read_only(settings)
    with (
        Storage.for_encryption(settings, sync=not dry_run) as storage,
        progress("looking at" if dry_run else "writing", _count(storage)) as done,
    ):
        outcome = operation(storage.encryption, done)
    _report(ctx, outcome, dry_run=dry_run, as_json=as_json)


def _report(
    ctx: click.Context, outcome: Outcome, *, dry_run: bool, as_json: bool, what: str | None = None
) -> None:
    """Print the outcome, with `what` in place of the number of values, and exit."""
    if not printed(outcome.to_dict(), as_json):
        show_outcome(outcome, dry_run=dry_run, what=what)
    if outcome.unreadable:
        ctx.exit(1)
    ctx.exit(EXIT_TO_DO if dry_run and outcome.changed else 0)


def _count(storage: Storage) -> int:
    try:
        return storage.encryption.count()
    except SchemaError:  # not synced: the command itself reports it
        return 0


def _with_secret(settings: Settings, *, may_be_new: bool = False) -> Settings:
    """Ask for the secret on a terminal if no setting has it.

    Twice if it may become the database's: values sealed under a mistyped secret are lost.
    """
    if settings.secret_key is not None or not sys.stdin.isatty():
        return settings
    text = click.prompt(SECRET_KEY, hide_input=True, confirmation_prompt=may_be_new, err=True)
    return replace(settings, secret_key=clean_secret(text, SECRET_KEY))


def _new_secret() -> Secret:
    text, file = os.environ.get(NEW_SECRET_KEY), os.environ.get(NEW_SECRET_KEY_FILE)
    if text is not None and file is not None:
        raise SecretError(f"{NEW_SECRET_KEY} and {NEW_SECRET_KEY_FILE} are both set; unset one")
    if file is not None:
        return read_secret_file(Path(file), NEW_SECRET_KEY_FILE)
    if text is None:
        if not sys.stdin.isatty():
            raise SecretError(
                f"{NEW_SECRET_KEY} is not set: set it, `gproxy-storage keygen` makes one"
            )
        text = click.prompt("New secret", hide_input=True, confirmation_prompt=True, err=True)
    return clean_secret(text, NEW_SECRET_KEY)


def _confirm(ctx: click.Context, question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("cannot ask without a terminal: give --yes", ctx=ctx)
    click.confirm(question, abort=True, err=True)
