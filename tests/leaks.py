"""Look for secrets in whatever tests print, log or fail with.

`install(config)` makes pytest search every test's captured stdout, stderr and log (everything from
DEBUG up), its failure text, and every StorageError that it met, with the whole chain. A test in
which a secret is found fails, with the name of the place and the secret taken out. `check` does the
same for text that pytest does not capture, such as a subprocess's output that a test has read.
`python -m tests.leaks FILE...` searches files.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from gproxy_storage.errors import StorageError
from tests.servers.base import TEST_PASSWORD

REMOVED: Final = "[secret removed]"

_patterns: dict[str, re.Pattern[str]] = {}


class LeakError(AssertionError):
    """A secret was found where anybody may read it."""


def register(secret: str) -> None:
    """Look for another secret, too, from now on.

    Args:
        secret: 8 characters or more, so that it is not found by coincidence.
    """
    if len(secret) < 8:
        raise ValueError("a secret shorter than 8 characters is found by coincidence")
    _patterns[secret] = _pattern(secret)


def found_in(text: str) -> bool:
    """Tell whether a text contains a secret in any form that is looked for.

    As it is; percent-encoded, all of it or in part, once or more often; with the escapes of repr,
    ascii, bytes and JSON; in base64, alone or as a part of something longer; in hexadecimal.
    """
    return any(pattern.search(text) for pattern in _patterns.values())


def redact(text: str) -> str:
    """Return a text with the secrets taken out."""
    for pattern in _patterns.values():
        text = pattern.sub(REMOVED, text)
    return text


def check(text: str, where: str) -> None:
    """Fail when a text contains a secret.

    Args:
        where: what the text is, for the message.
    Raises:
        LeakError: it does; the message does not quote it.
    """
    __tracebackhide__ = True  # pytest would show the text
    if found_in(text):
        raise LeakError(f"secret leaked in {where}")


def _pattern(secret: str) -> re.Pattern[str]:
    # Starts with the secret's own first letters, which lets the search skip ahead quickly.
    spelled = "".join(_character(character) for character in secret)
    others = {secret.encode().hex(), *_base64_forms(secret)}
    return re.compile("|".join((spelled, *sorted(map(re.escape, others)))))


def _character(character: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.~-]", character):
        return re.escape(character)
    raw = character.encode()
    point = ord(character)
    forms = [
        rf"\\*{re.escape(character)}",  # with the backslash that JSON or a shell puts before it
        "".join(rf"%(?:25)*(?i:{byte:02X})" for byte in raw),
        "".join(rf"\\+x{byte:02x}" for byte in raw),
        rf"\\+u(?i:{point:04x})",
    ]
    if point < 256:
        forms += [rf"\\+x{point:02x}", rf"%(?:25)*(?i:{point:02X})"]
    if character == " ":
        forms.append(r"\+")
    return f"(?:{'|'.join(forms)})"


def _base64_forms(secret: str) -> set[str]:
    """Return what stays the same of a secret's base64 whatever stands before and after it."""
    raw = secret.encode()
    forms = set()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        # 6 bits a character: leave out those that also contain bits of adjacent bytes
        first, last = -(-8 * shift // 6), 8 * (shift + len(raw)) // 6
        forms.add(encoded[first:last])
    return forms | {form.replace("+", "-").replace("/", "_") for form in forms}


class Guard:
    """The pytest plugin: searches reports before anything shows or counts them."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self._searched: dict[str, int] = {}
        self._leaky: set[str] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        # a wrapper: the session counts failures in a hook of its own that is called early
        self.inspect(report)
        if report.when == "teardown":
            self._searched.pop(report.nodeid, None)
            self._leaky.discard(report.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> Generator[None]:
        self.inspect(report)
        return (yield)

    def inspect(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Search one report; make it a failure and redact it when a secret is found."""
        searched = 0
        if type(report) is pytest.TestReport:  # not a subtest's, which has sections of its own
            # what the setup printed is in the reports of the call and the teardown again
            searched = self._searched.get(report.nodeid, 0)
            self._searched[report.nodeid] = len(report.sections)
        places = [title.lower() for title, text in report.sections[searched:] if found_in(text)]
        failure = report.longreprtext if report.longrepr is not None else ""
        if found_in(failure):
            places.append("the failure's text")
        if places:
            self._leaky.add(report.nodeid)
            self._fail(report, places, redact(failure))
        if report.nodeid in self._leaky:
            report.sections = [(title, redact(text)) for title, text in report.sections]

    def _fail(
        self, report: pytest.TestReport | pytest.CollectReport, places: list[str], failure: str
    ) -> None:
        message = f"secret leaked in {', '.join(places)}"
        self.leaks.append(f"{report.nodeid}: {message}")
        report.outcome = "failed"
        report.longrepr = f"{message}\n\n{failure}".rstrip()
        if hasattr(report, "wasxfail"):
            del report.wasxfail

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.leaks and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.leaks:
            terminalreporter.section("secrets leaked", red=True)
            for leak in self.leaks:
                terminalreporter.line(leak)


def install(config: pytest.Config) -> Guard:
    """Make pytest fail tests that leak. Call it from `pytest_configure` of the top conftest."""
    if config.option.log_level is None:
        config.option.log_level = "DEBUG"  # captured however little a failing test shows
    logging.getLogger("peewee").setLevel(logging.DEBUG)
    guard = Guard()
    config.pluginmanager.register(guard, "leak-guard")
    config.add_cleanup(_check_read_output())
    errors = Errors()
    config.pluginmanager.register(errors, "leak-guard-errors")
    config.add_cleanup(errors.watch())
    return guard


class Errors:
    """The pytest plugin that searches the errors of ours which a test met, caught or not."""

    def __init__(self) -> None:
        self.met: deque[StorageError] = deque(maxlen=1000)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        self.met.clear()
        try:
            result = yield
            for error in self.met:
                check(shown_by(error), f"an error: {type(error).__name__}")
            return result
        finally:
            self.met.clear()  # with the frames that their tracebacks hold

    def watch(self) -> Callable[[], None]:
        """Take note of every error that is made, until the function returned is called."""

        def make(kind: type[StorageError], *_: Any, **__: Any) -> StorageError:
            error = Exception.__new__(kind)
            self.met.append(error)
            return error

        before = vars(StorageError).get("__new__")  # a guard's around this one

        def undo() -> None:
            if before is None:
                del StorageError.__new__
            else:
                StorageError.__new__ = before  # type: ignore[method-assign]  # patched for the tests

        StorageError.__new__ = make  # type: ignore[method-assign, assignment]  # patched for the tests
        return undo


def shown_by(error: BaseException) -> str:
    """Return what a handler can read of an error and of all that it drags along."""
    waiting: list[BaseException | None] = [error]
    pieces: list[object] = []
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        waiting += [link.__cause__, link.__context__]
        pieces += [str(link), link, link.args, getattr(link, "__dict__", None)]
        # psycopg2's: the server's words, and the statement with its parameters.
        pieces += [getattr(link, "pgerror", None)]
        pieces += [getattr(getattr(link, "cursor", None), "query", None)]
    return "\n".join(piece if isinstance(piece, str) else repr(piece) for piece in pieces)


def _check_read_output() -> Callable[[], None]:
    """Search also what a test takes out of `capsys` or `capfd`, which no report shows then."""
    original = pytest.CaptureFixture.readouterr

    def readouterr(self: pytest.CaptureFixture[str]) -> Any:
        __tracebackhide__ = True
        captured = original(self)
        for text, where in ((captured.out, "stdout"), (captured.err, "stderr")):
            check(text if isinstance(text, str) else text.decode(errors="replace"), where)
        return captured

    def undo() -> None:
        pytest.CaptureFixture.readouterr = original  # type: ignore[method-assign]  # patched for the tests

    pytest.CaptureFixture.readouterr = readouterr  # type: ignore[method-assign, assignment]  # patched for the tests
    return undo


def search_files(paths: Iterable[Path]) -> Iterator[str]:
    """Yield `path:line` wherever a secret stands in a file, without quoting it."""
    for path in paths:
        with path.open(errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if found_in(line):
                    yield f"{path}:{number}"


register(TEST_PASSWORD)


def main(arguments: Sequence[str]) -> int:
    """Search files; print the places, and return 1 when there are any."""
    places = list(search_files(map(Path, arguments)))
    for place in places:
        print(f"secret leaked: {place}")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
