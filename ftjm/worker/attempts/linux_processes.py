"""Processes as Linux shows them: children of this process, whose they are, how they are killed; and lack of memory.

**Whose a process is.** Every process of an attempt carries a mark, a number that only this attempt has. The mark is the
soft limit RLIMIT_LOCKS. No kernel since Linux 2.4.24 enforces that limit; but each process inherits it from its parent,
keeps it over `execve`, and shows it in `/proc/PID/limits` to every user. So the mark remains where a process clears its
environment, leaves its session, forks twice, or forbids others to read its memory. Only a process that asks for
another limit by itself loses it.
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path

RLIMIT_LOCKS = 10
_HARD_LIMIT = resource.getrlimit(RLIMIT_LOCKS)[1]
"""The hard limit of this process, which its children inherit."""
_marks = count(int.from_bytes(os.urandom(6)))
"""The first mark is drawn at random: a job may be a worker itself, and has marks of its own."""
_PR_SET_CHILD_SUBREAPER = 36
_OOM_RECENT_MS = 5_000
"""A large process may take some seconds to give its memory back before its death is noticed."""


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process from now on. Raises OSError."""
    import ctypes  # not in task processes: it makes each fork slower

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def children() -> list[int]:
    """The pids of this process's children, zombies included."""
    return [pid for task in Path("/proc/self/task").iterdir() for pid in thread_children(int(task.name))]


def thread_children(thread: int) -> list[int]:
    """The pids of the children that one thread of this process has, by the thread's number in the kernel."""
    # Not every kernel has the file, and a thread may end meanwhile.
    with suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:  # noqa: PTH123  (a hot path)
        return [int(pid) for pid in file.read().split()]
    return []


def descendants(pid: int) -> list[int]:
    """The pids of the children of a process, of their children, and so on."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                # Not every kernel has the file, and a thread may end meanwhile.
                with suppress(OSError):
                    found += map(int, (task / "children").read_text().split())
    return found[1:]


def new_mark() -> int:
    """A mark that no attempt of this process has had."""
    return next(_marks)


def mark(pid: int, number: int) -> None:
    """Mark a process; 0 is this one. What it starts from now on has the same mark.

    Nothing happens where the limit may not be set: the process then counts as unmarked.
    """
    try:
        resource.prlimit(pid, RLIMIT_LOCKS, (number, _HARD_LIMIT))
    except (OSError, ValueError):
        # It has another hard limit, if it is still there.
        with suppress(OSError, ValueError):
            hard = resource.prlimit(pid, RLIMIT_LOCKS)[1]
            resource.prlimit(pid, RLIMIT_LOCKS, (number, hard))


def mark_of(pid: int) -> int:
    """The mark of a process; -1 if it has none, or has gone."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
            if line.startswith(b"Max file locks"):
                return int(line.split()[3])
    return -1


OWN_MARK = mark_of(os.getpid())
"""The mark that this process was started with, and that every process has which was not given another."""
HANDLED_SIGNALS = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that the guard or the interpreter handles or ignores, so that a new process must have their defaults back."""


def kill(pid: int, number: signal.Signals) -> None:
    """Signal a process. Nothing happens if it has gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(group: int, number: signal.Signals) -> None:
    """Signal a process group. Nothing happens if it has gone, or has changed its user."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_with_group(pid: int) -> None:
    """Kill a process and the group that it leads, which it may have left."""
    kill_group(pid, signal.SIGKILL)
    kill(pid, signal.SIGKILL)


def dead_child() -> int:
    """The pid of a child that has died; 0 if there is none.

    It stays a zombie, so that no other process gets its pid, or its process group, before it is waited for.
    """
    with suppress(ChildProcessError):
        if found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return found.si_pid
    return 0


def kill_all(find: Callable[[], Iterable[int]], *, limit_seconds: float) -> bool:
    """Kill processes until there is none. One that leads a process group dies with its group.

    Args:
        find: Finds the processes that are left. It is called again after each round, since orphans may appear, and if
            it raises OSError: there may be no descriptor free.
        limit_seconds: How long to try at most. A process that waits for a dead disk cannot end; but since it was
            killed, it executes nothing any more.

    Returns:
        Whether none is left.
    """
    until = time.monotonic() + limit_seconds
    pause = 0.001
    while True:
        left: list[int] = []
        with suppress(OSError):
            left = list(find())
            if not left:
                return True
        for pid in left:
            with suppress(OSError):
                if os.getpgid(pid) == pid:
                    kill_group(pid, signal.SIGKILL)
            kill(pid, signal.SIGKILL)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


class MemoryKiller:
    """Whether the kernel's out-of-memory killer was at work lately. Call `check` regularly while anything runs."""

    def __init__(self, path: Path = Path("/proc/vmstat")) -> None:
        """Note how many processes it has killed so far."""
        self._path = path
        self._count = self._read()
        self._rose_at: int | None = None

    def check(self, now: int) -> None:
        """Notice new kills.

        Args:
            now: CLOCK_BOOTTIME ms.
        """
        count = self._read()
        if count > self._count:
            self._count, self._rose_at = count, now

    def was_active(self, now: int) -> bool:
        """Whether it has killed a process within the last seconds."""
        return self._rose_at is not None and now - self._rose_at < _OOM_RECENT_MS

    def _read(self) -> int:
        with suppress(OSError), self._path.open("rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
        return 0
