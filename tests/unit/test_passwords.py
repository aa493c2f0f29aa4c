"""Password hashes: GPROXY's parameters, and nothing that is no password passes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.low_level import Type

from gproxy_storage.crypto import passwords
from gproxy_storage.crypto.passwords import hash_password, is_hash, verify_password

PASSWORD = "correct horse battery staple"
# Of the password "other". Salted anew, it would give the tests other names in each process.
STORED = (
    "$argon2id$v=19$m=19456,t=2,p=1$7CnO8CZF9w+5SVw7Rf6pOA$"
    "EDnDp5btOAnyJbe76DZy3EdYBSrWYd0FapmRcm5Qkic"
)
DAMAGED = "$argon2id$v=19$m=19456,t=2,p=1$é$\udcff"


def test_gproxys_parameters() -> None:
    pattern = r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}"

    assert re.fullmatch(pattern, hash_password(PASSWORD))
    assert hash_password(PASSWORD) != hash_password(PASSWORD)  # salted


@pytest.mark.parametrize("password", [PASSWORD, " ", "é😀", "\0", "x" * 10_000])
def test_a_password_fits_its_hash_only(password: str) -> None:
    stored = hash_password(password)

    assert verify_password(stored, password)
    for other in (password + "x", password[:-1], password.swapcase() + "!", "", stored):
        assert not verify_password(stored, other)


@pytest.mark.parametrize("kind", [Type.ID, Type.I, Type.D], ids=lambda kind: kind.name)
def test_a_hash_is_kept_whatever_its_parameters(kind: Type) -> None:
    stored = PasswordHasher(time_cost=1, memory_cost=64, parallelism=2, type=kind).hash(PASSWORD)

    assert is_hash(stored)
    assert hash_password(stored) == stored
    assert verify_password(stored, PASSWORD)
    assert not verify_password(stored, "other")


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "stored", [None, "", "plain", "$argon2id$damaged", DAMAGED, "enc:v2:abc:def"]
)
@pytest.mark.parametrize("password", ["", "plain", "$argon2id$damaged", "\ud800"])
def test_nothing_fits_what_is_no_hash(stored: str | None, password: str) -> None:
    assert not verify_password(stored, password)


def test_a_password_that_is_no_unicode_does_not_ride_in_an_error() -> None:
    assert verify_password(hash_password("canary\udcff"), "canary\udcff")


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
