"""Properties of Dsn: what is parsed is rendered, what is refused is refused cleanly, no leaks.

Each strategy quotes the form of DSNs that it generates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, unquote

import psycopg2.extensions
from hypothesis import assume
from hypothesis import strategies as st

from gproxy_storage.dsn import Dsn, Host, PoolOptions
from gproxy_storage.errors import DSNError
from tests.cases import for_any
from tests.support import everything_said


class Written(NamedTuple):
    """A DSN as an operator might write it, and what it means where it is valid."""

    text: str
    rest: str = ""  # the text without the password
    password: str = ""
    user: str = ""
    hosts: tuple[Host, ...] = ()
    database: str = ""
    path: str = ""


# What tears a DSN apart when it is not escaped, more often than chance would have it.
DELIMITERS = "@:/?#%&=+[],;!* "
texts = st.text(
    st.one_of(
        st.sampled_from("aZ09_-." + DELIMITERS),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=20,
)
names = texts.filter(bool)
# Of letters that hardly occur elsewhere, so that what is found is the password.
passwords = st.text(
    st.one_of(st.sampled_from("jqxzJQXZ0189"), st.sampled_from("é€\n" + DELIMITERS)),
    min_size=6,
    max_size=20,
)


@st.composite
def escaped(draw: st.DrawFn, text: str, raw: str = "") -> str:
    """Percent-encode a text; of what need not be escaped, some is and some is not."""
    left = draw(st.sampled_from(["", "-._~", f"-._~!$'()*;+{raw}"]))
    return "".join(
        character
        if character in left or (character.isascii() and character.isalnum())
        else quote(character, safe="")
        for character in text
    )


# "max_connections, stale_timeout, pool_timeout, connect_timeout tune the pool": any
pool_parameters = st.fixed_dictionaries(
    {},
    optional={
        "max_connections": st.integers(1, 1000).map(str),
        "stale_timeout": st.one_of(st.just("0"), st.integers(1, 86_400).map(str)),
        "pool_timeout": st.decimals("0.001", 86_400, places=3).map("{:f}".format),
        "connect_timeout": st.integers(1, 86_400).map(str),
    },
)

# "sslmode, sslrootcert, application_name, options, ... as libpq"
postgres_parameters = st.fixed_dictionaries(
    {},
    optional={
        "sslmode": st.sampled_from(["disable", "prefer", "verify-full"]),
        "sslrootcert": names,
        "application_name": names,
        "options": names,
        "passfile": names,
        "target_session_attrs": st.sampled_from(["any", "read-write", "prefer-standby"]),
        "keepalives_idle": st.integers(1, 86_400).map(str),
    },
)

# "ssl-mode, ssl-ca, charset, socket"
mysql_parameters = st.fixed_dictionaries(
    {},
    optional={
        "ssl-mode": st.sampled_from(["required", "VERIFY_CA", "Verify_Identity"]),
        "ssl-ca": names,
        "charset": st.sampled_from(["utf8mb4", "UTF8MB4"]),
    },
)


@st.composite
def queries(draw: st.DrawFn, *parameters: st.SearchStrategy[dict[str, str]]) -> list[str]:
    values = {name: value for part in parameters for name, value in draw(part).items()}
    pieces = [f"{name}={draw(escaped(value, '/:'))}" for name, value in values.items()]
    return draw(st.permutations(pieces))


def with_query(base: str, pieces: list[str]) -> str:
    return f"{base}?{'&'.join(pieces)}" if pieces else base


# "sqlite:PATH, sqlite://PATH, sqlite:///ABS: what follows the scheme is the path, percent-decoded"
# "?mode=ro|rw|rwc|memory, cache=, immutable=, vfs="
@st.composite
def sqlite_dsns(draw: st.DrawFn) -> Written:
    path = draw(names.filter(lambda name: name != ":memory:"))
    scheme = draw(st.sampled_from(["sqlite://", "sqlite:", "SQLite:"]))
    parameters = st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["ro", "rw", "rwc"]),
            "cache": st.sampled_from(["shared", "private"]),
            "immutable": st.sampled_from(["0", "false"]),
            "vfs": st.sampled_from(["unix", "unix-dotfile"]),
        },
    )
    text = with_query(
        f"{scheme}{draw(escaped(path, '/#=&'))}", draw(queries(parameters, pool_parameters))
    )
    # After "sqlite:", a path that begins with "//" is the other form.
    assume(scheme == "sqlite://" or not re.match("sqlite://", text, re.IGNORECASE))
    assume(not text.endswith((" ", "\n")))
    return Written(text, path=path)


host_names = st.one_of(
    st.from_regex(r"[a-zA-Z0-9_]([a-z0-9-]{0,9}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
)
ipv6_addresses = st.ip_addresses(v=6).map(str)
socket_directories = st.from_regex(r"/[a-z.:@ /]{0,12}", fullmatch=True)
ports = st.one_of(st.none(), st.integers(1, 65_535))


def place(host: Host) -> str:
    name = f"[{host.name}]" if ":" in host.name and host.name[0] != "/" else quote(host.name, "")
    return name if host.port is None else f"{name}:{host.port}"


@st.composite
def network_dsns(
    draw: st.DrawFn,
    schemes: list[str],
    a_host: st.SearchStrategy[str],
    parameters: st.SearchStrategy[dict[str, str]],
    most_hosts: int,
    write_password: Callable[[str], st.SearchStrategy[str]] = escaped,
) -> Written:
    hosts = tuple(draw(st.lists(st.builds(Host, a_host, ports), max_size=most_hosts)))
    user, database, password = draw(texts), draw(names), draw(passwords)
    login = draw(escaped(user))
    pieces = draw(queries(parameters, pool_parameters))
    if schemes[0] == "postgres" and draw(st.booleans()):
        pieces.insert(0, "password=\0")
        login = f"{login}@"
    else:
        login = f"{login}:\0@"
    base = f"{draw(st.sampled_from(schemes))}://{login}{','.join(map(place, hosts))}"
    text = with_query(f"{base}/{draw(escaped(database))}", pieces)
    written = text.replace("\0", draw(write_password(password)))
    return Written(written, text.replace("\0", ""), password, user, hosts, database)


# "postgres://, postgresql://: user, password, database percent-decoded; host=/socket/dir; several
# hosts with target_session_attrs"
POSTGRES = (
    ["postgres", "postgresql"],
    st.one_of(host_names, ipv6_addresses, socket_directories),
    postgres_parameters,
    3,
)
# "mysql://, mariadb://: IPv6 hosts in brackets"
MYSQL = (["mysql", "mariadb"], st.one_of(host_names, ipv6_addresses), mysql_parameters, 1)

postgres_dsns = network_dsns(*POSTGRES)
mysql_dsns = network_dsns(*MYSQL)
valid_dsns = st.one_of(sqlite_dsns(), postgres_dsns, mysql_dsns)


def outcome(text: str) -> str:
    """Parse a text and return all that is shown of the DSN, or of the error."""
    refusal = None
    try:
        dsn = Dsn.parse(text, setting="GPROXY_DSN")
    except DSNError as error:
        refusal = error
    if refusal:
        assert str(refusal).isprintable()
        assert str(refusal).startswith("GPROXY_DSN: ")
        return everything_said(refusal)
    assert Dsn.parse(dsn.reveal()) == dsn
    assert str(dsn).isprintable()
    return f"{dsn} {dsn!r} {dsn.masked} {dsn.parameters!r} {dsn.password!r}"


@for_any(valid_dsns, quick=100, thorough=2000)
def test_what_is_written_is_parsed_and_rendered(written: Written) -> None:
    dsn = Dsn.parse(written.text)

    assert (dsn.user or "", dsn.hosts) == (written.user, written.hosts)
    assert (dsn.database, dsn.path) == (written.database, written.path)
    assert (dsn.password.reveal() if dsn.password else "") == written.password

    normalised = dsn.reveal()
    assert Dsn.parse(normalised) == dsn
    assert Dsn.parse(normalised).reveal() == normalised
    assert hash(Dsn.parse(normalised)) == hash(dsn)


@for_any(postgres_dsns, quick=100, thorough=1000)
def test_libpq_reads_the_same(written: Written) -> None:
    dsn = Dsn.parse(written.text).replace(pool=PoolOptions())
    read = psycopg2.extensions.parse_dsn(dsn.reveal())

    expected = {
        "user": written.user,
        "password": written.password,
        "dbname": written.database,
        "host": ",".join(host.name for host in written.hosts),
        "port": ",".join(str(host.port or "") for host in written.hosts).strip(","),
        **dsn.parameters,
    }
    read["port"] = read.get("port", "").strip(",")
    assert {n: v for n, v in read.items() if v} == {n: v for n, v in expected.items() if v}


@for_any(st.one_of(postgres_dsns, mysql_dsns), quick=100, thorough=2000)
def test_a_masked_dsn_does_not_hold_the_password(written: Written) -> None:
    forms = {written.password, quote(written.password, safe="")}
    assume(not any(form in outcome(written.rest) for form in forms))

    shown = outcome(written.text)

    assert not any(form in shown for form in forms)


@st.composite
def partly_escaped(draw: st.DrawFn, text: str) -> str:
    """Escape some of the characters, as operators do."""
    escape = draw(st.sets(st.sampled_from(DELIMITERS + "é€\n")))
    return "".join(quote(c, safe="") if c in escape else c for c in text)


def pieces_of(password: str) -> list[str]:
    """Return what delimiters can tear a password into, as far as it says something."""
    pieces = [password, *re.split(f"[{re.escape(DELIMITERS)}\n]", password)]
    return [piece for piece in pieces if len(piece) >= 4]


@for_any(
    st.one_of(
        network_dsns(*POSTGRES, write_password=partly_escaped),
        network_dsns(*MYSQL, write_password=partly_escaped),
    ),
    quick=200,
    thorough=4000,
)
def test_no_piece_of_an_unescaped_password_leaks(written: Written) -> None:
    shown = outcome(written.text)

    rest = written.rest + unquote(written.rest) + outcome(written.rest)
    leaked = [piece for piece in pieces_of(written.password) if piece in shown]
    assert not [piece for piece in leaked if piece not in rest]


# Any text at all, also such as no environment variable could hold.
any_text = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=60),
    st.binary(max_size=60).map(lambda data: data.decode("latin-1")),
    st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape")),
)
pieces_of_dsns = st.sampled_from(
    [
        *(
            "sqlite:",
            "postgres://",
            "mysql://",
            "//",
            ":memory:",
            "mode=",
            "memory",
            "host=",
            "::1",
        ),
        *("%00", "%ff", "%zz", "65536"),
        *f"{DELIMITERS}\0\n\u2028\udcff٣",
    ]
)


@st.composite
def broken_dsns(draw: st.DrawFn) -> list[str]:
    """Versions of a valid DSN in which one place more is deleted, doubled or replaced each time."""
    versions = [draw(valid_dsns).text]
    for _ in range(3):
        text = versions[-1]
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 8, len(text))))
        replacement = draw(st.one_of(st.just(""), st.just(text[start:end] * 2), pieces_of_dsns))
        versions.append(text[:start] + replacement + text[end:])
    return versions[1:]


# The two below try more than 1,000 texts, and in the soak more than 20,000.
@for_any(
    st.one_of(any_text, any_text.map("postgres://{}".format), st.lists(pieces_of_dsns)),
    quick=600,
    thorough=12_000,
)
def test_any_text_is_parsed_or_refused(text: str | list[str]) -> None:
    outcome("".join(text))


@for_any(broken_dsns(), quick=200, thorough=3000)
def test_a_broken_dsn_is_parsed_or_refused(texts: list[str]) -> None:
    for text in texts:
        outcome(text)
