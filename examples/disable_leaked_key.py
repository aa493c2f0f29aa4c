"""Disable a leaked API key, and say whose it is and what it was used for.

The key is asked for at the terminal, or read from standard input: never from the command line,
which every user of the machine can see and the shell remembers.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from gproxy_storage import Storage, StorageError


def disable(storage: Storage, api_key: str) -> str | None:
    """Disable the key and return what is known of it; None when there is no such key."""
    key = storage.keys.find(api_key)
    if key is None:
        return None
    was_enabled = key.enabled
    if was_enabled:
        storage.keys.revoke(key.id)
    used = storage.usages.summarize(user_key_id=key.id)
    label = f" ({key.label})" if key.label else ""
    return (
        f"key {key.id}{label} of {key.user.name} (id {key.user_id}): "
        f"{'disabled' if was_enabled else 'was disabled already'}; "
        f"{used.count} calls so far, cost {used.cost:.2f}"
    )


def main() -> None:
    """Read the key and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="the database; else what the settings name")
    options, others = parser.parse_known_args()
    if others:  # without showing them: one may be the key
        parser.error("no further argument is taken: the key is read from standard input")
    terminal = sys.stdin.isatty()
    try:
        api_key = (getpass.getpass("API key: ") if terminal else sys.stdin.readline()).strip()
    except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
        sys.exit("\nerror: no key was given")
    if not api_key:
        sys.exit("error: no key was given")
    try:
        with Storage.open(dsn=options.dsn) as storage:
            found = disable(storage, api_key)
    except StorageError as exc:
        sys.exit(f"error: {exc}")
    if found is None:
        sys.exit("error: this database has no such key")
    print(found)


if __name__ == "__main__":
    main()
