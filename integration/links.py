"""A broker with two listeners: the connections through one of them can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from ftjm.lab.chaos.proxies import Link
from ftjm.local.broker_settings import Listener
from ftjm.local.kafka import EmbeddedKafka


class RequestKind(IntEnum):
    """The API key of a request in Kafka's protocol: its first number."""

    WRITE = 0
    """Produce."""
    READ = 1
    """Fetch."""


class Valve(Link):
    """A link that can also hold back one kind of request: connections stay open, clients wait for the answers to such
    requests, and all other requests pass."""

    def __init__(self, port: int, target: int) -> None:
        super().__init__(port, target)
        self._shut: RequestKind | None = None
        self._open = threading.Event()
        self._open.set()

    def shut(self, what: RequestKind) -> None:
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

    def _read_request(self, source: socket.socket) -> bytes:
        """Read the next request, with its length in front; empty at the end of the connection."""
        size = source.recv(4, socket.MSG_WAITALL)
        body = source.recv(int.from_bytes(size), socket.MSG_WAITALL) if len(size) == 4 else b""
        if not body:
            return b""
        if body[1] == self._shut:
            self._open.wait()
        return size + body


@contextlib.contextmanager
def linked_kafka(folder: Path, base_port: int) -> Iterator[tuple[EmbeddedKafka, Valve]]:
    """Start a broker with two listeners: `bootstrap` is direct, the other one is reached through the link only."""
    direct, through = base_port + 5, base_port + 6
    link = Valve(through, direct)
    try:
        with EmbeddedKafka(folder, 1, base_port, listeners=[[Listener("LINKED", direct, through)]]) as kafka:
            yield kafka, link
    finally:
        link.close()
