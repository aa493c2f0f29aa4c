"""KeySet: the document inside the sealed keyring; the formats that each mode reads and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, NoReturn, Self

from . import KEY_BYTES
from .encoding import Malformed, decode, encode
from .keys import Key

MAX_BYTES = 48 * 1024
"""The largest document: some 600 data keys, while rotation leaves one or two."""


class Mode(StrEnum):
    """The encryption mode of a database."""

    PLAINTEXT = "plaintext"
    ENCRYPTED = "encrypted"
    MIGRATING = "migrating"
    V2 = "v2"
    DECRYPTING = "decrypting"


class Rules(NamedTuple):
    """The formats of one mode; None stands for plaintext.

    Attributes:
        writes: the format of new values; with v3, API keys have keyed digests.
        reads: the formats that are opened; any other is an error.
    """

    writes: Literal["v2", "v3"] | None
    reads: frozenset[str | None]


RULES: Mapping[Mode, Rules] = MappingProxyType(
    {
        Mode.PLAINTEXT: Rules(None, frozenset({None})),
        Mode.ENCRYPTED: Rules("v3", frozenset({"v3"})),
        Mode.MIGRATING: Rules("v3", frozenset({"v3", "v2", None})),
        Mode.V2: Rules("v2", frozenset({"v2", None})),
        Mode.DECRYPTING: Rules(None, frozenset({None, "v3"})),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of a database and their use. The repr shows no key.

    Attributes:
        mode: any but plaintext, which has no keys.
        active: the kid of the data key that seals.
        data: the data keys by kid.
        lookup: keys the digests of API keys; rotation keeps it.
        spool: seals spooled rows; rotation keeps it.
        v2: the key of GPROXY's format, while there are such values: in modes v2 and migrating.
    """

    mode: Mode
    active: str
    data: Mapping[str, Key] = field(hash=False)
    lookup: Key
    spool: Key
    v2: Key | None = None

    def __post_init__(self) -> None:
        if self.mode is Mode.PLAINTEXT:
            raise ValueError("a plaintext database has no keyring")
        if self.active not in self.data:
            raise ValueError("its active key is missing")
        if any(key.kid != kid for kid, key in self.data.items()):
            raise ValueError("a key id does not fit its key")
        if self.mode is Mode.V2 and self.v2 is None:
            raise ValueError("mode v2 has no v2 key")
        if self.v2 is not None and self.mode not in (Mode.V2, Mode.MIGRATING):
            raise ValueError(f"mode {self.mode} has a v2 key")
        object.__setattr__(self, "data", MappingProxyType(dict(self.data)))

    def dump(self) -> bytes:
        """Return the document as JSON, with the keys in the clear: seal it.

        Raises:
            ValueError: when it has more than MAX_BYTES, which `load` would refuse.
        """
        document: dict[str, Any] = {
            "mode": self.mode.value,
            "active": self.active,
            "data": {kid: encode(key.reveal()) for kid, key in self.data.items()},
            "lookup": encode(self.lookup.reveal()),
            "spool": encode(self.spool.reveal()),
        }
        if self.v2 is not None:
            document["v2"] = encode(self.v2.reveal())
        raw = json.dumps(document, separators=(",", ":")).encode()
        if len(raw) > MAX_BYTES:
            raise ValueError(f"the keyring has {len(self.data)} data keys: drop unused ones first")
        return raw

    @classmethod
    def load(cls, raw: bytes) -> Self | str:
        """Parse a document of `dump`.

        Returns:
            The keys, or what is wrong with the document, as a text without any of its content: an
            error raised here would carry the keys in its frames.
        """
        try:
            return cls(**_fields(_parse(raw)))
        except (Malformed, ValueError) as exc:  # ValueError: from __post_init__
            return str(exc)


def _parse(raw: bytes) -> Any:
    if len(raw) > MAX_BYTES:
        raise Malformed("it is too long")
    try:
        return json.loads(
            raw.decode(),
            object_pairs_hook=_members,
            parse_constant=_refuse_number,
            parse_float=_refuse_number,
        )
    except (ValueError, RecursionError):
        pass
    raise Malformed("it is not JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("it has a member twice")
    return members


def _refuse_number(_: str) -> NoReturn:
    raise Malformed("it holds a number")


def _fields(document: Any) -> dict[str, Any]:
    required = {"mode", "active", "data", "lookup", "spool"}
    if not isinstance(document, dict) or not required <= document.keys() <= {*required, "v2"}:
        raise Malformed("its members are not mode, active, data, lookup, spool and optionally v2")
    data = document["data"]
    if not isinstance(data, dict):
        raise Malformed("its data keys are not an object")
    mode = document["mode"]
    if mode not in list(Mode):
        raise Malformed("its mode is unknown")
    return {
        "mode": Mode(mode),
        "active": _string(document["active"], "active key id"),
        "data": {kid: _key(text, "data key") for kid, text in data.items()},
        "lookup": _key(document["lookup"], "lookup key"),
        "spool": _key(document["spool"], "spool key"),
        "v2": _key(document["v2"], "v2 key") if "v2" in document else None,
    }


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"its {name} is not a string")
    return value


def _key(value: Any, name: str) -> Key:
    raw = decode(_string(value, name), name)
    if len(raw) != KEY_BYTES:
        raise Malformed(f"its {name} has not {KEY_BYTES} bytes")
    return Key(raw)
