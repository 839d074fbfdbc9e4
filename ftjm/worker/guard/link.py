"""The supervisor's side of the guard: starts the process, sends and receives frames, and cleans up after it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ftjm.runtime import private_files
from ftjm.worker.attempts.linux_processes import children, descendants, kill, kill_all
from ftjm.worker.attempts.protocol import Frame, FrameChannel

KILL_SECONDS = 5.0
"""How long it may take to kill the processes of a guard."""
LEAVE_SECONDS = 10.0
"""How long a guard may take to end before it is killed."""
_guards: set[int] = set()
"""The pids of all guards of this process that were not killed. Other children are orphans of those that were."""


class GuardLink:
    """One life of the guard process."""

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        apps: Sequence[str] = (),
        *,
        tasks_per_process: int = 1_000,
        memory_per_process_mb: int = 512,
        delay_seconds: float = 0.0,
    ) -> None:
        """Start the guard. It takes frames at once, though it needs some 50 ms to act on them.

        Args:
            directory: Attempts get their directories in it. The first one makes it.
            limit_bytes: Bound of a result, and of the kept tail of each output.
            apps: Modules that define Python tasks.
            tasks_per_process: How many attempts a task process runs.
            memory_per_process_mb: How much memory a task process may have beyond that of the apps.
            delay_seconds: How long the guard sleeps before it begins. The caller does not wait.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        # Children that exist already are not the guard's, and are spared when it is killed.
        self._spare = frozenset(children())
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ftjm.worker.guard.guard", str(theirs.fileno()), str(directory)),
                    *map(str, (delay_seconds, limit_bytes, tasks_per_process, memory_per_process_mb)),
                    *apps,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Attempts inherit this environment, and settings of the worker may hold credentials.
                env={name: value for name, value in os.environ.items() if not name.startswith("FTJM_")},
                # A Ctrl-C in the terminal is for the supervisor, which decides what happens to attempts.
                start_new_session=True,
                umask=private_files.users_umask(),  # jobs run with it
            )
        _guards.add(self.pid)
        self.channel: FrameChannel[Frame, Frame] = FrameChannel(ours, Frame)
        self.fileno = self.channel.fileno
        self.flush = self.channel.flush
        self.receive = self.channel.receive

    @property
    def pid(self) -> int:
        """The pid of the guard."""
        return self._process.pid

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called once the descriptor can be written."""
        return self.channel.wants_write

    def send(self, frame: Frame) -> None:
        """Keep a frame for `flush`. That the guard has died is noticed by `receive`."""
        self.channel.post(frame)

    def kill(self) -> bool:
        """Kill the guard, and all that it ran. The attempts come first: the guard may be unable to end.

        Returns:
            Whether nothing is left. It takes at most `KILL_SECONDS`.
        """
        self.channel.close()
        # From now on it starts nothing more, also while it waits for a disk and cannot end.
        kill(self.pid, signal.SIGKILL)
        _guards.discard(self.pid)
        all_dead = kill_all(self._left, limit_seconds=KILL_SECONDS)
        self._process.poll()
        return all_dead

    def leave(self) -> None:
        """Let the guard end, which kills what still runs. A guard that does not end is killed."""
        self.channel.close()
        try:
            self._process.wait(LEAVE_SECONDS)
            _guards.discard(self.pid)
        except subprocess.TimeoutExpired:
            self.kill()

    def _left(self) -> list[int]:
        """What the guard ran, and the guard itself. What it ran becomes ours when it dies: we are the subreaper."""
        orphans = (pid for pid in children() if pid not in self._spare and pid not in _guards)
        return [*descendants(self.pid), *orphans]
