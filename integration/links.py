"""A wire between clients and a broker that a test can cut: a listener of its own is advertised through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.embedded import settings
from ftjm.embedded.kafka import EmbeddedKafka

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


@contextlib.contextmanager
def linked_kafka(folder: Path, base_port: int, patch: pytest.MonkeyPatch) -> Iterator[tuple[EmbeddedKafka, Link]]:
    """A broker with two doors: `bootstrap` as always, and one that is reached through the link alone."""
    direct, through = base_port + 5, base_port + 6
    original = settings.server_properties

    def two_doors(node: settings.Node) -> dict[str, str]:
        values = original(node)
        return values | {
            "listeners": f"{values['listeners']},LINKED://{settings.HOST}:{direct}",
            "advertised.listeners": f"{values['advertised.listeners']},LINKED://{settings.HOST}:{through}",
            "listener.security.protocol.map": f"{values['listener.security.protocol.map']},LINKED:PLAINTEXT",
        }

    patch.setattr(settings, "server_properties", two_doors)
    link = Link(through, direct)
    try:
        with EmbeddedKafka(folder, 1, base_port) as kafka:
            yield kafka, link
    finally:
        link.close()
