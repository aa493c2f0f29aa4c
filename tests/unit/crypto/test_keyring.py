"""The keyring: what each mode writes and reads, where values open, and what errors say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage.crypto.binding import Binding
from gproxy_storage.crypto.envelope import Document, Envelope, parse_json, parse_text
from gproxy_storage.crypto.keyring import Keyring
from gproxy_storage.crypto.keys import Key
from gproxy_storage.crypto.keyset import Mode
from gproxy_storage.errors import (
    CryptoError,
    InvalidValue,
    KeyringLost,
    MalformedEnvelope,
    PlaintextFound,
    Tampered,
    UnknownKey,
)
from tests.cases import for_each
from tests.processes import run_python

from .support import (
    BINDING,
    DATA,
    DOCUMENT,
    KID,
    LOOKUP,
    OTHER,
    SPOOL,
    TEXT,
    V2,
    chain,
    keyring,
    load_vectors,
    shown_by,
)

SECRETS = [Mode.ENCRYPTED, Mode.MIGRATING, Mode.V2, Mode.DECRYPTING]
NONCE = bytes(24)


def stored_as(form: str, binding: Binding = BINDING) -> tuple[str, str]:
    """Return the text and the JSON document as they are stored in a form."""
    written_by = {"plaintext": Mode.PLAINTEXT, "v2": Mode.V2, "v3": Mode.ENCRYPTED}
    ring = keyring(written_by[form])
    return ring.seal_text(TEXT, binding), ring.seal_json(DOCUMENT, binding)


def open_both(
    ring: Keyring, stored: tuple[str, str], binding: Binding = BINDING
) -> tuple[str, Any]:
    return ring.open_text(stored[0], binding), ring.open_json(stored[1], binding)


def refusals(
    ring: Keyring, stored: tuple[str, str], binding: Binding = BINDING
) -> list[CryptoError]:
    """Return the errors that opening the text and the document raises."""
    caught = []
    for opens, value in ((ring.open_text, stored[0]), (ring.open_json, stored[1])):
        with pytest.raises(CryptoError) as error:
            opens(value, binding)
        caught.append(error.value)
    return caught


# -- modes --------------------------------------------------------------------------------------


@for_each(
    ("mode", "form"),
    [
        (Mode.PLAINTEXT, "plaintext"),
        (Mode.ENCRYPTED, "v3"),
        (Mode.MIGRATING, "v3"),
        (Mode.V2, "v2"),
        (Mode.DECRYPTING, "plaintext"),
    ],
)
def test_what_each_mode_writes(mode: Mode, form: str) -> None:
    ring = keyring(mode)
    text, document = ring.seal_text(TEXT, BINDING), ring.seal_json(DOCUMENT, BINDING)

    assert open_both(ring, (text, document)) == (TEXT, DOCUMENT)
    assert ring.binds_to_row is (form == "v3")
    for parsed in (parse_text(text, BINDING), parse_json(document, BINDING)):
        assert ring.is_current(parsed)
        if form == "plaintext":
            assert parsed is None or isinstance(parsed, Document)
        else:
            assert isinstance(parsed, Envelope)
            assert (parsed.version, parsed.kid) == (form, KID if form == "v3" else None)


READS = {
    Mode.PLAINTEXT: {"plaintext"},
    Mode.ENCRYPTED: {"v3"},
    Mode.MIGRATING: {"v3", "v2", "plaintext"},
    Mode.V2: {"v2", "plaintext"},
    Mode.DECRYPTING: {"plaintext", "v3"},
}
REFUSED = {
    (Mode.PLAINTEXT, "v2"): (UnknownKey, "set DATABASE_SECRET_KEY to GPROXY's secret"),
    (Mode.PLAINTEXT, "v3"): (KeyringLost, f"under key {KID}, and there is no keyring; restore"),
    (Mode.ENCRYPTED, "v2"): (UnknownKey, "format v2, which this database, in mode encrypted"),
    (Mode.ENCRYPTED, "plaintext"): (PlaintextFound, "holds plaintext in an encrypted database"),
    (Mode.V2, "v3"): (UnknownKey, "format v3, which this database, in mode v2, does not read"),
    (Mode.DECRYPTING, "v2"): (UnknownKey, "in mode decrypting, does not read"),
}


@for_each("form", ["plaintext", "v2", "v3"])
@for_each("mode", Mode)
def test_what_each_mode_reads(mode: Mode, form: str) -> None:
    ring, stored = keyring(mode), stored_as(form)
    if form in READS[mode]:
        assert open_both(ring, stored) == (TEXT, DOCUMENT)
        return

    kind, message = REFUSED[mode, form]
    for error in refusals(ring, stored):
        assert type(error) is kind
        assert message in str(error)
        assert (error.table, error.column, error.pk) == BINDING
        assert error.kid == (KID if form == "v3" else None)
        assert list(chain(error)) == [error]
        assert TEXT not in f"{error} {error!r} {error.args} {vars(error)}"


def test_migrating_without_gproxys_key_reads_no_v2() -> None:
    for error in refusals(Keyring.create(Mode.MIGRATING), stored_as("v2")):
        assert type(error) is UnknownKey
        assert "under GPROXY's key, which is not in the keyring" in str(error)


@for_each("mode", Mode)
def test_what_may_not_be_stored_is_refused_in_every_mode(mode: Mode) -> None:
    ring = keyring(mode)

    for text in ("enc:v3:pending", "enc:", "a\0", "\ud800"):
        with pytest.raises(InvalidValue):
            ring.seal_text(text, BINDING)
    for document in ({"$gproxy_enc": 1}, [{"$gproxy_enc": 1}], float("nan"), "\0", "\ud800"):
        with pytest.raises(InvalidValue):
            ring.seal_json(document, BINDING)


@for_each("mode", SECRETS)
def test_pending_and_malformed_values_are_an_error_in_every_mode(mode: Mode) -> None:
    for stored in (("enc:v3:pending", '{"$gproxy_enc":"pending"}'), ("enc:x", "{")):
        for error in refusals(keyring(mode), stored):
            assert type(error) is MalformedEnvelope


def test_is_current_is_false_for_values_to_reseal() -> None:
    rotated = keyring().with_new_key()
    text, document = stored_as("v3")
    plain = parse_text("text"), parse_json("{}")

    assert not rotated.is_current(parse_text(text))
    assert not rotated.is_current(parse_json(document))
    assert not any(keyring().is_current(parsed) for parsed in plain)
    assert not any(keyring(Mode.V2).is_current(parsed) for parsed in plain)
    assert not keyring(Mode.MIGRATING).is_current(parse_text(stored_as("v2")[0]))
    assert not keyring(Mode.DECRYPTING).is_current(parse_text(text))


# -- values -------------------------------------------------------------------------------------


@for_each("vector", load_vectors("gproxy-storage-v3")["texts"])
def test_the_texts_of_the_vectors(vector: dict[str, Any]) -> None:
    binding = Binding(vector["table"], vector["column"], vector["pk"])

    assert keyring().open_text(vector["stored"], binding) == vector["plaintext"]


@for_each("vector", load_vectors("gproxy-storage-v3")["documents"])
def test_the_documents_of_the_vectors(vector: dict[str, Any]) -> None:
    binding = Binding(vector["table"], vector["column"], vector["pk"])

    assert keyring().open_json(json.dumps(vector["stored"]), binding) == vector["document"]


@for_each("vector", load_vectors("gproxy-v2")["values"])
def test_gproxys_values_are_opened(vector: dict[str, Any]) -> None:
    ring = Keyring.create(Mode.V2, v2=Key(bytes.fromhex(vector["derived_key_hex"])))

    assert ring.open_text(vector["token"], BINDING) == vector["plaintext"]
    assert ring.open_json(json.dumps(vector["json_token"]), BINDING) == vector["document"]


@for_each("mode", Mode)
def test_empty_and_null_stay_different(mode: Mode) -> None:
    ring = keyring(mode)

    assert ring.open_text(ring.seal_text("", BINDING), BINDING) == ""
    documents: list[Any] = [None, "", {}, [], 0, False]
    for document in documents:
        opened = ring.open_json(ring.seal_json(document, BINDING), BINDING)
        assert (type(opened), opened) == (type(document), document)


def test_the_same_value_is_sealed_differently_each_time() -> None:
    assert len({keyring().seal_text(TEXT, BINDING) for _ in range(100)}) == 100


@for_each(
    "elsewhere",
    [BINDING._replace(pk=43), BINDING._replace(column="name"), BINDING._replace(table="orgs")],
)
def test_a_moved_value_is_tampered_with(elsewhere: Binding) -> None:
    for error in refusals(keyring(), stored_as("v3"), elsewhere):
        assert type(error) is Tampered
        assert str(error).startswith(f"{elsewhere} does not open under its key {KID}")
        assert (error.table, error.column, error.pk, error.kid) == (*elsewhere, KID)


def test_text_and_document_are_sealed_alike_but_not_stored_alike() -> None:
    """A JSON text put into a text column opens as text, which shows no more than it held."""
    parsed = parse_json(stored_as("v3")[1])
    assert isinstance(parsed, Envelope)

    assert json.loads(keyring().open_text(parsed.to_text(), BINDING)) == DOCUMENT


def test_a_value_under_an_unknown_key() -> None:
    for error in refusals(keyring(active=OTHER), stored_as("v3")):
        assert type(error) is UnknownKey
        assert f"is sealed under key {KID}, which is not in the keyring" in str(error)
        assert error.kid == KID


def test_a_relabelled_kid_does_not_open() -> None:
    rotated = keyring().with_new_key()
    assert rotated.active_kid
    text, document = (value.replace(KID, rotated.active_kid) for value in stored_as("v3"))

    for error in refusals(rotated, (text, document)):
        assert type(error) is Tampered


@pytest.mark.parametrize("seal", [Keyring.seal_text, Keyring.open_text])
def test_without_its_row_a_v3_value_is_neither_sealed_nor_opened(
    seal: Callable[[Keyring, str, Binding], str],
) -> None:
    value = stored_as("v3")[0] if seal is Keyring.open_text else TEXT

    with pytest.raises(InvalidValue, match="select the primary key as well"):
        seal(keyring(), value, Binding("users", "password"))


@for_each("mode", [Mode.PLAINTEXT, Mode.V2, Mode.DECRYPTING])
def test_other_forms_need_no_row(mode: Mode) -> None:
    binding = Binding("users", "password")

    assert keyring(mode).open_text(keyring(mode).seal_text(TEXT, binding), binding) == TEXT


@for_each("opened", [b"\xff\xfe", b"enc:v3:pending", b"enc:"])
def test_what_opens_to_no_text_is_malformed(opened: bytes) -> None:
    envelope = Envelope("v3", KID, NONCE, DATA.seal(NONCE, opened, BINDING.aad(KID)))

    with pytest.raises(MalformedEnvelope, match="it opened, but its content is not text") as caught:
        keyring().open_text(envelope.to_text(), BINDING)
    assert list(chain(caught.value)) == [caught.value]


@for_each("opened", [b"", b"canary", b"\xff", b'{"$gproxy_enc":"v3"}', b'[{"$gproxy_enc":1}]'])
def test_what_opens_to_no_document_is_malformed(opened: bytes) -> None:
    envelope = Envelope("v3", KID, NONCE, DATA.seal(NONCE, opened, BINDING.aad(KID)))

    with pytest.raises(MalformedEnvelope, match="it opened, but its content is not JSON") as caught:
        keyring().open_json(envelope.to_json(), BINDING)
    assert list(chain(caught.value)) == [caught.value]
    assert "canary" not in shown_by(caught.value)


def test_errors_of_opening_show_no_key_and_no_plaintext() -> None:
    """Not even to a report that prints the variables of each frame."""
    hidden = [key.reveal() for key in (DATA, OTHER, LOOKUP, SPOOL, V2)]
    errors = [
        *refusals(keyring(), stored_as("v3"), BINDING._replace(pk=1)),
        *refusals(keyring(active=OTHER), stored_as("v3")),
        *refusals(keyring(), stored_as("v2")),
        *refusals(keyring(), ("enc:v3:pending", "{")),
    ]
    shown = "\n".join(map(shown_by, errors))

    assert "canary" not in shown
    for raw in hidden:
        assert repr(raw) not in shown
        assert raw.hex() not in shown


# -- changes ------------------------------------------------------------------------------------


def test_a_new_keyring_has_new_keys() -> None:
    one, other = Keyring.create(Mode.ENCRYPTED), Keyring.create(Mode.ENCRYPTED)

    assert one.kids == {one.active_kid}
    assert one.active_kid != other.active_kid
    assert len({one.spool, other.spool}) == 2
    assert one.digest("sk") != other.digest("sk")
    assert not one.has_v2


@for_each(
    ("mode", "v2"),
    [
        (Mode.PLAINTEXT, None),
        (Mode.V2, None),
        (Mode.ENCRYPTED, V2),
        (Mode.DECRYPTING, V2),
        (Mode.PLAINTEXT, V2),
    ],
)
def test_a_mode_and_a_v2_key_that_do_not_fit(mode: Mode, v2: Key | None) -> None:
    with pytest.raises(ValueError, match=r"keyring|v2 key"):
        Keyring.create(mode, v2=v2)
    with pytest.raises(ValueError, match=r"keyring|v2 key"):
        keyring().with_v2(v2, mode=mode)


def test_a_plaintext_keyring_has_nothing() -> None:
    ring = Keyring.plaintext()

    assert (ring.active_kid, ring.kids, ring.has_v2) == (None, frozenset(), False)
    for use in (
        lambda: ring.spool,
        lambda: ring.with_mode(Mode.ENCRYPTED),
        ring.with_new_key,
        lambda: ring.without_keys([]),
        lambda: ring.with_v2(None),
        lambda: ring.seal(kdf="", generation=0, key=DATA),
    ):
        with pytest.raises(ValueError, match="a plaintext database has no keys"):
            use()


def test_changes_make_a_new_keyring() -> None:
    ring = keyring(Mode.V2)
    upgraded = ring.with_mode(Mode.MIGRATING)
    done = upgraded.with_v2(None, mode=Mode.ENCRYPTED)

    assert [r.mode for r in (ring, upgraded, done)] == [Mode.V2, Mode.MIGRATING, Mode.ENCRYPTED]
    assert [r.has_v2 for r in (ring, upgraded, done)] == [True, True, False]
    assert open_both(upgraded, stored_as("v2")) == (TEXT, DOCUMENT)
    assert {type(error) for error in refusals(done, stored_as("v2"))} == {UnknownKey}
    with pytest.raises(ValueError, match="mode encrypted has a v2 key"):
        upgraded.with_mode(Mode.ENCRYPTED)


def test_a_rotated_keyring_opens_old_values_until_their_key_is_dropped() -> None:
    old = keyring()
    both = old.with_new_key()
    assert both.active_kid
    new_value = both.seal_text(TEXT, BINDING)

    assert both.kids == {KID, both.active_kid}
    assert open_both(both, stored_as("v3")) == (TEXT, DOCUMENT)
    assert new_value.startswith(f"enc:v3:{both.active_kid}:")
    assert (both.spool, both.digest("sk")) == (old.spool, old.digest("sk"))

    done = both.without_keys([KID])
    assert done.kids == {both.active_kid}
    assert done.open_text(new_value, BINDING) == TEXT
    assert {type(error) for error in refusals(done, stored_as("v3"))} == {UnknownKey}


@for_each("kids", [[KID], ["0" * 16], [KID, "0" * 16]])
def test_active_and_unknown_keys_are_not_dropped(kids: list[str]) -> None:
    with pytest.raises(ValueError, match="only data keys that are not active"):
        keyring().without_keys(kids)


def test_a_new_key_whose_id_exists_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([DATA, DATA, OTHER])
    monkeypatch.setattr(Key, "generate", lambda: next(drawn))

    rotated = keyring().with_new_key()

    assert rotated.active_kid == OTHER.kid
    assert rotated.kids == {DATA.kid, OTHER.kid}


# -- keys retained ------------------------------------------------------------------------------


def test_retained_keys_open_and_do_nothing_else() -> None:
    reloaded = keyring(active=OTHER).retaining(keyring())

    assert open_both(reloaded, stored_as("v3")) == (TEXT, DOCUMENT)
    assert reloaded.kids == {OTHER.kid}
    assert reloaded.active_kid == OTHER.kid
    assert reloaded.seal_text(TEXT, BINDING).startswith(f"enc:v3:{OTHER.kid}:")
    assert not reloaded.is_current(parse_text(stored_as("v3")[0]))


def test_retained_keys_accumulate() -> None:
    ring = keyring().retaining(Keyring.plaintext())
    for _ in range(3):
        ring = Keyring.create(Mode.ENCRYPTED).retaining(ring)

    assert open_both(ring, stored_as("v3")) == (TEXT, DOCUMENT)
    assert len(ring.kids) == 1


def test_retained_keys_are_not_sealed() -> None:
    kdf = str(load_vectors("gproxy-storage-v3")["keyring"]["kdf"])
    sealed = keyring(active=OTHER).retaining(keyring()).seal(kdf=kdf, generation=1, key=SPOOL)
    reopened = Keyring.open(sealed, kdf=kdf, generation=1, key=SPOOL)

    assert {type(error) for error in refusals(reopened, stored_as("v3"))} == {UnknownKey}


def test_a_retained_v2_key_does_not_widen_what_the_mode_reads() -> None:
    reloaded = keyring(Mode.ENCRYPTED).retaining(keyring(Mode.MIGRATING))

    assert {type(error) for error in refusals(reloaded, stored_as("v2"))} == {UnknownKey}


# -- start-up -----------------------------------------------------------------------------------


def test_importing_it_leaves_ciphers_and_argon2_for_later(tmp_path: Path) -> None:
    later = ["argon2", "gproxy_storage.crypto.xchacha"]
    program = (
        "import sys, gproxy_storage.crypto.keyring, gproxy_storage.crypto.passwords;"
        f"print([module for module in {later} if module in sys.modules])"
    )

    assert run_python("-c", program, cwd=tmp_path).stdout == "[]\n"
