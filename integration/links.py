"""A broker with two doors, of which one can be cut off."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from ftjm.chaos.links import Link
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.settings import Door


class Asked(IntEnum):
    """What a request of Kafka's protocol asks for: its first number."""

    WRITE = 0
    """Produce."""
    READ = 1
    """Fetch."""


class Valve(Link):
    """A link that can also be cut for one kind of request: its connections stay, and those who wait for an answer to
    such a one wait, while all else passes."""

    def __init__(self, port: int, target: int) -> None:
        super().__init__(port, target)
        self._shut: Asked | None = None
        self._open = threading.Event()
        self._open.set()

    def shut(self, what: Asked) -> None:
        """Hold back all requests of this kind from now on."""
        self._shut = what
        self._open.clear()

    def mend(self) -> None:
        self._shut = None
        self._open.set()
        super().mend()

    def close(self) -> None:
        self._open.set()
        super().close()

    def _pump(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        if source.getpeername()[1] == self._target:
            super()._pump(source, sink, generation)
            return
        with contextlib.suppress(OSError):
            while request := _request(source):
                self._whole.wait()
                if request[5] == self._shut:
                    self._open.wait()
                if generation == self._generation:
                    sink.sendall(request)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _request(source: socket.socket) -> bytes:
    """The next request with its length before it; empty at the connection's end."""
    size = source.recv(4, socket.MSG_WAITALL)
    body = source.recv(int.from_bytes(size), socket.MSG_WAITALL) if len(size) == 4 else b""
    return size + body if body else b""


@contextlib.contextmanager
def linked_kafka(folder: Path, base_port: int) -> Iterator[tuple[EmbeddedKafka, Valve]]:
    """A broker with two doors: `bootstrap` as always, and one that is reached through the link alone."""
    direct, through = base_port + 5, base_port + 6
    link = Valve(through, direct)
    try:
        with EmbeddedKafka(folder, 1, base_port, doors=[[Door("LINKED", direct, through)]]) as kafka:
            yield kafka, link
    finally:
        link.close()
