"""Values at the edges of what the tables hold, for tests with and without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

TOKYO = timezone(timedelta(hours=9))

TIMES = [
    datetime(2026, 3, 4, 5, 6, 7, 890123, UTC),
    datetime(2026, 3, 4, 5, 6, 7, 0, UTC),
    datetime(2026, 3, 4, 5, 6, 7, 1, UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2038, 1, 19, 3, 14, 8, 1, UTC),  # beyond a TIMESTAMP of MySQL's
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2026, 7, 1, 0, 30, tzinfo=TOKYO),
    datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2026, 7, 1, 0, 30, tzinfo=timezone(timedelta(seconds=1))),
]

# Each is another name under a unique key.
NAMES = [
    *("alice", "Alice", "ALICE", "alice ", " alice", "álice", "a\u0301lice", "alice\t"),
    *(
        "ß",
        "ss",
        "ẞ",
        "ﬀ",
        "ff",
        "\u0131",
        "i",
        "İ",
        "I",
        "Ω",
        "\u2126",
        "😀",
        "😁",
        "日本",
        "a\u200bb",
    ),
    *("'", '"', "\\", "\\'", "%", "%s", "_", "?", ":1", ";--", "\n", "\r\n", "\x1a", "\x7f", "\b"),
    *("null", "NULL", "0", "false", "\ufeff", "\uffff", "\U0010ffff", "x" * 255, "😀" * 255),
]

INT32 = [0, 1, -1, 2**31 - 1, -(2**31)]
INT64 = [*INT32, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
MONEY: list[tuple[Any, str]] = [
    *((0, "0"), (3, "3"), (10, "10"), (0.0, "0"), (-0.0, "0"), (0.1, "0.1"), (-0.1, "-0.1")),
    *((1 / 3, "0.333333333"), (2 / 3, "0.666666667"), (0.1 + 0.2, "0.3"), (5e-324, "0")),
    *(("0.0000000005", "0"), ("0.0000000015", "0.000000002"), (" 1e-9 ", "0.000000001")),
    *((Decimal("2.5e-9"), "0.000000002"), (Decimal("-3.5e-9"), "-0.000000004")),
    *((Decimal("1e-1000000"), "0"), (Decimal("3999999.999999999"), "3999999.999999999")),
    *((10_000_000.01, "10000000.01"), ("8999999999.9999", "8999999999.9999")),
    *((9 * 10**9, "9000000000"), (-9e9, "-9000000000")),
]
"""What is given for money, and what is read back."""

EVERY_BYTE = bytes(range(256))

DOCUMENTS: list[Any] = [
    {},
    [],
    "",
    "text",
    0,
    False,
    1.5,
    [None],
    {"": None},
    {"z": 1, "a": 2, "m": {"y": [], "b": {}}},
    {"é😀": "日本\u2028\ufeff", "'\"\\/": "\n\t\x01\x7f"},
    [1e22, 1e16, 0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 1.0, 100.0],
    [2**63 - 1, -(2**63), 2**53 + 1, 0, -1],
]


def nested(depth: int, kind: type) -> Any:
    """Return a document of so many arrays or objects in one another."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else [value]
    return value
