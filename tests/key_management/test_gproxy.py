"""A database in GPROXY's format, made from the vectors and read by the vectors' own recipe."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from argon2.low_level import Type, hash_secret_raw
from nacl import bindings as sodium

from gproxy_storage import Storage
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import ConfigError, CryptoError, UnknownKey, WrongSecret
from gproxy_storage.key_management.gproxy import LEDGER, STEPS, VERSION
from gproxy_storage.models import Provider, User
from gproxy_storage.secret import Secret
from tests.key_management.support import (
    DOCUMENT,
    NEW_SECRET,
    NOW,
    PASSWORD,
    all_of,
    clean,
    keyring_row,
    ledger,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.unit.crypto.support import load_vectors

VECTORS = load_vectors("gproxy-v2")
BY_SECRET: dict[str, list[Any]] = {}
for _value in VECTORS["values"]:
    BY_SECRET.setdefault(_value["secret"], []).append(_value)
SECRETS = list(BY_SECRET)


class Reference:
    """GPROXY's sealing, from the words of the vectors: libsodium and Argon2, nothing of ours."""

    def __init__(self, secret: str) -> None:
        self.key = hash_secret_raw(
            secret.strip().encode(),
            b"gproxy-db-enc-v2",
            time_cost=2,
            memory_cost=19_456,
            parallelism=1,
            hash_len=32,
            type=Type.ID,
            version=0x13,
        )

    def open(self, nonce: str, ciphertext: str) -> str:
        parts = (base64.urlsafe_b64decode(f"{part}===") for part in (ciphertext, nonce))
        sealed, nonce_bytes = parts
        opened = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed, None, nonce_bytes, self.key
        )
        return opened.decode()

    def open_text(self, token: str) -> str:
        enc, version, nonce, ciphertext = token.split(":")
        assert (enc, version) == ("enc", "v2")
        return self.open(nonce, ciphertext)

    def open_json(self, document: str) -> Any:
        members = json.loads(document)
        assert members.pop("$gproxy_enc") == "v2"
        return json.loads(self.open(**members))


@pytest.mark.parametrize("secret", SECRETS)
def test_the_reference_opens_the_vectors(secret: str) -> None:
    reference = Reference(secret)
    for vector in BY_SECRET[secret]:
        assert reference.key.hex() == vector["derived_key_hex"]
        assert reference.open_text(vector["token"]) == vector["plaintext"]
        assert reference.open_json(json.dumps(vector["json_token"])) == vector["document"]


@pytest.fixture
def gproxys(dsn: str) -> str:
    """A database with the vectors' values, and GPROXY's ledger; the secret is the first one's."""
    api_key, digest = (VECTORS["api_key_digests"][0][name] for name in ("api_key", "digest"))
    token = next(v["token"] for v in BY_SECRET[SECRETS[1]] if v["plaintext"].startswith("$argon2"))
    with Storage.connect(dsn) as storage, storage.session():
        for number, vector in enumerate(BY_SECRET[SECRETS[1]], 1):
            user = User(id=number, name=f"user {number}", password="x", enabled=True,
                        is_admin=False, created_at=NOW, updated_at=NOW)  # fmt: skip
            user.save(force_insert=True)
            provider = storage.providers.upsert(f"provider {number}", channel="x")
            row = storage.credentials.create(provider, kind="x", secret={})
            store(dsn, "users.password", number, vector["token"])
            store(dsn, "credentials.secret_json", row.id, json.dumps(vector["json_token"]))
        key, _ = storage.keys.create(1)
        store(dsn, "user_keys.api_key_ciphertext", key.id, api_key)  # GPROXY reads plaintext, too
        store(dsn, "user_keys.api_key_digest", key.id, digest)
        store(dsn, "users.password", 1, token)
    query(dsn, f"INSERT INTO {LEDGER} VALUES ('m20260101_000001', 0)")
    return dsn


SECRET, API_KEY = SECRETS[1], VECTORS["api_key_digests"][0]["api_key"]
VALUES = 2 * len(BY_SECRET[SECRET]) + 1


def read_all(storage: Storage) -> None:
    vectors = BY_SECRET[SECRET]
    assert [user.password for user in storage.users.list()][1:] == [
        vector["plaintext"] for vector in vectors[1:]
    ]
    assert [row.secret_json for row in storage.credentials.list()] == [
        vector["document"] for vector in vectors
    ]
    found = storage.keys.authenticate(API_KEY)
    assert found is not None
    assert storage.keys.get(found.id).api_key_ciphertext == API_KEY


def test_it_opens_and_writes_what_gproxy_reads(gproxys: str) -> None:
    reference = Reference(SECRET)
    with Storage.connect(gproxys, f" {SECRET}\n") as storage:
        assert storage.encryption.mode is Mode.V2
        read_all(storage)
        row, _, key, plaintext = rows_of_all_kinds(storage)
        assert storage.keys.authenticate(plaintext)
        alice = storage.users.find(name="alice")
        assert alice is not None
        assert storage.users.authenticate("alice", PASSWORD)

    assert reference.open_json(stored(gproxys, "credentials.secret_json", row.id)) == DOCUMENT
    assert reference.open_text(stored(gproxys, "users.password", alice.id)) == alice.password
    assert reference.open_text(stored(gproxys, "user_keys.api_key_ciphertext", key.id)) == plaintext
    assert ledger(gproxys) == {*STEPS, "m20260101_000001"}


def test_a_secret_that_opens_no_value_is_refused(gproxys: str) -> None:
    with pytest.raises(WrongSecret, match=r"opens none of \d+ values in GPROXY's format"):
        Storage.connect(gproxys, NEW_SECRET)
    with pytest.raises(UnknownKey, match="GPROXY's secret"):
        Storage.connect(gproxys)

    assert keyring_row(gproxys)[2] is None


def test_what_gproxy_could_not_follow_is_refused(gproxys: str) -> None:
    with Storage.connect(gproxys, SECRET) as storage:
        keys = storage.encryption
        for refused in (
            lambda: keys.change_secret(Secret(SECRET), Secret(NEW_SECRET)),
            keys.rotate_key,
            keys.decrypt,
        ):
            with pytest.raises(ConfigError, match="encryption upgrade"):
                refused()
        result = keys.encrypt(Secret(SECRET))  # the API key in the clear

        assert (result.mode, result.sealed) == (Mode.V2, 1)
        sealed = stored(gproxys, "user_keys.api_key_ciphertext", _key(gproxys))
        assert Reference(SECRET).open_text(sealed) == API_KEY


def _key(dsn: str) -> int:
    ((pk,),) = query(dsn, "SELECT id FROM user_keys")
    return int(pk)


def test_upgrade_reseals_gproxys_values(gproxys: str) -> None:
    with Storage.connect(gproxys, SECRET) as storage:
        assert storage.encryption.upgrade(dry_run=True).sealed == VALUES
        assert storage.encryption.mode is Mode.V2
        result = storage.encryption.upgrade()

        assert (result.mode, result.sealed, result.unreadable.count) == (Mode.ENCRYPTED, VALUES, 0)
        assert not storage._keyring_manager.keyring.has_v2
        read_all(storage)
        assert all_of(storage.encryption.check()) == clean(VALUES)
        assert storage.encryption.upgrade().changed is False
    assert ledger(gproxys) == {*STEPS, "m20260101_000001", VERSION}

    with Storage.connect(gproxys, SECRET) as storage:
        read_all(storage)
        # Planted afterwards, by who knows the secret even: no longer read.
        planted = BY_SECRET[SECRET][0]
        store(gproxys, "users.password", 1, planted["token"])
        credential = storage.credentials.list()[0]
        store(gproxys, "credentials.secret_json", credential.id, json.dumps(planted["json_token"]))
        for read in (
            lambda: storage.users.get(1).password,
            lambda: storage.credentials.list()[0].secret_json,
        ):
            with pytest.raises(CryptoError, match="format v2, which this database, in mode enc"):
                read()
        assert storage.encryption.rotate_key().unreadable
        assert storage.encryption.change_secret(Secret(SECRET), Secret(NEW_SECRET)).changed


def test_an_upgrade_with_a_damaged_value_keeps_gproxys_key(gproxys: str) -> None:
    with Storage.connect(gproxys, SECRET) as storage:
        token = stored(gproxys, "users.password", 2)
        store(gproxys, "users.password", 2, f"{token[:-4]}AAAA")
        result = storage.encryption.upgrade()

        assert result.mode is Mode.MIGRATING
        assert [(error.table, error.pk) for error in result.unreadable.first] == [("users", 2)]
        store(gproxys, "users.password", 2, token)
        assert storage.encryption.upgrade().mode is Mode.ENCRYPTED


def test_an_open_storage_follows_the_upgrade(gproxys: str) -> None:
    """Its keyring is of before: what it reads and writes meanwhile fits all the same."""
    with Storage.connect(gproxys, SECRET) as storage, storage.session():
        stale = storage._keyring_manager.state
        rows = storage.credentials.list()
        users = storage.users.list()
        storage.encryption.upgrade()
        storage._keyring_manager.state = stale  # as in another process, which did not hear of it

        assert rows[0].secret_json == BY_SECRET[SECRET][0]["document"]
        read_all(storage)
        storage._keyring_manager.state = stale
        users[1].password = "changed"
        storage.run_transaction(users[1].save)
        assert stored(gproxys, "users.password", 2).startswith("enc:v3:")
        assert storage.users.get(2).password == "changed"
        assert Provider.select().count() == len(rows)
