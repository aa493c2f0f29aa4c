"""Password hashes: GPROXY's parameters, and nothing that is no password passes."""

from __future__ import annotations

import re
from typing import Any

import argon2.low_level
import pytest
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from argon2.low_level import Type

from gproxy_storage.crypto import passwords
from gproxy_storage.crypto.passwords import hash_password, is_hash, verify_password
from gproxy_storage.errors import InvalidValue
from tests.cases import for_each

PASSWORD = "correct horse battery staple"
# Of the password "other". With a new salt, the tests would have other names in each process.
STORED = (
    "$argon2id$v=19$m=19456,t=2,p=1$7CnO8CZF9w+5SVw7Rf6pOA$"
    "EDnDp5btOAnyJbe76DZy3EdYBSrWYd0FapmRcm5Qkic"
)
DAMAGED = "$argon2id$v=19$m=19456,t=2,p=1$é$\udcff"


def test_gproxys_parameters() -> None:
    pattern = r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}"

    assert re.fullmatch(pattern, hash_password(PASSWORD))
    assert hash_password(PASSWORD) != hash_password(PASSWORD)  # salted


@for_each("password", [PASSWORD, " ", "é😀", "\0", "x" * 10_000])
def test_a_password_fits_its_hash_only(password: str) -> None:
    stored = hash_password(password)

    assert verify_password(stored, password)
    for other in (password + "x", password[:-1], password.swapcase() + "!", "", stored):
        assert not verify_password(stored, other)


@for_each("kind", [Type.ID, Type.I, Type.D])
def test_a_hash_of_any_kind_is_kept(kind: Type) -> None:
    stored = PasswordHasher(time_cost=1, memory_cost=64, parallelism=2, type=kind).hash(PASSWORD)

    assert is_hash(stored)
    assert hash_password(stored) == stored
    assert verify_password(stored, PASSWORD)
    assert not verify_password(stored, "other")


@for_each(
    "value",
    [
        *(
            "",
            "$argon2",
            "$argon2id$v=19$m=19456",
            "$argon2id$v=19$m=x,t=2,p=1$YQ$YQ",
            "$2b$12$abc",
        ),
        DAMAGED,
        STORED + "\n",
        STORED.replace("t=2,p=1", "p=1,t=2"),
    ],
)
def test_what_is_no_hash_is_a_password(value: str) -> None:
    assert not is_hash(value)
    assert verify_password(hash_password(value), value)


@for_each("stored", [None, "", "plain", "$argon2id$damaged", DAMAGED, "enc:v2:abc:def"])
@for_each("password", ["", "plain", "$argon2id$damaged", "\ud800"])
def test_nothing_fits_what_is_no_hash(stored: str | None, password: str) -> None:
    assert not verify_password(stored, password)


def test_a_password_that_is_no_unicode_does_not_ride_in_an_error() -> None:
    assert verify_password(hash_password("canary\udcff"), "canary\udcff")


B22, B43 = "A" * 22, "A" * 43
NOT_TAKEN = [
    f"$argon2id$v=19$m=262145,t=2,p=1${B22}${B43}",
    f"$argon2i$v=19$m=19456,t=11,p=1${B22}${B43}",
    f"$argon2d$m=19456,t=2,p=9${B22}${B43}",
    f"$argon2id$v=19$m=4294967295,t=4294967295,p=16777215${B22}${B43}",
    f"$argon2id$v=19$m={'9' * 6000},t=2,p=1${B22}${B43}",
    f"$argon2id$v=19$m=15,t=1,p=2${B22}${B43}",
    f"$argon2id$v=19$m=19456,t=0,p=1${B22}${B43}",
    f"$argon2id$v=19$m=19456,t=2,p=0${B22}${B43}",
    f"$argon2id$v=20$m=19456,t=2,p=1${B22}${B43}",
    f"$argon2id$v=19$m=19456,t=2,p=1$YWJj${B43}",
    f"$argon2id$v=19$m=19456,t=2,p=1${B22}$YWJj",
    f"$argon2id$v=19$m=19456,t=2,p=1${B22}${'A' * 100_000}",
    f"$argon2id$v=19$m=19456,t=2,p=1${'A' * 1000}${B43}",
]
LARGEST = f"$argon2id$v=19$m=262144,t=10,p=8${B22}${B43}"


@for_each("value", NOT_TAKEN)
def test_hashes_that_are_not_taken(value: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        hash_password(value)
    assert caught.value.argument == "password"
    assert B43 not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_costliest_hash_that_is_taken() -> None:
    assert hash_password(LARGEST) == LARGEST
    assert hash_password(LARGEST.replace("$v=19", "")) == LARGEST.replace("$v=19", "")


class Spy:
    """Counts what Argon2 computes, passes over KiB, and computes nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.work = 0
        monkeypatch.setattr(passwords, "_hasher", lambda: self)
        monkeypatch.setattr(argon2.low_level, "hash_secret_raw", self.compute)

    def verify(self, hashed: str, _password: bytes) -> bool:
        found = re.search(r"m=(\d+),t=(\d+),", hashed)
        if not found or hashed.endswith("damaged"):
            raise InvalidHashError
        self.work += int(found[1]) * int(found[2])
        if hashed.startswith("$argon2i$"):
            return True
        raise VerifyMismatchError

    def compute(
        self, _secret: bytes, _salt: bytes, passes: int, memory: int, *_rest: object
    ) -> bytes:
        self.work += passes * memory
        return b""


@for_each(
    "stored",
    [
        *(None, "", DAMAGED, STORED, *NOT_TAKEN),
        f"$argon2id$v=19$m=19456,t=2,p=1${B22}$AAAAAAAAAAAAAAdamaged",
        *(f"$argon2{kind}$v=19$m=8,t=1,p=1${B22}${B43}" for kind in ("i", "d", "id")),
        f"$argon2i$m=19456,t=1,p=2${B22}${B43}",
        f"$argon2id$v=19$m=4096,t=3,p=1${B22}${B43}",
        f"$argon2id$v=19$m=19455,t=2,p=1${B22}${B43}",
    ],
)
def test_every_login_is_as_much_work(stored: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)

    verify_password(stored, PASSWORD)

    assert spy.work == pytest.approx(19_456 * 2, rel=0.01)


def test_a_cheaper_hash_fits_its_password() -> None:
    stored = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)

    assert verify_password(stored, PASSWORD)
    assert not verify_password(stored, "other")


@pytest.mark.parametrize("stored", [None, "", DAMAGED, STORED])
def test_a_missing_or_damaged_hash_costs_as_much_as_a_wrong_password(
    stored: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = passwords._hasher()
    verified = []

    class Counting:
        def verify(self, hashed: str, password: Any) -> bool:
            verified.append(hashed.rpartition("$")[0].rpartition("$")[0])
            return hasher.verify(hashed, password)

    monkeypatch.setattr(passwords, "_hasher", Counting)
    assert not verify_password(stored, PASSWORD)

    assert verified == ["$argon2id$v=19$m=19456,t=2,p=1"]
