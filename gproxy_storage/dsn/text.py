"""The text of a DSN before it is parsed: strict decoding, masking, error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ..errors import DSNError
from ..secret import REDACTED
from .rules import ALIASES, RULES, BackendName

SCHEMES: Mapping[str, BackendName] = {
    "sqlite": "sqlite",
    "postgres": "postgres",
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",  # the server's version distinguishes them, not the DSN
}

# Other programs' names for the backends.
OTHER_NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        ("pg", "pgsql", "psql", "psycopg", "psycopg2", "asyncpg", "postgre"), "postgres"
    ),
    **dict.fromkeys(("mysql2", "pymysql", "mysqldb", "aiomysql"), "mysql"),
    **dict.fromkeys(("sqlite3", "aiosqlite", "file"), "sqlite"),
}

ESCAPES = (
    "in a user, password, database or value write '@' as %40, ':' %3A, '/' %2F, '?' %3F, "
    "'#' %23, '%' %25, '&' %26, '=' %3D"
)

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}):(//)?(.*)", re.DOTALL)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN_PLACES = re.compile(r"(?:(?:\[[\w:.%]*\]|[\w.%-]*)(?::[0-9]{0,5})?(?:,|$))*")
# The form of a network DSN whose scheme was changed to sqlite. A path of that form, `a:b/c@d`, can
# be written with %40.
LOGIN = re.compile(r"(?!:memory:)[^/]*:.*@", re.DOTALL)


class Source(NamedTuple):
    """The text of a DSN before it is parsed, and the errors about it."""

    text: str
    setting: str | None

    def error(self, part: str, problem: str) -> DSNError:
        """Return an error. Neither `part` nor `problem` may contain a piece of a password."""
        dsn = _mask(self.text)
        where = f" (in {dsn})" if dsn else ""
        message = _one_line(f"{self.setting or 'DSN'}: {part}: {problem}{where}")
        return DSNError(message, part=part, dsn=dsn, setting=self.setting)

    def decode(self, part: str, raw: str) -> str:
        """Percent-decode a part strictly: no incomplete escape, all UTF-8, no NUL."""
        if _STRAY_PERCENT.search(raw):
            raise self.error(part, f"a '%' is not followed by two hex digits; {ESCAPES}")
        text = None
        # A UnicodeDecodeError holds the bytes: it must not become the DSNError's context.
        with suppress(UnicodeDecodeError):
            text = unquote_to_bytes(raw).decode()
        if text is None:
            raise self.error(part, "its percent-escapes are not UTF-8; escape the bytes of UTF-8")
        if "\0" in text:
            raise self.error(part, "it holds %00, which no database takes; remove it")
        return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests the known name most similar to a mistyped one, or ""."""
    import difflib

    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def nearest_scheme(scheme: str) -> str:
    """Return a question that suggests the scheme that was meant, or ""."""
    name, plus, _ = scheme.lower().partition("+")
    meant = OTHER_NAMES.get(name, name if plus and name in SCHEMES else None)
    if meant is None:
        return nearest(name, SCHEMES)
    return f"did you mean {meant!r}? {'a DSN names no driver; ' if plus else ''}"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _mask(text: str) -> str | None:
    """Return the parts of a text, DSN or not, that are safe to show; None if there are none.

    Passwords are masked by position. If a password may be in another position, only the scheme is
    shown.
    """
    match = SCHEME.fullmatch(text)
    scheme, slashes, rest = match.groups("") if match else ("", "", "")
    backend = SCHEMES.get(scheme.lower())
    before, _, query = rest.partition("?")
    if backend is None:
        # Without "//" the text before the colon need not be a scheme.
        return f"{scheme}://{REDACTED}" if slashes else None
    if backend == "sqlite":
        doubtful = bool(LOGIN.match(rest))
    else:
        authority, _, database = before.partition("/")
        _, at, location = authority.rpartition("@")
        doubtful = (
            not slashes
            or misplaced(rest) is not None
            or not _PLAIN_PLACES.fullmatch(location)
            or (":" in location and not at and not database)  # user:password without a host?
        )
        before = before.rpartition("@")[2]
        slashes += f"{REDACTED}@" if at else ""
    if doubtful:
        return f"{scheme}://{REDACTED}"
    return _one_line(f"{scheme}:{slashes}{before}{_shown_query(query, backend)}")[:300]


def misplaced(rest: str) -> str | None:
    """Return an unescaped character that may have split a password, if there is one.

    libpq and SQLx parse a DSN with such a character in different ways.
    """
    before, _, query = rest.partition("?")
    database = before.partition("/")[2]
    match = re.search("#", rest) or re.search("[@/=&]", database) or re.search("@", query)
    return match and match[0]


def _shown_query(query: str, backend: BackendName) -> str:
    """Return the part of an unchecked query that is safe to show, with its "?" unless empty.

    It ends before the first parameter that is secret, unknown or unusually written: an unescaped
    character may have split a password into what looks like parameters.
    """
    pieces = query.split("&")
    shown = list(takewhile(lambda piece: _is_plain(piece, backend), pieces))
    if len(shown) < len(pieces):
        shown.append(REDACTED)
    return f"?{'&'.join(shown)}" if query else ""


def _is_plain(piece: str, backend: BackendName) -> bool:
    name, _, value = piece.partition("=")
    name = ALIASES[backend].get(name, name)
    known = name in RULES[backend] and not RULES[backend][name].secret
    return known and bool(re.fullmatch(r"[A-Za-z0-9_.,:/!+%~ -]*", value))
