"""PyMySQL's connections: their parameters and TLS, and which errors are not theirs."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from ..dsn import Dsn
from ..errors import DSNError

_SOCKET_MODULES = {"pymysql", "socket", "ssl", "_socket", "gevent", "eventlet"}


class Connection(pymysql.connections.Connection):
    """PyMySQL's, but where TLS checks no certificate, none is read.

    For ssl-mode=PREFERRED PyMySQL reads all CAs of the system for each connection, 30 ms of
    computing, and then does not use them.
    """

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        if not sslp:
            return _unchecked_tls()
        context: ssl.SSLContext = super()._create_ssl_ctx(sslp)  # type: ignore[misc]  # it is private
        return context


def connect_params(dsn: Dsn) -> dict[str, Any]:
    """Return PyMySQL's keyword arguments: the tuning, then the DSN's."""
    options = dsn.parameters
    params: dict[str, Any] = {
        "charset": "utf8mb4",
        # Else an UPDATE that leaves a row as it was reports no row, as if there were none.
        "client_flag": CLIENT.FOUND_ROWS,
        "connect_timeout": dsn.pool.connect_timeout_s,
        "read_timeout": dsn.pool.connect_timeout_s,  # for the login; `_connect` raises it
        "write_timeout": dsn.pool.connect_timeout_s,
        "program_name": "gproxy",
        **_tls(dsn),
    }
    if "socket" in options:
        params["unix_socket"] = options["socket"]
    for host in dsn.hosts:
        params["host"] = host.name
        params["port"] = host.port or 3306
    if dsn.user is not None:
        params["user"] = dsn.user
    return params


def _tls(dsn: Dsn) -> dict[str, Any]:
    """Translate ssl-mode and its files (https://dev.mysql.com/doc/refman/en/connection-options).

    Raises:
        DSNError: when a file cannot be used; it names the parameters.
    """
    options = dsn.parameters
    ca, cert = options.get("ssl-ca"), options.get("ssl-cert")
    mode = options.get("ssl-mode", "VERIFY_CA" if ca else "PREFERRED")
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED" and not cert:
        return {}  # PyMySQL tries TLS and falls back
    part = "ssl-ca"
    try:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = mode == "VERIFY_IDENTITY"
        if not mode.startswith("VERIFY"):
            context.verify_mode = ssl.CERT_NONE
        if cert:
            part = "ssl-cert and ssl-key"
            # With an empty password, else OpenSSL would ask for one at the terminal.
            context.load_cert_chain(cert, options.get("ssl-key"), password="")
    except OSError as exc:  # an ssl.SSLError is one
        problem = f"{exc.strerror or exc}; name files in PEM form that can be read"
        raise DSNError(
            f"{dsn.setting or 'DSN'}: {part}: {problem} (in {dsn})",
            part=part,
            dsn=str(dsn),
            setting=dsn.setting,
        ) from exc
    return {"ssl": context}


@cache
def _unchecked_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def raised_outside_of_sockets(error: OSError) -> bool:
    """Whether code other than the driver's or a socket's raised it, such as a signal handler."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    innermost = step.tb_frame.f_globals.get("__name__", "") if step is not None else ""
    return innermost.partition(".")[0] not in _SOCKET_MODULES
