"""What Linux says of processes: our children, their environments, and whether it killed for want of memory."""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from ftjm.worker.taskwire import POOL_MARK

_PR_SET_CHILD_SUBREAPER = 36
_OOM_RECENT_MS = 5_000
"""A large process may take long to give its memory back before its death is seen."""


def become_subreaper() -> None:
    """From now on orphaned descendants become this process's children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def children() -> list[int]:
    """The pids of this process's children, zombies included."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        # Not every kernel has `children`, and a thread may end while we look.
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def owner_of(pid: int) -> str | None:
    """The key of the attempt that the process belongs to, or the pid of the pool, by its environment; None where that
    does not tell."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    if pool := found.get(POOL_MARK.encode()):
        return pool.decode()
    job, attempt = found.get(b"FTJM_JOB_ID"), found.get(b"FTJM_ATTEMPT")
    return f"{job.decode()}/{attempt.decode()}" if job and attempt else None


def kill(pid: int, number: signal.Signals) -> None:
    """Signal a process; one that has gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(group: int, number: signal.Signals) -> None:
    """Signal a process group; one that has gone, or changed its user, is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def dead_child() -> int:
    """The pid of a child that has died, 0 if there is none. It stays a zombie, so that nobody gets its pid (or the
    name of its process group) before it is waited for."""
    with suppress(ChildProcessError):
        if found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return found.si_pid
    return 0


def kill_all_children(*, spare: frozenset[int] = frozenset(), limit_seconds: float) -> bool:
    """Kill children, and theirs as they become ours, until none but `spare` is left; False past the limit.

    Each child's whole process group is killed, if it leads one.
    """
    until = time.monotonic() + limit_seconds
    while time.monotonic() < until:
        left = [pid for pid in children() if pid not in spare]
        if not left:
            return True
        for pid in left:
            if os.getpgid(pid) == pid:
                kill_group(pid, signal.SIGKILL)
            kill(pid, signal.SIGKILL)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.001)
    return False


class MemoryKiller:
    """Whether the kernel's out-of-memory killer was at work lately. `look` regularly."""

    def __init__(self, path: Path = Path("/proc/vmstat")) -> None:
        self._path = path
        self._count = self._read()
        self._rose_at: int | None = None

    def look(self, now: int) -> None:
        """Notice new kills; `now` in ms."""
        count = self._read()
        if count > self._count:
            self._count, self._rose_at = count, now

    def recent(self, now: int) -> bool:
        """Whether it killed within the last seconds."""
        return self._rose_at is not None and now - self._rose_at < _OOM_RECENT_MS

    def _read(self) -> int:
        with suppress(OSError), self._path.open("rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
        return 0
