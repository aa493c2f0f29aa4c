"""Start-up: every row of the rules, and every refusal; what is refused changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from gproxy_storage import Storage
from gproxy_storage.config import Settings
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import (
    ConfigError,
    CryptoError,
    KeyringLost,
    MalformedEnvelope,
    PlaintextFound,
    SecretError,
    UnknownKey,
    WrongSecret,
)
from gproxy_storage.key_management.gproxy import STEPS, VERSION
from gproxy_storage.schema.sync import SyncReport
from gproxy_storage.secret import Secret
from gproxy_storage.unlocked import KeyringRow
from tests.key_management.support import (
    DOCUMENT,
    NEW_SECRET,
    SECRET,
    credential,
    keyring_row,
    ledger,
    query,
    rows_of_all_kinds,
    store,
    stored,
)
from tests.support import ONE_BACKEND, recorded


def mode_of(dsn: str, secret: str | None) -> Mode:
    with Storage.connect(dsn, secret) as storage:
        return storage.encryption.mode


# -- without a keyring --------------------------------------------------------------------------


def test_no_secret_is_plaintext_with_one_warning(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Storage.connect(dsn) as storage:
        assert storage.encryption.mode is Mode.PLAINTEXT
        row = credential(storage)

    assert [record.levelname for record in caplog.records if record.name == "gproxy_storage"] == [
        "WARNING"
    ]
    assert "in the clear" in caplog.text
    assert keyring_row(dsn) == (0, None, None, False)
    assert DOCUMENT["api_key"] in stored(dsn, "credentials.secret_json", row.id)


def test_a_secret_on_an_empty_database_is_encrypted(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gproxy_storage")
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.ENCRYPTED
        row = credential(storage)
        assert row.secret_json == DOCUMENT

    generation, kdf, sealed, decrypted = keyring_row(dsn)
    assert (generation, decrypted) == (1, False)
    assert kdf.startswith("argon2id$19$19456,2,1$")
    assert sealed.startswith("k1:")
    assert ledger(dsn) == {*STEPS, VERSION}
    assert '"v3"' in stored(dsn, "credentials.secret_json", row.id)
    assert not [record for record in caplog.records if record.name == "gproxy_storage"]


def test_a_secret_on_plaintext_rows_migrates_with_a_warning(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Storage.connect(dsn) as storage:
        _, _, _, api_key = rows_of_all_kinds(storage)
    caplog.clear()
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.encryption.mode is Mode.MIGRATING
        assert storage.keys.authenticate(api_key)
        (old,) = storage.credentials.list()
        assert old.secret_json == DOCUMENT
        new = credential(storage)

    assert "3 earlier values" in caplog.text
    assert "gproxy-storage encryption encrypt" in caplog.text
    assert ledger(dsn) == {*STEPS, VERSION}
    assert '"v3"' in stored(dsn, "credentials.secret_json", new.id)


def test_a_ledger_of_gproxys_is_mode_v2(dsn: str) -> None:
    query(dsn, "INSERT INTO seaql_migrations VALUES ('m20260101_000001', 0)")

    assert mode_of(dsn, SECRET) is Mode.V2
    assert ledger(dsn) == {*STEPS, "m20260101_000001"}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("enc:v2:gjz95vHCazD5DsfdAeSIdTSiDwsNBMNu:28HkLQfTM3VYj_oXw99WPUGbDw3G_qw", UnknownKey),
        (f"enc:v3:a738dbd331b00de7:{'A' * 32}:{'A' * 32}", KeyringLost),
        ("enc:v3:pending", MalformedEnvelope),
        ("enc:nothing", MalformedEnvelope),
    ],
)
def test_sealed_values_without_a_secret_are_refused(
    dsn: str, value: str, error: type[CryptoError]
) -> None:
    with Storage.connect(dsn) as storage:
        # A document that only speaks of the marker comes first, and is nobody's business.
        provider = storage.providers.upsert("openai", channel="openai")
        storage.credentials.create(provider, kind="x", secret={"note": "no $gproxy_enc here"})
        storage.users.create("alice", password="before")
        pk = storage.users.create("bob", password="before").id
    store(dsn, "users.password", pk, value)

    with pytest.raises(error) as caught:
        Storage.connect(dsn)

    assert (caught.value.table, caught.value.column, caught.value.pk) == ("users", "password", pk)
    assert keyring_row(dsn) == (0, None, None, False)


def test_a_marked_document_is_found_behind_one_that_only_speaks_of_it(dsn: str) -> None:
    with Storage.connect(dsn) as storage:
        provider = storage.providers.upsert("openai", channel="openai")
        storage.credentials.create(provider, kind="x", secret={"note": "no $gproxy_enc here"})
        pk = credential(storage).id
    store(dsn, "credentials.secret_json", pk, '{"$gproxy_enc": "pending"}')

    with pytest.raises(MalformedEnvelope, match=f"credentials.secret_json, row {pk}"):
        Storage.connect(dsn)


def test_v3_values_without_a_keyring_are_not_given_a_new_one(dsn: str) -> None:
    with Storage.connect(dsn, SECRET) as storage:
        rows_of_all_kinds(storage)
    for lose in (
        "UPDATE encryption_keys SET sealed = NULL, kdf = NULL",
        "DELETE FROM encryption_keys",
    ):
        query(dsn, lose)
        with pytest.raises(KeyringLost):
            Storage.connect(dsn)
        with pytest.raises(KeyringLost, match="restore"):
            Storage.connect(dsn, SECRET)

        assert keyring_row(dsn)[2] is None


@pytest.mark.parametrize("right", [True, False])
def test_one_of_gproxys_values_must_open(dsn: str, right: bool) -> None:
    with Storage.connect(dsn) as storage:
        pk = storage.users.create("alice", password="before").id
    store(
        dsn,
        "users.password",
        pk,
        "enc:v2:ghAkKgjnB49_iThesJQjVVGCVouW6KT-:FVRDaA1XYZ24GJ6Rg2r9O5-6-UGM",
    )

    if right:
        assert mode_of(dsn, "padded secret") is Mode.V2
        return
    with pytest.raises(WrongSecret, match="none of 1 values"):
        Storage.connect(dsn, SECRET)
    assert keyring_row(dsn) == (0, None, None, False)


def test_without_sync_nothing_is_created(dsn: str) -> None:
    with pytest.raises(ConfigError, match="open it once with write access and sync"):
        Storage.connect(dsn, SECRET, sync=False)

    assert query(dsn, "SELECT * FROM encryption_keys") == []
    with Storage.connect(dsn, sync=False) as storage:
        assert storage.encryption.mode is Mode.PLAINTEXT


READ_ONLY: dict[str, Callable[[str], str]] = {
    "sqlite": lambda dsn: dsn.replace("mode=rwc", "mode=ro"),
    "postgres": lambda dsn: f"{dsn}?options=-c%20default_transaction_read_only%3Don",
}


@pytest.mark.parametrize("backend", list(READ_ONLY), indirect=True)
def test_read_only_nothing_is_created(dsn: str, backend: str) -> None:
    Storage.connect(dsn).close()
    read_only = READ_ONLY[backend](dsn)
    with pytest.raises(ConfigError, match="write access"):
        Storage.connect(read_only, SECRET)
    assert keyring_row(dsn) == (0, None, None, False)
    with Storage.connect(read_only) as storage:
        assert storage.encryption.mode is Mode.PLAINTEXT

    with Storage.connect(dsn, SECRET) as storage:
        credential(storage)
    with Storage.connect(read_only, SECRET) as storage:
        assert storage.credentials.list()[0].secret_json == DOCUMENT


# -- with a keyring -----------------------------------------------------------------------------


def test_an_encrypted_database_opens_without_a_scan(encrypted: Storage, dsn: str) -> None:
    credential(encrypted)
    encrypted.close()
    row = keyring_row(dsn)
    for sync in (True, False):
        with Storage.connect(dsn, f"  {SECRET}\n", sync=sync) as storage:
            assert storage.credentials.list()[0].secret_json == DOCUMENT
            with storage.session(), recorded(storage.database) as statements:
                storage._start(Secret(SECRET), sync=False)
        assert len(statements) == 2, statements  # the row, before and after the sync

    assert keyring_row(dsn) == row


@ONE_BACKEND
@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("secret", [None, NEW_SECRET], ids=["missing", "wrong"])
def test_a_missing_or_wrong_secret(
    encrypted: Storage, dsn: str, secret: str | None, sync: bool
) -> None:
    encrypted.close()
    row = keyring_row(dsn)
    words = "no secret is set" if secret is None else "the secret is wrong, or the keyring row is"
    with pytest.raises(WrongSecret, match=words) as caught:
        Storage.connect(dsn, secret, sync=sync)

    assert caught.value.table == "encryption_keys"
    assert keyring_row(dsn) == row


def test_a_wrong_secret_is_refused_before_the_schema_is_touched(
    encrypted: Storage, dsn: str
) -> None:
    encrypted.close()
    query(dsn, "DROP TABLE storage_state")
    with pytest.raises(WrongSecret):
        Storage.connect(dsn, NEW_SECRET)
    with Storage.connect(dsn, SECRET, sync=False) as storage:
        assert storage.row_counts()["storage_state"] is None

    Storage.connect(dsn, SECRET).close()


@ONE_BACKEND
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("sealed = 'k1:AAAA:AAAA'", MalformedEnvelope),
        ("sealed = 'plaintext'", MalformedEnvelope),
        ("kdf = 'argon2id$19$1,2,1$AAAAAAAAAAAAAAAAAAAAAA'", MalformedEnvelope),
        ("kdf = 'argon2id$19$999999999,2,1$AAAAAAAAAAAAAAAAAAAAAA'", MalformedEnvelope),
        ("kdf = NULL", MalformedEnvelope),
        ("generation = generation + 1", WrongSecret),
        ("kdf = 'argon2id$19$19456,2,1$AAAAAAAAAAAAAAAAAAAAAA'", WrongSecret),
    ],
)
def test_a_damaged_keyring_row(
    encrypted: Storage, dsn: str, change: str, error: type[CryptoError]
) -> None:
    encrypted.close()
    query(dsn, f"UPDATE encryption_keys SET {change}")
    row = keyring_row(dsn)

    with pytest.raises(error) as caught:
        Storage.connect(dsn, SECRET)

    assert caught.value.table == "encryption_keys"
    assert keyring_row(dsn) == row


LOSSES = {
    "the row": "DELETE FROM encryption_keys",
    "the keyring": "UPDATE encryption_keys SET sealed = NULL, kdf = NULL",
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("command", [False, True])
def test_a_keyring_that_is_gone_later_in_the_start(
    encrypted: Storage, dsn: str, loss: str, command: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new one is made, though no row asks for the old."""
    encrypted.close()
    sync = Storage.sync

    def sync_then_lose(storage: Storage) -> SyncReport:
        report = sync(storage)
        query(dsn, LOSSES[loss])
        return report

    monkeypatch.setattr(Storage, "sync", sync_then_lose)
    settings = Settings.load(dsn=dsn, secret_key=SECRET, environ={}, dotenv=None)
    with pytest.raises(KeyringLost, match="was opened, and now it is not there any more"):
        Storage.for_encryption(settings) if command else Storage.connect(dsn, SECRET)

    assert [row for row in query(dsn, "SELECT sealed FROM encryption_keys") if row[0]] == []


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_schema_in_front_of_the_keyrings(encrypted: Storage, dsn: str) -> None:
    """The keyring is found behind it, and the tables would be made in it: nothing is."""
    encrypted.users.create("admin", password="of the storage")
    encrypted.close()
    row = keyring_row(dsn)
    query(dsn, "CREATE SCHEMA in_front")
    try:
        query(dsn, "CREATE TABLE in_front.users (LIKE public.users INCLUDING ALL)")
        front = f"{dsn}?options=-c%20search_path%3Din_front,public"
        for _ in range(2):
            with pytest.raises(KeyringLost, match="search_path"):
                Storage.connect(front, SECRET)
        made = query(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'in_front'")
        assert made == [("users",)]
    finally:
        query(dsn, "DROP SCHEMA in_front CASCADE")
    assert keyring_row(dsn) == row


def test_another_keyring_later_in_the_start(
    encrypted: Storage, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is there in the end counts, whatever its number."""
    encrypted.close()
    sync = Storage.sync

    def sync_then_make_anew(storage: Storage) -> SyncReport:
        report = sync(storage)
        query(dsn, LOSSES["the row"])
        with Storage._open_lock:
            Storage._open = None
        monkeypatch.setattr(Storage, "sync", sync)
        Storage.connect(dsn, SECRET).close()
        storage._bind()
        return report

    monkeypatch.setattr(Storage, "sync", sync_then_make_anew)
    with Storage.connect(dsn, SECRET) as storage:
        assert storage._keyring_manager.state.is_of(KeyringRow(*keyring_row(dsn)))
        row = credential(storage)
    with Storage.connect(dsn, SECRET) as storage:
        assert storage.credentials.get(row.id).secret_json == DOCUMENT


def test_a_decrypted_database_with_a_secret_is_refused(encrypted: Storage, dsn: str) -> None:
    credential(encrypted)
    encrypted.encryption.decrypt()
    encrypted.close()
    for sync in (True, False):
        with pytest.raises(PlaintextFound, match=r"unset it, or run .*encryption encrypt"):
            Storage.connect(dsn, SECRET, sync=sync)

    assert mode_of(dsn, None) is Mode.PLAINTEXT
    assert keyring_row(dsn)[2:] == (None, True)


# -- the secret itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "word"), [("", "blank"), (" \u3000\n", "blank"), ("canary\udcff", "UTF-8")]
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_secret_that_is_none(dsn: str, secret: str, word: str) -> None:
    with pytest.raises(SecretError, match=word) as caught:
        Storage.connect(dsn, secret)

    assert "canary" not in f"{caught.value!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_short_secret_is_warned_of(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    Storage.connect(dsn, "fifteen letters").close()

    assert "fewer than 16 characters" in caplog.text
    assert "fifteen" not in caplog.text


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_secret_is_in_a_file(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_SECRET_KEY", raising=False)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("DATABASE_SECRET_KEY_FILE", str(tmp_path / "secret"))
    with Storage.open(dsn=dsn) as storage:
        assert storage.encryption.mode is Mode.ENCRYPTED

    assert mode_of(dsn, SECRET) is Mode.ENCRYPTED
