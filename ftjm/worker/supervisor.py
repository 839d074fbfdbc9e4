"""The supervisor: the worker's connection to the log and to the guard. It never runs a job itself.

One loop in one thread takes what other threads put into the inbox (dispatches, acknowledgements, signals) and the
frames of the guard, passes each to the rules (`rules/worker_life.py`), and does the actions that they return, in order.

It also watches the guard. A guard that has died or does not answer a `Ping` in time cannot keep deadlines: the
supervisor, which is the subreaper above it, kills the guard and everything that it ran, reports those attempts as lost,
and starts another guard. A session that had attempts under the old one takes no new attempt.

**Who is charged with a lost guard.** An attempt that had just been started is a suspect: its report says GUARD_LOST,
which counts against `worker_losses_max`. The others are bystanders (GUARD_LOST_BESIDE), and are not charged. A job that
was lost in either way runs next under a guard of its own. `docs/decisions/073-who-is-charged-with-a-lost-guard.md`
"""

import selectors
import time
from collections.abc import Callable, Iterable

import structlog

from ftjm.core.records.messages import Dispatch, DrainWorker, MemberVersion, SchedulerHeartbeat
from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms, wall_ms
from ftjm.runtime.errors import FtjmError
from ftjm.worker.attempts.protocol import (
    Checkpointed,
    Disconnected,
    Ended,
    Forget,
    Frame,
    Renew,
    Started,
    Stop,
    Warned,
)
from ftjm.worker.guarded import KEPT_TODO, OWN_GUARDS_MAX, STALL_MS, Guarded, respawn_seconds, start_frame
from ftjm.worker.inbox import (
    GuardPort,
    HeartbeatAcknowledged,
    Inbox,
    Item,
    LaneOpened,
    LaneUnreadable,
    LeaveRequested,
    LogPort,
    MessageUndecodable,
    ReportConfirmed,
)
from ftjm.worker.report_collector import ReportCollector
from ftjm.worker.rules.actions import Action, CloseLane, Halt, OpenLane, RenewLease, Report, Run, SendHeartbeat
from ftjm.worker.rules.starting import is_followed
from ftjm.worker.rules.worker_life import WorkerRules

log = structlog.get_logger(__name__)

ANSWER_MS = 5_000
"""A guard that sends nothing for this long after a `Ping` is lost."""
ANSWER_AT_DEADLINE_MS = 200
"""As `ANSWER_MS`, when attempts must end now: it fits into the margin that deadlines have."""
DELIVERY_SECONDS = 10.0
"""How long a worker that was asked twice to leave waits for its last reports to reach the log."""
HURRY_MS = 100
"""A worker that was asked twice checks this often whether it may leave."""
FLUSH_ITEMS = 16
"""Frames and reports are sent at the end of a turn, and after so many items: no start waits for a long turn."""


class Supervisor:
    """Drives one worker process."""

    def __init__(
        self,
        rules: WorkerRules,
        log_port: LogPort,
        inbox: Inbox,
        spawn: Callable[[float], GuardPort],
        remove: Callable[[str], None],
        clock: Callable[[], int] = boot_ms,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        """Start a guard, and prepare the loop.

        Args:
            rules: The worker's rules.
            log_port: The log.
            inbox: The queue by which other threads pass items to the loop.
            spawn: Starts a guard, which sleeps for so many seconds before it begins. It does not wait for the guard.
            remove: Removes a directory that an attempt left.
            clock: CLOCK_BOOTTIME, ms.
            pulse: Called whenever the loop turns.
        """
        self._rules = rules
        self._log = log_port
        self._inbox = inbox
        self._spawn = spawn
        self._remove = remove
        self._clock = clock
        self._pulse = pulse
        self._selector = selectors.DefaultSelector()
        self._selector.register(inbox, selectors.EVENT_READ)
        self._leave_requests = 0
        self._give_up_at: float | None = None
        self._losses = 0
        self._reports = ReportCollector(log_port.report)
        self._deadlines: dict[str, int] = {}
        """The deadline of each session, for guards that are started later."""
        self._guard = self._add_guard()
        self._own_guards: list[Guarded] = []
        """Guards that run one attempt each, or none; `_guard` runs all others."""

    def run(self) -> int:
        """Run until the worker has left.

        Returns:
            0 if every report is in the log, else 1.

        Raises:
            FtjmError: No record of this process will reach the log any more. Its running attempts end with it.
        """
        while not self._left():
            if fault := self._log.fault:
                self._end_guards()
                raise FtjmError("a log that takes this worker's reports", fault, "start this process again")
            self.step()
        undelivered = self._log.close(DELIVERY_SECONDS)
        self._end_guards()
        self._selector.close()
        if undelivered or not self._rules.finished:
            todo = "nothing: the schedulers count these attempts as lost after the lease, and decide what follows"
            log.error("reports_undelivered", records=undelivered, attempts=self._rules.live_attempts, todo=todo)
            return 1
        log.info("worker_left")
        return 0

    def step(self) -> None:
        """Wait for input or for the time of the next action, and do what the rules ask for."""
        self._pulse()
        now = self._clock()
        answers = (guard.answer_by for guard in self._guards() if guard.answer_by is not None)
        due = min([self._rules.wake_at(now), *answers])
        if self._reports.due is not None:
            due = min(due, self._reports.due)
        if self._leave_requests > 1:
            due = min(due, now + HURRY_MS)
        for guard in self._guards():
            guard.update_events(self._selector)
        due = now if self._inbox.hurry(wanted=self._rules.waits_for_reports) else due
        ready = [key.fileobj for key, _ in self._selector.select(max(0, due - now) / 1000)]
        late = self._clock() - max(due, now)
        for guard in self._guards():
            if guard.port in ready:
                self._serve_guard(guard)
        for count, item in enumerate(self._inbox.take(readable=self._inbox in ready), 1):
            self._do(self._handle(item, self._clock()))
            if not count % FLUSH_ITEMS:
                self._flush()
        for guard in self._guards():
            self._check_guard(guard, self._clock(), stalled=late > STALL_MS)
        self._do(self._rules.tick(self._clock()))
        self._flush()

    # Input.

    def _handle(self, item: Item, now: int) -> Iterable[Action]:
        match item:
            case Dispatch():
                return self._rules.message_received(item, now)
            case SchedulerHeartbeat():
                self._rules.scheduler_heartbeat(item, now)
                return []
            case MemberVersion():
                self._rules.scheduler_version(item)
                return []
            case HeartbeatAcknowledged(session, token, logged_ms):
                return self._rules.heartbeat_acknowledged(session, token, now, logged_ms)
            case ReportConfirmed(session, reports):
                return self._rules.report_confirmed(session, reports)
            case LaneOpened(session):
                log.info("session_opened", session=session)
                return self._rules.lane_opened(session)
            case MessageUndecodable(session):
                log.error("dispatch_undecodable", session=session, todo="is this worker older than its schedulers?")
                return self._rules.session_unreadable(session)
            case LaneUnreadable(session):
                log.warning("dispatch_silent", session=session, todo="waiting for the brokers that hold its lane")
                return self._rules.session_unreadable(session)
            case LeaveRequested():
                return self._leave()
            case DrainWorker():
                return self._leave() if self._rules.is_for_this_worker(item) and not self._leave_requests else []

    def _leave(self) -> list[Action]:
        self._leave_requests += 1
        if self._leave_requests == 1:
            todo = "stop it again to stop its attempts too"
            log.info("worker_draining", attempts=self._rules.live_attempts, todo=todo)
            return self._rules.drain()
        todo = "wait for the ends of its attempts, or stop it once more to kill them"
        log.warning("worker_stopping", attempts=self._rules.live_attempts, todo=todo)
        return self._rules.halt_all(at_once=self._leave_requests > 2)

    def _left(self) -> bool:
        """Whether the worker may end: drained; or asked twice, with nothing running and a log that takes no report."""
        if self._rules.finished:
            return True
        if self._leave_requests < 2 or self._rules.live_attempts:
            return False
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + DELIVERY_SECONDS
        return time.monotonic() >= self._give_up_at

    # Output.

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Run(key, dispatch):
                    guard = self._guard_for(dispatch.losses)
                    guard.attempts[key] = self._clock()
                    guard.port.send(start_frame(action))
                case Halt(key, reason, grace_ms):
                    for guard in self._guards():
                        if key in guard.attempts:
                            guard.port.send(Stop(key=key, reason=reason, grace_ms=grace_ms))
                            if reason is FailureReason.LEASE_EXPIRED:
                                guard.expect_answer(self._clock(), ANSWER_AT_DEADLINE_MS)
                case Report(session, command):
                    self._reports.add(
                        session, command, self._clock(), may_wait=is_followed(self._rules.current, command)
                    )
                case SendHeartbeat(session, token, heartbeat):
                    self._log.beat(session, token, heartbeat)
                    for guard in self._guards():
                        guard.expect_answer(self._clock(), ANSWER_MS)
                case RenewLease(session, deadline_ms):
                    self._deadlines[session] = deadline_ms
                    for guard in self._guards():
                        guard.port.send(Renew(session=session, deadline_ms=deadline_ms))
                case OpenLane(session, lane):
                    log.info("session_opening", session=session, lane=lane)
                    self._log.listen(session, lane)
                case CloseLane(session):
                    log.info("session_closed", session=session)
                    self._log.leave(session)
                    self._deadlines.pop(session, None)
                    for guard in self._guards():
                        guard.port.send(Forget(session=session))

    # The guards.

    def _guards(self) -> list[Guarded]:
        return [self._guard, *self._own_guards]

    def _add_guard(self, delay_seconds: float = 0.0) -> Guarded:
        guard = Guarded(self._spawn(delay_seconds))
        self._selector.register(guard.port, guard.events)
        for session, deadline_ms in self._deadlines.items():
            guard.port.send(Renew(session=session, deadline_ms=deadline_ms))
        return guard

    def _guard_for(self, losses: int) -> Guarded:
        """The guard for an attempt of a job that was lost so often with its worker's guard or session."""
        if not losses:
            return self._guard
        for guard in self._own_guards:
            if not guard.attempts:
                return guard
        if len(self._own_guards) == OWN_GUARDS_MAX:
            return self._guard
        try:
            own = self._add_guard()
        except OSError as error:
            # The host is at a limit. The attempts that run must not pay for a guard that would only be safer.
            log.warning("guard_not_started", error=str(error), todo="raise the worker's limits of processes and files")
            return self._guard
        self._own_guards.append(own)
        return own

    def _serve_guard(self, guard: Guarded) -> bool:
        """Take what the guard has sent. Returns whether the guard still lives."""
        try:
            guard.flush()
            frames = guard.port.receive()
        except Disconnected:
            self._lose_guard(guard, "it died")
            return False
        if frames:
            guard.answer_by = None
            guard.is_up = True
        for frame in frames:
            if isinstance(frame, Ended):
                guard.attempts.pop(frame.key, None)
            self._do(self._handle_frame(frame))
        return True

    def _handle_frame(self, frame: Frame) -> Iterable[Action]:
        if isinstance(frame, Started):
            return self._rules.attempt_started(frame.key, frame.started_at, self._clock())
        if isinstance(frame, Checkpointed):
            return self._rules.attempt_checkpointed(frame)
        if isinstance(frame, Ended):
            if frame.scratch:
                self._remove(frame.scratch)
            return self._rules.attempt_ended(frame, self._clock())
        if isinstance(frame, Warned):
            log.warning("guard_warns", text=frame.text, todo=KEPT_TODO)
        return []

    def _check_guard(self, guard: Guarded, now: int, *, stalled: bool) -> None:
        if guard.answer_by is None or now < guard.answer_by:
            return
        if stalled:
            # If the whole host was stopped, the guard had no time to answer either.
            guard.answer_by = now + ANSWER_AT_DEADLINE_MS
            return
        # Its answer may have arrived while this turn did other things.
        if self._serve_guard(guard) and guard.answer_by is not None and now >= guard.answer_by:
            self._lose_guard(guard, "it does not answer")

    def _lose_guard(self, guard: Guarded, cause: str) -> None:
        """Kill what is left of a guard, report its attempts, and start another guard if it was the guard of most."""
        suspects = guard.suspects(self._clock())
        is_own = guard in self._own_guards
        todo = "killing its attempts" if is_own else "killing its attempts; starting another guard"
        log.error("guard_lost", reason=cause, attempts=len(guard.attempts), suspects=sorted(suspects), todo=todo)
        self._flush()
        self._reports.send()  # the kill may take seconds, and what other guards are told must not wait for it
        self._selector.unregister(guard.port)
        if not guard.port.kill():
            log.error("attempts_unkillable", todo="look for processes in uninterruptible sleep on this host")
        if is_own:
            self._own_guards.remove(guard)
            self._do(self._rules.attempts_lost(guard.attempts, suspects, wall_ms()))
            return
        self._do(self._rules.guard_lost(guard.attempts, suspects, wall_ms()))
        self._losses += 1
        self._reports.send()  # the reports must not be lost if the host has no room for another guard
        self._guard = self._add_guard(respawn_seconds(self._losses))

    def _flush(self) -> None:
        for guard in self._guards():
            guard.flush()
        self._reports.send_due(self._clock())

    def _end_guards(self) -> None:
        for guard in self._guards():
            guard.port.leave()
