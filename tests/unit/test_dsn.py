"""Dsn: what each form of a DSN means, and what the refusal of the others says."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2.extensions
import pytest

from gproxy_storage.dsn import MAX_LENGTH, Dsn, Host, PoolOptions
from gproxy_storage.dsn.rules import POOL, RULES
from gproxy_storage.errors import DSNError
from gproxy_storage.secret import Secret
from tests.cases import for_each
from tests.support import everything_said

PASSWORD = "hunter2-Secret"


def refusal(text: str, setting: str | None = "GPROXY_DSN") -> DSNError:
    """Return the error that a DSN is refused with, after checking what holds for all of them."""
    with pytest.raises(DSNError) as caught:
        Dsn.parse(text, setting=setting)
    error = caught.value
    message = str(error)
    assert message.isprintable(), "one line"
    assert message.startswith(f"{setting or 'DSN'}: {error.part}: ")
    assert error.setting == setting
    assert error.dsn is None or message.endswith(f"(in {error.dsn})")
    assert PASSWORD not in everything_said(error)
    return error


# ---------------------------------------------------------------------------------------- SQLite


@for_each(
    ("text", "path", "mode"),
    [
        ("sqlite:data/x.db", "data/x.db", "rw"),
        ("sqlite://data/x.db", "data/x.db", "rw"),
        ("sqlite:/abs/x.db", "/abs/x.db", "rw"),
        ("sqlite:///abs/x.db", "/abs/x.db", "rw"),
        ("sqlite:////abs/x.db", "//abs/x.db", "rw"),
        ("SQLite:x.db", "x.db", "rw"),
        ("sqlite://localhost/x.db", "localhost/x.db", "rw"),
        ("sqlite:x.db?mode=ro", "x.db", "ro"),
        ("sqlite:x.db?mode=rw", "x.db", "rw"),
        ("sqlite:x.db?mode=rwc", "x.db", "rwc"),
        ("sqlite:x.db?", "x.db", "rw"),
        ("sqlite:x.db?mode=rwc&", "x.db", "rwc"),
        ("sqlite:a%20b%3Fc%23d.db", "a b?c#d.db", "rw"),
        ("sqlite:a b.db", "a b.db", "rw"),
        ("sqlite:a+b.db", "a+b.db", "rw"),
        ("sqlite:a#b.db?mode=rwc", "a#b.db", "rwc"),
        ("sqlite:%C3%A9.db", "é.db", "rw"),
        ("sqlite:é.db", "é.db", "rw"),
        ("sqlite:///C:/x.db", "/C:/x.db", "rw"),
        ("sqlite:///home/me@work/x.db", "/home/me@work/x.db", "rw"),
        ("sqlite:///home/me@work:1/x.db", "/home/me@work:1/x.db", "rw"),
        ("sqlite:a%3Ab/c%40d", "a:b/c@d", "rw"),
        ("sqlite:dir%0Aname/x.db", "dir\nname/x.db", "rw"),
        ("sqlite:sqlite://x", "sqlite://x", "rw"),
    ],
)
def test_a_sqlite_dsn_has_a_path_and_a_mode(text: str, path: str, mode: str) -> None:
    dsn = Dsn.parse(text)

    assert (dsn.backend, dsn.path, dsn.mode, dsn.in_memory) == ("sqlite", path, mode, False)
    assert (dsn.user, dsn.password, dsn.hosts, dsn.database) == (None, None, (), "")
    assert Dsn.parse(dsn.reveal()) == dsn


@for_each(
    "text",
    [
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite:%3Amemory%3A",
        "sqlite:?mode=memory",
        "sqlite://?mode=memory",
        "sqlite::memory:?mode=memory",
        "sqlite::memory:?mode=rwc",
        "sqlite::memory:?mode=rw",
        "sqlite::memory:?cache=shared",
        "sqlite::memory:?immutable=false",
        "sqlite://name?mode=memory",  # SQLx's way to share one: ours is private
    ],
)
def test_memory_is_named_in_several_ways(text: str) -> None:
    dsn = Dsn.parse(text)

    assert dsn.in_memory
    assert (dsn.path, dsn.mode, dict(dsn.parameters)) == ("", "memory", {})
    assert dsn.reveal() == str(dsn) == "sqlite::memory:"


@for_each(
    ("text", "mode", "parameters"),
    [
        ("sqlite:x?cache=shared", "rw", {"cache": "shared"}),
        ("sqlite:x?cache=private", "rw", {"cache": "private"}),
        ("sqlite:x?immutable=true", "ro", {"immutable": "true"}),
        ("sqlite:x?immutable=1", "ro", {"immutable": "true"}),
        ("sqlite:x?immutable=1&mode=ro", "ro", {"immutable": "true"}),
        ("sqlite:x?immutable=0&mode=rwc", "rwc", {"immutable": "false"}),
        ("sqlite:x?immutable=false", "rw", {"immutable": "false"}),
        ("sqlite:x?vfs=unix-dotfile", "rw", {"vfs": "unix-dotfile"}),
        ("sqlite:x?%6Dode=ro", "ro", {}),
    ],
)
def test_sqlite_takes_its_parameters(text: str, mode: str, parameters: Mapping[str, str]) -> None:
    dsn = Dsn.parse(text)

    assert (dsn.mode, dict(dsn.parameters)) == (mode, parameters)
    assert Dsn.parse(dsn.reveal()) == dsn


@for_each(
    ("text", "part", "says"),
    [
        ("sqlite:", "path", "without a database name"),
        ("sqlite://", "path", "without a database name"),
        ("sqlite:?mode=rwc", "path", "without a database name"),
        ("sqlite:x?mode=create", "parameter 'mode'", "one of ro, rw, rwc, memory"),
        ("sqlite:x?mode=RW", "parameter 'mode'", "one of ro, rw, rwc, memory"),
        ("sqlite:x?mode=", "parameter 'mode'", "one of ro, rw, rwc, memory"),
        ("sqlite:x?cache=yes", "parameter 'cache'", "one of shared, private"),
        ("sqlite:x?immutable=yes", "parameter 'immutable'", "one of true, false"),
        ("sqlite:x?vfs=", "parameter 'vfs'", "a name"),
        ("sqlite:x?vfs=a/b", "parameter 'vfs'", "a name"),
        ("sqlite:x?mdoe=ro", "parameter 'mdoe'", "did you mean 'mode'?"),
        ("sqlite:x?journal_mode=wal", "parameter 'journal_mode'", "known are cache, connect_"),
        ("sqlite:x?mode", "query", "name=value"),
        ("sqlite:x?mode=ro=1", "query", "name=value"),
        ("sqlite:x?mode=ro&mode=ro", "parameter 'mode'", "given twice"),
        ("sqlite:x?mode=ro?cache=shared", "query", "name=value"),
        ("sqlite:x%", "path", "two hex digits"),
        ("sqlite:x%2", "path", "two hex digits"),
        ("sqlite:x%zz", "path", "two hex digits"),
        ("sqlite:x%ff", "path", "not UTF-8"),
        ("sqlite:x%ED%A0%80", "path", "not UTF-8"),
        ("sqlite:x%00y", "path", "%00"),
        ("sqlite:x?immutable=1&mode=rwc", "parameter 'immutable'", "contradicts mode=rwc"),
        ("sqlite:x?immutable=1&mode=rw", "parameter 'immutable'", "contradicts mode=rw"),
        ("sqlite::memory:?mode=ro", "parameter 'mode'", "never be filled"),
        ("sqlite:x?mode=memory&immutable=1", "parameter 'immutable'", "never be filled"),
        ("sqlite:?mode=memory&cache=private", "parameter 'cache'", "of its own"),
        ("sqlite:?mode=memory&vfs=unix", "parameter 'vfs'", "has its own"),
        (f"sqlite://me:{PASSWORD}@h/db", "path", "no user, password or host"),
        (f"sqlite:me:{PASSWORD}/@h/db", "path", "no user, password or host"),
        (f"sqlite://me:?{PASSWORD}@h/db", "path", "no user, password or host"),
    ],
)
def test_bad_sqlite_dsns_are_refused(text: str, part: str, says: str) -> None:
    error = refusal(text)

    assert error.part == part
    assert says in str(error)


def test_a_refused_sqlite_dsn_is_shown() -> None:
    assert refusal("sqlite:///data/me@work/x.db?mode=ro&cache=no").dsn == (
        "sqlite:///data/me@work/x.db?mode=ro&cache=no"
    )


@for_each(
    ("path", "reveals"),
    [
        ("/data/gproxy.db", "sqlite:///data/gproxy.db?mode=rwc"),
        ("./data/gproxy.db", "sqlite://data/gproxy.db?mode=rwc"),
        ("/a b/c?d#e%f@g:h&i/é.db", "sqlite:///a%20b/c%3Fd%23e%25f%40g%3Ah%26i/%C3%A9.db?mode=rwc"),
        ("me:x@h/db", "sqlite://me%3Ax%40h/db?mode=rwc"),
        ("/new\nline", "sqlite:///new%0Aline?mode=rwc"),
    ],
)
def test_for_file_escapes_the_path(path: str, reveals: str) -> None:
    dsn = Dsn.for_file(Path(path))

    assert (dsn.backend, dsn.path, dsn.mode) == ("sqlite", str(Path(path)), "rwc")
    assert dsn.reveal() == reveals
    assert Dsn.parse(reveals) == dsn


def test_for_file_takes_the_mode() -> None:
    assert Dsn.for_file(Path("x.db"), "ro").mode == "ro"


@for_each(
    ("path", "says"),
    [(":memory:", "in memory"), ("a\0b", "%00"), ("a\udcff", "not UTF-8"), ("\ud800", "not UTF-8")],
)
def test_for_file_refuses_what_no_dsn_can_name(path: str, says: str) -> None:
    with pytest.raises(DSNError, match=r"^GPROXY_DATA_DIR: path: ") as caught:
        Dsn.for_file(Path(path), setting="GPROXY_DATA_DIR")

    assert says in str(caught.value)
    assert str(caught.value).isprintable()


# --------------------------------------------------------------------------- PostgreSQL and MySQL


@for_each(
    ("text", "user", "password", "hosts", "database"),
    [
        ("postgres://u:p@h:1/db", "u", "p", [("h", 1)], "db"),
        ("postgresql://u:p@h:65535/db", "u", "p", [("h", 65535)], "db"),
        ("POSTGRES://h/db", None, None, [("h", None)], "db"),
        ("postgres:///db", None, None, [], "db"),
        ("postgres://u@/db", "u", None, [], "db"),
        ("postgres://u:@h/db", "u", None, [("h", None)], "db"),
        ("postgres://:p@h/db", None, "p", [("h", None)], "db"),
        ("postgres://@h/db", None, None, [("h", None)], "db"),
        ("postgres://:@h/db", None, None, [("h", None)], "db"),
        ("postgres://:5433/db", None, None, [("", 5433)], "db"),
        ("postgres://Db.Example.COM./DB", None, None, [("Db.Example.COM.", None)], "DB"),
        ("postgres://my_db-1/db", None, None, [("my_db-1", None)], "db"),
        ("postgres://bücher.example/db", None, None, [("bücher.example", None)], "db"),
        ("postgres://127.0.0.1/db", None, None, [("127.0.0.1", None)], "db"),
        ("postgres://[::1]/db", None, None, [("::1", None)], "db"),
        ("postgres://[2001:DB8:0::1]:5432/db", None, None, [("2001:db8::1", 5432)], "db"),
        ("postgres://[fe80::1%25eth0]/db", None, None, [("fe80::1%eth0", None)], "db"),
        ("postgres://%2Fvar%2Frun/db", None, None, [("/var/run", None)], "db"),
        ("postgres://%2Frun:5433/db", None, None, [("/run", 5433)], "db"),
        ("postgres://%40abstract/db", None, None, [("@abstract", None)], "db"),
        ("postgres://%68ost/db", None, None, [("host", None)], "db"),
        ("postgres://a:1,b:2/db", None, None, [("a", 1), ("b", 2)], "db"),
        ("postgres://a,[::1]:2,c/db", None, None, [("a", None), ("::1", 2), ("c", None)], "db"),
        ("postgres://u%40corp:p%3A%2F%3F%23%25@h/d%2Fb", "u@corp", "p:/?#%", [("h", None)], "d/b"),
        # an "@" that is not escaped can only be of the password: no host name has one
        ("postgres://u:p@ss@h/db", "u", "p@ss", [("h", None)], "db"),
        ("postgres://u@corp:p@h/db", "u@corp", "p", [("h", None)], "db"),
        ("postgres://u:p:q@h/db", "u", "p:q", [("h", None)], "db"),
        ("postgres://u:a+b c@h/db", "u", "a+b c", [("h", None)], "db"),
        ("postgres://u:[x],y@h/db", "u", "[x],y", [("h", None)], "db"),
        ("postgres://u:p%0Aq@h/db", "u", "p\nq", [("h", None)], "db"),
        ("postgres://%C3%A9:%E2%82%AC@h/%C3%BC", "é", "€", [("h", None)], "ü"),
        ("postgres://é:€@h/ü", "é", "€", [("h", None)], "ü"),
        ("  postgres://u:p@h/db\r\n", "u", "p", [("h", None)], "db"),
        ("mysql://u:p@h:3306/db", "u", "p", [("h", 3306)], "db"),
        ("mariadb://u:p@h:3306/db", "u", "p", [("h", 3306)], "db"),
        ("mysql:///db", None, None, [], "db"),
        ("mysql://[::1]:3307/db", None, None, [("::1", 3307)], "db"),
    ],
)
def test_network_dsns_have_user_password_hosts_and_database(
    text: str,
    user: str | None,
    password: str | None,
    hosts: list[tuple[str, int | None]],
    database: str,
) -> None:
    dsn = Dsn.parse(text)

    assert dsn.backend == ("postgres" if text.strip().lower().startswith("p") else "mysql")
    assert (dsn.user, dsn.database) == (user, database)
    assert dsn.password == (None if password is None else Secret(password))
    assert dsn.hosts == tuple(Host(*host) for host in hosts)
    assert (dsn.path, dsn.in_memory, dict(dsn.parameters)) == ("", False, {})
    assert Dsn.parse(dsn.reveal()) == dsn


@for_each(
    ("text", "reveals"),
    [
        ("postgres:///db?host=/run/pg", "postgres://%2Frun%2Fpg/db"),
        ("postgres://localhost/db?host=%2Fcloudsql%2Fx:y", "postgres://%2Fcloudsql%2Fx%3Ay/db"),
        ("postgres://h:1/db?host=/run/pg", "postgres://%2Frun%2Fpg:1/db"),
        ("postgres://h/db?port=5433", "postgres://h:5433/db"),
        ("postgres://h:1/db?port=2", "postgres://h:2/db"),
        ("postgres:///db?host=a,b&port=1", "postgres://a:1,b:1/db"),
        ("postgres:///db?host=a,b&port=1,2", "postgres://a:1,b:2/db"),
        ("postgres:///db?host=::1,b", "postgres://[::1],b/db"),
        ("postgres://?dbname=db", "postgres:///db"),
        ("postgres://h?dbname=db", "postgres://h/db"),
        ("postgres://h/other?dbname=d%26b", "postgres://h/d%26b"),
        ("postgres://u:p@h/db?user=v&password=q", "postgres://v:q@h/db"),
        ("postgres://h/db?user=v%40corp", "postgres://v%40corp@h/db"),
        ("postgres://u:p@h/db?password=", "postgres://u@h/db"),
    ],
)
def test_postgres_query_goes_before_the_rest(text: str, reveals: str) -> None:
    assert Dsn.parse(text).reveal() == reveals


@for_each(
    ("name", "value", "stored"),
    [
        ("sslmode", "verify-full", None),
        ("sslrootcert", "/etc/ssl/ca.pem", None),
        ("sslrootcert", "system", None),
        ("ssl-mode", "require", {"sslmode": "require"}),
        ("ssl-root-cert", "/ca", {"sslrootcert": "/ca"}),
        ("ssl-ca", "/ca", {"sslrootcert": "/ca"}),
        ("ssl-cert", "/c", {"sslcert": "/c"}),
        ("ssl-key", "/k", {"sslkey": "/k"}),
        ("application_name", "a%20b+c", {"application_name": "a b+c"}),
        ("options", "-c%20geqo%3Doff", {"options": "-c geqo=off"}),
        ("options", "-c geqo%3Doff", {"options": "-c geqo=off"}),
        ("target_session_attrs", "read-write", None),
        ("load_balance_hosts", "random", None),
        ("channel_binding", "require", None),
        ("gssencmode", "disable", None),
        ("sslnegotiation", "direct", None),
        ("passfile", "/home/me/.pgpass", None),
        ("hostaddr", "10.0.0.1", None),
        ("hostaddr", "2001:DB8::1", {"hostaddr": "2001:db8::1"}),
        ("require_auth", "scram-sha-256,md5", None),
        ("require_auth", "!password,!none", None),
        ("client_encoding", "utf-8", {"client_encoding": "UTF8"}),
        ("client_encoding", "UTF8", None),
        ("keepalives", "0", None),
        ("keepalives_idle", "030", {"keepalives_idle": "30"}),
        ("tcp_user_timeout", "0", None),
        ("ssl_min_protocol_version", "tlsv1.3", {"ssl_min_protocol_version": "TLSv1.3"}),
    ],
)
def test_postgres_takes_its_parameters(
    name: str, value: str, stored: Mapping[str, str] | None
) -> None:
    dsn = Dsn.parse(f"postgres://h/db?{name}={value}")

    assert dict(dsn.parameters) == (stored or {name: value})
    assert Dsn.parse(dsn.reveal()) == dsn


@for_each("name", sorted(RULES["postgres"].keys() - POOL.keys()))
def test_libpq_knows_every_postgres_parameter(name: str) -> None:
    if psycopg2.extensions.libpq_version() < 170000:
        pytest.skip("the table is libpq 17's")

    assert name in psycopg2.extensions.parse_dsn(f"postgres://h/db?{name}=x")


@for_each("name", ["sslmode", "target_session_attrs", "require_auth", "gssencmode"])
def test_libpq_refuses_what_is_refused(name: str) -> None:
    refusal(f"postgres://h/db?{name}=nonsense")

    with pytest.raises(psycopg2.OperationalError, match=f"invalid {name} value"):
        psycopg2.connect(f"host=127.0.0.1 port=1 dbname=x {name}=nonsense")


@for_each(
    ("query", "stored"),
    [
        ("ssl-mode=disabled", {"ssl-mode": "DISABLED"}),
        ("ssl-mode=Verify_Identity&ssl-ca=/ca", {"ssl-mode": "VERIFY_IDENTITY", "ssl-ca": "/ca"}),
        ("sslmode=required", {"ssl-mode": "REQUIRED"}),
        ("sslca=/ca&sslcert=/c&sslkey=/k", {"ssl-ca": "/ca", "ssl-cert": "/c", "ssl-key": "/k"}),
        ("ssl-cert=c.pem", {"ssl-cert": "c.pem"}),
        ("charset=UTF8MB4", {"charset": "utf8mb4"}),
        ("socket=/run/my%20sql.sock", {"socket": "/run/my sql.sock"}),
    ],
)
@for_each("base", ["mysql://u@localhost:3306/db", "mariadb:///db"])
def test_mysql_takes_its_parameters(base: str, query: str, stored: Mapping[str, str]) -> None:
    dsn = Dsn.parse(f"{base}?{query}")

    assert dict(dsn.parameters) == stored
    assert Dsn.parse(dsn.reveal()) == dsn


@for_each(
    ("text", "part", "says"),
    [
        ("postgres://h", "database", "without a database name"),
        ("postgres://h/", "database", "without a database name"),
        ("postgres://", "database", "without a database name"),
        ("postgres://h/?sslmode=require", "database", "without a database name"),
        ("mysql://u@h/", "database", "without a database name"),
        ("postgres://h:0/db", "port", "from 1 to 65535"),
        ("postgres://h:65536/db", "port", "from 1 to 65535"),
        ("postgres://h:000001/db", "port", "from 1 to 65535"),
        ("postgres://h:x/db", "port", "from 1 to 65535"),
        ("postgres://h:/db", "port", "from 1 to 65535"),
        ("postgres://h:-1/db", "port", "from 1 to 65535"),
        ("postgres://h:٣/db", "port", "from 1 to 65535"),
        ("postgres://h:1%30/db", "port", "from 1 to 65535"),
        ("postgres://h/db?port=x", "port", "from 1 to 65535"),
        ("postgres://a,b/db?port=1,2,3", "port", "3 ports for 2 hosts"),
        ("postgres://a:1,b:2/db?host=c", "port", "2 ports for 1 hosts"),
        ("postgres://a,,b/db", "host", "one of several hosts is empty"),
        ("postgres://a,/db", "host", "one of several hosts is empty"),
        ("postgres://::1/db", "host", "[ADDRESS]"),
        ("postgres://::1:5432/db", "host", "[ADDRESS]"),
        ("postgres://[::1/db", "host", "[ADDRESS]"),
        ("postgres://[]/db", "host", "[ADDRESS]"),
        ("postgres://[::1]z/db", "host", "[ADDRESS]"),
        ("postgres://[::z]/db", "host", "not a host name"),
        ("postgres://a b/db", "host", "not a host name"),
        ("postgres://a%2Cb/db", "host", "not a host name"),
        ("postgres://a%0Ab/db", "host", "not a host name"),
        ("postgres://%2Frun%0A/db", "host", "not a host name"),
        ("postgres://a;b/db", "host", "not a host name"),
        ("postgres://a%2Fb/db", "host", "not a host name"),
        ("postgres://h/a/b", "character '/'", "'/' %2F"),
        ("postgres://h/db/", "character '/'", "'/' %2F"),
        ("postgres://h/db&sslmode=require", "character '&'", "'&' %26"),
        ("postgres://h/a@b", "character '@'", "'@' as %40"),
        ("postgres://h/db#x", "character '#'", "'#' %23"),
        ("postgres://h/db?application_name=a@b", "character '@'", "'@' as %40"),
        ("postgres://h/db?application_name=a#b", "character '#'", "'#' %23"),
        ("postgres://u%@h/db", "user", "two hex digits"),
        ("postgres://u%ff@h/db", "user", "not UTF-8"),
        ("postgres://u%00@h/db", "user", "%00"),
        ("postgres://u:p%4@h/db", "password", "'%' %25"),
        ("postgres://u:p%E2%82@h/db", "password", "not UTF-8"),
        ("postgres://u:p%00@h/db", "password", "%00"),
        ("postgres://h%/db", "host", "two hex digits"),
        ("postgres://h/d%b", "database", "two hex digits"),
        ("postgres://h/db?sslmode=%", "parameter 'sslmode'", "two hex digits"),
        ("postgres://h/db?%=x", "query", "two hex digits"),
        ("postgres://h/db?sslmode=REQUIRE", "parameter 'sslmode'", "one of disable, allow"),
        ("postgres://h/db?sslrootcert=", "parameter 'sslrootcert'", "left out"),
        ("postgres://h/db?client_encoding=latin1", "parameter 'client_encoding'", "UTF8"),
        ("postgres://h/db?require_auth=md5,!gss", "parameter 'require_auth'", "'!'"),
        ("postgres://h/db?require_auth=md5,md5", "parameter 'require_auth'", "'!'"),
        ("postgres://h/db?hostaddr=example", "parameter 'hostaddr'", "IP address"),
        ("postgres://a,b/db?hostaddr=10.0.0.1", "parameter 'hostaddr'", "1 addresses for 2 hosts"),
        ("postgres://h/db?keepalives_idle=0", "parameter 'keepalives_idle'", "from 1 to"),
        ("postgres://h/db?sslmod=require", "parameter 'sslmod'", "did you mean 'sslmode'?"),
        ("postgres://h/db?charset=utf8mb4", "parameter 'charset'", "known are application_name"),
        ("postgres://h/db?service=x", "parameter 'service'", "outside of the DSN"),
        ("postgres://h/db?replication=1", "parameter 'replication'", "runs no queries"),
        ("postgres://h/db?ssl=true", "parameter 'ssl'", "write sslmode=require"),
        ("postgres://h/db?sslmode", "query", "name=value"),
        ("postgres://h/db?options=-c a=b", "query", "'=' %3D"),
        ("postgres://h/db?sslmode=require&sslmode=require", "parameter 'sslmode'", "given twice"),
        ("postgres://h/db?ssl-ca=/a&sslrootcert=/b", "parameter 'sslrootcert'", "given twice"),
        ("mysql://a,b/db", "host", "one host"),
        ("mysql://%2Frun%2Fx/db", "host", "?socket=/PATH"),
        ("mysql://h/db?ssl-mode=on", "parameter 'ssl-mode'", "one of DISABLED, PREFERRED"),
        ("mysql://h/db?charset=latin1", "parameter 'charset'", "loses or refuses some text"),
        ("mysql://h/db?socket=x", "parameter 'socket'", "an absolute path"),
        ("mysql://h/db?socket=/x", "parameter 'socket'", "contradicts the host"),
        ("mysql://h/db?ssl-key=/k", "parameter 'ssl-key'", "without ssl-cert"),
        ("mysql://h/db?ssl-mode=disabled&ssl-ca=/x", "parameter 'ssl-mode'", "contradicts ssl-ca"),
        ("mysql://h/db?user=u", "parameter 'user'", "known are charset"),
        ("mysql://h/db?collation=x", "parameter 'collation'", "their own collation"),
    ],
)
def test_bad_network_dsns_are_refused(text: str, part: str, says: str) -> None:
    error = refusal(text)

    assert error.part == part
    assert says in str(error)


# ------------------------------------------------------------------------------------------- text


@for_each(
    ("text", "part", "says"),
    [
        ("", "text", "empty"),
        (" \t\r\n", "text", "empty"),
        ("gproxy.db", "scheme", "sqlite://PATH"),
        ("/data/gproxy.db", "scheme", "sqlite://PATH"),
        ("host=h dbname=db", "scheme", "sqlite, postgres, postgresql, mysql, mariadb"),
        (f"u:{PASSWORD}@h/db", "scheme", "missing"),
        (f"//u:{PASSWORD}@h/db", "scheme", "missing"),
        (f"://u:{PASSWORD}@h/db", "scheme", "missing"),
        (PASSWORD, "scheme", "missing"),
        (f"{PASSWORD}:x", "scheme", "missing"),
        ("oracle://h/db", "scheme", "known are sqlite, postgres, postgresql, mysql, mariadb"),
        (f"postgre://u:{PASSWORD}@h/db", "scheme", "did you mean 'postgres'?"),
        ("sqlite3:///x", "scheme", "did you mean 'sqlite'?"),
        (
            "postgresql+psycopg2://h/db",
            "scheme",
            "did you mean 'postgresql'? a DSN names no driver",
        ),
        (f"mysql+pymysql://u:{PASSWORD}@h/db", "scheme", "did you mean 'mysql'? a DSN names no"),
        (f"MariaDB+MariaDBConnector://u:{PASSWORD}@h/d", "scheme", "did you mean 'mariadb'?"),
        (f"postgresql+asyncpg://u:{PASSWORD}@h/db", "scheme", "did you mean 'postgresql'?"),
        ("sqlite+aiosqlite:///x.db", "scheme", "did you mean 'sqlite'?"),
        (f"postgers+psycopg://u:{PASSWORD}@h/db", "scheme", "did you mean 'postgres'?"),
        (f"pgsql://u:{PASSWORD}@h/db", "scheme", "did you mean 'postgres'?"),
        (f"jdbc:mysql://u:{PASSWORD}@h/db", "scheme", "leave out 'jdbc:'"),
        (f"postgres:u:{PASSWORD}@h/db", "scheme", "'//' is missing"),
        (f"postgres:/u:{PASSWORD}@h/db", "scheme", "'//' is missing"),
        ("postgres://h/d\0b", "text", "control character"),
        ("postgres://h/d\nb", "text", "control character"),
        ("postgres://h/d\x85b", "text", "control character"),
        ("postgres://h/d\u2028b", "text", "control character"),
        ("sqlite:a\tb", "text", "control character"),
        (f"postgres://u:{PASSWORD}\x7f@h/db", "text", "control character"),
        ("sqlite:a\udcff", "text", "not UTF-8"),
        (f"postgres://u:{PASSWORD}\udcff@h/db", "text", "not UTF-8"),
        (f"sqlite:{'x' * MAX_LENGTH}", "text", "longer than 8192 characters"),
        (f"sqlite:{'é' * 4000}", "text", "longer than 8192 characters"),
        (f"postgres://u:{PASSWORD * 1000}@h/db", "text", "longer than 8192 characters"),
    ],
)
def test_what_is_no_dsn_is_refused(text: str, part: str, says: str) -> None:
    error = refusal(text)

    assert error.part == part
    assert says in str(error)
    assert len(str(error)) < 1000


def test_the_longest_dsn() -> None:
    dsn = Dsn.parse(f"sqlite://{'x' * (MAX_LENGTH - len('sqlite://?mode=rw'))}?mode=rw")

    assert len(dsn.reveal()) == MAX_LENGTH
    assert Dsn.parse(dsn.reveal()) == dsn


def test_a_setting_is_named_on_one_line() -> None:
    assert str(refusal("", setting=None)).startswith("DSN: text: ")
    assert str(refusal("", setting="dsn in gproxy.toml")).startswith("dsn in gproxy.toml: text: ")
    with pytest.raises(DSNError, match=r"^dsn in a.b: text: ") as caught:
        Dsn.parse("", setting="dsn in a\nb")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------------------------- masking


@for_each(
    ("text", "shown"),
    [
        (f"postgres://u:{PASSWORD}@h:1/db", "postgres://u:***@h:1/db"),
        (f"postgres://:{PASSWORD}@h/db", "postgres://:***@h/db"),
        (f"postgres://u@h/db?password={PASSWORD}", "postgres://u:***@h/db"),
        (
            f"postgres://h/db?sslpassword={PASSWORD}&sslkey=/k&max_connections=3",
            "postgres://h/db?sslkey=/k&sslpassword=***&max_connections=3",
        ),
        ("postgres://h/db?passfile=/x", "postgres://h/db?passfile=/x"),
        (f"mariadb://u:{PASSWORD}@h/db?sslca=/x", "mysql://u:***@h/db?ssl-ca=/x"),
        ("sqlite:x.db", "sqlite://x.db?mode=rw"),
    ],
)
def test_all_that_shows_a_dsn_masks_it(text: str, shown: str) -> None:
    dsn = Dsn.parse(text)

    assert str(dsn) == dsn.masked == f"{dsn}" == shown
    assert repr(dsn) == f"Dsn({shown!r})"
    assert PASSWORD not in repr(dsn.parameters)
    if PASSWORD in text:
        assert PASSWORD in dsn.reveal()


@for_each(
    ("text", "shown"),
    [
        # A password in its place, and something else is wrong: the rest is shown.
        (f"postgres://u:{PASSWORD}@h:70000/db", "postgres://***@h:70000/db"),
        (f"postgres://u:{PASSWORD}@h:1,[::1]:x/db", "postgres://***"),
        (f"postgres://u:{PASSWORD}@h/db?sslmode=no", "postgres://***@h/db?sslmode=no"),
        (f"postgres://u:{PASSWORD}%@h/db", "postgres://***@h/db"),
        (f"postgres://u:{PASSWORD}@x@h", "postgres://***@h"),
        (f"MySQL://u:{PASSWORD}@h,i/db", "MySQL://***@h,i/db"),
        ("postgres://h:5432/db?sslmod=x", "postgres://h:5432/db?***"),
        # A password with a character that is not escaped, or in the place of something else.
        (f"postgres://u:/{PASSWORD}@h/db", "postgres://***"),
        (f"postgres://u:{PASSWORD}/x@h/db", "postgres://***"),
        (f"postgres://u:{PASSWORD}?x@h/db", "postgres://***"),
        (f"postgres://u:1?{PASSWORD}@h/db", "postgres://***"),
        (f"postgres://u:1?sslmode={PASSWORD}@h/db", "postgres://***"),
        (f"postgres://u:{PASSWORD}#x@h/db", "postgres://***"),
        (f"postgres://u:x#{PASSWORD}@h/db", "postgres://***"),
        (f"postgres://u:{PASSWORD}", "postgres://***"),
        (f"postgres://u:{PASSWORD}/db", "postgres://***"),
        ("postgres://u:12345", "postgres://***"),
        (f"postgres:/u:{PASSWORD}@h/db", "postgres://***"),
        (f"postgre://u:{PASSWORD}@h/db", "postgre://***"),
        (f"postgres:u:{PASSWORD}@h/db", "postgres://***"),
        (f"u:{PASSWORD}@h/db", None),
        (f"{PASSWORD}:@h/db", None),
        (f"host=h password={PASSWORD}", None),
        # Passwords in the query.
        (f"postgres://h/db?password={PASSWORD}&sslmode=no", "postgres://h/db?***"),
        (f"postgres://h/db?sslpassword={PASSWORD}&a=b", "postgres://h/db?***"),
        (f"postgres://h/db?sslmode=no&password={PASSWORD}", "postgres://h/db?sslmode=no&***"),
        (f"postgres://h/db?pasword={PASSWORD}", "postgres://h/db?***"),
        (f"mysql://h/db?password={PASSWORD}", "mysql://h/db?***"),
        (f"postgres://h/db?password=a&{PASSWORD}=x", "postgres://h/db?***"),
        (f"postgres://h/db?password=a&{PASSWORD}", "postgres://h/db?***"),
        (f"postgres://h/db?password=a={PASSWORD}", "postgres://h/db?***"),
        (f"postgres://h/db?password=a@{PASSWORD}", "postgres://***"),
        (f"postgres://h/db?password=a#{PASSWORD}", "postgres://***"),
        (f"postgres://h/db?{PASSWORD}", "postgres://h/db?***"),
        (f"postgres://h/db?sslmode=require;password={PASSWORD}", "postgres://h/db?***"),
        (f"postgres://h/db&password={PASSWORD}", "postgres://***"),
        (f"sqlite:x?password={PASSWORD}", "sqlite:x?***"),
    ],
)
def test_a_refused_dsn_is_shown_as_far_as_it_is_safe(text: str, shown: str | None) -> None:
    assert refusal(text).dsn == shown


def test_an_escape_is_suggested_for_a_password_with_delimiters() -> None:
    for password in ("a/b", "a?b", "a#b", "a%b", "a/b@c"):
        message = str(refusal(f"postgres://u:{password}@h/db"))
        assert "'@' as %40" in message
        assert "'/' %2F" in message


def test_a_long_refused_dsn_is_shown_in_part() -> None:
    shown = refusal(f"sqlite:{'x' * 5000}?mode=no").dsn

    assert shown is not None
    assert len(shown) == 300


# ------------------------------------------------------------------------------------ pool options


@for_each("base", ["sqlite:x.db", "sqlite::memory:", "postgres:///d", "mysql:///d"])
@for_each(
    ("query", "options"),
    [
        ("", PoolOptions()),
        ("max_connections=1", PoolOptions(max_connections=1)),
        ("max_connections=1000", PoolOptions(max_connections=1000)),
        ("stale_timeout=0", PoolOptions(stale_timeout_s=0)),
        ("stale_timeout=0.00", PoolOptions(stale_timeout_s=0)),
        ("stale_timeout=86400", PoolOptions(stale_timeout_s=86400)),
        ("pool_timeout=0.001", PoolOptions(pool_timeout_s=0.001)),
        ("pool_timeout=2.5", PoolOptions(pool_timeout_s=2.5)),
        ("connect_timeout=010", PoolOptions()),
        (
            "max_connections=3&stale_timeout=4&pool_timeout=5&connect_timeout=6.5",
            PoolOptions(
                max_connections=3, stale_timeout_s=4, pool_timeout_s=5, connect_timeout_s=6.5
            ),
        ),
    ],
)
def test_every_backend_takes_pool_options(base: str, query: str, options: PoolOptions) -> None:
    dsn = Dsn.parse(f"{base}?{query}")

    assert dsn.pool == options
    assert not dsn.parameters
    assert Dsn.parse(dsn.reveal()) == dsn


def test_the_pool_has_defaults() -> None:
    assert PoolOptions() == PoolOptions(
        max_connections=10, stale_timeout_s=1800, pool_timeout_s=30, connect_timeout_s=10
    )


@for_each(
    ("name", "value"),
    [
        *(("max_connections", value) for value in ("0", "1001", "-1", "1.5", "x", "", "1e2", "٣")),
        *(("stale_timeout", value) for value in ("-1", "86401", "0.0001", "nan", "inf", "x", "")),
        *(("pool_timeout", value) for value in ("0", "0.0", "86400.5", "1.", ".5", "1e1", "1_0")),
        *(("connect_timeout", value) for value in ("0", "99999999999", "+1", " 1", "1s")),
    ],
)
def test_bad_pool_options_are_refused(name: str, value: str) -> None:
    assert refusal(f"postgres:///db?{name}={value}").part == f"parameter {name!r}"


# -------------------------------------------------------------------------------------- the value


def test_it_is_immutable_and_hashable() -> None:
    dsn = Dsn.parse(f"postgres://u:{PASSWORD}@h/db?sslmode=require")

    with pytest.raises(dataclasses.FrozenInstanceError):
        dsn.database = "other"  # type: ignore[misc]  # the subject
    with pytest.raises(TypeError):
        dsn.parameters["sslmode"] = "disable"  # type: ignore[index]  # the subject
    assert len({dsn, Dsn.parse(dsn.reveal()), Dsn.parse("sqlite:x")}) == 2


def test_equality_is_by_meaning() -> None:
    one = Dsn.parse("postgresql://u:p%61@h:5/db?sslmode=require&options=x")

    assert one == Dsn.parse("postgres://h/db?options=x&port=5&user=u&password=pa&ssl-mode=require")
    assert one != Dsn.parse("postgres://u:pb@h:5/db?sslmode=require&options=x")


@for_each(
    ("text", "changes", "reveals"),
    [
        ("sqlite:x?mode=rwc", {"mode": "rw"}, "sqlite://x?mode=rw"),
        ("sqlite:x", {"path": "a?b"}, "sqlite://a%3Fb?mode=rw"),
        ("sqlite:x", {"mode": "memory"}, "sqlite::memory:"),
        ("postgres://u:p@h/db", {"database": "a/b"}, "postgres://u:p@h/a%2Fb"),
        ("postgres://u:p@h/db", {"password": None}, "postgres://u@h/db"),
        ("postgres://u@h/db", {"password": Secret("a@b")}, "postgres://u:a%40b@h/db"),
        ("postgres://h/db", {"hosts": (Host("::1", 5),)}, "postgres://[::1]:5/db"),
        ("postgres://h/db", {"parameters": {"sslmode": "require"}}, None),
        (
            "mysql://h/db",
            {"pool": PoolOptions(max_connections=1, connect_timeout_s=0.5)},
            "mysql://h/db?max_connections=1&connect_timeout=0.5",
        ),
    ],
)
def test_replace_changes_what_is_given(
    text: str, changes: dict[str, Any], reveals: str | None
) -> None:
    changed = Dsn.parse(text).replace(**changes)

    assert changed.reveal() == (reveals or "postgres://h/db?sslmode=require")
    assert Dsn.parse(changed.reveal()) == changed


@for_each(
    ("changes", "part"),
    [
        ({"database": ""}, "database"),
        ({"database": "\udcff"}, "database"),
        ({"hosts": (Host("a b", None),)}, "host"),
        ({"hosts": (Host("a", 70000),)}, "port"),
        ({"password": Secret(f"{PASSWORD}\udcff")}, "password"),
        ({"parameters": {"sslmode": "no"}}, "parameter 'sslmode'"),
        ({"pool": PoolOptions(max_connections=0)}, "parameter 'max_connections'"),
        ({"pool": PoolOptions(pool_timeout_s=float("nan"))}, "parameter 'pool_timeout'"),
        ({"backend": "mysql", "hosts": (Host("a", None), Host("b", None))}, "host"),
    ],
)
def test_replace_checks_as_parse_does(changes: dict[str, Any], part: str) -> None:
    dsn = Dsn.parse(f"postgres://u:{PASSWORD}@h/db")

    with pytest.raises(DSNError) as caught:
        dsn.replace(**changes)

    assert caught.value.part == part
    assert PASSWORD not in everything_said(caught.value)


def test_replace_knows_the_attributes() -> None:
    with pytest.raises(TypeError):
        Dsn.parse("sqlite:x").replace(databse="x")


def test_pickling_stops_at_a_password() -> None:
    plain = Dsn.parse("postgres://u@h/db?sslmode=require")

    assert pickle.loads(pickle.dumps(plain)) == plain
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Dsn.parse("postgres://u:p@h/db"))
