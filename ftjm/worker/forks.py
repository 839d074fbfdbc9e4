"""The guard's side of the zygote: asks for processes, takes them over, and starts another zygote when one dies."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ftjm.clock import boot_ms
from ftjm.worker.asking import Asking
from ftjm.worker.attempt import Attempt
from ftjm.worker.protocol import Start
from ftjm.worker.taskwire import FORK, FORKED, FRAME_BYTES_MAX, POOL, READY, Apps
from ftjm.worker.threads import Pool

TRIES_MAX = 3
"""How often one attempt may ask: a zygote may have died with it."""
RETRY_MS = 5_000
"""Apps that could not be imported are not tried again sooner."""


class Zygote:
    """One life of the zygote process."""

    def __init__(self, apps: Sequence[str], environment: Mapping[str, str] | None) -> None:
        """Start it. Raises OSError."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ftjm.worker.zygote", str(theirs.fileno()), *apps],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )

    def end(self) -> None:
        """It has ended, or does now."""
        self.control.close()
        self.process.kill()
        self.process.wait()


def check(apps: Sequence[str]) -> tuple[list[str], str]:
    """The names of the tasks that the apps define; and why they cannot be imported, if they cannot."""
    zygote = Zygote(apps, None)
    try:
        frame = zygote.control.recv(FRAME_BYTES_MAX)
    finally:
        zygote.end()
    if frame[:1] == READY:
        return msgspec.json.decode(frame[1:], type=Apps).tasks, ""
    return [], frame[1:].decode(errors="replace") or "the process that imported them died"


class Forks:
    """Attempts, and pools, that wait for a process. Nobody blocks on the zygote: it is foreign code, and may hang."""

    def __init__(
        self,
        apps: Sequence[str],
        environment: Mapping[str, str],
        watch: Callable[[socket.socket], None],
        unwatch: Callable[[socket.socket], None],
    ) -> None:
        self._apps, self._environment = apps, environment
        self._watch, self._unwatch = watch, unwatch
        self._zygote: Zygote | None = None
        self._ready = False
        self._error = ""
        self._tried_at = 0
        self._asking: Asking[Attempt | Pool] = Asking()
        self._tries: dict[str, int] = {}
        self._idempotent: frozenset[str] = frozenset()
        self._start()

    @property
    def pid(self) -> int:
        """Of the zygote; 0 if there is none."""
        return self._zygote.process.pid if self._zygote else 0

    @property
    def waiting(self) -> list[Attempt]:
        """The attempts that have no process yet."""
        return [one for one in self._asking.waiting if isinstance(one, Attempt)]

    def shares(self, order: Start) -> bool:
        """Whether the attempt may be a thread: its task may, and its job wants nothing that threads have in common."""
        own = order.environment or order.working_directory or order.continue_for_ms
        return bool(order.command) and order.command[0] in self._idempotent and not own

    def ask(self, attempt: Attempt) -> str:
        """Want a process for the attempt; why there will be none, if that is known."""
        key = attempt.order.key
        self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries[key] > TRIES_MAX:
            del self._tries[key]
            return f"the process that forks Python tasks died {TRIES_MAX} times; look at the worker's log and memory"
        if error := self._ask(FORK, attempt):
            del self._tries[key]
        return error

    def ask_pool(self, pool: Pool) -> str:
        """Want a process for many attempts; why there will be none, if that is known."""
        return self._ask(POOL, pool)

    def give_up(self, attempt: Attempt) -> None:
        """It needs no process any more; one that comes finds no orders."""
        self._tries.pop(attempt.order.key, None)
        if self._asking.drop(attempt):
            attempt.abandon()

    def hear(self) -> tuple[list[tuple[Attempt | Pool, int]], list[Attempt | Pool]]:
        """Those that have a process now (0: there could be none), and those that must ask once more."""
        assert self._zygote is not None
        forked: list[tuple[Attempt | Pool, int]] = []
        orphaned: list[Attempt | Pool] = []
        try:
            while frame := self._zygote.control.recv(FRAME_BYTES_MAX, socket.MSG_DONTWAIT):
                if self._ready:
                    token, pid = FORKED.unpack(frame)
                    if wanted := self._asking.answered(token):
                        if isinstance(wanted, Attempt):
                            self._tries.pop(wanted.order.key, None)
                        forked.append((wanted, pid))
                elif frame[:1] == READY:
                    orphaned += self._become_ready(msgspec.json.decode(frame[1:], type=Apps))
                else:
                    self._error = frame[1:].decode(errors="replace")
            return forked, orphaned + self._died()
        except BlockingIOError:
            self._send()
            return forked, orphaned
        except OSError:
            return forked, orphaned + self._died()

    def enforce(self, now: int) -> None:
        """Kill a zygote that hangs; `hear` then tells whom that concerns."""
        if self._asking.overdue(now) and self._zygote:
            self._zygote.process.kill()

    def _ask(self, kind: bytes, wanted: Attempt | Pool) -> str:
        if self._zygote is None and boot_ms() - self._tried_at >= RETRY_MS:
            self._start()
        if self._zygote is None:
            return self._error
        self._asking.add(kind, wanted)
        self._send()
        return ""

    def _start(self) -> None:
        self._tried_at = boot_ms()
        self._ready = False
        try:
            self._zygote = Zygote(self._apps, self._environment)
        except OSError as error:
            self._error = f"cannot start the process that forks Python tasks: {error.strerror}"
            return
        self._watch(self._zygote.control)

    def _become_ready(self, apps: Apps) -> list[Attempt]:
        """Those who asked before it was known that they need no process of their own."""
        self._ready, self._error = True, ""
        self._idempotent = frozenset(apps.idempotent)
        sharing = [one for one in self.waiting if self.shares(one.order) and not one.alone]
        for attempt in sharing:
            self.give_up(attempt)
        return sharing

    def _send(self) -> None:
        if self._zygote is not None and self._ready:
            self._asking.send(self._zygote.control)

    def _died(self) -> list[Attempt | Pool]:
        zygote, was_ready = self._zygote, self._ready
        assert zygote is not None
        self._unwatch(zygote.control)
        zygote.end()
        self._zygote = None
        waiting = self._asking.clear()
        for wanted in waiting:
            # Whom it forked without our knowing finds no orders.
            wanted.abandon()
        if was_ready:
            self._error = ""
            self._start()
        elif not self._error:
            self._error = f"the apps {', '.join(self._apps)} could not be imported: the process that did so died"
        return waiting


def is_child(pid: int) -> bool:
    """Whether it is a child of ours that has not been waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
