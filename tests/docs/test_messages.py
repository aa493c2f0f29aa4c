"""The messages that pages quote under "What can go wrong" are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.docs.pages import DOCS, page_name
from tests.processes import ROOT

OF_OTHERS = {
    *("database", "does not exist", "password authentication failed", "no password supplied"),
    *("permission denied for schema public", "must be owner of table", "InsufficientPrivilege"),
    *("server certificate for", "does not match host name", "root certificate file"),
    *(
        "unsupported startup parameter: options",
        "too many clients",
        "too many connections for role",
    ),
    *("Access denied for user", "(using password: YES)", "ALTER command denied to user"),
    *("SSL is required but the server doesn't support it", "certificate verify failed:"),
    *("self-signed certificate", "Hostname mismatch", "IP address mismatch"),
    *("Too many connections", "No space left on device", "Read-only file system"),
    "Permission denied",
}
"""What servers, drivers and systems say within messages."""

_SECTION = re.compile(r"^## What can go wrong\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_QUOTE = re.compile(r"^(?:\| )?`([^`]+)`", re.MULTILINE)
_ERROR = re.compile(r"\w+(?:Error|Value|Secret|Key|Lost|Timeout|Failed|Found): ")
# What stands for a value, of which the code has a placeholder in its place.
_VALUE = re.compile(
    r"\.\.\.|\"\w+\"|\b[A-Z]+_[A-Z_]+\b|\b[a-z_]+\.[a-z_]+\b|sqlite:\S+|/\w+(?:/\w+)*"
    r"|\b\d[\d,]*\b|\b[A-Z]+\d+\b|\bGPROXY's(?= format)"
    f"|{'|'.join(map(re.escape, sorted(OF_OTHERS, key=len, reverse=True)))}"
)


def texts_of_the_code() -> str:
    """Every text in the code, a line each; where a value stands in one, a new line begins."""
    return "\n".join(
        node.value
        for path in (ROOT / "gproxy_storage").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def quotes() -> Iterator[tuple[str, str]]:
    """Yield what pages quote of messages, with the page."""
    for page in DOCS.rglob("*.md"):
        for section in _SECTION.findall(page.read_text()):
            for quote in _QUOTE.findall(section):
                yield page_name(page), quote


def test_messages_on_pages_are_those_of_the_code() -> None:
    texts = texts_of_the_code()
    parts = [
        (page, quote, part.strip(" :;,()"))
        for page, quote in quotes()
        for part in _VALUE.split(_ERROR.sub("", quote))
    ]
    assert len(parts) > 50
    unknown = [each for each in parts if " " in each[2] and each[2] not in texts]
    assert not unknown, "\n".join(map(str, unknown))
