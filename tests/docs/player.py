"""Run the code blocks of one page in order: `python -m tests.docs.player PAGE < dsns.json`.

In the working directory, which is to be empty. Standard input maps the DSNs that the page shows to
those of databases that exist. Stops at the first block that does not do what the page says, prints
what it did instead, and exits with 1.
"""

from __future__ import annotations

import doctest
import json
import os
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import CodeType
from typing import Any

from gproxy_storage import Dsn, Sink
from tests.docs.pages import Block, blocks
from tests.support import PATIENCE_S

_MARK = "-- the command has ended --"


class FailureError(Exception):
    """A block did not do what its page says."""


class Names:
    """The names on the page, and the names here.

    Args:
        dsns: by the DSN on the page, that of a database that exists.
    """

    def __init__(self, dsns: Mapping[str, str]) -> None:
        self._dsns = dsns
        self._shown: dict[str, str] = {}
        for shown, real in dsns.items():
            ours, theirs = Dsn.parse(real), Dsn.parse(shown)
            self._shown |= {real: shown, str(ours): str(theirs)}
            self._shown |= {str(ours.database): str(theirs.database), str(ours.user): "gproxy"}

    def real(self, text: str) -> str:
        """Put the DSNs of this machine into a text of the page."""
        for shown, real in self._dsns.items():
            if "?" in real:  # the page may go on with a query of its own
                text = text.replace(f"{shown}?", f"{real}&")
            text = text.replace(shown, real)
        return text

    def shown(self, text: str) -> str:
        """Put the names of the page into what was printed here."""
        for real, shown in self._shown.items():
            text = text.replace(real, shown)
        return text


class Checker(doctest.OutputChecker):
    """Compares what was printed with what the page says, in the names of the page."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(want, self._names.shown(got), optionflags)


class Shell:
    """One bash for all commands of a page: what they export and where they go persists."""

    def __init__(self) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._status = 0

    def run(self, command: str) -> tuple[str, int]:
        """Run a command to its end; return what it printed on both streams, and its status."""
        assert self._bash.stdin
        assert self._bash.stdout
        # eval, for a command that does not parse must not swallow what comes after it
        self._bash.stdin.write(
            f"(exit {self._status}); eval {shlex.quote(command)} </dev/null\n"
            f"printf '\\n%s %s\\n' {shlex.quote(_MARK)} $?\n"
        )
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            if line.startswith(_MARK):
                self._status = int(line.removeprefix(_MARK))
                return printed.removesuffix("\n"), self._status
            printed += line
        self._bash.wait()
        raise FailureError(f"the shell has ended: {command}\n{printed}")

    def close(self) -> None:
        """End what runs in its background, and it."""
        with self._bash:
            if self._bash.poll() is None:
                self.run("kill $(jobs -p) 2>/dev/null; wait")

    def take_over(self) -> None:
        """Give this process the environment and the directory that the shell has now."""
        with tempfile.NamedTemporaryFile("r") as file:
            self.run(f"{{ pwd && env -0; }} > {file.name}")
            directory, _, variables = file.read().partition("\n")
        os.chdir(directory)
        pairs = (each.partition("=") for each in variables.split("\0") if each)
        found = {name: value for name, _, value in pairs}
        for name in os.environ.keys() - found.keys():
            del os.environ[name]
        os.environ.update(found)


class Player:
    """Runs blocks of one page, one after the other."""

    def __init__(self, names: Names, shell: Shell) -> None:
        self._names = names
        self._checker = Checker(names)
        self._globals: dict[str, Any] = {"__name__": "__main__"}
        self._shell = shell

    def play(self, block: Block) -> None:
        """Run a block, or write the file that it is.

        Raises:
            FailureError: when it raises, or prints something else than the page says.
        """
        if block.not_run is not None:
            return
        if block.file is not None:
            file = Path(block.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._names.real(block.code))
        elif block.language == "python":
            self._python(block)
        elif block.language == "pycon":
            self._pycon(block)
        elif block.language == "console":
            self._console(block)

    def _python(self, block: Block) -> None:
        try:
            exec(_compiled(block, self._names), self._globals)
        except BaseException as error:
            raise FailureError(traceback.format_exc()) from error

    def _pycon(self, block: Block) -> None:
        code = self._names.real(block.code)
        test = doctest.DocTestParser().get_doctest(
            code, {}, str(block), str(block.page), block.line - 1
        )
        if not test.examples:
            raise FailureError("no line starts with >>>")
        test.globs = self._globals
        said: list[str] = []
        runner = doctest.DocTestRunner(self._checker, verbose=False, optionflags=doctest.ELLIPSIS)
        if runner.run(test, out=said.append, clear_globs=False).failed:
            raise FailureError("".join(said))

    def _console(self, block: Block) -> None:
        commands = list(_commands(block.code))
        for (command, want), (following, _) in zip(
            commands, [*commands[1:], ("", "")], strict=True
        ):
            got, status = self._shell.run(self._names.real(command))
            if want and not self._checker.check_output(want, got, doctest.ELLIPSIS):
                raise FailureError(f"$ {command}\nexpected:\n{want}\ngot:\n{got}")
            if status and "echo $?" not in following:
                raise FailureError(f"$ {command}\n{got}\nexit code {status}")
        self._shell.take_over()


def _commands(code: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a session and what is said to come out of it, "" where nothing is."""
    command, output = "", ""
    for line in [*code.splitlines(), "$ "]:
        if line.startswith("$ "):
            if command:
                yield command, output
            elif output:
                raise FailureError("the first line does not start with $")
            command, output = line.removeprefix("$ "), ""
        elif not output and (line.startswith("> ") or command.endswith("\\")):
            command += "\n" + line.removeprefix("> ")
        else:
            output += f"{line}\n"


def _compiled(block: Block, names: Names) -> CodeType:
    # as many lines above it as on the page, so that a traceback shows the page's
    padded = "\n" * (block.line - 1) + names.real(block.code)
    return compile(padded, str(block.page), "exec", dont_inherit=True)


def main(page: str) -> None:
    """Play a page."""
    # sinks wait as long as a busy machine needs
    Sink.flush.__defaults__ = Sink.close.__defaults__ = (PATIENCE_S,)
    names = Names(json.load(sys.stdin))
    with closing(Shell()) as shell:
        player = Player(names, shell)
        for block in blocks(Path(page)):
            try:
                player.play(block)
            except FailureError as failure:
                sys.exit(f"{block}:\n{names.shown(str(failure))}")


if __name__ == "__main__":
    main(sys.argv[1])
