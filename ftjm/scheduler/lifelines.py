"""Lifelines: a TCP connection from each scheduler to each other one. Its end shows at once that a process has died.

Nothing is sent on a lifeline. When a process is killed, the kernel closes its connections and refuses new ones to its
port: both together count as its death. If a host is lost, or a process is only stopped, the connection stays. Then
the consumer group notices when the session ends.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

from ftjm.runtime import logs

log = logs.get(__name__)

Address = tuple[str, int]
WATCHERS_MAX = 256
"""At most this many other schedulers may watch this one."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_SECONDS = 0.5
"""If a port neither accepts nor refuses a connection in this time, it is not known whether the peer lives."""
RETRY_SECONDS = 0.5
"""Pause before a peer without a connection is tried again, and after an unexpected exception."""
NO_HANDLE_SECONDS = 0.05
"""Pause when this process has no file handle left for another connection."""


class Lifelines:
    """Accepts the lifelines of other schedulers, and watches peers by lifelines to them, on a thread of its own."""

    def __init__(self, host: str, died: Callable[[str], None]) -> None:
        """Listen on a free port, and start the thread.

        Args:
            host: the address to listen on.
            died: called with the name of each peer that has died, by the thread, once for each.

        Raises:
            OSError: it cannot listen on `host`.
        """
        self._died = died
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family, backlog=WATCHERS_MAX)
        self._server.setblocking(False)
        self.port = int(self._server.getsockname()[1])
        self._wanted: Mapping[str, Address] = {}
        """The peers to watch."""
        self._lifelines: dict[str, tuple[Address, socket.socket]] = {}
        """The connections to peers."""
        self._dead: set[str] = set()
        """Peers whose death was reported."""
        self._watchers: set[socket.socket] = set()
        """The connections of schedulers that watch this one."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: self._woken.recv(4096))
        self._open = True
        self._thread = threading.Thread(target=self._run, name="lifelines", daemon=True)
        self._thread.start()

    def watch(self, addresses: Mapping[str, Address]) -> None:
        """Set the peers to watch from now on: name to host and port."""
        if addresses != self._wanted:
            self._wanted = dict(addresses)
            self._wake.send(b"w")

    def close(self) -> None:
        """Close all connections, and wait until the thread has ended."""
        self._open = False
        self._wake.send(b"c")
        self._thread.join()
        # Not by the thread: it may have seen that it should end before it was woken.
        self._wake.close()
        self._woken.close()

    def _run(self) -> None:
        while self._open:
            try:
                for key, _ in self._selector.select(RETRY_SECONDS):
                    key.data()
                self._update_connections()
            except Exception:  # one peer with a wrong address must not keep this thread from watching the others
                log.exception("lifelines_failed", todo="report this; until it is mended, deaths are noticed later")
                time.sleep(RETRY_SECONDS)
        for connection in (*(connection for _, connection in self._lifelines.values()), *self._watchers):
            connection.close()
        self._server.close()
        self._selector.close()

    def _accept(self) -> None:
        """Accept the lifeline of another scheduler, unless there are too many."""
        try:
            connection, _ = self._server.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # the selector would report the same connection at once
                time.sleep(NO_HANDLE_SECONDS)
            return
        if len(self._watchers) >= WATCHERS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        self._watchers.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._drop_watcher(connection))

    def _drop_watcher(self, connection: socket.socket) -> None:
        """Close the lifeline of another scheduler: it has ended, or has sent something, which no scheduler does."""
        self._selector.unregister(connection)
        self._watchers.discard(connection)
        connection.close()

    def _update_connections(self) -> None:
        """Connect to the peers that are to be watched, and disconnect from the others."""
        wanted = self._wanted
        self._dead &= wanted.keys()
        for name, (address, connection) in list(self._lifelines.items()):
            if wanted.get(name) != address:
                self._disconnect(name, connection)
        for name, address in wanted.items():
            if name not in self._lifelines and name not in self._dead:
                self._connect(name, address, first=True)

    def _disconnect(self, name: str, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._lifelines[name]
        connection.close()

    def _connection_ended(self, name: str) -> None:
        """The connection to a peer has ended. If a new one is refused, the peer is dead."""
        address, connection = self._lifelines[name]
        self._disconnect(name, connection)
        self._connect(name, address, first=False)

    def _connect(self, name: str, address: Address, *, first: bool) -> None:
        """Connect to a peer, or report its death.

        Args:
            name: name of the peer.
            address: its host and port, as its heartbeat gives them: perhaps no valid address.
            first: whether there was no connection to it before.
        """
        try:
            connection = socket.create_connection(address, CONNECT_SECONDS)
            connection.setblocking(False)
            self._lifelines[name] = (address, connection)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._connection_ended(name))
        except (OSError, ValueError, OverflowError) as error:
            # A port of another host that never accepted a connection may be behind a firewall.
            if getattr(error, "errno", None) == errno.ECONNREFUSED and (not first or address[0] in LOOPBACK):
                self._dead.add(name)
                self._died(name)
            else:
                log.debug("lifeline_unclear", peer=name, error=str(error))
