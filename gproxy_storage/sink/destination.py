"""Destination: the database for which rows are spooled, and the key that seals them."""

from __future__ import annotations

import logging
import uuid

from ..backends.base import Backend
from ..crypto import NONCE_BYTES
from ..crypto.keys import Key, new_nonce
from ..crypto.keyset import Mode
from ..database import run_query, run_transaction
from ..errors import ConflictError, CryptoError
from .records import Header

_log = logging.getLogger(__name__)

_CONTEXT = b"gproxy-storage/spool/v1\0"
_NAME = "database_id"


class SpoolCipher:
    """Seals the rows in spool and rejects files: a nonce, then the ciphertext with its tag.

    Attributes:
        kid: the key's id, which is stored in the clear.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self.kid = key.kid

    def seal(self, plaintext: bytes, binding: bytes) -> bytes:
        """Return the form sealed under a new random nonce, which opens with this binding only."""
        nonce = new_nonce()
        return nonce + self._key.seal(nonce, plaintext, _CONTEXT + binding)

    def open(self, sealed: bytes, binding: bytes) -> bytes | None:
        """Return the plaintext, or None if it was changed, moved, or sealed under another key."""
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        if len(nonce) < NONCE_BYTES:
            return None
        return self._key.open(nonce, ciphertext, _CONTEXT + binding)


class Destination:
    """The database's id and spool key, which change if it is recreated or encrypted meanwhile.

    Rows spooled for a former database, or under a key that it no longer has, would be useless to
    the next process.

    Attributes:
        identity: the database's id.
    """

    def __init__(self, database: Backend) -> None:
        self.identity = database_id(database)
        self._database = database
        self._manager = database.keyring_manager
        self._problem = ""

    @property
    def cipher(self) -> SpoolCipher | None:
        """The current cipher; None if the database is not encrypted."""
        keyring = self._manager.keyring
        return None if keyring.mode is Mode.PLAINTEXT else SpoolCipher(keyring.spool)

    def header(self, writer: str) -> tuple[Header, SpoolCipher | None]:
        """Return the header for a writer's spool file, and the cipher that seals it."""
        cipher = self.cipher
        return Header(self.identity, writer, None if cipher is None else cipher.kid), cipher

    def refresh(self) -> None:
        """Read the database's id and keyring; needs a session.

        A keyring that this process cannot open is logged; rows are still sealed under the former
        key then.
        """
        self.identity = database_id(self._database)
        try:
            self._manager.refresh()
        except CryptoError as exc:
            problem = str(exc)
            if problem != self._problem:
                _log.warning("rows that are spooled are sealed under the former key: %s", problem)
            self._problem = problem


def find_database_id(database: Backend) -> str | None:
    """Return the database's id, which prevents a spool from being replayed into another database.

    None if no sink was ever opened on the database.
    """
    sql = f"SELECT value FROM storage_state WHERE name = {database.param}"  # noqa: S608 - a placeholder
    found = run_query(database, lambda: database.query(sql, (_NAME,)))
    return str(found[0][0]) if found else None


def database_id(database: Backend) -> str:
    """Return the database's id; generate and store it on the first call for a database."""
    found = find_database_id(database)
    if found is not None:
        return found
    param = database.param
    sql = (
        "INSERT INTO storage_state (name, value, updated_at) "  # noqa: S608 - placeholders
        f"VALUES ({param}, {param}, {param})"
    )
    generated = uuid.uuid4().hex
    values = (_NAME, generated, database.now_to_db())
    try:
        run_transaction(database, lambda: database.execute_sql(sql, values))
    except ConflictError:  # another process was first
        return find_database_id(database) or generated
    return generated
