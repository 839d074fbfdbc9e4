"""A guard under test with real processes. A wait ends when its condition holds, or fails."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.linux_processes import mark_of
from ftjm.worker.attempts.protocol import Checkpointed, Disconnected, Ended, Frame, Renew, Start, Started, Stop
from ftjm.worker.guard.link import GuardLink

LIMIT = 4096
SESSION = "s-1"
WAIT_SECONDS = 60.0
APP = "tests.worker.task_app"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(0.002)


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def freeze(pid: int) -> None:
    """Stop a process, and wait until all its threads have stopped: that is later than `kill` returns."""

    def states() -> set[str]:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}

    os.kill(pid, signal.SIGSTOP)
    until(lambda: states() == {"T"}, f"process {pid} to stop")


def children_of(pid: int) -> list[int]:
    """The pids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def command_line(pid: int) -> bytes:
    """The command line of a process; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def written(path: Path) -> bool:
    """Whether a test's command has written its line: the file is there a moment before it."""
    return path.exists() and path.read_text().endswith("\n")


def pid_in(path: Path) -> int:
    """The pid that a test's command wrote."""
    until(lambda: written(path), f"a pid in {path}")
    return int(path.read_text())


class Guarded:
    """A supervisor's connection to one guard."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.link = GuardLink(directory, limit)
        self.frames: list[Frame] = []
        self.attempts = 0
        self.renew(600_000)

    def renew(self, lease_ms: int, session: str = SESSION) -> int:
        deadline = boot_ms() + lease_ms
        self.send(Renew(session=session, deadline_ms=deadline))
        return deadline

    def send(self, frame: Frame) -> None:
        self.link.send(frame)
        with contextlib.suppress(Disconnected):
            self.link.flush()

    def start(self, *command: str, **fields: object) -> str:
        self.attempts += 1
        start = Start(
            key=f"q/j{self.attempts}/1",
            session=SESSION,
            queue="q",
            job_id=f"j{self.attempts}",
            run=3,
            attempt=1,
            executor="command",
            command=list(command),
            payload=b"",
            environment={},
            working_directory="",
            timeout_ms=0,
            grace_ms=10_000,
            continue_for_ms=0,
        )
        for name, value in fields.items():
            setattr(start, name, value)
        self.send(start)
        return start.key

    def python(self, program: str, *arguments: str, **fields: object) -> str:
        return self.start(sys.executable, "-S", "-c", program, *arguments, **fields)

    def stop(self, key: str, grace_ms: int, reason: FailureReason = FailureReason.STOPPED) -> None:
        self.send(Stop(key=key, reason=reason, grace_ms=grace_ms))

    def pump(self, seconds: float) -> None:
        channel = self.link.channel
        readable, writable, _ = select.select([channel], [channel] if channel.wants_write else [], [], seconds)
        if writable:
            channel.flush()
        if readable:
            self.frames += channel.receive()

    def _wait(self, kind: type[Started] | type[Ended], key: str) -> Frame:
        end = time.monotonic() + WAIT_SECONDS
        while True:
            for frame in self.frames:
                if isinstance(frame, kind) and frame.key == key:
                    return frame
            assert time.monotonic() < end, f"no {kind.__name__} of {key} within {WAIT_SECONDS} s: {self.frames}"
            self.pump(0.05)

    def ended(self, key: str) -> Ended:
        frame = self._wait(Ended, key)
        assert isinstance(frame, Ended)
        return frame

    def started(self, key: str) -> Started:
        frame = self._wait(Started, key)
        assert isinstance(frame, Started)
        return frame

    def run(self, *command: str, **fields: object) -> Ended:
        return self.ended(self.start(*command, **fields))


class Tasks(Guarded):
    """A guard that serves an app."""

    def __init__(self, directory: Path, apps: tuple[str, ...] = (APP,), limit: int = LIMIT, **settings: int) -> None:
        self.link = GuardLink(directory, limit, apps, **settings)
        self.frames = []
        self.attempts = 0
        self.renew(600_000)

    def call(self, task: str, *args: object, **fields: object) -> str:
        payload = msgspec.json.encode({"args": args, "kwargs": {}})
        return self.start(task, **{"executor": "python", "payload": payload, **fields})

    def does(self, task: str, *args: object, **fields: object) -> Ended:
        return self.ended(self.call(task, *args, **fields))

    def checkpoints(self, key: str) -> list[Checkpointed]:
        return [frame for frame in self.frames if isinstance(frame, Checkpointed) and frame.key == key]

    def zygote(self) -> int:
        def zygotes() -> list[int]:
            # What it has forked has the same command line, and a mark.
            pids = [pid for pid in children_of(self.link.pid) if alive(pid) and mark_of(pid) == -1]
            return [pid for pid in pids if b"python.zygote" in command_line(pid)]

        until(lambda: bool(zygotes()), "a zygote")
        return zygotes()[0]


@contextlib.contextmanager
def guarded(directory: Path, limit: int = LIMIT) -> Iterator[Guarded]:
    """Start a guard, and kill all its processes afterwards."""
    guard = Guarded(directory, limit)
    try:
        yield guard
    finally:
        with contextlib.suppress(Disconnected, OSError):
            guard.link.leave()
        assert not alive(guard.link.pid)
