"""The guard, as its rules say, and the kernel that runs attempts whatever becomes of either process."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ftjm.core.records.messages import RunAttempt
from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.protocol import Ended
from ftjm.worker.rules.actions import CloseLane, Halt, RenewLease, Run
from tests.simulation.clients import ENDLESS
from tests.simulation.world import Act, Host, Process, World

GUARD_MS = 500
"""G, as the design promises it to users: what overlaps after a host's wake may last so long."""
FAST_MS = 20
"""A guard looks at its deadlines after this time at the earliest."""
REACTION_MS = 150
SLOW_MS = 450
"""The same where guards are never stopped: nearly all of G."""
PAUSE_MS_MAX = 300
"""A stopped guard runs again within G of any deadline, together with its reaction."""


class Started(NamedTuple):
    key: str
    started_at: int


Order = Run | Halt | RenewLease | CloseLane
Frame = Started | Ended


class Execution:
    """What truly ran, and when: the evidence that no log holds."""

    def __init__(self, order: RunAttempt, worker: str, now: float, wall: int, since: float) -> None:
        self.order = order
        self.worker = worker
        self.start = now
        self.started_wall = wall
        self.end: float | None = None
        self.success = False
        self.spans: list[tuple[float, float]] = []
        """When it executed in fact, true time: without what its host was frozen, or is allowed after its wake."""
        self._since = since
        self.reason: FailureReason | None = None
        """Why it was told to stop, if it was."""

    @property
    def name(self) -> tuple[str, str, int]:
        return self.order.queue, self.order.job_id, self.order.attempt

    def freeze(self, now: float) -> None:
        if now > self._since:
            self.spans.append((self._since, now))

    def thaw(self, since: float) -> None:
        self._since = since

    def finish(self, now: float) -> None:
        self.freeze(now)
        self.end = now


class Kernel(Process):
    """Runs attempts; stops only with its host."""

    def __init__(self, world: World, host: Host, name: str) -> None:
        super().__init__(world, host, name)
        self.short = 0.1 if world.leases else 0.8
        """The part of its attempts that end soon."""
        self._excused_until = 0.0
        """Until then its host, which has woken, may run attempts that were given up."""
        self._stood_still = False
        self.history: list[Execution] = []
        self.running: dict[str, Execution] = {}
        self.ended: Callable[[str, Execution], None] = lambda _key, _execution: None
        """Tells the guard of a death."""

    def on_start(self) -> None:
        """It is up with its host."""

    def pause(self) -> None:
        super().pause()
        for execution in self.running.values():
            execution.freeze(self.world.now)

    def resume(self) -> None:
        if self.paused:
            self.excuse(GUARD_MS)
        super().resume()

    def excuse(self, ms: float, *, stood_still: bool = False) -> None:
        """Allow the attempts of a host that wakes now to go on for so long.

        Args:
            stood_still: whether its clock stood still, so that attempts have their `continue_for` left as well.
        """
        self._excused_until, self._stood_still = self.world.now + ms, stood_still
        for execution in self.running.values():
            execution.thaw(self._excused(execution.order))

    def _excused(self, order: RunAttempt) -> float:
        return self._excused_until + (order.spec.continue_for_ms if self._stood_still else 0)

    def spawn(self, key: str, order: RunAttempt, worker: str) -> Execution:
        draw = self.world.random
        now = self.world.now
        execution = Execution(order, worker, now, self.host.wall_ms(), max(now, self._excused(order)))
        self.history.append(execution)
        self.running[key] = execution
        self.say("runs", key, order.session)
        duration = draw.expovariate(1 / 250) if draw.random() < self.short else draw.uniform(500, 6_000)
        if order.spec.continue_for_ms and draw.random() < 0.5:
            duration += draw.uniform(1_000, 6_000)
        success = draw.random() < 0.75
        if ENDLESS not in order.spec.labels:
            self.later(duration, lambda: self._end(key, execution, success=success))
        return execution

    def kill(self, key: str) -> None:
        if execution := self.running.get(key):
            self._end(key, execution, success=False)

    def kill_all(self, reason: FailureReason) -> None:
        for key, execution in list(self.running.items()):
            execution.reason = execution.reason or reason
            self.kill(key)

    def terminate(self, key: str, grace_ms: float) -> None:
        """SIGTERM: most obey, in their own time; some finish their work first."""
        if execution := self.running.get(key):
            draw = self.world.random
            success = draw.random() < 0.1
            self.later(draw.uniform(0, grace_ms * 1.5), lambda: self._end(key, execution, success=success))

    def _end(self, key: str, execution: Execution, *, success: bool) -> None:
        if execution.end is not None:
            return
        execution.success = success
        execution.finish(self.world.now)
        if self.running.get(key) is execution:
            del self.running[key]
        self.say("success" if success else "failure", key, execution.reason or "")
        self.ended(key, execution)


class Guard(Process):
    """The parent of all attempts: checks deadlines before starts, kills at deadlines, and dies with its pipe."""

    def __init__(self, world: World, host: Host, name: str, kernel: Kernel) -> None:
        super().__init__(world, host, name)
        self.kernel = kernel
        self.deadlines: dict[str, int] = {}
        self._tell: Callable[[Frame], None] = lambda _frame: None
        self._orders: deque[Order] = deque()

    def connect(self, tell: Callable[[Frame], None]) -> None:
        self._tell = tell

    def on_start(self) -> None:
        self.kernel.ended = self._reap
        self._look()

    def disconnected(self) -> None:
        """The supervisor has gone: nothing is left running, nothing can be told."""
        if self.alive:
            self._tell = lambda _frame: None
            self.kernel.kill_all(FailureReason.WORKER_STOPPED)
            self.crash()

    def tell(self, order: Order) -> None:
        if self.alive:
            self._orders.append(order)
            self.later(self.world.delay(0.1, 3), self._obey)

    def _obey(self) -> None:
        order = self._orders.popleft()
        match order:
            case Run():
                self._start(order)
            case Halt(key, reason, grace_ms):
                self._halt(key, reason, grace_ms)
            case RenewLease(session, deadline_ms):
                self.deadlines[session] = deadline_ms
            case CloseLane(session):
                self.deadlines.pop(session, None)

    def _start(self, run: Run) -> None:
        order, now = run.dispatch, self.host.boot_ms()
        if not self.may_start(order.session, now):
            self._tell(Ended(key=run.key, reason=FailureReason.LEASE_EXPIRED, ended_at=self.host.wall_ms()))
            return
        execution = self.kernel.spawn(run.key, order, self.name)
        self._tell(Started(run.key, execution.started_wall))
        if order.spec.timeout_ms:
            grace_ms = order.spec.cancel_grace_ms
            self.later(order.spec.timeout_ms, lambda: self._time_out(run.key, execution, grace_ms))

    def may_start(self, session: str, now: int) -> bool:
        deadline = self.deadlines.get(session)
        return deadline is not None and now < deadline

    def _time_out(self, key: str, execution: Execution, grace_ms: int) -> None:
        if self.kernel.running.get(key) is execution:
            self._halt(key, FailureReason.TIMEOUT, grace_ms)

    def _halt(self, key: str, reason: FailureReason, grace_ms: int) -> None:
        execution = self.kernel.running.get(key)
        if execution is None:
            return
        execution.reason = execution.reason or reason
        if not grace_ms:
            self.kernel.kill(key)
            return
        self.kernel.terminate(key, grace_ms)
        self.later(grace_ms, lambda: self._kill(key, execution))

    def _kill(self, key: str, execution: Execution) -> None:
        if self.kernel.running.get(key) is execution:
            self.kernel.kill(key)

    def _reap(self, key: str, execution: Execution) -> None:
        # Through `later`, so that a stopped guard tells of it when it wakes.
        self.later(0, self._end(key, execution))

    def _end(self, key: str, execution: Execution) -> Act:
        reason = None if execution.success else execution.reason or FailureReason.EXIT_CODE
        ended = Ended(
            key=key,
            reason=reason,
            exit_code=0 if execution.success else 1,
            started_at=execution.started_wall,
            ended_at=self.host.wall_ms(),
            result=b"1" if execution.success else b"",
        )
        return lambda: self._tell(ended)

    def _look(self) -> None:
        self.enforce()
        slowest = SLOW_MS if self.world.leases else REACTION_MS
        self.later(self.world.delay(min(FAST_MS, slowest), slowest), self._look)

    def enforce(self) -> None:
        """Kill what is past its deadline."""
        now = self.host.boot_ms()
        for key, execution in list(self.kernel.running.items()):
            deadline = self.deadlines.get(execution.order.session)
            if deadline is None or now >= deadline + execution.order.spec.continue_for_ms:
                execution.reason = execution.reason or FailureReason.LEASE_EXPIRED
                self.kernel.kill(key)
