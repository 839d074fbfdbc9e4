"""One life of a worker process: its sessions, one current and some old, and what each input asks for. Pure.

Every method returns duties, to be done in order; `tick` adds those that time asks for, and belongs after every other
call. All `now` are CLOCK_BOOTTIME milliseconds.
"""

from collections.abc import Callable, Iterable

from ftjm.core.commands import AttemptReport
from ftjm.core.identity import partition_for
from ftjm.core.messages import (
    Dispatch,
    DrainWorker,
    RunAttempt,
    SchedulerHeartbeat,
    SessionClosed,
    SessionState,
    StopAttempt,
)
from ftjm.core.model import FailureReason
from ftjm.worker import reports
from ftjm.worker.duties import Beat, Duty, Extend, Halt, Leave, Listen, Report, Run
from ftjm.worker.protocol import Checkpointed, Ended
from ftjm.worker.session import Held, Identity, Session, attempt_key

OUTLIVES_MS = 250
"""An attempt that ends sooner is reported once, with its start in its end."""
REPORTS_BEHIND_MAX = 50
"""While the log is that far behind, checkpoints wait, and the newest of an attempt replaces the one before."""
DEMAND_KEPT_MS = 5_000
"""What a silent owner last said of its queues counts for so long."""


class Life:
    """The worker's rules. `new_name` gives names for sessions that nobody ever had."""

    def __init__(self, identity: Identity, new_name: Callable[[], str]) -> None:
        self.identity = identity
        self.draining = False
        self.sessions: dict[str, Session] = {}
        self._new_name = new_name
        self._current: Session | None = None
        self._demand: dict[int, int] = {}
        """When jobs were last said to wait in a partition."""

    @property
    def current(self) -> Session | None:
        """The session that takes new work; None while draining, and before the first tick."""
        return self._current

    @property
    def live(self) -> int:
        """Attempts that run, of all sessions."""
        return sum(len(session.held) for session in self.sessions.values())

    @property
    def finished(self) -> bool:
        """Drained: nothing runs, every report is in the log, and every session was closed."""
        return self.draining and not self.sessions

    def opened(self, name: str) -> list[Duty]:
        """The session's lane is being read."""
        if session := self.sessions.get(name):
            session.opened = True
        return []

    def acknowledged(self, name: str, token: int, now: int) -> list[Duty]:
        """The log has the heartbeat with this token."""
        session = self.sessions.get(name)
        if session is None:
            return []
        # The old deadline is judged first: an answer that comes after it must not undo it.
        duties = self._lapse(session, now)
        session.acknowledged(token, now)
        deadline = session.deadline_ms
        assert deadline is not None
        return [*duties, Extend(name, deadline)]

    def confirmed(self, name: str) -> list[Duty]:
        """The log has one more report of this session."""
        if session := self.sessions.get(name):
            session.unconfirmed -= 1
        return []

    def received(self, message: Dispatch, now: int) -> list[Duty]:
        """An owner's word; repeats and what is for others have no effect."""
        session = self.sessions.get(message.session)
        if session is None or not session.accept(message):
            return []
        if isinstance(message, RunAttempt):
            return self._run(session, message, now)
        if isinstance(message, StopAttempt):
            held = session.held.get(attempt_key(message.queue, message.job_id, message.attempt))
            return [Halt(held.key, FailureReason.STOPPED, message.grace_ms)] if held else []
        if isinstance(message, SessionClosed):
            return _expire(session.closed_by(message.partition))
        return []

    def scheduler_said(self, heartbeat: SchedulerHeartbeat, now: int) -> None:
        """Owners publish which queues wait, and which of our offers they have seen."""
        queues = self.identity.queues
        for report in heartbeat.partitions:
            if report.role != "owner":
                continue
            if any(demand.ready > 0 and demand.queue in queues for demand in report.demand):
                self._demand[report.partition] = now
            else:
                self._demand.pop(report.partition, None)
            for taken in report.taken:
                if session := self.sessions.get(taken.session):
                    session.offers.taken(report.partition, taken.number)

    def is_meant(self, wish: DrainWorker) -> bool:
        """Whether a wish is for this worker."""
        return wish.worker == self.identity.worker

    def started(self, key: str, started_at: int, now: int) -> list[Duty]:
        """The guard has started the attempt; `started_at` is wall clock, ms."""
        for session in self.sessions.values():
            if held := session.held.get(key):
                held.started_at, held.started_boot = started_at, now
        return []

    def checkpointed(self, said: Checkpointed) -> list[Duty]:
        """The attempt has told how far it is; `tick` passes it on."""
        for session in self.sessions.values():
            if held := session.held.get(said.key):
                held.said = reports.newest(held.said, said)
        return []

    def ended(self, end: Ended) -> list[Duty]:
        """The attempt is over, and its slot is free."""
        for session in self.sessions.values():
            if held := session.held.pop(end.key, None):
                last = self._checkpoint(session, held) if end.reason is not None else []
                return [*last, self._report(session, reports.ended(self.identity.worker, held.order, end))]
        return []

    def guard_lost(self, wall_ms: int) -> list[Duty]:
        """The guard has died, and all that it ran has been killed."""
        duties: list[Duty] = []
        for session in self.sessions.values():
            for held in list(session.held.values()):
                end = Ended(
                    key=held.key,
                    reason=FailureReason.GUARD_LOST,
                    error="the worker's guard process died, and everything it ran was killed",
                    started_at=held.started_at,
                    ended_at=wall_ms,
                )
                duties += self.ended(end)
            session.retire()
        return duties

    def unreadable(self, name: str) -> list[Duty]:
        """A message of the session cannot be decoded (a newer owner's, by its schema), or none can be read. What it
        asked for will not happen here, and the session takes nothing new, so that it ends, and its lease.
        """
        if session := self.sessions.get(name):
            session.retire()
        return []

    def drain(self) -> list[Duty]:
        """Take nothing new, finish what runs, then close."""
        self.draining = True
        self._current = None
        for session in self.sessions.values():
            session.hasten()
        return []

    def halt(self, *, at_once: bool) -> list[Duty]:
        """Stop all attempts, with each one's own grace unless at once. Comes with `drain`."""
        return [
            Halt(held.key, FailureReason.WORKER_STOPPED, 0 if at_once else held.order.spec.cancel_grace_ms)
            for session in self.sessions.values()
            for held in session.held.values()
        ]

    def tick(self, now: int) -> list[Duty]:
        """What is due: expiries, a new session, starts worth telling, offers, heartbeats, farewells."""
        duties: list[Duty] = []
        for session in self.sessions.values():
            duties += self._lapse(session, now)
            duties += _expire(session.overdue(now))
        if self._current is not None and self._current.retired:
            self._current = None
        if self._current is None and not self.draining:
            duties.append(self._open())
        duties += self._worth_telling(now)
        duties += self._checkpoints()
        duties += self._decline_refused(now)
        offers_changed = self._offer(now)
        for session in list(self.sessions.values()):
            closes_at = session.closes_at(draining=self.draining)
            if (session.retired or self.draining) and closes_at is not None and now >= closes_at:
                duties += [self._beat(session, now, SessionState.CLOSED)] if session.opened else []
                duties.append(Leave(session.name))
                del self.sessions[session.name]
                continue
            if not session.opened:
                continue
            due = session.heartbeat_due()
            if due is None or now >= due or (offers_changed and session is self._current):
                duties.append(self._beat(session, now, self._state()))
        return duties

    def wake_at(self, now: int) -> int:
        """When `tick` should be called at the latest, if nothing else happens."""
        if self._current is None and not self.draining:
            return now
        times = [now + self.identity.lease_ms // 5]
        for session in self.sessions.values():
            if session.opened:
                times.append(session.heartbeat_due() or now)
            next_step = session.declines_at() if session.refused else session.closes_at(draining=self.draining)
            if (session.retired or self.draining) and next_step is not None:
                times.append(next_step)
            deadline = session.deadline_ms
            if deadline is not None and not session.lapsed:
                times.append(deadline)
            for held in session.held.values():
                if held.started_boot and not held.told:
                    times.append(held.started_boot + OUTLIVES_MS)
                if deadline is not None and not held.expired:
                    times.append(deadline + held.extension_ms)
        return min(times)

    def _run(self, session: Session, order: RunAttempt, now: int) -> list[Duty]:
        if session.retired or self.draining:
            session.refused.append(order)
            return []
        why = self._refusal(session, order, now)
        if why:
            return [self._report(session, reports.declined(self.identity.worker, order, why))]
        key = attempt_key(order.queue, order.job_id, order.attempt)
        session.held[key] = Held(key=key, order=order)
        return [Run(key, order)]

    def _refusal(self, session: Session, order: RunAttempt, now: int) -> str:
        if not session.in_lease(now):
            return "the session's lease is over"
        if self.live >= self.identity.slots:
            return f"all {self.identity.slots} slots are taken"
        others = (held.order for known in self.sessions.values() for held in known.held.values())
        if any(other.job_id == order.job_id and other.queue == order.queue for other in others):
            # Its owner gave the older one up; ours is about to stop it, and must not run both meanwhile.
            return "an older attempt of the job has not stopped yet"
        return ""

    def _lapse(self, session: Session, now: int) -> list[Duty]:
        return _expire(session.overdue(now)) if session.observe(now) else []

    def _open(self) -> Listen:
        session = Session(self._new_name(), self.identity)
        assert session.name not in self.sessions
        self.sessions[session.name] = self._current = session
        return Listen(session.name, session.lane)

    def _worth_telling(self, now: int) -> Iterable[Duty]:
        for session in self.sessions.values():
            for held in session.held.values():
                if held.started_boot and not held.told and now - held.started_boot >= OUTLIVES_MS:
                    held.told = True
                    yield self._report(session, reports.started(self.identity.worker, held.order, held.started_at))

    def _checkpoints(self) -> Iterable[Duty]:
        for session in self.sessions.values():
            for held in session.held.values():
                if held.said and session.unconfirmed < REPORTS_BEHIND_MAX:
                    yield from self._checkpoint(session, held)

    def _checkpoint(self, session: Session, held: Held) -> list[Duty]:
        if held.said is None:
            return []
        said, held.said = held.said, None
        return [self._report(session, reports.checkpointed(self.identity.worker, held.order, said))]

    def _decline_refused(self, now: int) -> Iterable[Duty]:
        for session in self.sessions.values():
            declines_at = session.declines_at()
            if session.refused and declines_at is not None and now >= declines_at:
                why = "the worker is leaving" if self.draining else "the session takes nothing new"
                refused, session.refused = session.refused, []
                for order in refused:
                    yield self._report(session, reports.declined(self.identity.worker, order, why))

    def _offer(self, now: int) -> bool:
        """Whether the current session's offers changed."""
        current = self._current
        if current is None:
            return False
        elsewhere = self.live - len(current.held)
        demand = {partition for partition, said in self._demand.items() if now - said < DEMAND_KEPT_MS}
        return current.offers.update(self.identity.slots - elsewhere, current.live(), demand, now)

    def _report(self, session: Session, command: AttemptReport) -> Report:
        session.unconfirmed += 1
        return Report(session.name, command)

    def _beat(self, session: Session, now: int, state: SessionState) -> Beat:
        token, heartbeat = session.heartbeat(now, state)
        return Beat(session.name, token, heartbeat)

    def _state(self) -> SessionState:
        return SessionState.DRAINING if self.draining else SessionState.OPEN


def command_partition(command: AttemptReport, partitions: int) -> int:
    """The partition of `commands` that owns the job."""
    return partition_for(command.shard_key or command.queue, partitions)


def _expire(late: list[Held]) -> list[Duty]:
    return [Halt(held.key, FailureReason.LEASE_EXPIRED, 0) for held in late]
