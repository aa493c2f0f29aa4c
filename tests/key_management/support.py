"""What the tests of encryption share: canaries, rows in bulk, raw looks at the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gproxy_storage import Storage
from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.database import session
from gproxy_storage.key_management.changes import change_keyring
from gproxy_storage.key_management.gproxy import STEPS
from gproxy_storage.models import Credential, User, UserKey
from gproxy_storage.schema.ledger import insert_sql
from gproxy_storage.secret import SecretText
from tests import leaks
from tests.support import opened, run_script

# Recognisable, and with characters that no envelope has: found in a message, they are a leak.
SECRET = "canary/secret+é of the operator"
NEW_SECRET = "canary/secret+é that is new"
PASSWORD = "canary/password+é"
DOCUMENT = {"api_key": "canary/credential+é"}

for canary in (SECRET, NEW_SECRET, PASSWORD, DOCUMENT["api_key"]):
    leaks.register(canary)

# GPROXY's, as its vectors have it.
V2 = "enc:v2:ghAkKgjnB49_iThesJQjVVGCVouW6KT-:FVRDaA1XYZ24GJ6Rg2r9O5-6-UGM"
V2_SECRET = "padded secret"

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

_ROWS_A_STATEMENT = 500


def query(dsn: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement, bypassing the package; ``?`` for parameters."""
    with opened(dsn) as database, session(database):
        cursor = database.execute_sql(sql.replace("?", database.param), parameters)
        return list(cursor.fetchall()) if cursor.description else []


def ledger(dsn: str) -> set[str]:
    """Return the versions in GPROXY's ledger."""
    return {version for (version,) in query(dsn, "SELECT version FROM seaql_migrations")}


def keyring_row(dsn: str) -> tuple[Any, ...]:
    """Return generation, kdf, sealed and decrypted."""
    ((generation, kdf, sealed, decrypted),) = query(
        dsn, "SELECT generation, kdf, sealed, decrypted FROM encryption_keys"
    )
    return generation, kdf, sealed, bool(decrypted)


def stored(dsn: str, column: str, pk: int) -> Any:
    """Return the stored value of ``table.column`` of a row."""
    table, _, name = column.partition(".")
    ((value,),) = query(dsn, f"SELECT {name} FROM {table} WHERE id = ?", (pk,))
    return value


def store(dsn: str, column: str, pk: int, value: Any) -> None:
    """Write into ``table.column`` of a row past all that the package checks."""
    table, _, name = column.partition(".")
    query(dsn, f"UPDATE {table} SET {name} = ? WHERE id = ?", (value, pk))


def reset(dsn: str) -> None:
    """Empty the tables that hold secrets and make the database plaintext and new."""
    with opened(dsn) as database:
        run_script(
            database,
            [
                *(f"DELETE FROM {name}" for name in ("user_keys", "users", "credentials")),
                "DELETE FROM providers",
                "DELETE FROM encryption_keys",
                "DELETE FROM seaql_migrations",
                insert_sql(STEPS),
            ],
        )


def credential(storage: Storage) -> Credential:
    """Create a credential, with its provider."""
    provider = storage.providers.upsert("openai", channel="openai")
    return storage.credentials.create(provider, kind="api_key", secret=DOCUMENT)


def rows_of_all_kinds(storage: Storage) -> tuple[Credential, User, UserKey, str]:
    """Create a row in each table with secrets; with them the API key."""
    user = storage.users.create("alice", password=PASSWORD)
    key, plaintext = storage.keys.create(user)
    leaks.register(plaintext)
    return credential(storage), user, key, plaintext


def document(number: int, version: int = 0) -> dict[str, Any]:
    """Return the secret of a credential in bulk."""
    return {"api_key": f"canary/bulk+é {number}", "version": version}


leaks.register("canary/bulk+é")


def begin_decrypting(storage: Storage) -> None:
    """Bring a database into the state that an interrupted `encryption decrypt` leaves."""
    change_keyring(
        storage.database,
        storage._keyring_manager,
        lambda keyring: keyring.with_mode(Mode.DECRYPTING),
    )


def fill(storage: Storage, rows: int) -> None:
    """Insert credentials with the ids 1 to `rows`, as the keyring seals them, in few statements."""
    provider = storage.providers.upsert("openai", channel="openai")
    database, keyring = storage.database, storage._keyring_manager.keyring
    at = database.time_to_db(NOW)
    row = f"({', '.join([database.param] * 7)})"
    with storage.transaction():
        for first in range(1, rows + 1, _ROWS_A_STATEMENT):
            numbers = range(first, min(first + _ROWS_A_STATEMENT, rows + 1))
            parameters: list[Any] = []
            for number in numbers:
                binding = Binding("credentials", "secret_json", number)
                sealed = keyring.seal_json(document(number), binding)
                secret = SecretText(sealed)  # it may be plaintext, and statements are logged
                parameters += [number, provider.id, "api_key", secret, True, at, at]
            database.execute_sql(
                "INSERT INTO credentials (id, provider_id, kind, secret_json, enabled, created_at, "
                f"updated_at) VALUES {', '.join([row] * len(numbers))}",
                parameters,
            )


def all_of(checked: dict[str, Any]) -> dict[str, int]:
    """Add up what `check` found in all columns."""
    found = [column.to_dict() for column in checked.values()]
    return {name: sum(one[name] for one in found) for name in found[0]}


def clean(rows: int) -> dict[str, int]:
    """Return what `check` finds where everything opens."""
    return {"rows": rows, "unreadable": 0, "plaintext": 0, "digest_mismatches": 0}
