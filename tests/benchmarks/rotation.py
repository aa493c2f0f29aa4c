"""Commands that write every secret anew: rotate-key, and encrypt of values in the clear.

Against a bare run on a connection of the driver: it reads all rows at once, opens and seals each
value by the same keyring, and writes by executemany, 200 rows per transaction. It does not lock the
rows that it has read, nor the keyring; it looks for no other encrypted column; it does not check
afterwards which keys are still in use, which reads all values a second time; it writes no keyring
and no ledger, and does not clear SQLite's file of the values that it replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from gproxy_storage import Storage
from gproxy_storage.backends.bulk import parts
from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.secret import Secret
from tests.benchmarks import Figure, medians
from tests.key_management.support import document, fill

ROUNDS = 5
ROWS = 10_000
ROWS_PER_TRANSACTION = 200
SECRET = "a secret of this benchmark"

MOST = 1.5


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with Storage.connect(dsn, SECRET) as storage:
        fill(storage, ROWS)
        keys, manager, bare = storage.encryption, storage._keyring_manager, _Bare(storage)

        def rotate() -> None:
            assert keys.rotate_key().sealed == ROWS

        def encrypt() -> None:
            assert keys.encrypt(Secret(SECRET)).sealed == ROWS

        def bare_encrypt() -> None:
            bare.reseal(manager.keyring.with_mode(Mode.MIGRATING))  # which reads plaintext

        taken = medians({"ours": rotate, "bare": lambda: bare.reseal(manager.keyring)}, ROUNDS)
        yield _figure(backend, "rotate-key", taken)
        bare.decrypt()
        taken = medians({"ours": encrypt, "bare": bare_encrypt}, ROUNDS, before=bare.restore)
        yield _figure(backend, "encrypt", taken)
        bare.close()


def _figure(backend: str, command: str, taken: dict[str, float]) -> Figure:
    subject = f"{command}, {ROWS:,} credentials"
    return Figure(backend, subject, "bare run", taken["ours"], taken["bare"], MOST, rows=ROWS)


class _Bare:
    """The statements, on a connection of the driver."""

    def __init__(self, storage: Storage) -> None:
        param = storage.database.param
        self._update = f"UPDATE credentials SET secret_json = {param} WHERE id = {param}"
        self._connection = storage.database.open_connection()
        self._cursor = self._connection.cursor()

    def reseal(self, keyring: Keyring) -> None:
        """Bring all values under a keyring's active key."""

        def resealed(pk: int, stored: Any) -> str:
            binding = Binding("credentials", "secret_json", pk)
            return keyring.seal_json(keyring.open_json(stored, binding), binding)

        self._write(resealed)

    def decrypt(self) -> None:
        """Store all values in the clear, as a program would that knows of no keyring."""
        self._write(lambda pk, _: json.dumps(document(pk)))
        for sql in (
            "CREATE TABLE clear AS SELECT id, secret_json FROM credentials",
            "CREATE UNIQUE INDEX clear_id ON clear (id)",
        ):
            self._cursor.execute(sql)

    def restore(self) -> None:
        """Store them again."""
        self._cursor.execute(
            "UPDATE credentials SET secret_json = "
            "(SELECT secret_json FROM clear WHERE clear.id = credentials.id)"
        )

    def _write(self, changed: Callable[[int, Any], str]) -> None:
        cursor = self._cursor
        cursor.execute("SELECT id, secret_json FROM credentials ORDER BY id")
        rows = cursor.fetchall()
        assert len(rows) == ROWS
        for part in parts(rows, ROWS_PER_TRANSACTION):
            cursor.execute("BEGIN")
            cursor.executemany(self._update, [(changed(*row), row[0]) for row in part])
            cursor.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
