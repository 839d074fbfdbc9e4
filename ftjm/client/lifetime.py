"""How long a client can be used: until it is closed, and in the process that made it."""

from __future__ import annotations

import os

from ftjm.runtime.errors import FtjmError


class Lifetime:
    """That of one client. A forked process has a copy of the client, and none of its threads: nothing would be sent."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False

    def end(self) -> bool:
        """Close the client. Returns whether its connections are this process's own."""
        self._closed = True
        return self._pid == os.getpid()

    def check(self) -> None:
        """Raise FtjmError if the client was closed, or was made before this process was forked."""
        if self._closed:
            raise FtjmError("an open client", "one that was closed", "make a new one, or close it later")
        if self._pid != os.getpid():
            found = f"one that process {self._pid} made before it forked this process, {os.getpid()}"
            raise FtjmError("a client that this process made", found, "make one in the forked process")
