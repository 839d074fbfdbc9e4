"""The guard's side of the zygote: asks for processes, takes them over, and starts another zygote when one dies."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from ftjm.clock import boot_ms
from ftjm.worker.attempt import Attempt
from ftjm.worker.zygote import ANSWER, ASK, FRAME_BYTES_MAX, READY

TRIES_MAX = 3
"""How often one attempt may ask: a zygote may have died with it."""
PATIENCE_MS = 5_000
"""A zygote that is ready and does not answer for so long is killed."""
ASKED_MAX = 16
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
        return msgspec.json.decode(frame[1:], type=list[str]), ""
    return [], frame[1:].decode(errors="replace") or "the process that imported them died"


class Forks:
    """Attempts that wait for a process. Nobody blocks on the zygote: it is foreign code, and may hang."""

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
        self._answer_by: int | None = None
        self._token = 0
        self._asked: set[int] = set()
        self._waiting: dict[int, Attempt] = {}
        self._tries: dict[str, int] = {}
        self._start()

    @property
    def pid(self) -> int:
        """Of the zygote; 0 if there is none."""
        return self._zygote.process.pid if self._zygote else 0

    @property
    def waiting(self) -> list[Attempt]:
        """The attempts that have no process yet."""
        return list(self._waiting.values())

    def ask(self, attempt: Attempt) -> str:
        """Want a process for the attempt; why there will be none, if that is known."""
        key = attempt.order.key
        self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries[key] > TRIES_MAX:
            del self._tries[key]
            return f"the process that forks Python tasks died {TRIES_MAX} times; look at the worker's log and memory"
        if self._zygote is None and boot_ms() - self._tried_at >= RETRY_MS:
            self._start()
        if self._zygote is None:
            del self._tries[key]
            return self._error
        self._token += 1
        self._waiting[self._token] = attempt
        self._send()
        return ""

    def give_up(self, attempt: Attempt) -> None:
        """It needs no process any more; one that comes finds no orders."""
        self._waiting = {token: other for token, other in self._waiting.items() if other is not attempt}
        self._tries.pop(attempt.order.key, None)
        attempt.abandon()

    def hear(self) -> tuple[list[tuple[Attempt, int]], list[Attempt]]:
        """Attempts that have a process now (0: there could be none), and those whose zygote died on them."""
        assert self._zygote is not None
        forked: list[tuple[Attempt, int]] = []
        try:
            while frame := self._zygote.control.recv(FRAME_BYTES_MAX, socket.MSG_DONTWAIT):
                if self._ready:
                    token, pid = ANSWER.unpack(frame)
                    self._asked.discard(token)
                    if attempt := self._waiting.pop(token, None):
                        self._tries.pop(attempt.order.key, None)
                        forked.append((attempt, pid))
                elif frame[:1] == READY:
                    self._ready, self._error = True, ""
                else:
                    self._error = frame[1:].decode(errors="replace")
                self._answer_by = None
            return forked, self._died()
        except BlockingIOError:
            self._send()
            return forked, []
        except OSError:
            return forked, self._died()

    def enforce(self, now: int) -> None:
        """Kill a zygote that hangs; `hear` then tells whom that concerns."""
        if self._answer_by is not None and now >= self._answer_by and self._zygote:
            self._zygote.process.kill()

    def _start(self) -> None:
        self._tried_at = boot_ms()
        self._ready = False
        self._answer_by = None
        try:
            self._zygote = Zygote(self._apps, self._environment)
        except OSError as error:
            self._error = f"cannot start the process that forks Python tasks: {error.strerror}"
            return
        self._watch(self._zygote.control)

    def _send(self) -> None:
        """Ask for those that wait, a few at a time: more would fill the socket, and block us."""
        if self._zygote is None or not self._ready:
            return
        for token, attempt in self._waiting.items():
            if len(self._asked) >= ASKED_MAX:
                break
            if token not in self._asked:
                self._asked.add(token)
                # A zygote that has died is noticed by `hear`.
                with suppress(OSError):
                    socket.send_fds(self._zygote.control, [ASK.pack(token)], attempt.given)
        if self._asked and self._answer_by is None:
            self._answer_by = boot_ms() + PATIENCE_MS

    def _died(self) -> list[Attempt]:
        zygote, was_ready = self._zygote, self._ready
        assert zygote is not None
        self._unwatch(zygote.control)
        zygote.end()
        self._zygote = None
        self._answer_by = None
        self._asked.clear()
        waiting, self._waiting = list(self._waiting.values()), {}
        for attempt in waiting:
            # Whom it forked without our knowing finds no orders.
            attempt.abandon()
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
