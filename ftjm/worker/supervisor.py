"""The supervisor: holds the log connection and the lease, and never runs a job itself.

One loop in one thread owns the rules (`Life`), the guard and the order of things; other threads only fill its inbox.
"""

import selectors
import time
from collections.abc import Callable, Iterable

import structlog

from ftjm.clock import boot_ms, wall_ms
from ftjm.core.messages import Dispatch, DrainWorker, SchedulerHeartbeat
from ftjm.core.model import FailureReason
from ftjm.errors import FtjmError
from ftjm.worker.duties import Beat, Duty, Extend, Halt, Leave, Listen, Report, Run
from ftjm.worker.inbox import Acknowledged, Asked, Confirmed, Deaf, GuardPort, Inbox, Item, Opened, Unreadable, Wire
from ftjm.worker.life import Life
from ftjm.worker.protocol import (
    Checkpointed,
    Disconnected,
    Ended,
    Forget,
    Frame,
    Ping,
    Renew,
    Start,
    Started,
    Stop,
)

log = structlog.get_logger(__name__)

ANSWER_MS = 5_000
"""A guard that is silent for so long after a question is lost."""
ANSWER_AT_DEADLINE_MS = 200
"""The same, when attempts must end now: it fits into the margin that deadlines have."""
START_MS = 15_000
"""The same for one that has just been started, on a busy host: nothing can run in it yet."""
STALL_MS = 100
"""A loop that was this late was stopped itself, and cannot judge the guard's silence."""
DELIVERY_SECONDS = 10.0
"""How long a worker that was told twice to stop waits for its last reports to reach the log."""
HURRY_MS = 100
"""A worker that was told twice looks this often whether it may leave."""
RESPAWN_SECONDS_MAX = 5.0


class Supervisor:
    """Drives one worker process. `spawn` starts a guard; `remove` takes directories that attempts left; `pulse` is
    called whenever the loop turns."""

    def __init__(
        self,
        life: Life,
        wire: Wire,
        inbox: Inbox,
        spawn: Callable[[], GuardPort],
        remove: Callable[[str], None],
        clock: Callable[[], int] = boot_ms,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        self._life = life
        self._wire = wire
        self._inbox = inbox
        self._spawn = spawn
        self._remove = remove
        self._clock = clock
        self._pulse = pulse
        self._selector = selectors.DefaultSelector()
        self._selector.register(inbox, selectors.EVENT_READ)
        self._asked = 0
        self._give_up_at: float | None = None
        self._answer_by: int | None = None
        self._losses = 0
        self._guard_up = False
        """Whether it has said anything yet."""
        self._guard = spawn()
        self._guard_events = selectors.EVENT_READ
        self._selector.register(self._guard, selectors.EVENT_READ)

    def run(self) -> int:
        """Until the worker has left. Returns 0 if all that it had to say is in the log, else 1.

        Raises FtjmError where nothing will ever reach the log again: what runs ends with this process.
        """
        while not self._left():
            if fault := self._wire.fault:
                self._guard.leave()
                raise FtjmError("the log to take what this worker says", fault, "start this process again")
            self.step()
        undelivered = self._wire.close(DELIVERY_SECONDS)
        self._guard.leave()
        self._selector.close()
        if undelivered or not self._life.finished:
            log.error("reports_undelivered", records=undelivered, attempts=self._life.live)
            return 1
        log.info("worker_left")
        return 0

    def step(self) -> None:
        """Wait for something to happen, and do what it asks for."""
        self._pulse()
        now = self._clock()
        due = self._life.wake_at(now)
        if self._answer_by is not None:
            due = min(due, self._answer_by)
        if self._asked > 1:
            due = min(due, now + HURRY_MS)
        self._want_write()
        self._selector.select(max(0, due - now) / 1000)
        late = self._clock() - max(due, now)
        self._hear_guard()
        for item in self._inbox.take():
            self._do(self._handle(item, self._clock()))
        self._judge_guard(self._clock(), stalled=late > STALL_MS)
        self._do(self._life.tick(self._clock()))

    # What comes in.

    def _handle(self, item: Item, now: int) -> Iterable[Duty]:
        life = self._life
        match item:
            case Dispatch():
                return life.received(item, now)
            case SchedulerHeartbeat():
                life.scheduler_said(item, now)
                return []
            case Acknowledged(session, token):
                return life.acknowledged(session, token, now)
            case Confirmed(session):
                return life.confirmed(session)
            case Opened(session):
                log.info("session_opened", session=session)
                return life.opened(session)
            case Unreadable(session):
                log.error("dispatch_undecodable", session=session, todo="is this worker older than its schedulers?")
                return life.unreadable(session)
            case Deaf(session):
                log.warning("dispatch_silent", session=session, todo="waiting for the brokers that hold its lane")
                return life.unreadable(session)
            case Asked():
                return self._leave()
            case DrainWorker():
                return self._leave() if self._life.is_meant(item) and not self._asked else []

    def _leave(self) -> list[Duty]:
        self._asked += 1
        if self._asked == 1:
            log.info("worker_draining", attempts=self._life.live, todo="stop it again to stop its attempts too")
            return self._life.drain()
        log.warning("worker_stopping", attempts=self._life.live)
        return self._life.halt(at_once=self._asked > 2)

    def _left(self) -> bool:
        """Drained; or told twice, with nothing running and a log that takes no reports."""
        if self._life.finished:
            return True
        if self._asked < 2 or self._life.live:
            return False
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + DELIVERY_SECONDS
        return time.monotonic() >= self._give_up_at

    # What goes out.

    def _do(self, duties: Iterable[Duty]) -> None:
        for duty in duties:
            match duty:
                case Run():
                    self._guard.send(_start(duty))
                case Halt(key, reason, grace_ms):
                    self._guard.send(Stop(key=key, reason=reason, grace_ms=grace_ms))
                    if reason is FailureReason.LEASE_EXPIRED:
                        self._expect_answer(ANSWER_AT_DEADLINE_MS)
                case Report(session, command):
                    command.sent_at = wall_ms()
                    self._wire.report(session, command)
                case Beat(session, token, heartbeat):
                    self._wire.beat(session, token, heartbeat)
                    self._expect_answer(ANSWER_MS)
                case Extend(session, deadline_ms):
                    self._guard.send(Renew(session=session, deadline_ms=deadline_ms))
                case Listen(session, lane):
                    log.info("session_opening", session=session, lane=lane)
                    self._wire.listen(session, lane)
                case Leave(session):
                    log.info("session_closed", session=session)
                    self._wire.leave(session)
                    self._guard.send(Forget(session=session))

    # The guard.

    def _hear_guard(self) -> None:
        try:
            if self._guard.wants_write:
                self._guard.flush()
            frames = self._guard.receive()
        except Disconnected:
            self._replace_guard("it died")
            return
        if frames:
            self._answer_by = None
            self._guard_up = True
        for frame in frames:
            self._do(self._heard(frame))

    def _heard(self, frame: Frame) -> Iterable[Duty]:
        if isinstance(frame, Started):
            return self._life.started(frame.key, frame.started_at, self._clock())
        if isinstance(frame, Checkpointed):
            return self._life.checkpointed(frame)
        if isinstance(frame, Ended):
            if frame.scratch:
                self._remove(frame.scratch)
            return self._life.ended(frame)
        return []

    def _expect_answer(self, within_ms: int) -> None:
        by = self._clock() + (within_ms if self._guard_up else START_MS)
        if self._answer_by is None or by < self._answer_by:
            self._answer_by = by
            self._guard.send(Ping())

    def _judge_guard(self, now: int, *, stalled: bool) -> None:
        if self._answer_by is None or now < self._answer_by:
            return
        if stalled:
            # Its answer had no time either, if the whole host was stopped.
            self._answer_by = now + ANSWER_AT_DEADLINE_MS
            return
        self._replace_guard("it does not answer")

    def _replace_guard(self, why: str) -> None:
        log.error("guard_lost", why=why, attempts=self._life.live, todo="killing all that it ran; starting another")
        self._selector.unregister(self._guard)
        if not self._guard.kill():
            log.error("attempts_unkillable", todo="look for processes in uninterruptible sleep on this host")
        self._answer_by = None
        self._guard_up = False
        self._do(self._life.guard_lost(wall_ms()))
        if self._losses:
            # One that cannot live must not keep the host busy with trying.
            time.sleep(min(RESPAWN_SECONDS_MAX, 0.1 * 2 ** min(self._losses, 6)))
        self._losses += 1
        self._guard = self._spawn()
        self._guard_events = selectors.EVENT_READ
        self._selector.register(self._guard, selectors.EVENT_READ)

    def _want_write(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._guard.wants_write else 0)
        if events != self._guard_events:
            self._guard_events = events
            self._selector.modify(self._guard, events)


def _start(duty: Run) -> Start:
    order, spec = duty.order, duty.order.spec
    return Start(
        key=duty.key,
        session=order.session,
        queue=order.queue,
        job_id=order.job_id,
        run=order.run,
        attempt=order.attempt,
        executor=spec.executor,
        command=spec.command,
        payload=spec.payload,
        environment=spec.environment,
        working_directory=spec.working_directory,
        timeout_ms=spec.timeout_ms,
        grace_ms=spec.cancel_grace_ms,
        continue_for_ms=spec.continue_for_ms,
        checkpoint=order.checkpoint,
    )
