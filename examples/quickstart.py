"""The main job in one go: a user with an API key, a provider, a call that is paid for.

    python examples/quickstart.py [DSN]

Without a DSN it works on what GPROXY_DSN names, else on ./data/gproxy.db. Run it as often as you
like: what exists is kept, each run adds a key and a usage.
"""

from __future__ import annotations

import argparse
import sys

from gproxy_storage import Storage, StorageError


def main(dsn: str | None = None) -> None:
    """Run the session on the database at `dsn`, or on the one that the settings name."""
    with Storage.open(dsn=dsn) as storage:
        database = storage.database
        print(f"opened      {database.dsn} ({database.name} {database.version_text()})")

        alice = storage.users.find(name="alice")
        if alice is None:
            alice = storage.users.create("alice", password="correct horse battery staple")
        print(f"user        {alice.name} (id {alice.id})")

        openai = storage.providers.upsert("openai", channel="openai")
        if not storage.credentials.list(provider_id=openai.id):
            storage.credentials.create(openai, kind="api_key", secret={"api_key": "sk-example"})
        print(f"provider    {openai.name} (id {openai.id}), with a credential")

        _, plaintext = storage.keys.create(alice, label="quickstart")
        print(f"API key     {plaintext[:12]}... (shown once, looked up by its digest)")

        key = storage.keys.authenticate(plaintext)
        assert key is not None, "the key was made a moment ago"
        print(
            f"login       by key: {key.user.name}; by a wrong key: "
            f"{storage.keys.authenticate('sk-api01-wrong')}"
        )

        storage.usages.record(
            user_id=alice.id,
            user_key_id=key.id,
            provider_id=openai.id,
            model="gpt-4.1-mini",
            input_tokens=12,
            output_tokens=340,
            cost=0.01,
        )
        total = storage.usages.summarize(user_id=alice.id)
        print(
            f"usage       {total.count} calls, {total.input_tokens} tokens in, "
            f"{total.output_tokens} out, cost {total.cost:.2f}"
        )

        try:
            storage.users.create("alice")
        except StorageError as exc:
            print(f"refused     {type(exc).__name__}: {exc}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dsn", nargs="?", metavar="DSN", help="the database")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(arguments().dsn)
    except StorageError as exc:
        sys.exit(f"error: {exc}")
