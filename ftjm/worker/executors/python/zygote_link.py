"""The guard's side of the zygote: requests processes from it, and starts another zygote when one dies.

The zygote has imported the apps, which is foreign code and may hang. So the guard never waits for it: requests stay
pending, and a zygote that leaves them unanswered for some seconds is killed. Its death is no attempt's fault: processes
are requested again from the next zygote.
"""

import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.launch import launch
from ftjm.worker.attempts.linux_processes import kill
from ftjm.worker.executors.python.packets import FORKED, FRAME_BYTES_MAX, READY, Apps
from ftjm.worker.executors.python.pending import PendingRequests
from ftjm.worker.executors.python.task_process_link import TaskProcessLink

RETRY_MS = 5_000
"""Apps that could not be imported are not imported again sooner."""
DEATHS_MAX = 3
"""After so many deaths in a row the import itself is taken for their cause; before, a lack of memory, or a `kill`."""


class ZygoteProcess:
    """One life of the zygote process."""

    def __init__(self, apps: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it. Raises OSError."""
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "ftjm.worker.executors.python.zygote", *apps]
        with theirs:
            execute = partial(os.execve, command[0], command, environment)
            self.pid = launch(execute, [theirs.fileno(), 1, 2])
        """0 once it has been waited for."""

    def kill(self) -> None:
        """Kill the process if it still lives."""
        if self.pid:
            kill(self.pid, signal.SIGKILL)


def check_apps(apps: Sequence[str]) -> tuple[list[str], str]:
    """Import the apps in a process of their own, and in another one if it dies, as the guard does.

    Returns:
        The names of the tasks that they define; and the error, empty if there is none.
    """
    frame = next(filter(None, (_imported(apps) for _ in range(DEATHS_MAX))), b"")
    if frame[:1] == READY:
        return msgspec.json.decode(frame[1:], type=Apps).tasks, ""
    return [], frame[1:].decode(errors="replace") or f"the process that imported them died, {DEATHS_MAX} times in a row"


def _imported(apps: Sequence[str]) -> bytes:
    """The first frame of a zygote that imports the apps; empty if it died before."""
    zygote = ZygoteProcess(apps, os.environ)
    try:
        return zygote.connection.recv(FRAME_BYTES_MAX)
    finally:
        zygote.connection.close()
        zygote.kill()
        os.waitpid(zygote.pid, 0)


class ZygoteLink:
    """The zygote of a guard, whichever lives at the moment, and the processes that are requested from it."""

    def __init__(
        self,
        apps: Sequence[str],
        environment: Mapping[str, str],
        watch: Callable[[socket.socket], None],
        unwatch: Callable[[socket.socket], None],
    ) -> None:
        """Start the first zygote.

        Args:
            environment: The zygote's environment variables.
            watch: Has `receive` called whenever the connection can be read.
            unwatch: Ends that.
        """
        self._apps, self._environment = apps, environment
        self._watch, self._unwatch = watch, unwatch
        self._zygote: ZygoteProcess | None = None
        self._ready = False
        self._error = ""
        """The error by which there is no zygote."""
        self._tried_at = 0
        self._deaths = 0
        """How many zygotes in a row have died while they imported the apps."""
        self._pending: PendingRequests[TaskProcessLink] = PendingRequests()
        self._isolated: frozenset[str] = frozenset()
        self._start()

    @property
    def pid(self) -> int:
        """The pid of the zygote; 0 if there is none."""
        return self._zygote.pid if self._zygote else 0

    def child_died(self, pid: int) -> None:
        """A child of the guard has been waited for. That it was the zygote is noticed by its connection."""
        if self._zygote and self._zygote.pid == pid:
            self._zygote.pid = 0

    def is_isolated(self, task: str) -> bool:
        """Whether each attempt of the task has a process of its own."""
        return task in self._isolated

    @property
    def requested(self) -> int:
        """How many processes are requested and not there yet."""
        return len(self._pending)

    def request(self, process: TaskProcessLink) -> str:
        """Request the process. Returns the reason why there will be none; empty if it is requested."""
        if self._zygote is None and boot_ms() - self._tried_at >= RETRY_MS:
            self._start()
        if self._zygote is None:
            return self._error
        self._pending.add(process)
        self._send()
        return ""

    def receive(self) -> tuple[list[tuple[TaskProcessLink, int]], list[TaskProcessLink]]:
        """Read what the zygote has sent.

        Returns:
            The processes that were forked, with their pids (0: the zygote could not fork); and those that never will
            be, since the zygote has died.
        """
        assert self._zygote is not None
        forked: list[tuple[TaskProcessLink, int]] = []
        try:
            while frame := self._zygote.connection.recv(FRAME_BYTES_MAX, socket.MSG_DONTWAIT):
                if self._ready:
                    token, pid = FORKED.unpack(frame)
                    if process := self._pending.answered(token):
                        forked.append((process, pid))
                elif frame[:1] == READY:
                    self._isolated = frozenset(msgspec.json.decode(frame[1:], type=Apps).isolated)
                    self._ready, self._deaths = True, 0
                else:
                    self._error = frame[1:].decode(errors="replace")
        except BlockingIOError:
            self._send()
            return forked, []
        except (OSError, struct.error, msgspec.MsgspecError, ValueError):
            pass  # it has died, or code of an app has written to its connection
        return forked, self._replace()

    def enforce(self, now: int) -> None:
        """Kill a zygote that hangs. `receive` then finds it dead."""
        if self._pending.is_overdue(now) and self._zygote:
            self._zygote.kill()

    def _start(self) -> None:
        self._tried_at = boot_ms()
        self._ready, self._error = False, ""
        try:
            self._zygote = ZygoteProcess(self._apps, self._environment)
        except OSError as error:
            self._error = f"cannot start the process that forks Python tasks: {error.strerror}"
            return
        self._watch(self._zygote.connection)

    def _send(self) -> None:
        if self._zygote is not None and self._ready:
            self._pending.send(self._zygote.connection)

    def _replace(self) -> list[TaskProcessLink]:
        """Start another zygote, since this one has died. Returns the processes that were requested from it."""
        zygote, was_ready = self._zygote, self._ready
        assert zygote is not None
        self._unwatch(zygote.connection)
        zygote.connection.close()
        zygote.kill()
        self._zygote = None
        # A process that it forked without an answer finds no call, and ends.
        requested = self._pending.clear()
        if not was_ready and not self._error:
            self._deaths += 1
            if self._deaths >= DEATHS_MAX:
                self._error = (
                    f"the apps {', '.join(self._apps)} could not be imported: the process that did so died "
                    f"{self._deaths} times"
                )
        if not self._error:
            self._start()
        return requested


def is_child(pid: int) -> bool:
    """Whether it is a child of ours that has not been waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
