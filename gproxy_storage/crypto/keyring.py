"""Keyring: a database's keys and mode; seals and opens values, bound to their rows and columns.

Immutable: a change returns a new Keyring, to be sealed into the single row of ``encryption_keys``
under the key that Argon2id derives from the operator's secret. Mode and keys are one sealed
document, so an attacker who can write to the database can neither forge a mode nor mix the keys of
two keyrings.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Self

from ..secret import Opaque, Secret
from .binding import Binding
from .crypto_errors import malformed, no_key, not_read, plaintext_found, tampered
from .digests import api_key_digest, keyed_api_key_digest
from .encoding import Malformed
from .envelope import Document, Envelope, parse_json, parse_text
from .keyring_row import open_keyset, seal_keyset
from .keys import Key, new_nonce
from .keyset import RULES, KeySet, Mode
from .plaintext import PREFIX, Marked, check_text, dump_json, load_json

_NO_AAD = b""


class Keyring(Opaque):
    """The keys and the mode of one database, at one generation.

    Attributes:
        mode: determines the formats that are written and read.
    """

    __slots__ = ("_by_kid", "_keys", "_kid", "_reads", "_writes", "mode")

    def __init__(self, keys: KeySet | None, retained: Keyring | None = None) -> None:
        """Use a set of keys, or None for a plaintext database; prefer the named constructors.

        Args:
            retained: its keys open values, too, but seal none.
        """
        self._keys = keys
        self.mode = keys.mode if keys else Mode.PLAINTEXT
        self._writes, self._reads = RULES[self.mode]
        # None: GPROXY's key, which has no kid.
        self._by_kid: dict[str | None, Key] = dict(retained._by_kid) if retained else {}
        self._kid: str | None = None
        if keys:
            self._by_kid.update(keys.data)
            if keys.v2:
                self._by_kid[None] = keys.v2
            if self._writes == "v3":
                self._kid = keys.active

    # -- making, opening and changing a keyring ------------------------------------------------

    @classmethod
    def plaintext(cls) -> Self:
        """Return the keyring of a plaintext database: it has no keys."""
        return cls(None)

    @classmethod
    def create(cls, mode: Mode, *, v2: Key | None = None) -> Self:
        """Create a keyring with new random keys.

        Args:
            mode: any but plaintext.
            v2: the key of GPROXY's format; required in mode v2, optional in migrating.
        Raises:
            ValueError: when mode and v2 contradict each other.
        """
        key = Key.generate()
        return cls(
            KeySet(
                mode=mode,
                active=key.kid,
                data={key.kid: key},
                lookup=Key.generate(),
                spool=Key.generate(),
                v2=v2,
            )
        )

    @classmethod
    def open(cls, sealed: str, *, kdf: str, generation: int, key: Key | Secret) -> Self:
        """Open a sealed keyring.

        Args:
            sealed: the row's column of that name; likewise the next two.
            kdf: the parameters of the key derivation.
            generation: 0 to 2**63 - 1.
            key: the key derived by the kdf, or the secret to derive it from.
        Raises:
            WrongSecret: when it does not open: another secret, or a damaged row.
            MalformedEnvelope: when a column is malformed; no key was derived then.
            SecretError: when the secret is blank or not UTF-8.
        """
        return cls(open_keyset(sealed, kdf=kdf, generation=generation, key=key))

    def seal(self, *, kdf: str, generation: int, key: Key | Secret) -> str:
        """Return this keyring sealed, for a row with this kdf and generation.

        A new secret does not change the keyring: no value needs to be resealed. Retained keys are
        not included.

        Raises:
            ValueError: when the database is plaintext or has more than some 600 data keys, or the
                generation is out of bounds.
            MalformedEnvelope: when the kdf is malformed.
            SecretError: when the secret is blank or not UTF-8.
        """
        return seal_keyset(self._required(), kdf=kdf, generation=generation, key=key)

    def with_mode(self, mode: Mode) -> Self:
        """Return this keyring in another mode.

        Raises:
            ValueError: when either mode is plaintext, or the new one contradicts the v2 key.
        """
        return type(self)(replace(self._required(), mode=mode))

    def with_new_key(self) -> Self:
        """Return this keyring with a new data key, under which values are sealed from then on."""
        keys = self._required()
        key = Key.generate()
        while key.kid in keys.data:
            key = Key.generate()
        return type(self)(replace(keys, active=key.kid, data={**keys.data, key.kid: key}))

    def without_keys(self, kids: Collection[str]) -> Self:
        """Return this keyring without these data keys; no stored value may use them any more.

        Raises:
            ValueError: when one is the active key, or not in the keyring.
        """
        keys = self._required()
        if not set(kids) <= keys.data.keys() - {keys.active}:
            raise ValueError("only data keys that are not active can be dropped")
        kept = {kid: key for kid, key in keys.data.items() if kid not in kids}
        return type(self)(replace(keys, data=kept))

    def with_v2(self, v2: Key | None, *, mode: Mode | None = None) -> Self:
        """Return this keyring with this key of GPROXY's format, or without one for None.

        Args:
            mode: the new mode, if it changes at the same time.
        Raises:
            ValueError: when mode and v2 contradict each other.
        """
        keys = self._required()
        return type(self)(replace(keys, v2=v2, mode=mode or keys.mode))

    def retaining(self, older: Keyring) -> Self:
        """Return this keyring, able to open values sealed under an older keyring's keys, too.

        For values that were read before a reload and are opened after it. Sealing, digests and the
        mode are this keyring's, and the older keys are not sealed with it.
        """
        return type(self)(self._keys, older)

    def is_related(self, other: Keyring) -> bool:
        """Tell whether both are versions of one keyring: no change replaces the lookup key."""
        own, others = self._keys, other._keys
        return own is not None and others is not None and own.lookup == others.lookup

    # -- properties ----------------------------------------------------------------------------

    @property
    def active_kid(self) -> str | None:
        """The id of the data key that seals; None in a plaintext database."""
        return self._keys.active if self._keys else None

    @property
    def kids(self) -> frozenset[str]:
        """The ids of the data keys, including the active one, without retained ones."""
        return frozenset(self._keys.data if self._keys else ())

    @property
    def has_v2(self) -> bool:
        """Whether it holds the key of GPROXY's format."""
        return self._keys is not None and self._keys.v2 is not None

    @property
    def binds_to_row(self) -> bool:
        """Whether sealing needs the row's primary key: in v3, not in v2 or plaintext."""
        return self._writes == "v3"

    @property
    def spool(self) -> Key:
        """The key that seals spooled rows.

        Raises:
            ValueError: when the database is plaintext.
        """
        return self._required().spool

    def __repr__(self) -> str:
        return f"<Keyring {self.mode}, {len(self.kids)} data keys>"

    __str__ = __repr__

    # -- values --------------------------------------------------------------------------------

    def seal_text(self, text: str, binding: Binding) -> str:
        """Return the value to store for a text: sealed and bound, or in the clear, by the mode.

        Raises:
            InvalidValue: when the text may not be sealed, or the binding has no primary key.
        """
        check_text(text, binding.column)
        sealed = self._sealed(text, binding)
        return text if sealed is None else sealed.to_text()

    def open_text(self, stored: str, binding: Binding) -> str:
        """Return the text of a stored value.

        Raises:
            MalformedEnvelope: when the value is neither plaintext nor an envelope.
            PlaintextFound: when it is plaintext, which the mode does not read.
            UnknownKey: when its key is not in the keyring, or the mode does not read its format.
            KeyringLost: when it is sealed and the database is plaintext.
            Tampered: when it does not open with this binding.
            InvalidValue: when the binding has no primary key.
        """
        return self.open_parsed_text(stored, parse_text(stored, binding), binding)

    def open_parsed_text(self, stored: str, parsed: Envelope | None, binding: Binding) -> str:
        """Return the text of a value that `parse_text` has parsed; otherwise like `open_text`."""
        if parsed is None:
            self._check_plaintext(binding)
            return stored
        text = _text_of(self._open(parsed, binding))
        if text is None:
            raise malformed(binding, "it opened, but its content is not text, or is itself sealed")
        return text

    def seal_json(self, document: Any, binding: Binding) -> str:
        """Return the JSON text to store for a document; otherwise like `seal_text`."""
        text = dump_json(document, binding.column)
        sealed = self._sealed(text, binding)
        return text if sealed is None else sealed.to_json()

    def open_json(self, stored: str, binding: Binding) -> Any:
        """Return the document of a stored JSON text; otherwise like `open_text`."""
        return self.open_parsed_json(stored, parse_json(stored, binding), binding)

    def open_parsed_json(
        self,
        stored: str,  # noqa: ARG002 - the signature of open_parsed_text
        parsed: Envelope | Document,
        binding: Binding,
    ) -> Any:
        """Return the document of a value that `parse_json` has parsed; else like `open_text`."""
        if isinstance(parsed, Document):
            self._check_plaintext(binding)
            return parsed.value
        document = _document_of(self._open(parsed, binding))
        if document is None:
            raise malformed(binding, "it opened, but its content is not JSON, or is itself sealed")
        return document.value

    def is_current(self, parsed: Envelope | Document | None) -> bool:
        """Tell whether a parsed stored value has the format and key in which values are written."""
        if not isinstance(parsed, Envelope):
            return self._writes is None
        return parsed.version == self._writes and parsed.kid == self._kid

    # -- digests of API keys -------------------------------------------------------------------

    def digest(self, api_key: str) -> str:
        """Return the digest to store for an API key."""
        if self._writes == "v3":
            return keyed_api_key_digest(api_key, self._required().lookup)
        return api_key_digest(api_key)

    def lookup_digests(self, api_key: str) -> tuple[str, ...]:
        """Return the one or two digests under which an API key may be stored."""
        digests = []
        if self._keys and "v3" in self._reads:
            digests.append(keyed_api_key_digest(api_key, self._keys.lookup))
        if None in self._reads:
            digests.append(api_key_digest(api_key))
        return tuple(digests)

    # -- private -------------------------------------------------------------------------------

    def _required(self) -> KeySet:
        if self._keys is None:
            raise ValueError("a plaintext database has no keys")
        return self._keys

    def _sealed(self, text: str, binding: Binding) -> Envelope | None:
        if self._writes is None:
            return None
        kid = self._kid
        nonce = new_nonce()
        aad = _NO_AAD if kid is None else binding.aad(kid)
        return Envelope(self._writes, kid, nonce, self._by_kid[kid].seal(nonce, text.encode(), aad))

    def _open(self, envelope: Envelope, binding: Binding) -> bytes:
        kid = envelope.kid
        if envelope.version not in self._reads:
            raise not_read(binding, envelope.version, self.mode, kid)
        key = self._by_kid.get(kid)
        if key is None:
            raise no_key(binding, kid)
        aad = _NO_AAD if kid is None else binding.aad(kid)
        plaintext = key.open(envelope.nonce, envelope.ciphertext, aad)
        if plaintext is None:
            raise tampered(binding, kid)
        return plaintext

    def _check_plaintext(self, binding: Binding) -> None:
        if None not in self._reads:
            raise plaintext_found(binding)


def _text_of(opened: bytes) -> str | None:
    # Raises nothing: the error's frames would hold the value.
    try:
        text = opened.decode()
    except UnicodeDecodeError:
        return None
    return None if text.startswith(PREFIX) else text


def _document_of(opened: bytes) -> Document | None:
    try:
        document = load_json(opened.decode())
    except (UnicodeDecodeError, Malformed):
        return None
    return None if isinstance(document, Marked) else Document(document)
