"""What a database and its connections show of the passwords that they connect with."""

from __future__ import annotations

import pickle
import pprint
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from gproxy_storage import Dsn, Storage
from gproxy_storage.backends import postgres
from gproxy_storage.database import db_from_dsn, session
from gproxy_storage.errors import ConfigError, ConnectError
from gproxy_storage.secret import Secret, SecretBytes, SecretText
from tests import servers
from tests.servers.process import free_port
from tests.support import everything_in_frames, opened

PASSWORD = "Pw0rd ' \\ ä %$@:/"

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)


@only_servers
def test_what_an_open_database_shows(shared_database_dsn: str) -> None:
    secret = Dsn.parse(shared_database_dsn).password
    with opened(shared_database_dsn) as database, session(database):
        shown = [
            repr(database),
            str(database),
            repr(vars(database)),
            pprint.pformat(vars(database)),
        ]
        conn = database.connection()
        shown += [
            repr(conn),
            repr(getattr(conn, "__dict__", None)),
            str(getattr(conn, "dsn", None)),
        ]
    assert secret
    assert secret.reveal() not in " ".join(shown)
    assert secret.reveal().encode() not in database.connect_params.values()


@pytest.mark.parametrize("scheme", ["postgres", "mysql"])
def test_no_frame_shows_a_password(scheme: str) -> None:
    dsn = Dsn.parse(f"{scheme}://nobody:x@127.0.0.1:{free_port()}/d").replace(
        password=Secret(PASSWORD)
    )
    for connect in (Storage.connect, Storage.inspect):
        with pytest.raises(ConnectError) as caught:
            connect(dsn.reveal())
        assert "nobody" in everything_in_frames(caught.value)
        assert "Pw0rd" not in everything_in_frames(caught.value)
    with pytest.raises(TypeError):
        pickle.dumps(db_from_dsn(dsn.reveal()))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://u:Pw0rd@h:99999/d",
        "postgres://u:Pw0rd#@h/d",
        "postgres://u:Pw0rd@h/d?sslmode=never",
        "postgres://u@h/d?sslpassword=Pw0rd&x=1",
        "mysql://u:Pw0rd@h,h2/d",
        "oracle://u:Pw0rd@h/d",
        "sqlite://u:Pw0rd@h/d",
    ],
)
def test_no_frame_shows_a_dsn_that_is_refused(dsn: str) -> None:
    for call in (Dsn.parse, db_from_dsn, Storage.connect, Storage.inspect, open_with):
        with pytest.raises(ConfigError) as caught:
            call(dsn)
        assert "Pw0rd" not in everything_in_frames(caught.value)


def open_with(dsn: str) -> Storage:
    return Storage.open(dsn=dsn, secret_key="Pw0rd")


def test_no_frame_shows_a_secret_that_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Storage.connect("sqlite::memory:", "Pw0rd\udcff")
    assert "Pw0rd" not in everything_in_frames(caught.value)


def test_no_frame_shows_the_secret_of_a_database_that_cannot_be_opened() -> None:
    with pytest.raises(ConnectError) as caught:
        Storage.connect("sqlite://no/such/dir/x.db", "Pw0rd" * 5)
    assert "Pw0rd" not in everything_in_frames(caught.value)


def test_postgres_gets_its_secrets_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def connection(conninfo: str) -> Any:
        given.append(conninfo)
        raise psycopg2.OperationalError("enough seen")

    monkeypatch.setattr(postgres, "_Connection", connection)
    dsn = Dsn.parse("postgres://u@h/d?sslpassword=a'b%5C").replace(password=Secret(PASSWORD))
    database = db_from_dsn(dsn)
    with pytest.raises(ConnectError) as caught, session(database):
        pass

    assert parse_dsn(given[0])["password"] == PASSWORD
    assert parse_dsn(given[0])["sslpassword"] == "a'b\\"
    for shown in (repr(vars(database)), repr(dsn.parameters), everything_in_frames(caught.value)):
        assert "Pw0rd" not in shown
        assert "a'b" not in shown


def test_what_a_driver_makes_of_a_secret_stays_redacted() -> None:
    secret = SecretBytes(b"Pw0rd")
    for made in (secret + b"\0", b"head" + secret, b"a" + secret + b"b"):
        assert bytes(made).find(b"Pw0rd") >= 0
        assert "Pw0rd" not in repr([made])
    for what in (secret, SecretText("Pw0rd")):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(what)
