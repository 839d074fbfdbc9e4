"""The supervisor's side of the guard: starts it, talks to it, and cleans up after it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ftjm.worker.processes import children, kill, kill_all_children
from ftjm.worker.protocol import Channel, Disconnected, Frame

KILL_SECONDS = 5.0
LEAVE_SECONDS = 10.0


class GuardLink:
    """One life of the guard process. Its attempts get directories of their own under `directory`."""

    def __init__(self, directory: Path, limit_bytes: int, apps: Sequence[str] = ()) -> None:
        """Start it: it takes frames at once, though it needs some 50 ms to act on them. Raises OSError."""
        ours, theirs = socket.socketpair()
        directory.mkdir(parents=True, exist_ok=True)
        # Whatever was there before is not the guard's.
        self._spare = frozenset(children())
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ftjm.worker.guard", str(theirs.fileno()), str(directory)),
                    *(str(limit_bytes), *apps),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # What attempts inherit comes from here: settings of ours may hold credentials.
                env={name: value for name, value in os.environ.items() if not name.startswith("FTJM_")},
                # A Ctrl-C in the terminal is for the supervisor, which decides what becomes of attempts.
                start_new_session=True,
            )
        self.channel = Channel(ours)
        self.fileno = self.channel.fileno
        self.flush = self.channel.flush
        self.receive = self.channel.receive

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def wants_write(self) -> bool:
        return self.channel.wants_write

    def send(self, frame: Frame) -> None:
        """Tell the guard; one that has died is noticed by `receive`."""
        with suppress(Disconnected):
            self.channel.send(frame)

    def kill(self) -> bool:
        """Kill the guard and, this process being their subreaper, all that it ran; False if something is left."""
        self.channel.close()
        kill(self.pid, signal.SIGKILL)
        self._process.wait()
        return kill_all_children(spare=self._spare, limit_seconds=KILL_SECONDS)

    def leave(self) -> None:
        """Let the guard end: it kills what still runs."""
        self.channel.close()
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            kill(self.pid, signal.SIGKILL)
            self._process.wait()
            kill_all_children(spare=self._spare, limit_seconds=KILL_SECONDS)
