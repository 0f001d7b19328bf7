"""A way to a server that can be cut, closed, or made mute, as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from deployments.embedded.ports import LOOPBACK


class Relay:
    """Passes connections on to a port of this machine."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.is_mute = False
        self.listener = socket.create_server((LOOPBACK, 0))
        self.port = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def mute(self) -> None:
        """Take new connections and never answer them; those that exist carry nothing any more."""
        self.is_mute = True

    def refuse(self) -> None:
        """Refuse new connections."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def cut(self) -> None:
        """End every connection."""
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.sockets.append(client)
                if not self.is_mute:
                    server = socket.create_connection((LOOPBACK, self.server_port))
                    self.sockets.append(server)
                    for ends in ((client, server), (server, client)):
                        threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                if not self.is_mute:
                    other.sendall(content)
            other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A relay that ends with the block."""
    way = Relay(port)
    try:
        yield way
    finally:
        way.refuse()
        way.cut()
        for end in way.sockets:
            end.close()
