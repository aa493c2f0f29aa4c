"""Rows as COPY's text: each value is written as if it stood alone in its column."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from gproxy_storage.backends.bulk import BulkTable, Kind

VALUES: dict[Kind, dict[Any, str]] = {
    Kind.NUMBER: {0: "0", -(2**63): str(-(2**63)), 0.1: "0.1", 1e-09: "1e-09"},
    Kind.BOOL: {True: "True", False: "False"},
    Kind.TEXT: {
        "": "",
        "\u00fc": "\u00fc",
        "a\tb": r"a\tb",
        "\n": r"\n",
        "\r": r"\r",
        "\\N": r"\\N",
    },
    Kind.TIME: {"2026-03-04T05:06:07.890123Z": "2026-03-04T05:06:07.890123Z"},
    Kind.BYTES: {b"": r"\\x", b"\0\n": r"\\x000a"},
}


@pytest.mark.parametrize("kind", Kind)
def test_a_column_of_any_values_and_nulls(kind: Kind) -> None:
    postgres_copy = pytest.importorskip("gproxy_storage.backends.postgres_copy")
    texts = {**VALUES[kind], None: r"\N"}
    table = BulkTable("t", ("c",), (kind,))
    for length in (1, 2, 3):
        for column in product(texts, repeat=length):
            written = postgres_copy.copy_text(table, [(value,) for value in column]).read()
            assert written.decode() == "".join(f"{texts[value]}\n" for value in column)
