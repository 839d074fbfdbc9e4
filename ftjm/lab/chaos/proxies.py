"""A proxy between one process and one broker that can be cut.

The broker has a listener of its own for each process, and advertises the address of the proxy for it. So all
connections of the process to the broker go through the proxy.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from ftjm.local import broker_settings

CHUNK = 1 << 16


def _read_some(source: socket.socket) -> bytes:
    return source.recv(CHUNK)


class Link:
    """Forwards connections from `port` to the port `target` of the broker.

    A cut link is silent, like a network that loses every packet: connections stay open, and nothing passes. After
    `mend`, the bytes that waited pass. After `cut(forget=True)` they never pass, and only new connections work, as
    behind a firewall that has lost its table of connections. A link that is `down` refuses connections, like a host
    without a broker.
    """

    def __init__(self, port: int, target: int) -> None:
        self.address = f"{broker_settings.HOST}:{port}"
        self._port = port
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._listener: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._generation = 0

    def up(self) -> None:
        """Accept connections, and forward their bytes."""
        self._whole.set()
        if self._listener is None:
            self._listener = socket.create_server((broker_settings.HOST, self._port), backlog=128)
            threading.Thread(target=self._accept, args=[self._listener], name="link", daemon=True).start()

    def cut(self, *, forget: bool = False) -> None:
        """Let nothing pass. With `forget`, the present connections stay silent after `mend`, too."""
        if forget:
            self._generation += 1
        self._whole.clear()

    def mend(self) -> None:
        """Let bytes pass again."""
        self._whole.set()

    def down(self) -> None:
        """Close all connections, and refuse new ones."""
        if self._listener is not None:
            # Without a shutdown, the thread in `accept` would keep the closed socket listening.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        """Close all connections, and end all threads."""
        self.down()
        self._generation += 1
        self._whole.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=[near], name="link-connection", daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        generation = self._generation
        self._whole.wait()
        with contextlib.suppress(OSError), socket.create_connection((broker_settings.HOST, self._target)) as far, near:
            self._ends += [near, far]
            back = threading.Thread(target=self._pump, args=[far, near, generation], name="link-back", daemon=True)
            back.start()
            self._pump(near, far, generation, self._read_request)
            back.join()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        generation: int,
        read: Callable[[socket.socket], bytes] = _read_some,
    ) -> None:
        """Pass on what `read` returns, until it returns nothing. A connection may be closed at any moment."""
        with contextlib.suppress(OSError):
            while data := read(source):
                self._whole.wait()
                if generation == self._generation:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _read_request(self, source: socket.socket) -> bytes:
        """Read what the process sends to the broker. A subclass may wait here, to hold it back."""
        return _read_some(source)
