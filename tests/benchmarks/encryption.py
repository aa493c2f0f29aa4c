"""Listing 1,000 credentials without touching their secrets, against a table that is not encrypted.

The other table has the same columns and rows, the secrets in the clear, and the fields that they
would have without encryption: of JSON, which is decoded with the row, and, as the least that any
model of the table could do, of text that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gproxy_storage import Storage
from gproxy_storage.fields import (
    BigAutoField,
    BigIntegerField,
    BooleanField,
    JSONField,
    TextField,
    UtcDateTimeField,
)
from gproxy_storage.models import Credential, Table
from tests.benchmarks import Figure, medians

ROUNDS = 60
ROWS = 1_000
SECRET = "a secret of this benchmark"
DOCUMENT = {"api_key": "sk-" + 97 * "0", "organization": "org-1"}

MOST = 1.1


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with Storage.connect(dsn, SECRET) as storage, storage.session():
        decoded, unread = _table(JSONField), _table(TextField)
        _fill(storage, decoded)
        with storage.database.bind_ctx([decoded, unread], bind_refs=False, bind_backrefs=False):
            taken = medians(
                {
                    "encrypted": _listing(Credential),
                    "decoded": _listing(decoded),
                    "unread": _listing(unread),
                },
                ROUNDS,
            )
    subject = f"list {ROWS:,} credentials"
    for other, most in (("decoded", MOST), ("unread", None)):
        yield Figure(
            backend, subject, f"plaintext, {other}", taken["encrypted"], taken[other], most
        )


def _table(secret_field: Callable[[], Any]) -> type[Table]:
    """Return a model of the other table."""

    class Plain(Table):
        id = BigAutoField()
        provider_id = BigIntegerField()
        name = TextField(null=True)
        kind = TextField()
        secret_json = secret_field()
        enabled = BooleanField()
        created_at = UtcDateTimeField()
        updated_at = UtcDateTimeField()

        class Meta:
            table_name = "plain_credentials"

    return Plain


def _fill(storage: Storage, plain: type[Table]) -> None:
    provider = storage.providers.upsert("openai", channel="openai")
    with storage.transaction():
        for _ in range(ROWS):
            storage.credentials.create(provider, kind="api_key", secret=DOCUMENT)
    with storage.database.bind_ctx([plain], bind_refs=False, bind_backrefs=False):
        storage.database.create_tables([plain])
        rows = [
            {
                "provider_id": row.provider_id,
                "kind": row.kind,
                "secret_json": row.secret_json,
                "enabled": row.enabled,
                "created_at": row.created_at,
                "updated_at": row.updated_at,
            }
            for row in storage.credentials.list()
        ]
        plain.insert_many(rows).execute()


def _listing(model: type[Table]) -> Callable[[], object]:
    def list_all() -> object:
        rows = list(model.select().order_by(model._meta.primary_key))
        if len(rows) != ROWS:
            raise AssertionError(f"{len(rows)} rows")
        return rows

    return list_all
