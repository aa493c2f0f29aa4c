"""A TCP proxy in front of a server, that cuts connections, refuses them, or hangs."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from gproxy_storage import Dsn


class TcpProxy:
    """Forwards a loopback port to another until told otherwise; `with` starts and ends it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._ended = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
        self._flowing.set()
        self._listener.close()
        self.cut()

    def dsn(self, dsn: str) -> str:
        """Return the DSN of the same database through this proxy."""
        parsed = Dsn.parse(dsn)
        hosts = tuple(host._replace(name="127.0.0.1", port=self.port) for host in parsed.hosts)
        return parsed.replace(hosts=hosts).reveal()

    def cut(self) -> None:
        """End all connections that there are."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def refuse(self) -> None:
        """End all connections, and each new one at once."""
        self._refusing = True
        self.cut()

    def hang(self) -> None:
        """Keep all connections, take new ones, and pass nothing on in either direction."""
        self._flowing.clear()

    def resume(self) -> None:
        """Forward again: the data delayed while hanging, and new connections."""
        self._refusing = False
        self._flowing.set()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flowing.wait()
        if self._refusing:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._sockets |= {client, server}
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._sockets -= {source, target}
