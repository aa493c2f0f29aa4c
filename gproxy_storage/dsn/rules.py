"""The parameters of DSNs: for each backend, the names and the rules for their values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

BackendName = Literal["sqlite", "postgres", "mysql"]


class Rule(NamedTuple):
    """The rule for one parameter's value.

    Attributes:
        expected: completes the sentence "it must be ...".
        canonical: returns a value in canonical form, or None when it is invalid.
        secret: the value is never shown.
    """

    expected: str
    canonical: Callable[[str], str | None]
    secret: bool = False


def _text(expected: str = "a text, or left out") -> Rule:
    # Empty is refused: `sslrootcert=`, from a template with an unset variable, would silently
    # disable the check of the server's certificate.
    return Rule(expected, lambda value: value or None)


def _one_of(*values: str) -> Rule:
    return Rule(_listed(values), lambda value: value if value in values else None)


def _spelled(canonical: Mapping[str, str]) -> Rule:
    """Accept one of the mapping's values; its keys are the accepted spellings in lower case."""
    spellings = dict.fromkeys(canonical.values())
    return Rule(_listed(tuple(spellings)), lambda value: canonical.get(value.lower()))


def _any_case(*values: str) -> Rule:
    return _spelled({value.lower(): value for value in values})


def _listed(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"one of {', '.join(values)}"


def _whole(low: int, high: int) -> Rule:
    def canonical(value: str) -> str | None:
        if not re.fullmatch(r"[0-9]{1,10}", value) or not low <= int(value) <= high:
            return None
        return str(int(value))

    return Rule(f"a whole number from {low} to {high}", canonical)


def _seconds(expected: str, *, zero: bool = False) -> Rule:
    def canonical(value: str) -> str | None:
        if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", value):
            return None
        seconds = float(value)
        if zero and seconds == 0:
            return "0"
        # Within these bounds repr never uses an exponent, so what is rendered parses again.
        return repr(seconds).removesuffix(".0") if 0.001 <= seconds <= 86_400 else None

    return Rule(expected, canonical)


def _matching(pattern: str, expected: str) -> Rule:
    return Rule(expected, lambda value: value if re.fullmatch(pattern, value) else None)


def ip_addresses(value: str) -> str | None:
    """Return the comma-separated IP addresses in canonical form; None if one is invalid."""
    try:
        return ",".join(str(ipaddress.ip_address(entry)) for entry in value.split(","))
    except ValueError:
        return None


def _require_auth(value: str) -> str | None:
    # libpq: a list of methods, or of methods after "!", never both kinds, none of them twice.
    methods = value.split(",")
    names = {method.removeprefix("!") for method in methods}
    one_kind = len({method.startswith("!") for method in methods}) == 1
    return value if one_kind and len(names) == len(methods) and names <= _AUTH_METHODS else None


_AUTH_METHODS = {"password", "md5", "gss", "sspi", "scram-sha-256", "none"}
_SWITCH = _one_of("0", "1")
_TLS_VERSION = _any_case("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

POOL: Mapping[str, Rule] = {
    "max_connections": _whole(1, 1000),
    "stale_timeout": _seconds("seconds, from 0.001 to 86400, or 0 for never", zero=True),
    "pool_timeout": _seconds("seconds, from 0.001 to 86400"),
    "connect_timeout": _seconds("seconds, from 0.001 to 86400"),
}

RULES: Mapping[BackendName, Mapping[str, Rule]] = {
    # SQLx's parameters, so that GPROXY's DSNs mean the same here.
    "sqlite": {
        "mode": _one_of("ro", "rw", "rwc", "memory"),
        "cache": _one_of("shared", "private"),
        "immutable": _spelled({"true": "true", "1": "true", "false": "false", "0": "false"}),
        "vfs": _matching(r"[A-Za-z0-9_.-]{1,64}", "a name of letters, digits, '_', '.' and '-'"),
        **POOL,
    },
    # libpq 17's connection options, with values checked as by libpq; without those in REFUSED.
    "postgres": {
        "user": _text(),
        # Empty means no password, as in the userinfo.
        "password": Rule("text", lambda value: value, secret=True),
        "host": _text(),
        "port": _text(),
        "dbname": _text(),
        "hostaddr": Rule("one IP address for each host, separated by commas", ip_addresses),
        "passfile": _text(),
        "require_auth": Rule(
            f"a list of {', '.join(sorted(_AUTH_METHODS))}; all with '!' before them, or none",
            _require_auth,
        ),
        "channel_binding": _one_of("disable", "prefer", "require"),
        "client_encoding": _spelled({"utf8": "UTF8", "utf-8": "UTF8"}),
        "options": _text(),
        "application_name": _text(),
        "fallback_application_name": _text(),
        "keepalives": _SWITCH,
        "keepalives_idle": _whole(1, 86_400),
        "keepalives_interval": _whole(1, 86_400),
        "keepalives_count": _whole(1, 1_000),
        "tcp_user_timeout": _whole(0, 2**31 - 1),
        "gssencmode": _one_of("disable", "prefer", "require"),
        "gssdelegation": _SWITCH,
        "gsslib": _one_of("gssapi", "sspi"),
        "krbsrvname": _text(),
        "requirepeer": _text(),
        "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "sslnegotiation": _one_of("postgres", "direct"),
        "sslcompression": _SWITCH,
        "sslcert": _text(),
        "sslkey": _text(),
        "sslpassword": _text()._replace(secret=True),
        "sslcertmode": _one_of("disable", "allow", "require"),
        "sslrootcert": _text(),
        "sslcrl": _text(),
        "sslcrldir": _text(),
        "sslsni": _SWITCH,
        "ssl_min_protocol_version": _TLS_VERSION,
        "ssl_max_protocol_version": _TLS_VERSION,
        "target_session_attrs": _one_of(
            "any", "read-write", "read-only", "primary", "standby", "prefer-standby"
        ),
        "load_balance_hosts": _one_of("disable", "random"),
        **POOL,
    },
    "mysql": {
        "ssl-mode": _any_case("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"),
        "ssl-ca": _text(),
        "ssl-cert": _text(),
        "ssl-key": _text(),
        "charset": _any_case("utf8mb4")._replace(
            expected="utf8mb4: every other character set loses or refuses some text"
        ),
        "socket": _matching(r"(?s)/.+", "an absolute path"),
        **POOL,
    },
}

# Spellings that SQLx accepts, too.
ALIASES: Mapping[BackendName, Mapping[str, str]] = {
    "sqlite": {},
    "postgres": {
        "ssl-mode": "sslmode",
        "ssl-root-cert": "sslrootcert",
        "ssl-ca": "sslrootcert",
        "ssl-cert": "sslcert",
        "ssl-key": "sslkey",
    },
    "mysql": {
        "sslmode": "ssl-mode",
        "sslca": "ssl-ca",
        "sslcert": "ssl-cert",
        "sslkey": "ssl-key",
    },
}

# Names that exist elsewhere, with the reason why they are not supported here.
REFUSED: Mapping[str, str] = {
    "service": "a service file would name the database outside of the DSN; name it in the DSN",
    "servicefile": "a service file would name the database outside of the DSN; name it in the DSN",
    "replication": "a replication connection runs no queries; leave it out",
    "ssl": "write sslmode=require (PostgreSQL) or ssl-mode=REQUIRED (MySQL, MariaDB)",
    "sslkeylogfile": "it would write the connection's keys to a file; leave it out",
    "collation": "the tables name their own collation; leave it out",
    "statement-cache-capacity": "it tunes SQLx only; leave it out",
}


def is_secret(name: str) -> bool:
    """Tell whether a parameter's values are never shown."""
    return any(name in rules and rules[name].secret for rules in RULES.values())
