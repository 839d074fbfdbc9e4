"""Lifelines: a TCP connection from each scheduler to each other one, whose end tells at once that a process has died.

Nothing is ever said on one. When a process is killed, the kernel closes its connections and refuses new ones to its
port: both together are taken for its death. A host that is lost says nothing, nor does a process that is stopped: for
these there is the group's session.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

from ftjm import logs

log = logs.get(__name__)

Address = tuple[str, int]
LISTENERS_MAX = 256
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_SECONDS = 0.5
"""A port that neither takes nor refuses a connection in this time tells nothing."""
TURN_SECONDS = 0.5
FULL_SECONDS = 0.05
"""Where this process has no file handle left for another connection."""


class Lifelines:
    """Listens for others, and watches those whom it is told of; `died` is called from its own thread, once for each."""

    def __init__(self, host: str, died: Callable[[str], None]) -> None:
        """Raises OSError if it cannot listen on `host`."""
        self._died = died
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family, backlog=LISTENERS_MAX)
        self._server.setblocking(False)
        self.port = int(self._server.getsockname()[1])
        self._wanted: Mapping[str, Address] = {}
        self._lines: dict[str, tuple[Address, socket.socket]] = {}
        self._gone: set[str] = set()
        self._listeners: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: self._woken.recv(4096))
        self._open = True
        self._thread = threading.Thread(target=self._run, name="lifelines", daemon=True)
        self._thread.start()

    def watch(self, addresses: Mapping[str, Address]) -> None:
        """Whom to watch from now on, by name."""
        if addresses != self._wanted:
            self._wanted = dict(addresses)
            self._wake.send(b"w")

    def close(self) -> None:
        self._open = False
        self._wake.send(b"c")
        self._thread.join()

    def _run(self) -> None:
        while self._open:
            try:
                for key, _ in self._selector.select(TURN_SECONDS):
                    key.data()
                self._tie()
            except Exception:  # whatever one peer says of itself, the others are watched on
                log.exception("lifelines_failed", todo="report it; deaths are noticed later meanwhile")
                time.sleep(TURN_SECONDS)
        for line in (*(line for _, line in self._lines.values()), *self._listeners):
            line.close()
        for own in (self._server, self._wake, self._woken):
            own.close()
        self._selector.close()

    def _accept(self) -> None:
        try:
            line, _ = self._server.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # it would be asked again at once, and for ever
                time.sleep(FULL_SECONDS)
            return
        if len(self._listeners) >= LISTENERS_MAX:
            line.close()
            return
        line.setblocking(False)
        self._listeners.add(line)
        self._selector.register(line, selectors.EVENT_READ, lambda: self._drop(line))

    def _drop(self, line: socket.socket) -> None:
        """One who watched us has gone, or says something, which nobody should."""
        self._selector.unregister(line)
        self._listeners.discard(line)
        line.close()

    def _tie(self) -> None:
        """Connect to those who are wanted, and let go of the others."""
        wanted = self._wanted
        self._gone &= wanted.keys()
        for name, (address, line) in list(self._lines.items()):
            if wanted.get(name) != address:
                self._let_go(name, line)
        for name, address in wanted.items():
            if name not in self._lines and name not in self._gone:
                self._reach(name, address, first=True)

    def _hold(self, name: str, address: Address, line: socket.socket) -> None:
        line.setblocking(False)
        self._lines[name] = (address, line)
        self._selector.register(line, selectors.EVENT_READ, lambda: self._broken(name))

    def _let_go(self, name: str, line: socket.socket) -> None:
        self._selector.unregister(line)
        del self._lines[name]
        line.close()

    def _broken(self, name: str) -> None:
        """The connection has ended: dead if a new one is refused."""
        address, line = self._lines[name]
        self._let_go(name, line)
        self._reach(name, address, first=False)

    def _reach(self, name: str, address: Address, *, first: bool) -> None:
        try:
            self._hold(name, address, socket.create_connection(address, CONNECT_SECONDS))
        except (OSError, ValueError, OverflowError) as error:  # what is said may be no address at all
            # A port of another host that never took a connection may be behind a firewall.
            if getattr(error, "errno", None) == errno.ECONNREFUSED and (not first or address[0] in LOOPBACK):
                self._gone.add(name)
                self._died(name)
            else:
                log.debug("lifeline_unclear", peer=name, error=str(error))
