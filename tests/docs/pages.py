"""Pages of documentation, and the code blocks in them.

A block runs, is a file, or is there to be read; CONTRIBUTING.md has the rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
OTHER_PAGES = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]

RUN = {"python", "pycon", "console"}
READ = {"dockerfile", "html", "ini", "json", "nginx", "sql", "text", "toml", "yaml"}

_FENCE = re.compile(
    r"(?P<indent> *(?:(?:[-*+]|\d+\.) +)?)(?P<marks>`{3,}|~{3,})(?P<language>[^`]*)"
)
_DIRECTIVE = re.compile(r"\{(?P<name>[\w-]+)\} *(?P<argument>.*)")
_OPTION = re.compile(r":(?P<name>[\w-]+): *(?P<value>.*)")
_COMMENT = re.compile(r" *(?:% ?(?P<percent>.*)|<!-- (?P<html>.*) -->)")
_SETUP = {"setup:": "python", "setup: console": "console"}


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        line: the line of the page on which the code begins, counted from 1.
        file: the file's name, where the block is the content of one.
        not_run: why it does not run, where its comment says so.
    """

    page: Path
    line: int
    language: str
    code: str
    file: str | None = None
    not_run: str | None = None

    @property
    def runs(self) -> bool:
        """Whether it is to be executed."""
        return self.language in RUN and self.file is None and self.not_run is None

    def __str__(self) -> str:
        return f"{os.path.relpath(self.page, ROOT)}:{self.line}"


def page_name(page: Path) -> str:
    """The page as a person calls it."""
    return str(page.relative_to(ROOT).with_suffix(""))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page in order, those in comments too."""
    lines = [*page.read_text().splitlines(), ""]
    comment: list[str] = []  # the lines of it directly above
    inside: list[str] = []  # the fences of directives around
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if match := _COMMENT.fullmatch(line):
            comment.append(match["percent"] if match["html"] is None else match["html"])
            continue
        if comment and comment[0] in _SETUP:
            code = "\n".join(comment[1:]) + "\n"
            yield Block(page, at - len(comment) + 1, _SETUP[comment[0]], code)
        if inside and line.strip() == inside[-1]:
            inside.pop()
        elif match := _FENCE.fullmatch(line):
            directive = _DIRECTIVE.fullmatch(match["language"].strip())
            if directive and directive["name"] not in ("code-block", "eval-rst", "toctree"):
                inside.append(match["marks"])  # a note: what is in it is part of the page
            else:
                end = at
                while end < len(lines) and lines[end].strip() != match["marks"]:
                    end += 1
                content = [each[len(match["indent"]) :] for each in lines[at:end]]
                yield from _block(page, at + 1, match["language"].strip(), content, comment)
                at = end + 1
        comment = []


def _block(
    page: Path, line: int, language: str, content: list[str], comment: list[str]
) -> Iterator[Block]:
    file = None
    if directive := _DIRECTIVE.fullmatch(language):
        if directive["name"] != "code-block":
            return
        language = directive["argument"]
        while content and (option := _OPTION.fullmatch(content[0])):
            if option["name"] == "caption":
                file = option["value"]
            content, line = content[1:], line + 1
        if content and not content[0]:
            content, line = content[1:], line + 1
    said = [each.removeprefix("not run: ") for each in comment if each.startswith("not run: ")]
    code = "".join(f"{each}\n" for each in content)
    yield Block(page, line, language, code, file, said[-1] if said else None)
