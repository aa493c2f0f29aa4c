"""Dsn: the text that names a database, parsed, normalised and masked. No connection."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..secret import REDACTED, Secret, without_locals
from .hosts import Host, is_socket, parse_hosts, quoted, render_host
from .parameters import Parameters, PoolOptions, read_query
from .rules import BackendName, is_secret
from .text import ESCAPES, LOGIN, SCHEME, SCHEMES, Source, misplaced, nearest_scheme

Mode = Literal["ro", "rw", "rwc", "memory"]

MAX_LENGTH = 8192

_FORMS = "write sqlite://PATH or SCHEME://USER:PASSWORD@HOST:PORT/DATABASE"
_TOO_LONG = f"it is longer than {MAX_LENGTH} characters; shorten it"
_UNUSABLE = {
    re.compile(r"\A\Z"): f"it is empty; {_FORMS}",
    re.compile(f".{{{MAX_LENGTH + 1}}}", re.DOTALL): _TOO_LONG,
    re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]"): "it holds a control character; escape it",
    re.compile(r"[\ud800-\udfff]"): "it holds bytes that are not UTF-8; write it in UTF-8",
}
_FILE_MODES: Mapping[str | None, Mode] = {None: "rw", "ro": "ro", "rw": "rw", "rwc": "rwc"}
_NOT_IN_MEMORY = (
    ("mode", "ro", "a database in memory starts empty and could never be filled"),
    ("immutable", "true", "a database in memory starts empty and could never be filled"),
    ("cache", "private", "each connection would have an empty database of its own"),
    ("vfs", None, "a database in memory has its own"),
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Dsn:
    """The name of a database and how to connect to it. Immutable; made by `parse` or `for_file`.

    str and repr are masked; only `reveal` shows passwords. An empty user or password is None, as
    for libpq and PyMySQL.

    Attributes:
        backend: ``sqlite``, ``postgres``, or ``mysql`` (for MariaDB too).
        path: sqlite: the decoded path of the file, "" when in memory.
        mode: sqlite: ``ro``, ``rw`` (must exist), ``rwc`` (created if missing), ``memory``.
        user: decoded, as all parts of a network DSN are.
        password: shown only by its own `reveal`.
        hosts: where to connect to; none means the driver's default host.
        database: its name on the server.
        parameters: checked driver parameters. sqlite: ``cache``, ``immutable``, ``vfs``;
            postgres: libpq's names; mysql: ``ssl-mode`` (upper case), ``ssl-ca``, ``ssl-cert``,
            ``ssl-key``, ``charset``, ``socket``.
        pool: size and time-outs of the connection pool.
        setting: where the DSN comes from, for messages; ignored by equality.
    """

    backend: BackendName
    path: str = ""
    mode: Mode = "rw"
    user: str | None = None
    password: Secret | None = None
    hosts: tuple[Host, ...] = ()
    database: str = ""
    parameters: Parameters = field(default_factory=Parameters)
    pool: PoolOptions = field(default_factory=PoolOptions)
    setting: str | None = field(default=None, compare=False)

    @classmethod
    @without_locals
    def parse(cls, text: str, *, setting: str | None = None) -> Dsn:
        """Parse a DSN, so that ``Dsn.parse(dsn.reveal()) == dsn``.

        White space around it is dropped: mounted files end in a newline. Values are
        percent-decoded, strictly; "+" is a plus, as for libpq.

        Args:
            text: the DSN; at most 8192 characters, as given and when normalised.
            setting: where it comes from, for messages: ``GPROXY_DSN``, ``--dsn``.
        Returns:
            The DSN; nothing has been opened.
        Raises:
            DSNError: when it cannot be used, whatever the text. The message is one line and
                shows the DSN masked.
        Source: SQLx's options/parse.rs; libpq 17's connection URIs.
        """
        source = Source(text.strip(" \t\r\n\v\f"), setting)
        dsn = dataclasses.replace(_parse(source), setting=setting)
        # The normalised form must parse as well, and escaping makes text up to nine times longer.
        if len(dsn.reveal()) > MAX_LENGTH:
            raise source.error("text", _TOO_LONG)
        return dsn

    @classmethod
    def for_file(
        cls,
        path: Path,
        mode: Literal["ro", "rw", "rwc"] = "rwc",
        *,
        setting: str | None = None,
    ) -> Dsn:
        """Return the DSN of a SQLite file, its path percent-encoded.

        Args:
            path: absolute, or relative to the working directory at the time of opening.
            mode: ``rwc`` creates the file when the database is opened, not here.
            setting: where the path comes from, for messages.
        Raises:
            DSNError: when the path is not UTF-8, or is ``:memory:``, which SQLite would not open
                as a file.
        """
        source = Source(f"sqlite://{quoted(str(path))}?mode={mode}", setting)
        dsn = dataclasses.replace(_parse(source), setting=setting)
        if dsn.in_memory:
            raise source.error("path", "SQLite takes it for a database in memory; rename the file")
        return dsn

    @property
    def in_memory(self) -> bool:
        """Whether the database exists in this process only."""
        return self.mode == "memory"

    @property
    def masked(self) -> str:
        """The normalised DSN with ``***`` for every password."""
        return self._render(masked=True)

    def reveal(self) -> str:
        """Return the normalised DSN, passwords included. Never put it into a message or a log."""
        return self._render(masked=False)

    def replace(self, **changes: Any) -> Dsn:
        """Return a copy with some attributes changed, checked as `parse` checks.

        Raises:
            DSNError: when the result would not be a usable DSN.
            TypeError: when there is no such attribute.
        """
        changed = dataclasses.replace(self, **changes)
        return Dsn.parse(changed.reveal(), setting=changed.setting)

    def __str__(self) -> str:
        return self.masked

    def __repr__(self) -> str:
        return f"Dsn({self.masked!r})"

    def _render(self, *, masked: bool) -> str:
        query = {**self.parameters, **self.pool.as_parameters()}
        if self.in_memory:
            base = "sqlite::memory:"
        elif self.backend == "sqlite":
            base = f"sqlite://{quoted(self.path)}"
            query = {"mode": self.mode, **query}
        else:
            login = quoted(self.user or "", safe="")
            if self.password:
                secret = REDACTED if masked else quoted(self.password.reveal(), safe="")
                login = f"{login}:{secret}"
            hosts = ",".join(map(render_host, self.hosts))
            at = "@" if login else ""
            base = f"{self.backend}://{login}{at}{hosts}/{quoted(self.database, safe='')}"
        values = (
            f"{name}={REDACTED if masked and is_secret(name) else quoted(value)}"
            for name, value in query.items()
        )
        return f"{base}?{'&'.join(values)}" if query else base


def _parse(source: Source) -> Dsn:
    for pattern, problem in _UNUSABLE.items():
        if pattern.search(source.text):
            raise source.error("text", problem)
    match = SCHEME.fullmatch(source.text)
    scheme, slashes, rest = match.groups("") if match else ("", "", "")
    backend = SCHEMES.get(scheme.lower())
    if backend == "sqlite":
        return _parse_sqlite(source, rest)
    if backend and slashes:
        return _parse_network(source, backend, rest)
    if backend:
        raise source.error("scheme", f"'//' is missing after it; {_FORMS}")
    problem = f"it is not known; {nearest_scheme(scheme)}" if slashes else "it is missing; "
    if scheme.lower() == "jdbc":
        problem = "leave out 'jdbc:'; "
    raise source.error("scheme", f"{problem}known are {', '.join(SCHEMES)}: {_FORMS}")


def _parse_sqlite(source: Source, rest: str) -> Dsn:
    if LOGIN.match(rest):
        raise source.error("path", f"SQLite has no user, password or host; {_FORMS}")
    # As in SQLx, everything up to "?" is the path: a "#" is a character of it.
    raw_path, _, query = rest.partition("?")
    path = source.decode("path", raw_path)
    given = read_query(query, "sqlite", source)
    pool = PoolOptions.take_from(given)
    if path == ":memory:" or given.get("mode") == "memory":
        # For SQLx, a path with mode=memory is a name under which the database is shared. Here it is
        # private to its Storage: the path is ignored.
        for name, value, why in _NOT_IN_MEMORY:
            if name in given and value in {given[name], None}:
                raise source.error(f"parameter {name!r}", f"{why}; remove it")
        return Dsn(backend="sqlite", mode="memory", pool=pool)
    if not path:
        raise source.error("path", "it is without a database name; write sqlite://PATH")
    mode = given.pop("mode", None)
    if given.get("immutable") == "true":
        if mode in {"rw", "rwc"}:
            raise source.error("parameter 'immutable'", f"it contradicts mode={mode}; keep one")
        mode = "ro"
    return Dsn(
        backend="sqlite",
        path=path,
        mode=_FILE_MODES[mode],
        parameters=Parameters(given),
        pool=pool,
    )


def _parse_network(source: Source, backend: BackendName, rest: str) -> Dsn:
    if stray := misplaced(rest):
        problem = "it is not allowed there; it or another, perhaps in a password, is not escaped"
        raise source.error(f"character {stray!r}", f"{problem}: {ESCAPES}")
    before, _, query = rest.partition("?")
    authority, _, database = before.partition("/")
    # The last "@", as in SQLx: no host has one, so a password may. libpq takes the first.
    login, _, location = authority.rpartition("@")
    user, _, password = login.partition(":")
    given = read_query(query, backend, source)
    pool = PoolOptions.take_from(given)
    # As in libpq, the query overrides the parts before it.
    user = given.pop("user", source.decode("user", user))
    password = given.pop("password", source.decode("password", password))
    database = given.pop("dbname", source.decode("database", database))
    hosts = parse_hosts(source, location, given.pop("host", None), given.pop("port", None))
    dsn = Dsn(
        backend=backend,
        user=user or None,
        password=Secret(password) if password else None,
        hosts=hosts,
        database=database,
        parameters=Parameters(given),
        pool=pool,
    )
    for part, problem in _contradictions(dsn):
        raise source.error(part, problem)
    return dsn


def _contradictions(dsn: Dsn) -> Iterator[tuple[str, str]]:
    """Yield each part of a network DSN that contradicts another, with the problem."""
    parameters = dsn.parameters
    if not dsn.database:
        yield "database", f"it is without a database name; {_FORMS}"
    if dsn.backend == "postgres":
        addresses = parameters.get("hostaddr", "").count(",") + 1
        if "hostaddr" in parameters and dsn.hosts and addresses != len(dsn.hosts):
            yield "parameter 'hostaddr'", f"{addresses} addresses for {len(dsn.hosts)} hosts"
        return
    names = [host.name for host in dsn.hosts]
    if len(names) > 1:
        yield "host", "MySQL and MariaDB take one host; remove the others"
    if any(map(is_socket, names)):
        yield "host", "a socket is given as ?socket=/PATH"
    if "socket" in parameters and not {"", "localhost"}.issuperset(names):
        yield "parameter 'socket'", "it contradicts the host; remove one, or write localhost"
    if "ssl-key" in parameters and "ssl-cert" not in parameters:
        yield "parameter 'ssl-key'", "it is of no use without ssl-cert; add that"
    certificates = {"ssl-ca", "ssl-cert", "ssl-key"}.intersection(parameters)
    if parameters.get("ssl-mode") == "DISABLED" and certificates:
        yield "parameter 'ssl-mode'", f"DISABLED contradicts {min(certificates)}; keep one"
