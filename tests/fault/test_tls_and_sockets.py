"""Why TLS or a socket failed, in the words of real drivers, and a hint that fits."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymysql.constants import CLIENT

from gproxy_storage.database import db_from_dsn, session
from tests.cases import for_each
from tests.fault.test_bad_connections import listening, refused
from tests.support import opened

# A server's first packet, with TLS among what it can do: protocol 10, version, 20 bytes of salt.
GREETING = (
    b"\x0a8.0.30\x00" + (1).to_bytes(4, "little") + b"saltsalt\x00"
    b"\xff\xff\x2d\x02\x00\xff\xdf\x15"
    + b"\x00" * 10
    + b"saltsaltsalt\x00mysql_native_password\x00"
)


def certificate(
    path: Path, name: str, *, days: int = 1, signed_by: tuple[Any, Any] | None = None
) -> tuple[Any, Any]:
    """Write a certificate and its key as PEM; return both."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = datetime.now(UTC) + timedelta(days=days)
    issuer, issuer_key = (signed_by[0].subject, signed_by[1]) if signed_by else (subject, key)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=30))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(pem)
    )
    return made, key


def tls_server(scheme: str, certificate: Path) -> Callable[[socket.socket], None]:
    """Return what answers a connection as that server does, up to the end of TLS's handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer(peer: socket.socket) -> None:
        if scheme == "postgres":
            peer.recv(8)  # SSLRequest
            peer.sendall(b"S")
        else:
            peer.sendall(len(GREETING).to_bytes(3, "little") + b"\x00" + GREETING)
            peer.recv(36)  # the request to go on in TLS
        with suppress(OSError), context.wrap_socket(peer, server_side=True) as inside:
            inside.recv(1)

    return answer


OPTIONS = {
    "postgres": ("sslmode=verify-full", "sslrootcert"),
    "mysql": ("ssl-mode=VERIFY_IDENTITY", "ssl-ca"),
}


@pytest.mark.parametrize("scheme", OPTIONS)
@pytest.mark.parametrize("fault", ["self-signed", "expired", "other name"])
def test_a_certificate_that_is_not_trusted(tmp_path: Path, scheme: str, fault: str) -> None:
    ca = certificate(tmp_path / "ca.pem", "our CA")
    certificate(
        tmp_path / "server.pem",
        "elsewhere" if fault == "other name" else "localhost",
        days=-2 if fault == "expired" else 1,
        signed_by=None if fault == "self-signed" else ca,
    )
    mode, root = OPTIONS[scheme]
    hints = {
        ("postgres", "self-signed"): "check that sslrootcert is the CA that signed",
        ("postgres", "expired"): "and the dates of both",
        ("postgres", "other name"): "use sslmode=verify-ca",
        ("mysql", "self-signed"): "give the CA that signed the server's certificate as ssl-ca",
        ("mysql", "expired"): "renew the server's certificate",
        ("mysql", "other name"): "use ssl-mode=VERIFY_CA",
    }
    with listening(tls_server(scheme, tmp_path / "server.pem")) as port:
        refused(
            f"{scheme}://u@localhost:{port}/d?{mode}&{root}={tmp_path}/ca.pem&connect_timeout=5",
            hints[scheme, fault],
        )


@pytest.mark.parametrize("scheme", OPTIONS)
def test_a_server_without_tls(scheme: str) -> None:
    without = GREETING.replace(b"saltsalt\x00\xff\xff", b"saltsalt\x00\xff\xf7", 1)

    def answer(peer: socket.socket) -> None:
        if scheme == "postgres":
            peer.recv(8)
            peer.sendall(b"N")
        else:
            peer.sendall(len(without).to_bytes(3, "little") + b"\x00" + without)
        peer.recv(100)

    option = {"postgres": "sslmode=require", "mysql": "ssl-mode=REQUIRED"}[scheme]
    with listening(answer) as port:
        refused(f"{scheme}://u@127.0.0.1:{port}/d?{option}", "it has no TLS: use ")


@pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
def test_tls_that_checks_no_certificate_reads_none(
    shared_database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the system's takes longer than all else that opening a connection takes."""
    monkeypatch.delattr(ssl.SSLContext, "load_default_certs")
    with opened(shared_database_dsn) as database, session(database):
        connection = database.connection()
        offers_tls = bool(connection.server_capabilities & CLIENT.SSL)
        ((_, cipher),) = database.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")

    assert bool(cipher) is offers_tls


def test_a_socket_that_is_absent(tmp_path: Path) -> None:
    refused(
        f"postgres://u@/d?host={tmp_path}",
        "No such file or directory",
        "that its socket is in that directory, or name a host",
    )


def test_a_root_certificate_that_is_absent(tmp_path: Path) -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(8)
        peer.sendall(b"S")
        peer.recv(1)

    with listening(answer) as port:
        refused(
            f"postgres://u@localhost:{port}/d?sslmode=verify-full&sslrootcert={tmp_path}/ca.pem",
            "give the certificate of the CA as sslrootcert",
        )


@for_each(
    ("dsn", "error", "hint"),
    [
        (
            "postgres://u@/d",
            psycopg2.OperationalError(
                'connection to server on socket "/run/x/.s.PGSQL.5432" failed: Permission denied'
            ),
            "check the modes of the socket and its directory",
        ),
        (
            "postgres://u@/d",
            psycopg2.OperationalError(
                'FATAL:  no pg_hba.conf entry for host "::1", user "u", database "d", no encryption'
            ),
            "use sslmode=require, or allow this client",
        ),
        (
            "postgres://u@/d",
            psycopg2.OperationalError('FATAL:  Peer authentication failed for user "u"'),
            "the socket admits only the operating system's user of that name",
        ),
        (
            "postgres://u@h/d",
            psycopg2.OperationalError("FATAL:  connection requires a valid client certificate"),
            "check sslcert and sslkey",
        ),
        # Not asked of PyMySQL itself, which leaves such a socket to the collector.
        (
            "mysql://u@/d?socket=/run/s.sock",
            pymysql.OperationalError(
                2003, "Can't connect to MySQL server on 'localhost' ([Errno 2] No such file)"
            ),
            "check that the server runs and that its socket exists, or name a host",
        ),
        (
            "mysql://u@/d?socket=/run/s.sock",
            pymysql.OperationalError(
                2003, "Can't connect to MySQL server on 'localhost' ([Errno 13] Permission denied)"
            ),
            "check the modes of the socket and its directory",
        ),
        (
            "mysql://u@h/d",
            pymysql.OperationalError(
                3159,
                "Connections using insecure transport are prohibited while "
                "--require_secure_transport=ON.",
            ),
            "use ssl-mode=REQUIRED",
        ),
        (
            "mysql://u@h/d",
            pymysql.OperationalError(1130, "Host 'x' is not allowed to connect to this server"),
            "give the user an account for this client's host",
        ),
    ],
)
def test_what_takes_a_server_of_its_own(dsn: str, error: Exception, hint: str) -> None:
    assert hint in str(db_from_dsn(dsn).connect_error(error))
