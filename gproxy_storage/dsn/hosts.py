"""The hosts of a DSN: names, addresses and socket directories, joined with their ports."""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from .rules import ip_addresses
from .text import ESCAPES, Source

_PLACE = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
_HOST_NAME = re.compile(r"[\w.-]*")

# surrogatepass: text that is not UTF-8 then fails in `parse`, whose DSNError does not show it.
quoted = partial(quote, errors="surrogatepass")


class Host(NamedTuple):
    """One host to connect to.

    Attributes:
        name: a host name as typed (libpq's password file is case-sensitive), an IP address without
            brackets, for postgres also a socket directory; "" is the driver's default.
        port: 1 to 65535, or None for the backend's default.
    """

    name: str
    port: int | None


def parse_hosts(
    source: Source, location: str, names: str | None, ports: str | None
) -> tuple[Host, ...]:
    """Join hosts with ports as libpq does: one port for all hosts, or one for each."""
    places = [_place(source, place) for place in location.split(",")]
    each_name = [name for name, _ in places] if names is None else names.split(",")
    each_port = [port for _, port in places] if ports is None else ports.split(",")
    if len(each_port) == 1:
        each_port *= len(each_name)
    if len(each_port) != len(each_name):
        problem = f"{len(each_port)} ports for {len(each_name)} hosts; give one, or one for each"
        raise source.error("port", problem)
    hosts = tuple(
        Host(_host_name(source, name), _port(source, port))
        for name, port in zip(each_name, each_port, strict=True)
    )
    if len(hosts) > 1 and any(not host.name for host in hosts):
        raise source.error("host", "one of several hosts is empty; name each")
    return () if hosts == (Host("", None),) else hosts


def _place(source: Source, place: str) -> tuple[str, str | None]:
    match = _PLACE.fullmatch(place)
    if match is None or (match[2] and ":" in match[2]):
        raise source.error("host", f"an IPv6 address is written [ADDRESS]; {ESCAPES}")
    return source.decode("host", match[1].removeprefix("[").removesuffix("]")), match[2]


def _host_name(source: Source, name: str) -> str:
    canonical: str | None = name
    if "," in name or not name.isprintable():
        canonical = None
    elif ":" in name and not is_socket(name):
        canonical = ip_addresses(name)
    elif not (is_socket(name) or _HOST_NAME.fullmatch(name)):
        canonical = None
    if canonical is None:
        raise source.error("host", f"it is not a host name, address or socket directory; {ESCAPES}")
    return canonical


def _port(source: Source, port: str | None) -> int | None:
    if port is None:
        return None
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise source.error("port", f"it must be a whole number from 1 to 65535; {ESCAPES}")
    return int(port)


def render_host(host: Host) -> str:
    """Return a host as part of a DSN, percent-encoded."""
    is_ipv6 = ":" in host.name and not is_socket(host.name)
    name = f"[{quoted(host.name, safe=':')}]" if is_ipv6 else quoted(host.name, safe="")
    return name if host.port is None else f"{name}:{host.port}"


def is_socket(host_name: str) -> bool:
    """Tell whether a host is the directory of a Unix socket."""
    return host_name.startswith(("/", "@"))  # "@": in Linux's abstract namespace
