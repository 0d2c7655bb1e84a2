"""TLS in front of a server that has none: also where the machine's Redis was built without."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path


class InFront:
    """Takes TLS connections at `port` of loopback and hands their bytes to `target`, another port.

    Args:
        certificate, key: that it shows, in PEM.
        clients: the authorities whose certificates it asks clients for; None: it asks for none.
    """

    def __init__(
        self, target: int, certificate: Path, key: Path, clients: Path | None = None
    ) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        if clients is not None:
            self._context.load_verify_locations(clients)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._target = target
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> InFront:
        return self

    def __exit__(self, *_: object) -> None:
        # A close alone does not wake who accepts.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def renew(self, certificate: Path, key: Path) -> None:
        """Shows another certificate from the next connection on."""
        self._context.load_cert_chain(certificate, key)

    def cut(self) -> None:
        """Ends all connections."""
        for each in [*self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        with contextlib.suppress(OSError), taken:
            taken.settimeout(10)
            with (
                self._context.wrap_socket(taken, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._target)) as server,
            ):
                client.settimeout(None)
                both = {client, server}
                self._open |= both
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()
                self._open -= both


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
