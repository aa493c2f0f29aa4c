"""Which columns are encrypted, and that none which looks like a secret is forgotten."""

from __future__ import annotations

import re

import pytest

from gproxy_storage.encrypted_fields import EncryptedField
from gproxy_storage.key_management.columns import COLUMNS
from gproxy_storage.models import TABLES

LOOKS_SECRET = re.compile(
    r"secret|passw|token|api_?key|ciphertext|credential|private|auth|cookie|bearer|seal|hash|digest"
)

NOT_SECRET = {
    "credential_statuses.credential_id": "a reference",
    "encryption_keys.sealed": "sealed under the operator's secret",
    "upstream_requests.credential_id": "a reference",
    "usages.credential_id": "a reference",
    "user_credential_files.credential_id": "a reference",
    "user_credential_files.user_key_id": "a reference",
    "user_keys.api_key_digest": "keyed by HMAC in an encrypted database, and looked up by it",
    "usages.input_tokens": "a count",
    "usages.output_tokens": "a count",
    "usages.cache_read_input_tokens": "a count",
    "usages.cache_creation_input_tokens": "a count",
    "usages.cache_creation_input_tokens_5min": "a count",
    "usages.cache_creation_input_tokens_1h": "a count",
    "user_rate_limits.total_tokens": "a limit",
}


def columns() -> dict[str, object]:
    return {
        f"{model._meta.table_name}.{field.column_name}": field
        for model in TABLES
        for field in model._meta.sorted_fields
    }


def forgotten(found: dict[str, object]) -> list[str]:
    return [
        name
        for name, field in found.items()
        if LOOKS_SECRET.search(name.partition(".")[2])
        and not isinstance(field, EncryptedField)
        and name not in NOT_SECRET
    ]


def test_what_looks_like_a_secret_is_encrypted() -> None:
    assert forgotten(columns()) == []
    assert set(NOT_SECRET) <= set(columns())


@pytest.mark.parametrize(
    "name", ["oauth.refresh_token", "users.totp_secret", "hooks.authorization", "x.passwd"]
)
def test_a_new_one_is_found(name: str) -> None:
    assert forgotten({name: object()}) == [name]


def test_labels_are_frozen() -> None:
    """Values are bound to these labels, which a renamed column must keep."""
    assert {column.name: column.field.binding(None)[:2] for column in COLUMNS} == {
        "credentials.secret_json": ("credentials", "secret_json"),
        "users.password": ("users", "password"),
        "user_keys.api_key_ciphertext": ("user_keys", "api_key_ciphertext"),
    }
