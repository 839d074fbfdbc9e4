"""The guard's side of a pool: one process in which attempts of tasks marked idempotent are threads."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from ftjm.worker.asking import Asking
from ftjm.worker.attempt import Attempt
from ftjm.worker.processes import kill, kill_group
from ftjm.worker.taskwire import ASK, BEGUN, ENDED, RUN, STOP, TOLD


class Pool:
    """One life of the process, from its being asked for to its death. What it has been asked, dies with it."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.given = [theirs.detach(), os.dup(1), os.dup(2)]
        """What the process gets as standard input, output and errors, until it has them."""
        self.pid = 0
        self.over = False
        """It takes no more attempts."""
        self._asking: Asking[Attempt] = Asking()
        self._running: dict[int, Attempt] = {}

    @property
    def waiting(self) -> list[Attempt]:
        """The attempts that have no thread yet."""
        return self._asking.waiting

    def began(self, pid: int) -> None:
        """The process is there."""
        self.pid = pid
        self.abandon()
        self._send()

    def abandon(self) -> None:
        """Let go of what is the process's alone."""
        for fd in self.given:
            os.close(fd)
        self.given = []

    def ask(self, attempt: Attempt) -> None:
        """Want a thread for the attempt."""
        self._asking.add(RUN, attempt)
        self._send()

    def give_up(self, attempt: Attempt) -> None:
        """It needs no thread any more; one that comes finds no orders."""
        if self._asking.drop(attempt):
            attempt.abandon()

    def hear(self) -> Iterator[tuple[bytes, Attempt, int]]:
        """What the process has said of attempts: BEGUN, ENDED or REFUSED, and an exit status."""
        try:
            while frame := self.control.recv(TOLD.size, socket.MSG_DONTWAIT):
                kind, token, code = TOLD.unpack(frame)
                if kind == ENDED:
                    self._asking.heard()
                    attempt = self._running.pop(token, None)
                elif (attempt := self._asking.answered(token)) and kind == BEGUN:
                    self._running[token] = attempt
                    attempt.began(partial(self._signal, token))
                if attempt:
                    yield kind, attempt, code
        except BlockingIOError:
            self._send()
            return
        except OSError:
            pass
        # It has gone, or can be talked to no more.
        self.kill()

    def enforce(self, now: int) -> None:
        """Kill it if it hangs."""
        if self._asking.overdue(now):
            self.kill()

    def kill(self) -> None:
        """It dies, with all that is in it."""
        self.over = True
        if self.pid:
            kill_group(self.pid, signal.SIGKILL)
            kill(self.pid, signal.SIGKILL)

    def lose(self) -> list[Attempt]:
        """It has died: the attempts that it took along, those that had no thread yet as well."""
        self.over = True
        self.control.close()
        self.abandon()
        waiting = self._asking.clear()
        running, self._running = list(self._running.values()), {}
        return running + waiting

    def _send(self) -> None:
        if self.pid:
            self._asking.send(self.control)

    def _signal(self, token: int, number: signal.Signals) -> None:
        """Threads cannot be killed: their process is."""
        if number == signal.SIGKILL:
            self.kill()
        else:
            # Who cannot be told is killed when its grace is over.
            with suppress(OSError):
                self.control.send(ASK.pack(STOP, token), socket.MSG_DONTWAIT)
