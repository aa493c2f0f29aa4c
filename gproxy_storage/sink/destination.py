"""Destination: which database spooled rows are for, and by which key they are sealed."""

from __future__ import annotations

import logging

from ..backends.base import Backend
from ..errors import CryptoError
from ..vault import Vault
from .cipher import KeyCipher, SpoolCipher
from .identity import database_id
from .records import Header

_log = logging.getLogger(__name__)


class Destination:
    """Both change under a sink that is open, when its database is made anew or encrypted.

    What is spooled under a key that the database no longer has, or for one that is gone, would be
    of no use to the next process.
    """

    def __init__(self, database: Backend) -> None:
        self.identity = database_id(database)
        self._database = database
        self._vault: Vault = database.vault
        self._problem = ""

    @property
    def cipher(self) -> SpoolCipher | None:
        """What seals now; None where the database is not encrypted."""
        state = self._vault.state
        return KeyCipher(state.keyring.spool) if state.is_sealed else None

    def header(self, writer: str) -> tuple[Header, SpoolCipher | None]:
        """Return the header of a file that a writer may spool into now, and what seals it."""
        cipher = self.cipher
        return Header(self.identity, writer, None if cipher is None else cipher.kid), cipher

    def refresh(self) -> None:
        """Ask the database for its id and its keyring; needs a session.

        A keyring that this process cannot open is told of: spooled rows stay under the former key.
        """
        self.identity = database_id(self._database)
        try:
            self._vault.refresh()
        except CryptoError as exc:
            problem = str(exc)
            if problem != self._problem:
                _log.warning("rows that are spooled are sealed under the former key: %s", problem)
            self._problem = problem
