"""Python tasks for the guard: which attempt is a process and which a thread, and who is told of them."""

import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ftjm.core.model import FailureReason
from ftjm.worker.attempt import HALTED, Attempt
from ftjm.worker.forks import Forks, is_child
from ftjm.worker.processes import kill_group
from ftjm.worker.taskwire import BEGUN, ENDED
from ftjm.worker.threads import Pool

Watch = Callable[[socket.socket, Callable[[int], None]], None]


class Told(Protocol):
    """Who wants to know."""

    def begun(self, attempt: Attempt, pid: int) -> None:
        """It runs; as this process, if it is one of its own."""

    def ended(self, attempt: Attempt, code: int) -> None:
        """A thread has ended, with this exit status."""

    def not_started(self, attempt: Attempt, reason: FailureReason, error: str) -> None:
        """It never began, and will not."""

    def again(self, attempt: Attempt, *, alone: bool) -> None:
        """Nothing of it is left, and it is to be started again; in a process of its own, if `alone`."""


class Tasks:
    """All attempts of Python tasks, from being asked for to their beginning; threads until their end."""

    def __init__(
        self,
        apps: Sequence[str],
        environment: Mapping[str, str],
        told: Told,
        watch: Watch,
        unwatch: Callable[[socket.socket], None],
    ) -> None:
        self._told, self._watch, self._unwatch = told, watch, unwatch
        self._pool: Pool | None = None
        """That takes new attempts."""
        self._pools: dict[int, Pool] = {}
        """All that live, by their process."""
        self._forks = Forks(apps, environment, lambda control: watch(control, self._forked), unwatch)
        self.shares = self._forks.shares

    @property
    def waiting(self) -> list[Attempt]:
        """The attempts that have not begun."""
        pooled = [attempt for pool in {self._pool, *self._pools.values()} if pool for attempt in pool.waiting]
        return self._forks.waiting + pooled

    def has(self, pid: int) -> bool:
        """Whether this process is ours, and no attempt."""
        return pid == self._forks.pid or pid in self._pools

    def ask(self, attempt: Attempt) -> str:
        """Want the attempt to run; why it will not, if that is known."""
        if not attempt.shared:
            return self._forks.ask(attempt)
        if self._pool is None or self._pool.over:
            pool = Pool()
            if error := self._forks.ask_pool(pool):
                pool.lose()
                return error
            self._pool = pool
        self._pool.ask(attempt)
        return ""

    def give_up(self, attempt: Attempt, reason: FailureReason) -> None:
        """It has not begun, and must not."""
        self._forks.give_up(attempt)
        for pool in {self._pool, *self._pools.values()}:
            if pool:
                pool.give_up(attempt)
        self._told.not_started(attempt, reason, HALTED[reason])

    def enforce(self, now: int) -> None:
        """Kill what hangs."""
        self._forks.enforce(now)
        for pool in self._pools.values():
            pool.enforce(now)

    def died(self, pid: int, code: int) -> None:
        """A child has died that is no attempt. What others had in it, they get again."""
        if pool := self._pools.pop(pid, None):
            pool.pid = 0
            self._heard(pool)
            self._lost(pool, f"killed by signal {-code}" if code < 0 else f"exit status {code}")

    def _forked(self, _mask: int) -> None:
        forked, orphaned = self._forks.hear()
        for wanted, pid in forked:
            there = pid and is_child(pid)
            why = "its new process died at once" if pid else "cannot fork: no memory, or too many processes"
            if isinstance(wanted, Pool) and there:
                self._pools[pid] = wanted
                self._watch(wanted.control, lambda _mask, pool=wanted: self._heard(pool))  # type: ignore[misc]
                wanted.began(pid)
            elif isinstance(wanted, Pool):
                self._lost(wanted, why)
            elif there:
                wanted.began(lambda number, group=pid: kill_group(group, number))  # type: ignore[misc]
                self._told.begun(wanted, pid)
            else:
                wanted.abandon()
                self._told.not_started(wanted, FailureReason.START_FAILED, why)
        for wanted in orphaned:
            if isinstance(wanted, Pool):
                self._lost(wanted, "the process that was to fork it died")
            else:
                self._told.again(wanted, alone=wanted.alone)

    def _heard(self, pool: Pool) -> None:
        for kind, attempt, code in pool.hear():
            if kind == BEGUN:
                self._told.begun(attempt, 0)
            elif kind == ENDED:
                self._told.ended(attempt, code)
            else:
                attempt.abandon()
                self._told.again(attempt, alone=True)
        if pool.over:
            self._unwatch(pool.control)

    def _lost(self, pool: Pool, why: str) -> None:
        """Which of them it was that took all others along is not known: each runs again in a process of its own."""
        self._unwatch(pool.control)
        lost = pool.lose()
        left = [attempt for attempt in lost if attempt.halted is None]
        if left:
            text = f"{len(left)} attempts of idempotent tasks run again, in processes of their own"
            sys.stderr.write(f"warning: the process that they shared has died ({why}): {text}\n")
        for attempt in lost:
            if attempt.halted is not None:
                self._told.ended(attempt, -signal.SIGKILL)
            else:
                self._told.again(attempt, alone=True)
