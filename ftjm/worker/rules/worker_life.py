"""The rules of a worker process: what it does on each input, over all of its sessions. Pure.

A worker has one current session, which takes new attempts, and possibly older ones that still hold attempts or wait for
their reports to reach the log (`session.py` has the rules of one session). Inputs are methods: a message of an owner,
an acknowledged heartbeat, an attempt that started or ended, and time. Each returns actions, which the supervisor does
in order. `tick` returns what time asks for, and is called after every other method. For example:

    tick(now)                               OpenLane(s1)
    lane_opened(s1), tick(now)              SendHeartbeat(s1, offers of slots)
    heartbeat_acknowledged(s1, ...)         RenewLease(s1, deadline)         attempts may run until then
    message_received(RunAttempt)            Run(attempt), or it is kept at hand while no slot is free
    attempt_ended(...)                      Report(CompleteAttempt), then Run(the next at hand)
    deadline passed: tick(now)              Halt(every attempt of s1), OpenLane(s2)

All `now` are CLOCK_BOOTTIME milliseconds.
"""

from collections.abc import Callable, Collection, Iterable

from ftjm.core.records.levels import AHEAD_LEVEL, FIRST_LEVEL
from ftjm.core.records.messages import (
    Dispatch,
    DrainWorker,
    MemberVersion,
    RunAttempt,
    SchedulerHeartbeat,
    SessionClosed,
    SessionState,
    StopAttempt,
)
from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.protocol import Checkpointed, Ended
from ftjm.worker.rules import reports
from ftjm.worker.rules.actions import Action, CloseLane, Halt, OpenLane, RenewLease, SendHeartbeat
from ftjm.worker.rules.demand import Demand
from ftjm.worker.rules.held import HeldAttempt, attempt_key, key_of
from ftjm.worker.rules.prefetch import Prefetch
from ftjm.worker.rules.session import WorkerIdentity, WorkerSession
from ftjm.worker.rules.starting import (
    OUTLIVES_MS,
    decline,
    decline_late,
    decline_refused,
    open_places,
    refusal,
    report_checkpoint,
    report_checkpoints,
    report_starts,
    start_at_hand,
)

LOOKS = 4
"""How often a late attempt at hand is looked at in the time that it may wait."""


class WorkerRules:
    """The rules of one worker process."""

    def __init__(self, identity: WorkerIdentity, new_name: Callable[[], str]) -> None:
        """Begin without a session. `new_name` returns a name that no earlier session had."""
        self.identity = identity
        self.draining = False
        self.sessions: dict[str, WorkerSession] = {}
        self._new_name = new_name
        self._current: WorkerSession | None = None
        self._prefetch = Prefetch(identity.slots, identity.ahead)
        self._levels: dict[int, int] = {}
        """The record level that is final in each partition, as its owner last announced it."""
        self._demand = Demand(identity.queues)

    @property
    def current(self) -> WorkerSession | None:
        """The session that takes new work; None while draining, and before the first tick."""
        return self._current

    @property
    def live_attempts(self) -> int:
        """How many attempts run, of all sessions."""
        return sum([len(session.held) for session in self.sessions.values()])

    @property
    def finished(self) -> bool:
        """Whether the worker has drained: nothing runs, every report is in the log, and every session was closed."""
        return self.draining and not self.sessions

    @property
    def waits_for_reports(self) -> bool:
        """Whether a next step is due as soon as the log has the reports: of a session that ends, or of a checkpoint."""
        return self.draining or any(each.retired or each.held.progressed for each in self.sessions.values())

    def lane_opened(self, name: str) -> list[Action]:
        """The session's lane is being read."""
        if session := self.sessions.get(name):
            session.opened = True
        return []

    def heartbeat_acknowledged(self, name: str, token: int, now: int, logged_ms: int = 0) -> list[Action]:
        """The log has the heartbeat with this token, and took it at `logged_ms`: see `BrokersClock.acknowledged`."""
        session = self.sessions.get(name)
        if session is None:
            return []
        # The old deadline is checked first: an acknowledgement that comes after it must not move it.
        actions = [*self._lapse(session, now), *_expire(session.check_pause(token, logged_ms))]
        session.heartbeat_acknowledged(token, now)
        deadline = session.deadline_ms
        assert deadline is not None
        return [*actions, RenewLease(name, deadline)]

    def report_confirmed(self, name: str, reports: int = 1) -> list[Action]:
        """The log has so many more reports of this session."""
        if session := self.sessions.get(name):
            session.unconfirmed -= reports
        return []

    def message_received(self, message: Dispatch, now: int) -> list[Action]:
        """An owner has sent a message. Repeats and messages for other sessions have no effect."""
        session = self.sessions.get(message.session)
        if session is None or not session.accept(message):
            return []
        if isinstance(message, RunAttempt):
            self._prefetch.dispatch_arrived(message.partition, now, open_places(session, message.partition) - 1)
            return self._run(session, message, now)
        if isinstance(message, StopAttempt):
            return self._stop(session, message)
        if isinstance(message, SessionClosed):
            return _expire(session.close_by_owner(message.partition))
        return []

    def scheduler_heartbeat(self, heartbeat: SchedulerHeartbeat, now: int) -> None:
        """A scheduler has published which queues wait in its partitions, and which of our offers it has read."""
        for report in heartbeat.partitions:
            if report.role != "owner":
                continue
            self._demand.published(report, now)
            for taken in report.taken:
                if session := self.sessions.get(taken.session):
                    session.offers.taken(report.partition, taken.number)

    def scheduler_version(self, version: MemberVersion) -> None:
        """A scheduler has announced what is final in the partitions that it owns."""
        for one in version.partitions:
            self._levels[one.partition] = one.level

    def is_for_this_worker(self, request: DrainWorker) -> bool:
        """Whether a request names this worker."""
        return request.worker == self.identity.worker

    def attempt_started(self, key: str, started_at: int, now: int) -> list[Action]:
        """The guard has started the attempt, at `started_at` by the wall clock, ms."""
        for session in self.sessions.values():
            if held := session.held.get(key):
                session.held.started(held, started_at, now)
                break
        return []

    def attempt_checkpointed(self, progress: Checkpointed) -> list[Action]:
        """The attempt has written how far it has come. `tick` reports it."""
        for session in self.sessions.values():
            if held := session.held.get(progress.key):
                held.progress = reports.merged(held.progress, progress)
                session.held.progressed[held.key] = held
                break
        return []

    def attempt_ended(self, end: Ended, now: int) -> list[Action]:
        """The attempt has ended, and its slot is free. `tick` starts the next one that is at hand."""
        for session in self.sessions.values():
            if held := session.held.release(end.key):
                self._prefetch.attempt_ended(now - held.ordered_boot)
                self._place_freed(held.dispatch, now)
                return self._report_end(session, held, end)
        return []

    def _report_end(self, session: WorkerSession, held: HeldAttempt, end: Ended) -> list[Action]:
        last = report_checkpoint(session, held) if end.reason is not None else ()
        return [*last, session.report(reports.ended(self.identity.worker, held.dispatch, end))]

    def _place_freed(self, dispatch: RunAttempt, now: int) -> None:
        if self._demand.waits(dispatch.partition, now):
            self._prefetch.place_freed(dispatch.partition, now)

    def guard_lost(self, keys: Collection[str], suspects: Collection[str], wall_ms: int) -> list[Action]:
        """The guard of most attempts has died. No session that was open takes another attempt. See `attempts_lost`."""
        actions = self.attempts_lost(keys, suspects, wall_ms)
        for session in self.sessions.values():
            session.retire()
        return actions

    def attempts_lost(self, keys: Collection[str], suspects: Collection[str], wall_ms: int) -> list[Action]:
        """A guard has died, and everything that it ran has been killed.

        Args:
            keys: The attempts that it ran.
            suspects: Those of them that may have caused it. The others' jobs are not charged.
            wall_ms: The wall clock, which the reports give as the attempts' end.
        """
        actions: list[Action] = []
        for session in self.sessions.values():
            for held in [held for held in session.held.values() if held.key in keys]:
                end = reports.end_with_guard(held.key, held.started_at, wall_ms, suspected=held.key in suspects)
                session.held.release(held.key)
                actions += self._report_end(session, held, end)
        return actions

    def session_unreadable(self, name: str) -> list[Action]:
        """A message of the session cannot be decoded (a newer owner may have sent it), or its lane cannot be read.

        The request of the message is not carried out. The session takes no new attempt, so that it ends, and the owner
        learns by that.
        """
        if session := self.sessions.get(name):
            session.retire()
        return []

    def drain(self) -> list[Action]:
        """Start nothing more, finish the running attempts, then close all sessions."""
        self.draining = True
        self._current = None
        for session in self.sessions.values():
            session.refuse_at_hand()
            session.hasten_heartbeat()
        return []

    def halt_all(self, *, at_once: bool) -> list[Action]:
        """Stop all attempts, each with its own grace or `at_once`. Called after `drain`."""
        return [
            Halt(held.key, FailureReason.WORKER_STOPPED, 0 if at_once else held.dispatch.spec.cancel_grace_ms)
            for session in self.sessions.values()
            for held in session.held.values()
        ]

    def tick(self, now: int) -> list[Action]:
        """The actions that are due: of expired attempts, sessions that begin and end, starts, reports, heartbeats."""
        actions: list[Action] = []
        for session in self.sessions.values():
            actions += self._lapse(session, now)
            if session.held:
                actions += _expire(session.expire(now))
                for held in session.pass_deadlines(now):
                    actions.append(Halt(held.key, FailureReason.STOPPED, held.dispatch.spec.cancel_grace_ms))
        if self._current is not None and self._current.retired:
            self._current = None
        if self._current is None and not self.draining:
            actions.append(self._open())
        if (current := self._current) is not None and current.at_hand:
            actions += self._start_at_hand(now)
            actions += decline_late(current, self._prefetch, now)
        for session in self.sessions.values():
            actions += [*report_starts(session, now), *report_checkpoints(session)] if session.held else ()
        reason = "the worker is leaving" if self.draining else "the session takes nothing new"
        for session in self.sessions.values():
            actions += decline_refused(session, reason, now) if session.refused else ()
        offers_changed = self._offer(now)
        for session in list(self.sessions.values()):
            closes_at = session.closes_at(draining=self.draining) if session.retired or self.draining else None
            if closes_at is not None and now >= closes_at:
                actions += [self._send_heartbeat(session, now, SessionState.CLOSED)] if session.opened else []
                actions.append(CloseLane(session.name))
                del self.sessions[session.name]
                continue
            if not session.opened:
                continue
            due = session.heartbeat_due()
            if due is None or now >= due or (offers_changed and session is self._current):
                actions.append(self._send_heartbeat(session, now, self._state()))
        return actions

    def wake_at(self, now: int) -> int:
        """When `tick` must be called at the latest if there is no other input before."""
        if self._current is None and not self.draining:
            return now
        times = [now + self.identity.lease_ms // 5]
        for session in self.sessions.values():
            times += session.wake_times(now, draining=self.draining)
            if (start := session.held.oldest_start()) is not None:
                times.append(start + OUTLIVES_MS)
            if (since := session.at_hand.oldest_since()) is not None:
                late_at = since + self._prefetch.wait_ms  # one that is late already is kept as long as it starts soon
                times.append(late_at if late_at > now else now + self._prefetch.wait_ms // LOOKS)
        return min(times)

    def _run(self, session: WorkerSession, dispatch: RunAttempt, now: int) -> list[Action]:
        if session.retired or self.draining:
            session.refused.append(dispatch)
            return []
        if reason := refusal(session, self.sessions.values(), dispatch, now):
            return [decline(session, dispatch, reason)]
        session.at_hand.add(dispatch, now)
        return list(self._start_at_hand(now))

    def _start_at_hand(self, now: int) -> Iterable[Action]:
        current = self._current
        return start_at_hand(current, self.identity.slots - self.live_attempts, now) if current else ()

    def _stop(self, session: WorkerSession, stop: StopAttempt) -> list[Action]:
        key = attempt_key(stop.queue, stop.job_id, stop.attempt)
        if key in session.held:
            return [Halt(key, FailureReason.STOPPED, stop.grace_ms)]
        if (waiting := session.at_hand.take(key)) is not None:
            return [decline(session, waiting, "it was asked to stop before it had started")]
        if any(key_of(one) == key for one in session.refused):
            return []  # it will be declined
        # The partition waits for the end of an attempt that is not here. Mostly its report is on the way, and this one
        # is refused as stale. If the log has lost that report, or the message that starts the attempt, the wait ends.
        return [session.report(reports.absent(self.identity.worker, stop))]

    def _lapse(self, session: WorkerSession, now: int) -> list[Action]:
        return _expire(session.expire(now)) if session.check_lapse(now) else []

    def _open(self) -> OpenLane:
        session = WorkerSession(self._new_name(), self.identity)
        assert session.name not in self.sessions
        self.sessions[session.name] = self._current = session
        return OpenLane(session.name, session.lane)

    def _offer(self, now: int) -> bool:
        """Whether the current session's offers changed."""
        if (current := self._current) is None:
            return False
        elsewhere = self.live_attempts - len(current.held)
        # What is at hand waits for slots, though its owners count it no more.
        demand = current.at_hand.partitions() | self._demand.waiting(now)
        slow = current.running(before=now - self._prefetch.wait_ms)

        def ahead(partition: int, slots: int) -> int:
            if self._levels.get(partition, FIRST_LEVEL) < AHEAD_LEVEL:
                return 0  # its owner could not read the heartbeat
            return self._prefetch.wanted(partition, slots, slots - slow.get(partition, 0), now)

        slots, live = self.identity.slots - elsewhere, current.held.live
        limited, weights = self._demand.limited(now), self._demand.weights()
        return current.offers.update(slots, live, demand, now, ahead, limited, weights)

    def _send_heartbeat(self, session: WorkerSession, now: int, state: SessionState) -> SendHeartbeat:
        token, heartbeat = session.heartbeat(now, state)
        return SendHeartbeat(session.name, token, heartbeat)

    def _state(self) -> SessionState:
        return SessionState.DRAINING if self.draining else SessionState.OPEN


def _expire(late: list[HeldAttempt]) -> list[Action]:
    return [Halt(held.key, FailureReason.LEASE_EXPIRED, 0) for held in late]
