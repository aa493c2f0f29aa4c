"""What the tests of encryption share: vectors, fixed keys, and what an error would show."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gproxy_storage
from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.kdf import Kdf
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keys import Key
from gproxy_storage.crypto.keyset import KeySet, Mode

VECTORS = Path(__file__).parents[2] / "vectors"
PACKAGE = str(Path(gproxy_storage.__file__).parent)

BINDING = Binding("users", "password", 42)
KID = "a738dbd331b00de7"  # of the key 00..1f
DATA, OTHER, LOOKUP, SPOOL, V2 = (Key(bytes(range(n, n + 32))) for n in range(0, 160, 32))
FAST_KDF = Kdf(8192, 1, 1, bytes(16))

TEXT = "canary+text/~é"
DOCUMENT = {"api_key": "canary+json/~é"}


def load_vectors(name: str) -> Any:
    """Return the content of a file of test vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def keyring(mode: Mode = Mode.ENCRYPTED, *, active: Key = DATA) -> Keyring:
    """Return a keyring of fixed keys; in the modes that may have a v2 key, it has."""
    if mode is Mode.PLAINTEXT:
        return Keyring.plaintext()
    return Keyring(
        KeySet(
            mode=mode,
            active=active.kid,
            data={active.kid: active},
            lookup=LOOKUP,
            spool=SPOOL,
            v2=V2 if mode in (Mode.V2, Mode.MIGRATING) else None,
        )
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything it drags along, suppressed or not."""
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None:
            yield found
            waiting += [found.__cause__, found.__context__]


def shown_by(error: BaseException) -> str:
    """Return all that a report with the package's variables would show of an error's chain."""
    pieces = []
    for link in chain(error):
        pieces += [str(link), repr(link), repr(link.args), repr(vars(link))]
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if not frame.f_code.co_filename.startswith(str(VECTORS.parent)):  # ours is no leak
                pieces.append(repr(frame.f_locals))
    return "\n".join(pieces)
