"""What a value is bound to."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy_storage.crypto.binding import Binding
from gproxy_storage.errors import InvalidValue
from tests.cases import for_each

from .support import BINDING, KID, load_vectors


def test_the_associated_data_of_the_check_value() -> None:
    assert BINDING.aad(KID) == bytes.fromhex(
        "00000017 6770726f78792d73746f726167652f76616c75652f7633 00000010"
        "61373338646264333331623030646537 00000005 7573657273 00000008 70617373776f7264"
        "00000002 3432"
    )


@for_each("vector", load_vectors("gproxy-storage-v3")["texts"])
def test_the_associated_data_equals_the_vectors(vector: dict[str, Any]) -> None:
    binding = Binding(vector["table"], vector["column"], vector["pk"])

    assert binding.aad(KID).hex() == vector["aad_hex"]


@for_each(
    "other",
    [
        Binding("users", "password", 43),
        Binding("users", "password", 4),
        Binding("users", "password", -42),
        Binding("users", "passwor", 42),
        Binding("user", "spassword", 42),
        Binding("usersp", "assword", 42),
    ],
)
def test_other_places_are_other_bytes(other: Binding) -> None:
    assert other.aad(KID) != BINDING.aad(KID)


@for_each("pk", [-(2**63), -1, 0, 2**63 - 1])
def test_any_64_bit_key_will_do(pk: int) -> None:
    assert Binding("t", "c", pk).aad(KID).endswith(str(pk).encode())


@for_each("pk", [2**63, -(2**63) - 1, True, "42", 42.0])
def test_only_64_bit_primary_keys_are_accepted(pk: Any) -> None:
    with pytest.raises(InvalidValue, match=r"users\.password: .* 64-bit integer") as caught:
        Binding("users", "password", pk).aad(KID)

    assert caught.value.argument == "password"


def test_without_a_key_it_says_what_to_select() -> None:
    with pytest.raises(InvalidValue, match="select the primary key as well"):
        Binding("users", "password").aad(KID)


def test_a_binding_is_shown_as_column_and_row() -> None:
    assert str(BINDING) == "users.password, row 42"
    assert str(Binding("users", "password")) == "users.password"
