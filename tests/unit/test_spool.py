"""The spool file: what is appended comes back, whatever happened to the file meanwhile."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy_storage.crypto.keys import Key
from gproxy_storage.log_rows import DOWNSTREAM_REQUESTS, LOGS, USAGES
from gproxy_storage.sink import spool as spool_module
from gproxy_storage.sink.batch import Batch
from gproxy_storage.sink.destination import SpoolCipher
from gproxy_storage.sink.records import HEAD_BYTES, NOTE_BYTES, Damage, Header, SpoolError
from gproxy_storage.sink.rejects import Reject, RejectsFile, read_rejects
from gproxy_storage.sink.spool import SpoolFile, SpoolFull
from tests.cases import for_each
from tests.support import Child, log_row

DATABASE, OTHER_DATABASE = "d" * 32, "e" * 32
MANY = 10**9
REJECTS = Header(DATABASE, "w", None)
AT = "2026-03-04T05:06:07.890123Z"
BODY = bytes(range(256))
REQUEST = {
    **dict.fromkeys(["at", "internal", "user_id", "user_key_id"], "x"),
    **dict.fromkeys(["request_method", "request_headers_json", "request_path"], "x"),
    "request_body": BODY,
    "response_status": 200,
    "response_headers_json": "{}",
    "response_body": b"",
    "created_at": "z",
}


def batch(seq: int, rows: int = 2) -> Batch:
    found = Batch(seq)
    for number in range(rows):
        usage = log_row(USAGES, downstream_trace_id=number, at=AT, cost=0.1, created_at="é\n")
        found.rows[0].append(usage)
        found.rows[2].append(log_row(DOWNSTREAM_REQUESTS, trace_id=number, **REQUEST))
    return found


_opened: list[SpoolFile] = []


@pytest.fixture(autouse=True)
def closed_at_the_end() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def create(directory: Path, *seqs: int, cipher: SpoolCipher | None = None) -> SpoolFile:
    header = Header(DATABASE, "w" * 32, None if cipher is None else cipher.kid)
    spool = SpoolFile.create(directory, header, cipher)
    _opened.append(spool)
    for seq in seqs:
        spool.append(batch(seq), MANY)
    return spool


def left(directory: Path, *seqs: int, cipher: SpoolCipher | None = None) -> Path:
    """Return the path of a file that a process left."""
    spool = create(directory, *seqs, cipher=cipher)
    spool.close()
    return spool.path


def adopt(path: Path, cipher: SpoolCipher | None = None) -> SpoolFile:
    spool = SpoolFile.adopt(path, DATABASE, cipher)
    assert spool is not None
    _opened.append(spool)
    return spool


def drain(spool: SpoolFile) -> list[int]:
    """Return the numbers of what comes out; each batch must be what went in."""
    seqs = []
    while (found := spool.first()) is not None:
        assert found.rows == batch(found.seq).rows
        seqs.append(found.seq)
        spool.drop_first()
    return seqs


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    spool = create(tmp_path, 1, 2, 5)
    assert len(spool) == 3
    assert drain(spool) == [1, 2, 5]
    assert spool.size_bytes == 0
    spool.append(batch(6), MANY)
    spool.close()
    spool = adopt(spool.path)
    assert drain(spool) == [6]
    assert spool.damages == []
    spool.remove()
    assert list(tmp_path.iterdir()) == []


def test_batches_come_out_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = left(tmp_path, 4, 3, 9, 1)
    assert drain(adopt(path)) == [1, 3, 4, 9]
    spool = create(tmp_path / "live", 4, 3)
    assert spool.first_seq() == 3
    assert drain(spool) == [3, 4]


@pytest.mark.parametrize("umask", [0, 0o022, 0o277, 0o777])
def test_files_are_the_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        spool = create(tmp_path / "a" / "b" / "spool", 1)
        rejects = RejectsFile(spool.path.parent, REJECTS, None)
        rejects.keep(7, [reject(0)])
    finally:
        os.umask(before)
    made = list(tmp_path.rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    assert len(made) == 5


def test_a_file_in_use_is_not_adopted(tmp_path: Path) -> None:
    spool = create(tmp_path, 1)
    assert SpoolFile.adopt(spool.path, DATABASE, None) is None
    spool.close()
    first = adopt(spool.path)
    assert SpoolFile.adopt(spool.path, DATABASE, None) is None
    first.remove()
    assert SpoolFile.adopt(spool.path, DATABASE, None) is None


def test_a_file_that_was_just_set_aside_is_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process opened it before, and gets the lock after: it would store all again."""
    path = left(tmp_path, 1)
    owner = adopt(path)
    owner.damages.append(Damage(0, 1))
    flock = fcntl.flock

    def late_flock(file: Any, operation: int) -> None:
        owner.remove()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    assert SpoolFile.adopt(path, DATABASE, None) is None
    assert [file.suffix for file in tmp_path.iterdir()] == [".damaged"]


def test_the_lock_outlives_a_child_that_closes_its_copy(tmp_path: Path) -> None:
    spool = create(tmp_path, 1)

    def close() -> str:
        spool.close()
        return ""

    Child(close).check()
    with spool.path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_file_that_its_owner_only_began_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.spool"
    path.touch()
    assert SpoolFile.adopt(path, DATABASE, None) is None


def test_a_batch_is_read_back_exactly() -> None:
    assert Batch.from_bytes(1, batch(1).to_bytes()).rows == batch(1).rows


def test_a_batch_of_an_earlier_version_lacks_columns() -> None:
    found = json.loads(batch(1).to_bytes())
    for part in found:
        place = part["columns"].index("at")
        part["columns"].pop(place)
        for row in part["rows"]:
            row.pop(place)
    read = Batch.from_bytes(1, json.dumps(found).encode())
    assert all(row[LOGS[0].bulk.columns.index("at")] is None for row in read.rows[0])
    assert len(read) == len(batch(1))


@for_each(
    "data",
    [
        b"",
        b"[",
        b"{}x",
        b"1",
        b'[{"table": "users", "columns": [], "rows": [[]]}]',
        b'[{"table": "usages", "columns": ["nonsense"], "rows": [[1]]}]',
        b'[{"table": "usages", "columns": ["at"], "rows": [[1, 2]]}]',
        b'[{"table": "usages", "columns": ["at"], "rows": 1}]',
        b'[{"table": "downstream_requests", "columns": ["request_body"], "rows": [["%"]]}]',
    ],
)
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read") as caught:
        Batch.from_bytes(1, data)
    assert caught.value.__suppress_context__


# -- damage -------------------------------------------------------------------------------------


def offsets(path: Path) -> tuple[list[int], int]:
    """Return where the records of a file begin, and its end."""
    spool = adopt(path)
    found = [record.offset for record in spool._records]
    spool.close()
    return found, path.stat().st_size


@pytest.mark.parametrize("place", [0, 4, 12, 16, 20, HEAD_BYTES, HEAD_BYTES + 40])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_flipped_bit_costs_one_record(tmp_path: Path, number: int, place: int) -> None:
    path = left(tmp_path, 1, 2, 3)
    starts, end = offsets(path)
    data = bytearray(path.read_bytes())
    data[starts[number] + place] ^= 0x10
    path.write_bytes(data)

    spool = adopt(path)
    assert drain(spool) == [seq for seq in (1, 2, 3) if seq != number + 1]
    (damage,) = spool.damages
    assert damage == Damage(starts[number], [*starts, end][number + 1] - starts[number])
    spool.remove()
    assert [found.name for found in tmp_path.iterdir()] == [path.with_suffix(".damaged").name]


WRITER = "0123456789abcdef" * 2


def small(seq: int) -> Batch:
    found = Batch(seq)
    found.rows[0].append(log_row(USAGES, at=AT, cost=0.1, created_at="z"))
    return found


def first_version(content: bytes) -> bytes:
    """Return a closed file as the first version wrote it: no checksum, no note."""
    line, _, rest = content.partition(b"\n")
    fields = json.loads(line)
    del fields["checksum"]
    fields["format"] = "gproxy-storage-spool-1"
    return json.dumps(fields).encode() + b"\n" + rest[NOTE_BYTES:]


# One checksum is over all of a payload: of its bits a part is enough, and the soak has them all.
EACH_NTH_BIT = pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.slow)])


@EACH_NTH_BIT
@pytest.mark.parametrize("form", ["closed", "killed", "sealed", "first version"])
def test_no_flipped_bit_gives_a_row_another_value_or_number(
    tmp_path: Path, form: str, step: int
) -> None:
    """Under another writer's number a row that was stored already would be stored once more."""
    cipher = SpoolCipher(Key.generate()) if form == "sealed" else None
    header = Header(DATABASE, WRITER, None if cipher is None else cipher.kid)
    spool = SpoolFile.create(tmp_path, header, cipher)
    for seq in (1, 2):
        spool.append(small(seq), MANY)
    payloads = {
        place
        for record in spool._records
        for place in range(record.offset + HEAD_BYTES, record.offset + HEAD_BYTES + record.length)
    }
    (spool.close if form == "killed" else spool.finish)()
    content = spool.path.read_bytes()
    if form == "first version":
        content, length = first_version(content), len(content)
        payloads = {place - length + len(content) for place in payloads}
    spool.path.write_bytes(content)
    whole = replayed(spool.path, cipher)
    assert whole == ({1, 2}, 0)

    unharmed = 0
    for place in range(len(content) * 8):
        if place // 8 in payloads and place % step:
            continue
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        spool.path.write_bytes(changed)
        found = replayed(spool.path, cipher)
        if found is not None:
            seqs, damages = found
            assert damages > 0
            unharmed += seqs == {1, 2}
    # A bit of the note costs no row; each other one costs a row or the file.
    assert unharmed == (0 if form == "first version" else NOTE_BYTES * 8)


def replayed(path: Path, cipher: SpoolCipher | None) -> tuple[set[int], int] | None:
    """Return what would be stored under the writer's numbers, and the damages."""
    try:
        spool = SpoolFile.adopt(path, DATABASE, cipher)
    except SpoolError:
        return None
    assert spool is not None
    seqs = set()
    while (found := spool.first()) is not None:
        assert found.rows == small(found.seq).rows
        seqs.add(found.seq)
        del spool._records[0]
    assert (spool.header.writer, spool.header.database) == (WRITER, DATABASE)
    spool.close()
    return seqs, len(spool.damages)


def test_a_bit_that_flips_while_the_process_has_the_file(tmp_path: Path) -> None:
    spool = create(tmp_path, 1, 2)
    with spool.path.open("r+b") as file:
        file.seek(spool._records[0].offset + HEAD_BYTES + 100)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    assert drain(spool) == [2]
    assert len(spool.damages) == 1


def test_a_file_cut_after_it_was_closed_is_noticed(tmp_path: Path) -> None:
    spool = create(tmp_path, 1, 2)
    starts, end = [record.offset for record in spool._records], spool._end
    spool.finish()
    content = spool.path.read_bytes()
    for cut in (*range(starts[0], end, 29), starts[1], end - 1):
        spool.path.write_bytes(content[:cut])
        found = adopt(spool.path)
        assert found.damages[-1] == Damage(cut, end - cut, missing=True)
        assert len(found) == (cut >= starts[1])
        found.close()


def test_a_file_that_was_stored_misses_nothing(tmp_path: Path) -> None:
    """Killed between emptying the file and deleting it."""
    spool = create(tmp_path, 1)
    spool.finish()
    found = adopt(spool.path)
    assert drain(found) == [1]
    found.close()
    assert adopt(spool.path).damages == []


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    path = left(tmp_path, 1, 2)
    path.write_bytes(first_version(path.read_bytes()))
    spool = adopt(path)
    assert drain(spool) == [1, 2]
    assert (spool.damages, spool.size_bytes) == ([], 0)
    spool.close()
    other = path.rename(tmp_path / "other.spool")
    with pytest.raises(SpoolError, match="first line is damaged"):
        SpoolFile.adopt(other, DATABASE, None)


def test_a_file_cut_anywhere_loses_what_was_cut(tmp_path: Path) -> None:
    path = left(tmp_path, 1, 2)
    starts, end = offsets(path)
    whole = path.read_bytes()
    for cut in range(starts[0], end, 7):
        path.write_bytes(whole[:cut])
        spool = adopt(path)
        complete = [seq for seq, stop in ((1, starts[1]), (2, end)) if cut >= stop]
        assert drain(spool) == complete
        assert len(spool.damages) == (0 if cut in starts else 1)
        spool.close()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_rubbish_between_records_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, between: bytes
) -> None:
    path = left(tmp_path_factory.mktemp("spool"), 1, 2)
    starts, _ = offsets(path)
    data = path.read_bytes()
    one, two = data[starts[0] : starts[1]], data[starts[1] :]
    path.write_bytes(data[: starts[0]] + before + one + between + b"\xf5SPL" + two)

    spool = adopt(path)
    assert drain(spool) == [1, 2]
    spool.close()


@pytest.mark.parametrize(
    "content", [b"\n", b"{}\n", b"no spool at all", b'{"format": "gproxy-storage-spool-1"}\n']
)
def test_what_is_no_spool_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.spool"
    path.write_bytes(content)
    with pytest.raises(SpoolError, match="not a spool file of this version") as caught:
        SpoolFile.adopt(path, DATABASE, None)
    assert caught.value.path == path
    assert path.read_bytes() == content


def test_a_spool_of_another_database_is_refused(tmp_path: Path) -> None:
    path = left(tmp_path, 1)
    before = path.read_bytes()
    with pytest.raises(SpoolError, match="for another database"):
        SpoolFile.adopt(path, OTHER_DATABASE, None)
    assert path.read_bytes() == before


def test_another_databases_file_is_refused_unread(tmp_path: Path) -> None:
    path = left(tmp_path)
    assert adopt(path).header.database == DATABASE
    while _opened:
        _opened.pop().close()
    path.write_bytes(path.read_bytes() + b"not looked at")
    with pytest.raises(SpoolError, match="for another database"):
        SpoolFile.adopt(path, OTHER_DATABASE, None)


# -- room ---------------------------------------------------------------------------------------


def test_a_full_file_refuses_further_batches(tmp_path: Path) -> None:
    spool = create(tmp_path, 1)
    size = spool.size_bytes
    with pytest.raises(SpoolFull):
        spool.append(batch(2), size * 2 - 1)
    spool.append(batch(2), size * 2)
    assert drain(spool) == [1, 2]


def test_a_deleted_file_refuses_further_batches(tmp_path: Path) -> None:
    spool = create(tmp_path, 1)
    spool.path.unlink()
    with pytest.raises(FileNotFoundError, match="deleted while it was open"):
        spool.append(batch(2), MANY)
    assert drain(spool) == [1]


def test_a_full_disk_leaves_no_partial_record(tmp_path: Path) -> None:
    """The operating system refuses in the middle of a record; nothing of it stays."""

    def work() -> str:
        spool = create(tmp_path, 1)
        size = spool.path.stat().st_size
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        with pytest.raises(OSError, match="File too large"):
            spool.append(batch(2), MANY)
        assert spool.path.stat().st_size == size
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        spool.append(batch(3), MANY)
        return str(drain(spool))

    assert Child(work).check() == "[1, 3]"


@pytest.mark.parametrize("place", ["/proc/spool", "/sys/spool"])
def test_a_directory_that_cannot_be_made(place: str) -> None:
    with pytest.raises(SpoolError, match=f"^the spool directory {place} cannot be used") as caught:
        create(Path(place))
    assert caught.value.setting == "data_dir"


def test_a_file_in_the_directorys_place(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(SpoolError, match="cannot be used"):
        create(tmp_path / "spool")


# -- sealed -------------------------------------------------------------------------------------


def test_sealed_batches_come_back_and_show_nothing(tmp_path: Path) -> None:
    cipher = SpoolCipher(Key.generate())
    path = left(tmp_path, 1, 2, cipher=cipher)
    content = path.read_bytes()
    assert b"usages" not in content
    assert cipher.kid.encode() in content
    spool = adopt(path, SpoolCipher(cipher._key))
    assert drain(spool) == [1, 2]
    assert spool.damages == []


@pytest.mark.parametrize("cipher", [None, SpoolCipher(Key.generate())], ids=["none", "another"])
def test_without_its_key_a_sealed_file_is_refused(
    tmp_path: Path, cipher: SpoolCipher | None
) -> None:
    path = left(tmp_path, 1, cipher=SpoolCipher(Key.generate()))
    before = path.read_bytes()
    with pytest.raises(SpoolError, match=r"sealed under the key [0-9a-f]{16}, which this process"):
        SpoolFile.adopt(path, DATABASE, cipher)
    assert path.read_bytes() == before


def test_a_sealed_batch_opens_in_its_place_only(tmp_path: Path) -> None:
    cipher = SpoolCipher(Key.generate())
    spool = create(tmp_path, cipher=cipher)
    spool.append(batch(1), MANY)
    sealed = cipher.seal(batch(2).to_bytes(), spool.header.place(3).encode())
    assert cipher.open(sealed, spool.header.place(2).encode()) is None
    assert cipher.open(sealed, spool.header.place(3).encode()) == batch(2).to_bytes()
    assert cipher.open(sealed[:20], spool.header.place(3).encode()) is None


def test_a_clear_file_is_read_where_encryption_was_turned_on_since(tmp_path: Path) -> None:
    assert drain(adopt(left(tmp_path, 1), SpoolCipher(Key.generate()))) == [1]


# -- rejects ------------------------------------------------------------------------------------


def reject(place: int, reason: str = "no") -> Reject:
    return Reject(2, place, batch(1).rows[2][0], reason)


def test_rejects_are_kept_once(tmp_path: Path) -> None:
    rejects = RejectsFile(tmp_path, REJECTS, None)
    assert rejects.keep(7, [reject(0), reject(1)]) == 2
    again = RejectsFile(tmp_path, REJECTS, None)
    assert again.keep(7, [reject(0), reject(2)]) == 1
    assert again.keep(8, [reject(0)]) == 1

    found = read_rejects(rejects.path)
    assert [(one["seq"], one["table"], one["place"]) for one in found] == [
        *((7, "downstream_requests", place) for place in (0, 1, 2)),
        (8, "downstream_requests", 0),
    ]
    assert found[0]["reason"] == "no"
    assert found[0]["values"]["request_method"] == "x"
    assert rejects.path.stat().st_mode & 0o777 == 0o600


def test_rejects_are_read_once(tmp_path: Path) -> None:
    """Or each batch with a bad row would read what all before it left."""
    rejects = RejectsFile(tmp_path, REJECTS, None)
    rejects.keep(7, [reject(0)])
    rejects.path.unlink()
    assert rejects.keep(7, [reject(0), reject(1)]) == 1
    assert rejects.keep(7, [reject(0), reject(1)]) == 0
    assert rejects.keep(8, [reject(0)]) == 1
    assert rejects._present == {(8, "downstream_requests", 0)}


def test_a_line_that_a_crash_cut_off_swallows_no_other(tmp_path: Path) -> None:
    rejects = RejectsFile(tmp_path, REJECTS, None)
    rejects.keep(7, [reject(0)])
    whole = rejects.path.read_bytes()
    rejects.path.write_bytes(whole + whole[: len(whole) // 2])
    assert rejects.keep(7, [reject(0), reject(1)]) == 1
    assert [one["place"] for one in read_rejects(rejects.path)] == [0, 1]


@EACH_NTH_BIT
@pytest.mark.parametrize("sealed", [False, True])
def test_no_flipped_bit_gives_a_reject_another_value(
    tmp_path: Path, sealed: bool, step: int
) -> None:
    rejects = RejectsFile(tmp_path, REJECTS, SpoolCipher(Key.generate()) if sealed else None)
    rejects.keep(7, [reject(0), Reject(0, 1, small(1).rows[0][0], "no")])
    content = rejects.path.read_bytes()
    whole = read_rejects(rejects.path)
    assert len(whole) == 2
    for place in range(0, len(content) * 8, step):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        rejects.path.write_bytes(changed)
        found = read_rejects(rejects.path)
        assert all(one in whole for one in found)
        assert len(found) >= 1


def test_rejects_without_a_checksum_are_read(tmp_path: Path) -> None:
    rejects = RejectsFile(tmp_path, REJECTS, None)
    rejects.keep(7, [reject(0)])
    (found,) = read_rejects(rejects.path)
    rejects.path.write_text(json.dumps(found))
    assert read_rejects(rejects.path) == [found]


def test_rejects_are_sealed_with_their_reason_in_the_clear(tmp_path: Path) -> None:
    cipher = SpoolCipher(Key.generate())
    rejects = RejectsFile(tmp_path, REJECTS, cipher)
    rejects.keep(7, [reject(3)])
    (found,) = read_rejects(rejects.path)
    assert "values" not in found
    assert (found["reason"], found["kid"]) == ("no", cipher.kid)


@pytest.mark.parametrize("was_sealed", [True, False])
@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_file_moves_to_another_database_and_key(
    tmp_path: Path, was_sealed: bool, is_sealed: bool
) -> None:
    """Waiting batches are sealed again, with the same numbers of the same writer."""
    old, new = (
        SpoolCipher(Key.generate()) if sealed else None for sealed in (was_sealed, is_sealed)
    )
    spool = create(tmp_path, 1, 2, 5, cipher=old)
    assert spool.first() is not None
    spool.drop_first()
    header = Header(OTHER_DATABASE, spool.header.writer, None if new is None else new.kid)
    moved = spool.moved(header, new)
    _opened.append(moved)
    assert (moved.path, moved.header) == (spool.path, header)
    assert (len(moved), moved.rows) == (2, spool.rows)
    moved.append(batch(7), MANY)
    # It is this process's, until that is done.
    assert SpoolFile.adopt(moved.path, OTHER_DATABASE, new) is None
    moved.close()
    with pytest.raises(SpoolError, match="another database"):
        SpoolFile.adopt(moved.path, DATABASE, old)
    found = SpoolFile.adopt(moved.path, OTHER_DATABASE, new)
    assert found is not None
    _opened.append(found)
    assert found.damages == []
    assert drain(found) == [2, 5, 7]
    assert [path.name for path in tmp_path.iterdir()] == [spool.path.name]


def test_a_file_that_cannot_be_moved_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = create(tmp_path, 1, 2)
    other = Header(OTHER_DATABASE, spool.header.writer, None)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("rename", "write"):
        with monkeypatch.context() as patch:
            if name == "rename":
                patch.setattr(Path, "rename", refuse)
            else:
                patch.setattr(spool_module, "write_all", refuse)
            with pytest.raises(OSError, match="No space"):
                spool.moved(other, None)
        assert [path.name for path in tmp_path.iterdir()] == [spool.path.name]
    spool.append(batch(3), MANY)
    assert drain(spool) == [1, 2, 3]


def test_what_cannot_be_read_when_it_is_moved_is_kept(tmp_path: Path) -> None:
    spool = create(tmp_path, 1, 2)
    data = bytearray(spool.path.read_bytes())
    data[-1] ^= 1
    with spool.path.open("r+b") as file:
        file.write(data)
    moved = spool.moved(Header(OTHER_DATABASE, spool.header.writer, None), None)
    _opened.append(moved)
    assert drain(moved) == [1]
    assert spool.damaged_path.read_bytes() == data
