"""What holds secrets stays opaque, also where something breaks halfway. See test_keys, too."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from gproxy_storage.crypto import keyring as keyring_module
from gproxy_storage.crypto import xchacha
from gproxy_storage.crypto.envelope import Document
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keys import Key
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.secret import Opaque
from tests.cases import for_each

from .support import BINDING, DATA, DOCUMENT, LOOKUP, SPOOL, TEXT, V2, keyring


class Holder(Opaque):
    __slots__ = ("value",)


@for_each("spec", ["", "s", ">20", "^9", ".2"])
def test_a_format_lays_out_the_stars(spec: str) -> None:
    assert format(Holder(), spec) == format("***", spec)


@for_each("hidden", [Holder(), DATA, Document(TEXT), keyring()])
@for_each("protocol", [None, 0, 2, 4])
def test_copies_are_refused_by_name(hidden: object, protocol: int | None) -> None:
    with pytest.raises(TypeError, match=f"^a {type(hidden).__name__} cannot be pickled or copied"):
        copy.copy(hidden) if protocol is None else hidden.__reduce_ex__(protocol)


def broken(*_: object) -> Any:
    raise RuntimeError("broken halfway")


CIPHER = (xchacha, "ChaCha20Poly1305")
SUBKEY = (xchacha, "_check")
NONCE = (keyring_module, "new_nonce")


@pytest.mark.parametrize(
    ("patched", "use"),
    [
        (CIPHER, lambda ring, text, document: ring.open_text(text, BINDING)),
        (CIPHER, lambda ring, text, document: ring.open_json(document, BINDING)),
        (CIPHER, lambda ring, text, document: ring.seal_text("harmless", BINDING)),
        (SUBKEY, lambda ring, text, document: ring.open_text(text, BINDING)),
        (SUBKEY, lambda ring, text, document: ring.seal_text("harmless", BINDING)),
        (NONCE, lambda ring, text, document: ring.seal_text("harmless", BINDING)),
        ((Key, "digest"), lambda ring, text, document: ring.digest("harmless")),
        ((keyring_module, "_text_of"), lambda ring, text, document: ring.open_text(text, BINDING)),
    ],
)
def test_what_breaks_halfway_shows_no_key(
    patched: tuple[Any, str],
    use: Callable[[Keyring, str, str], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even with the variables of every frame, as --showlocals prints them."""
    ring = keyring(Mode.MIGRATING)
    text, document = ring.seal_text(TEXT, BINDING), ring.seal_json(DOCUMENT, BINDING)
    monkeypatch.setattr(*patched, broken)
    with pytest.raises(RuntimeError) as caught:
        use(ring, text, document)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(report.format())

    assert "binding = Binding(" in shown or "ring = <Keyring" in shown  # variables are in it
    for key in (DATA, LOOKUP, SPOOL, V2):
        assert repr(key.reveal()) not in shown
        assert key.reveal().hex() not in shown
