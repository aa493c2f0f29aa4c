"""The leak guard goes red where it must, and only there."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests import leaks, servers
from tests.cases import for_each

PASSWORD = servers.TEST_PASSWORD
CONFTEST = """
from tests import leaks, servers

def pytest_configure(config):
    leaks.install(config)
"""
HEADER = "import logging, sys, pytest\nfrom tests.servers import TEST_PASSWORD as SECRET\n"

FORMS = {
    "raw": PASSWORD,
    "inside": f"x{PASSWORD}y",
    "percent": quote(PASSWORD, safe=""),
    "percent, slash kept": quote(PASSWORD),
    "percent, lower case": quote(PASSWORD, safe="").replace("%2F", "%2f").replace("%C3", "%c3"),
    "percent, twice": quote(quote(PASSWORD, safe=""), safe=""),
    "percent, only what a URL splits at": PASSWORD.replace("/", "%2F").replace("@", "%40"),
    "plus": quote_plus(PASSWORD),
    "latin-1 percent": quote(PASSWORD, safe="", encoding="latin-1"),
    "ascii": ascii(PASSWORD),
    "bytes": repr(PASSWORD.encode()),
    "latin-1 bytes": repr(PASSWORD.encode("latin-1")),
    "repr of repr": repr(ascii(PASSWORD)),
    "json": json.dumps(PASSWORD),
    "json with escaped slash": json.dumps(PASSWORD).replace("/", "\\/"),
    "hex": PASSWORD.encode().hex(),
    "base64": base64.b64encode(PASSWORD.encode()).decode(),
    "base64 of a login": base64.b64encode(f"user:{PASSWORD}@host".encode()).decode(),
    "base64 urlsafe": base64.urlsafe_b64encode(f"u:{PASSWORD}".encode()).decode(),
    "base64 urlsafe, alone": base64.urlsafe_b64encode(PASSWORD.encode()).decode().rstrip("="),
}


@for_each("form", FORMS)
def test_every_form_is_found_and_taken_out(form: str) -> None:
    text = f"before {FORMS[form]} after"
    assert leaks.found_in(text)
    cleaned = leaks.redact(text)
    assert not leaks.found_in(cleaned)
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    with pytest.raises(leaks.LeakError, match=r"^secret leaked in a page$"):
        leaks.check(text, "a page")


@for_each("text", ["", "postgres://gproxy_test:***@h/d", PASSWORD[:-1], "gproxy-"])
def test_harmless_text_is_not_found(text: str) -> None:
    leaks.check(text, "a page")


def test_further_secrets_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_patterns", {})
    leaks.register("sk-live-0123 456")
    assert leaks.found_in("sk-live-0123+456")
    with pytest.raises(ValueError, match="8 characters"):
        leaks.register("short")


@pytest.fixture
def guarded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory for tests that must fail, with the guard on."""
    monkeypatch.setenv("PYTHONPATH", str(Path(leaks.__file__).parents[1]))
    pytester.makeconftest(CONFTEST)
    return pytester


LEAKING = {
    "stdout": ("print(SECRET)", "captured stdout call"),
    "stderr": ("print(SECRET, file=sys.stderr)", "captured stderr call"),
    "descriptor": ("import os; os.write(1, SECRET.encode())", "captured stdout call"),
    "debug log": ("logging.getLogger('x.y').debug('%s', SECRET)", "captured log call"),
    "peewee log": ("logging.getLogger('peewee').debug((SECRET, 1))", "captured log call"),
    "failure": ("raise ValueError(SECRET)", "the failure's text"),
    "cause": ("raise ValueError from KeyError(SECRET)", "the failure's text"),
    "skip": ("pytest.skip(SECRET)", "the failure's text"),
    "capsys": ("print(SECRET); capsys.readouterr()", "stdout"),
}


@pytest.mark.parametrize("kind", LEAKING)
def test_a_leaking_test_fails(kind: str, guarded: pytest.Pytester) -> None:
    statement, place = LEAKING[kind]
    guarded.makepyfile(HEADER + f"def test_it(capsys):\n    {statement}\n")
    # what is logged in this process is this test's, too
    run = guarded.runpytest_subprocess if place.startswith("captured log") else guarded.runpytest
    result = run("-rA")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*secret leaked in *{place}*"])
    assert not leaks.found_in(result.stdout.str() + result.stderr.str())


CAUGHT = {
    "message": "raise ConfigError(SECRET)",
    "attribute": "raise ConfigError('x', setting=SECRET)",
    "cause": "raise ConfigError('x') from KeyError(SECRET)",
    "context": "try: int(SECRET)\n        except ValueError: raise ConfigError('x') from None",
}


@pytest.mark.parametrize("kind", CAUGHT)
def test_an_error_that_a_test_catches_is_searched(kind: str, guarded: pytest.Pytester) -> None:
    guarded.makepyfile(
        f"{HEADER}from gproxy_storage.errors import ConfigError\n"
        "def test_it():\n    with pytest.raises(ConfigError):\n        "
        f"{CAUGHT[kind]}\n"
    )
    result = guarded.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*secret leaked in an error: ConfigError*"])
    assert not leaks.found_in(result.stdout.str())


def test_a_leaking_test_fails_in_a_worker_too(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(HEADER + "def test_it():\n    print(SECRET)\n    assert SECRET == ''\n")
    result = guarded.runpytest_subprocess("-n1", "-rA")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*secret leaked in captured stdout call, the failure's text*"])
    assert not leaks.found_in(result.stdout.str() + result.stderr.str())


@pytest.mark.parametrize("kind", ["setup", "teardown"])
def test_leaking_fixtures_are_errors(kind: str, guarded: pytest.Pytester) -> None:
    body = "    print(SECRET)\n    yield\n" if kind == "setup" else "    yield\n    print(SECRET)\n"
    guarded.makepyfile(
        HEADER + "@pytest.fixture\ndef it():\n" + body + "def test_it(it):\n    pass\n"
    )
    result = guarded.runpytest("-rA")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1, passed=0 if kind == "setup" else 1)
    result.stdout.fnmatch_lines([f"*secret leaked in captured stdout {kind}"])
    assert not leaks.found_in(result.stdout.str())


def test_an_expected_failure_does_not_cover_a_leak(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(
        HEADER + "@pytest.mark.xfail\ndef test_it():\n    raise ValueError(SECRET)\n"
    )
    result = guarded.runpytest()
    result.assert_outcomes(failed=1)


def test_a_leak_while_collecting_is_an_error(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(HEADER + "raise ValueError(SECRET)\n")
    result = guarded.runpytest()
    assert result.ret != pytest.ExitCode.OK
    assert not leaks.found_in(result.stdout.str())


@pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="this pytest has no subtests")
def test_a_subtest_that_leaks_fails(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(
        HEADER
        + "def test_it(subtests):\n"
        + "    with subtests.test('a'):\n        print('harmless')\n"
        + "    with subtests.test('b'):\n        print(SECRET)\n"
        + "def test_after(subtests):\n"
        + "    with subtests.test('c'):\n        print('harmless')\n"
        + "    print(SECRET)\n"
    )
    result = guarded.runpytest_subprocess()  # pytest leaves files of subtests open
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*LeakError: secret leaked in stdout"])
    result.stdout.fnmatch_lines(["*::test_after: secret leaked in captured stdout call"])
    assert not leaks.found_in(result.stdout.str())


def test_tests_that_do_not_leak_are_left_alone(guarded: pytest.Pytester) -> None:
    guarded.makepyfile(
        HEADER
        + "def test_it(capsys):\n"
        + "    print('harmless')\n"
        + "    assert capsys.readouterr().out == 'harmless\\n'\n"
        + "    logging.getLogger('peewee').debug('SELECT 1')\n"
        + "    assert SECRET\n"
        + "@pytest.mark.xfail\ndef test_expected():\n    assert 0\n"
        + "def test_failing():\n    assert 0, 'as it was'\n"
    )
    result = guarded.runpytest()
    result.assert_outcomes(passed=1, xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: as it was"])
    assert "leaked" not in result.stdout.str()


def test_searching_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, leaky = tmp_path / "clean", tmp_path / "leaky"
    clean.write_text("nothing\n")
    leaky.write_bytes(b"\xff one\n" + PASSWORD.encode() + b"\n")
    assert leaks.main([str(clean)]) == 0
    assert leaks.main([str(clean), str(leaky)]) == 1
    assert capsys.readouterr().out == f"secret leaked: {leaky}:2\n"


def test_searching_is_cheap() -> None:
    text = "".join(f"SELECT * FROM users WHERE id = {n}; -- gproxy\n" for n in range(40_000))
    start = time.perf_counter()
    assert not leaks.found_in(text)
    assert time.perf_counter() - start < 60  # 2 MB take some 10 ms; else hours
