"""The output of the ``encryption`` commands: text for people, and JSON-able values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..crypto.keyset import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..key_management.outcome import Evidence, Outcome
    from ..key_management.scan import Checked, InUse
    from ..unlocked import KeyringRow

_SHOWN = 20

_NO_MATCH = "the digest is not that of the key"
_IN_THE_CLEAR = "is in the clear"


# -- status -----------------------------------------------------------------------------------


def status_to_dict(
    row: KeyringRow | None, mode: Mode | None, keys: list[str], in_use: dict[str, InUse]
) -> dict[str, Any]:
    """Return the state of a database's encryption; the active one of the keys is the first."""
    return {
        "mode": mode and mode.value,
        "generation": row and row.generation,
        "kdf": row.kdf.rpartition("$")[0] if row and row.kdf else None,
        "active_key": keys[0] if keys else None,
        "kept_keys": keys[1:],
        "columns": {
            column: {
                "values": dict(sorted(held.forms.items())),
                "keys": dict(sorted(held.kids.items())),
            }
            for column, held in in_use.items()
        },
    }


def show_status(found: dict[str, Any]) -> None:
    """Print what `status_to_dict` returned."""
    generation = found["generation"]
    click.echo(f"mode        {found['mode'] or 'sealed: set DATABASE_SECRET_KEY to see it'}")
    click.echo(f"generation  {'none: not synced yet' if generation is None else generation}")
    click.echo(f"kdf         {found['kdf'] or 'none'}")
    if found["active_key"]:
        click.echo(f"key         {found['active_key']} is in force")
    for kid in found["kept_keys"]:
        click.echo(
            f"key         {kid} is kept for values under it: rotate-key seals them under a new "
            "key; values that do not open are left, and check lists them"
        )
    for column, held in found["columns"].items():
        values = ", ".join(f"{count} {form}" for form, count in held["values"].items())
        click.echo(f"{column}: {values or 'no values'}")
        for kid, count in held["keys"].items():
            click.echo(f"  key {kid}: {count}")


# -- check ------------------------------------------------------------------------------------


def check_to_dict(checked: dict[str, Checked], mode: Mode, *, is_clean: bool) -> dict[str, Any]:
    """Return the result of a check, with the first rows with a problem of each column."""
    return {
        "mode": mode,
        "clean": is_clean,
        "columns": {column: found.to_dict() for column, found in checked.items()},
        "problems": list(_problems(checked)),
    }


def _problems(checked: dict[str, Checked]) -> Iterator[dict[str, Any]]:
    for name, found in checked.items():
        table, _, column = name.partition(".")
        problems = [(error.pk, str(error)) for error in found.unreadable.first]
        problems += [(pk, _IN_THE_CLEAR) for pk in found.plaintext.first]
        problems += [(pk, _NO_MATCH) for pk in found.digest_mismatches.first]
        for pk, problem in problems:
            yield {"table": table, "column": column, "id": pk, "problem": problem}


def show_checked(checked: dict[str, Checked], mode: Mode, *, is_clean: bool) -> None:
    """Print the result of a check, and a verdict in the last line."""
    click.echo(f"mode {mode}")
    for column, found in checked.items():
        click.echo(
            f"{column}: {found.rows} values, {found.unreadable.count} unreadable, "
            f"{found.plaintext.count} plaintext, {found.digest_mismatches.count} digest mismatches"
        )
        _show_evidence(found.unreadable)
        if mode not in (Mode.PLAINTEXT, Mode.DECRYPTING):  # there plaintext is as it should be
            _show_evidence(found.plaintext, f"{column}, row {{}} {_IN_THE_CLEAR}")
        _show_evidence(found.digest_mismatches, f"{column}, row {{}}: {_NO_MATCH}")
    click.echo(_verdict(mode, sum(found.plaintext.count for found in checked.values()), is_clean))


def _verdict(mode: Mode, plaintext: int, is_clean: bool) -> str:
    if not is_clean:
        return "Something is wrong: see above."
    if mode is Mode.PLAINTEXT:
        return f"The database is not encrypted: {plaintext} values are in the clear."
    if plaintext:
        return f"All sealed values open, and {plaintext} values are in the clear."
    return "All values open."


# -- operations -------------------------------------------------------------------------------


def show_outcome(outcome: Outcome, *, dry_run: bool, what: str | None = None) -> None:
    """Print the outcome of an operation, with `what` in place of the number of values."""
    would = "would be " if dry_run else ""
    click.echo(f"mode {outcome.mode}: {what or f'{outcome.sealed} values {would}written'}")
    if outcome.keys_dropped:
        click.echo(f"{outcome.keys_dropped} unused keys {would}dropped")
    for kid in outcome.keys_kept:
        click.echo(f"key {kid} {would}kept for values that do not open")
    for note in outcome.notes:
        click.echo(note)
    if outcome.unreadable:
        click.echo(f"{outcome.unreadable.count} values {would}left as they are:", err=True)
        _show_evidence(outcome.unreadable)


def _show_evidence(found: Evidence[Any], words: str = "{}") -> None:
    shown = found.first[:_SHOWN]
    for one in shown:
        click.echo(f"  {words.format(one)}", err=True)
    if found.count > len(shown):
        click.echo(f"  and {found.count - len(shown)} more", err=True)
