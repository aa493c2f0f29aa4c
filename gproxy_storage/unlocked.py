"""Unlocked: an opened keyring, its row, and the key and secret that open later states of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from .crypto.kdf import Kdf
from .crypto.keyring import Keyring
from .crypto.keys import Key
from .crypto.keyset import Mode
from .errors import WrongSecret
from .secret import Opaque, Secret


class KeyringRow(NamedTuple):
    """The row of ``encryption_keys``.

    Attributes:
        generation: incremented by every change that other processes must notice.
        kdf: the derivation of the keyring's key from the secret; NULL in a plaintext database.
        sealed: the keyring's document, sealed; NULL in a plaintext database.
        decrypted: the database was decrypted on purpose.
    """

    generation: int
    kdf: str | None
    sealed: str | None
    decrypted: bool


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unlocked(Opaque):
    """An opened keyring with its row, key and secret.

    Attributes:
        keyring: the keyring.
        row: its row; None if there is none, as in a database that is not synced.
        _key: derived from the secret by the row's kdf; None in a plaintext database.
        _secret: opens a row with another kdf, of a recreated or restored database.
    """

    keyring: Keyring
    row: KeyringRow | None
    _key: Key | None = None
    _secret: Secret | None = None

    @classmethod
    def open(cls, row: KeyringRow, secret: Secret) -> Unlocked:
        """Open a sealed row with the secret.

        Raises:
            WrongSecret: when it does not open.
            MalformedEnvelope: when the row is malformed.
        """
        return cls._open(row, Kdf.parse(row.kdf or "").derive(secret), secret)

    @classmethod
    def plaintext(cls, row: KeyringRow | None, secret: Secret | None = None) -> Unlocked:
        """Return the state of a database that is not encrypted."""
        return cls(Keyring.plaintext(), row, None, secret)

    @property
    def generation(self) -> int:
        """The row's generation; 0 without a row."""
        return self.row.generation if self.row else 0

    @property
    def is_sealed(self) -> bool:
        """Whether there is a keyring, in any mode."""
        return self.keyring.mode is not Mode.PLAINTEXT

    def is_of(self, row: KeyringRow) -> bool:
        """Tell whether it was opened from this very row.

        By content: another database, or a backup, may have another keyring with the same
        generation.
        """
        return self.row is not None and self.row[:3] == row[:3]  # all but `decrypted`

    def reopened(self, row: KeyringRow) -> Unlocked | None:
        """Open another state of the row; None if the key and secret at hand do not open it.

        Raises:
            WrongSecret: when it has the same kdf and does not open: it is damaged.
        """
        if row.sealed is None:
            # An attacker who can write to the database could empty the row: trust that only if the
            # keyring itself said before that the database is being decrypted.
            is_trusted = self.keyring.mode in (Mode.PLAINTEXT, Mode.DECRYPTING)
            return self.plaintext(row, self._secret) if is_trusted else None
        if self._key is not None and self.row is not None and row.kdf == self.row.kdf:
            return self._open(row, self._key, self._secret)
        if self._secret is None:
            return None
        try:
            return self.open(row, self._secret)
        except WrongSecret:
            return None

    def resealed(self, keyring: Keyring) -> Unlocked:
        """Return the state with another keyring and the next generation: its row is sealed anew.

        Raises:
            ValueError: when there is no key to seal it under.
        """
        if self._key is None or self.row is None or self.row.kdf is None:
            raise ValueError("a plaintext database has no key to seal a keyring under")
        generation, kdf = self.row.generation + 1, self.row.kdf
        sealed = keyring.seal(kdf=kdf, generation=generation, key=self._key)
        # Opened again: a row that does not open must not be written.
        row = KeyringRow(generation, kdf, sealed, decrypted=False)
        return self._open(row, self._key, self._secret)

    def under(self, kdf: Kdf, key: Key, secret: Secret) -> Unlocked:
        """Return the state under another secret, for `resealed` to seal under it."""
        row = KeyringRow(self.generation, str(kdf), None, decrypted=False)
        return Unlocked(self.keyring, row, key, secret)

    def following(self, earlier: Unlocked) -> Unlocked:
        """Return the state that also opens values sealed under an earlier state of this keyring."""
        return replace(self, keyring=self.keyring.retaining(earlier.keyring))

    @classmethod
    def _open(cls, row: KeyringRow, key: Key, secret: Secret | None) -> Unlocked:
        keyring = Keyring.open(
            row.sealed or "", kdf=row.kdf or "", generation=row.generation, key=key
        )
        return cls(keyring, row, key, secret)
