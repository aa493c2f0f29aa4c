"""Redaction: request rows keep no credential of those who sent or received them.

Only the well-known carriers of credentials are looked at: headers by name, the user information and
the query of a URL. Bodies are stored as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
"""What is stored in a secret's place."""

SECRET_HEADERS = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-amz-security-token",
        "x-api-key",
        "x-goog-api-key",
    }
)
"""Names of headers whose values are redacted, in lower case; case does not count."""

SECRET_PARAMETERS = ("key", "api_key", "api-key", "access_token")
"""Names of query parameters whose values are redacted; case does not count."""

# A name may be percent-encoded in part: to the server, `%6bey=` is `key=`.
_LETTERS = {
    letter: f"(?:{re.escape(letter)}|%{ord(letter):02x}|%{ord(letter.upper()):02x})"
    for name in SECRET_PARAMETERS
    for letter in name
}
_NAMES = "|".join("".join(map(_LETTERS.__getitem__, name)) for name in SECRET_PARAMETERS)
_QUERY = re.compile(rf"((?:^|[?&;])(?:{_NAMES})=)[^&;#]+", re.IGNORECASE)
_URL_QUERY = re.compile(rf"([?&;](?:{_NAMES})=)[^&;#]+", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=//)[^/?#]*(?=@)")


def redact_headers(headers: Any) -> Any:
    """Return headers with the values of `SECRET_HEADERS` replaced; all others as they are.

    Args:
        headers: a mapping of names to values, or a sequence of (name, value) pairs. Anything else
            is returned as it is, for the caller to refuse.
    Returns:
        A new dict, or a new list of pairs; an order or a repeated name is kept.
    """
    if isinstance(headers, Mapping):
        return {
            name: REDACTED if type(name) is str and name.lower() in SECRET_HEADERS else value
            for name, value in headers.items()
        }
    if isinstance(headers, list | tuple):
        return [_redact_pair(pair) for pair in headers]
    return headers


def _redact_pair(pair: Any) -> Any:
    if not isinstance(pair, list | tuple) or not pair or not isinstance(pair[0], str):
        return pair
    name, *values = pair
    return [name, *(REDACTED for _ in values)] if name.lower() in SECRET_HEADERS else list(pair)


def redact_url(url: Any) -> Any:
    """Return a URL or path with user information and `SECRET_PARAMETERS` replaced."""
    if not isinstance(url, str):
        return url
    if "@" in url:
        url = _USER_INFO.sub(REDACTED, url)
    return _URL_QUERY.sub(rf"\1{REDACTED}", url) if "=" in url else url


def redact_query(query: Any) -> Any:
    """Return a query string, with or without its ``?``, with `SECRET_PARAMETERS` replaced."""
    if not isinstance(query, str) or "=" not in query:
        return query
    return _QUERY.sub(rf"\1{REDACTED}", query)
