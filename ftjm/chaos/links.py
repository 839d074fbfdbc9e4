"""A wire between a client and a broker that can be cut: a listener of its own is advertised through it."""

from __future__ import annotations

import contextlib
import socket
import threading

from ftjm.embedded import settings

CHUNK = 1 << 16
POLL_SECONDS = 0.05


class Link:
    """Forwards connections from `port` to the broker's second listener, while it is whole.

    A cut link is silent, as a network is that loses every packet: connections stay open, and nothing passes. What was
    under way passes when it is mended, or (after `cut(forget=True)`, as where a firewall has lost its memory) never,
    and only new connections serve. A link that is `down` refuses connections, as a host does whose broker is gone.
    """

    def __init__(self, port: int, target: int) -> None:
        self.address = f"{settings.HOST}:{port}"
        self._port = port
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._listener: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._generation = 0

    def up(self) -> None:
        """Take connections, and let pass what they say."""
        self._whole.set()
        if self._listener is None:
            self._listener = socket.create_server((settings.HOST, self._port), backlog=128)
            threading.Thread(target=self._accept, args=[self._listener], name="link", daemon=True).start()

    def cut(self, *, forget: bool = False) -> None:
        """Nothing passes any more; with `forget`, over the present connections for ever."""
        if forget:
            self._generation += 1
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def down(self) -> None:
        """Close all connections, and refuse new ones."""
        if self._listener is not None:
            # A thread in `accept` keeps a closed socket listening.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
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
        with contextlib.suppress(OSError), socket.create_connection((settings.HOST, self._target)) as far, near:
            self._ends += [near, far]
            back = threading.Thread(target=self._pump, args=[far, near, generation], name="link-back", daemon=True)
            back.start()
            self._pump(near, far, generation)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._whole.wait()
                if generation == self._generation:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
