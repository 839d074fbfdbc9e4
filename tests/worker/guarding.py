"""A guard under test: real processes, and waits that end with a condition or fail."""

import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ftjm.clock import boot_ms
from ftjm.core.model import FailureReason
from ftjm.worker.guardlink import GuardLink
from ftjm.worker.protocol import Checkpointed, Disconnected, Ended, Frame, Renew, Start, Started, Stop

LIMIT = 4096
SESSION = "s-1"
WAIT_SECONDS = 10.0
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


def pid_in(path: Path) -> int:
    """The pid that a test's command wrote."""
    until(lambda: path.exists() and path.read_text().endswith("\n"), f"a pid in {path}")
    return int(path.read_text())


class Guarded:
    """Talks to one guard."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.link = GuardLink(directory, limit)
        self.frames: list[Frame] = []
        self.attempts = 0
        self.renew(60_000)

    def renew(self, lease_ms: int, session: str = SESSION) -> int:
        deadline = boot_ms() + lease_ms
        self.link.send(Renew(session=session, deadline_ms=deadline))
        return deadline

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
        self.link.send(start)
        return start.key

    def python(self, program: str, *arguments: str, **fields: object) -> str:
        return self.start(sys.executable, "-S", "-c", program, *arguments, **fields)

    def stop(self, key: str, grace_ms: int, reason: FailureReason = FailureReason.STOPPED) -> None:
        self.link.send(Stop(key=key, reason=reason, grace_ms=grace_ms))

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

    def __init__(self, directory: Path, apps: tuple[str, ...] = (APP,)) -> None:
        self.link = GuardLink(directory, LIMIT, apps)
        self.frames = []
        self.attempts = 0
        self.renew(60_000)

    def call(self, task: str, *args: object, **fields: object) -> str:
        payload = msgspec.json.encode({"args": args, "kwargs": {}})
        return self.start(task, **{"executor": "python", "payload": payload, **fields})

    def does(self, task: str, *args: object, **fields: object) -> Ended:
        return self.ended(self.call(task, *args, **fields))

    def said(self, key: str) -> list[Checkpointed]:
        return [frame for frame in self.frames if isinstance(frame, Checkpointed) and frame.key == key]

    def zygote(self) -> int:
        children = Path(f"/proc/{self.link.pid}/task/{self.link.pid}/children")
        until(lambda: bool(children.read_text()), "a zygote")
        return int(children.read_text().split()[0])


@contextlib.contextmanager
def guarded(directory: Path, limit: int = LIMIT) -> Iterator[Guarded]:
    """A guard, and nothing left of it afterwards."""
    guard = Guarded(directory, limit)
    try:
        yield guard
    finally:
        with contextlib.suppress(Disconnected, OSError):
            guard.link.leave()
        assert not alive(guard.link.pid)
