"""Redaction: removes credentials from rows of requests.

Headers are redacted by name (`credential_names`), URLs in their user information and in the
parameters of query and fragment, including URLs in the values of parameters and headers. Bodies are
stored as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from .credential_names import is_secret_header, is_secret_parameter

REDACTED = "[redacted]"
"""Stored in place of a secret."""

_MAX_PLAIN = 4096
_plain: set[str] = set()
"""Names of headers that are not secret; bounded, because clients choose them."""

# Headers that are URLs, in any form; in others a URL is recognised by these characters.
_URL_HEADERS = ("location", "referer", "referrer", "url", "uri", "path", "link")
_URL_SIGNS = re.compile("[?#]|//")

_SEPARATOR = re.compile("([?&;#])")

_AUTHORITY = re.compile(
    r"""(
        (?<![/\\])[/\\]{2,}+                              # after a scheme, or none
        | (?:\A|(?<=[=\s<,]))(?:https?|wss?|ftp):[/\\]?(?![/\\])  # accepted by browsers
        | \A(?=[^/\\?#@\s:=&]+:)                           # user:password@host
    )([^/\\?#\s]*)""",
    re.VERBOSE | re.IGNORECASE,
)

# A password with an unescaped "/", "?" or "#" in it: what follows the colon is not a port.
_UNESCAPED_LOGIN = re.compile(
    r"(\A(?:[a-z][a-z0-9+.-]*:)?[/\\]{2,}+)[^/\\?#\s@:\[]*:(?!\d*(?:[/\\?#]|\Z))\S*@", re.IGNORECASE
)

# Where the path is the credential: Telegram's bots, webhooks of Slack and Discord.
_PATH = re.compile(r"(/bot\d+:|/services/T\w+/B\w+/|/webhooks/\d+/)[^/?#\s]+")


def redact_headers(headers: Any) -> Any:
    """Return headers with credentials replaced, those in URLs too; all others as they are.

    Args:
        headers: a mapping of names to values, or a sequence of (name, value) pairs. Anything else
            is returned as it is; the column refuses it.
    Returns:
        A new dict, or a new list of pairs; order and repeated names are kept.
    """
    if isinstance(headers, Mapping):
        # Unrolled for the most common headers: this is half of the time of submitting a request.
        return {
            name: value
            if type(name) is str
            and type(value) is str
            and name in _plain
            and "?" not in value
            and "#" not in value
            and "//" not in value
            else _redact_value(name, value)
            for name, value in headers.items()
        }
    if isinstance(headers, list | tuple):
        return [_redact_pair(pair) for pair in headers]
    return headers


def _redact_pair(pair: Any) -> Any:
    if not isinstance(pair, list | tuple) or not pair:
        return pair
    name, *values = pair
    return [name, *(_redact_value(name, value) for value in values)]


def _redact_value(name: Any, value: Any) -> Any:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if isinstance(name, str):
        name = str.__str__(name)  # not the method of a subclass
        if is_secret_header(name):
            return REDACTED
        if name.strip().lower().endswith(_URL_HEADERS):
            return _redact_urls(value, is_url=True)
        if len(_plain) >= _MAX_PLAIN:
            _plain.clear()
        _plain.add(name)
    return _redact_urls(value, is_url=False)


def _redact_urls(value: Any, *, is_url: bool) -> Any:
    """Redact URLs in a header's value, or in its several values."""
    if isinstance(value, str):
        return redact_url(value) if is_url or _URL_SIGNS.search(value) else value
    if isinstance(value, Mapping):
        return redact_headers(value)
    if isinstance(value, list | tuple):
        return [_redact_urls(each, is_url=is_url) for each in value]
    return value


def redact_url(url: Any) -> Any:
    """Return a URL or path without credentials in user information, path and parameters."""
    return _redact_text(url, is_query=False) if isinstance(url, str) else url


def redact_query(query: Any) -> Any:
    """Return a query string, with or without its ``?``, without credentials in it."""
    return _redact_text(query, is_query=True) if isinstance(query, str) else query


def _redact_text(text: str, *, is_query: bool, layers: int = 5) -> str:
    if "@" in text:
        text = _UNESCAPED_LOGIN.sub(rf"\1{REDACTED}@", _AUTHORITY.sub(_without_login, text))
    if "/bot" in text or "/services/" in text or "/webhooks/" in text:
        text = _PATH.sub(rf"\1{REDACTED}", text)
    if "=" not in text and "%" not in text:
        return text
    shown: list[str] = []
    separator, after_secret = "", False
    for at, piece in enumerate(_SEPARATOR.split(text)):
        if at % 2:
            separator = piece
            continue
        name, equals, value = piece.partition("=")
        if after_secret and (separator == "?" or (separator != "#" and piece and not equals)):
            # Some servers read this as the rest of a secret with an unescaped character in it.
            shown[-1] = REDACTED
            continue
        after_secret = bool(equals) and (at > 0 or is_query) and is_secret_parameter(name)
        if after_secret:
            shown += separator, name, equals, REDACTED if value else ""
        else:
            shown += separator, _redact_encoded(piece, layers) if "%" in piece else piece
    return "".join(shown)


def _without_login(authority: re.Match[str]) -> str:
    login, at, host = authority[2].rpartition("@")
    return f"{authority[1]}{REDACTED}{at}{host}" if login else authority[0]


def _redact_encoded(piece: str, layers: int) -> str:
    """Redact what may be URLs or parameters, percent-encoded."""
    if "=" in piece:
        return "=".join(_redact_encoded(part, layers) for part in piece.split("="))
    plain = unquote(piece)
    if plain == piece:
        return piece
    # A value encoded more often than that is redacted as a whole.
    redacted = _redact_text(plain, is_query=True, layers=layers - 1) if layers else REDACTED
    return piece if redacted == plain else quote(redacted, safe="[]")


REDACTORS: Mapping[str, Callable[[Any], Any]] = {
    "request_headers_json": redact_headers,
    "response_headers_json": redact_headers,
    "request_url": redact_url,
    "request_path": redact_url,
    "request_query": redact_query,
}
"""Column of a log of requests -> function that removes credentials from its value."""
