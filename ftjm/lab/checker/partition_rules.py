"""The rules of one partition: the order of dispatches, the slots of sessions, and the timers, after every event.

- Order: a dispatch takes the first ready job of its queue (`waiting_jobs.py`).
- Keys: no concurrency key is had by more jobs than may, and none is left free (`concurrency_keys.py`).
- Queues: a dispatch keeps to what its queue is declared to, and is of none that is paused (`queue_limits.py`).
- Windows and cordons: a dispatch is of no queue that may not start now, and to no cordoned worker; attempts are stopped
  if and only if windows say so (`closures.py`).
- Limits: a session holds no more attempts than its offer has slots and places ahead, serves the queue, and is not lost.
  An attempt is sent ahead if and only if all slots of the offer are taken, and only where partition and job allow it.
- Timers: each event that a timer causes has a timer that was due, and no batch leaves behind a timer that was due
  before it. If the evidence holds the pauses in which the partition could not decide, lateness beyond these pauses is
  a violation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import AHEAD_LEVEL, FIRST_LEVEL
from ftjm.core.state.model import TERMINAL, JobState, StopReason, job_key
from ftjm.lab.checker.bulk_requests import BulkRequests
from ftjm.lab.checker.causes import action_of, follows_from_key
from ftjm.lab.checker.closures import Closures
from ftjm.lab.checker.concurrency_keys import ARRIVALS, ConcurrencyKeys
from ftjm.lab.checker.evidence import Evidence
from ftjm.lab.checker.intervals import uncovered
from ftjm.lab.checker.job import OUTCOMES, CheckedJob
from ftjm.lab.checker.lazy_heap import LazyHeap
from ftjm.lab.checker.queue_limits import QueueLimits
from ftjm.lab.checker.remembered import COMMAND_ID_MS, SESSION_MS, RememberedNames
from ftjm.lab.checker.schedules import Schedules
from ftjm.lab.checker.submissions import Submissions
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind
from ftjm.lab.checker.waiting_jobs import WaitingJobs
from ftjm.lab.checker.waiting_limits import WaitingLimits

TIMERS_MAX = 100
"""A batch fires at most so many timers, and may leave others to the next batch."""
KEEP_THE_PLACE = (e.SubmissionRepeated, e.JobStuck, e.JobReviewed)
"""Events of a waiting job that leave its place in the queue as it is."""
TIMERS = ("waits_until", "deadline_at", "forget_at", "look_at")
"""Attributes of a `CheckedJob` that hold the time at which something is due."""


class _Timer(NamedTuple):
    name: JobName
    job: CheckedJob
    what: str
    due_at: int
    batch_no: int
    """Batch in which the timer was set."""

    def counts(self) -> bool:
        return bool(getattr(self.job, self.what) == self.due_at)


class PartitionRules:
    """Judges the events of one partition. Its memory is that of live jobs, their timers, and open sessions."""

    def __init__(self, number: int, evidence: Evidence, jobs: Mapping[JobName, CheckedJob]) -> None:
        """`number` is that of the partition; `jobs` holds all jobs of the history as of now, by their names."""
        self._number = number
        self._jobs = jobs
        self._evidence = evidence
        self._batch_no = 1
        self._waiting = WaitingJobs()
        self._bulk = BulkRequests(self._waiting)
        self._keys = ConcurrencyKeys(self._waiting)
        self._timers: LazyHeap[_Timer] = LazyHeap(_Timer.counts)
        self._attempts: Counter[str] = Counter()
        """Number of open attempts, by session."""
        self._emptied: dict[str, int] = {}
        """The batch in which a session's last attempt ended. Timers come first in a batch, so the next batch may forget
        the session."""
        self._lost_sessions = RememberedNames("the loss of session", SESSION_MS, self._is_session_needed)
        self._carried_out = RememberedNames("the command id", COMMAND_ID_MS)
        """Ids of reruns and bulk requests that were carried out, and of backfills that have ended."""
        self._fired: list[tuple[JobName, int]] = []
        """Timers that fired in this batch: the job, and the time since which the timer was due."""
        self._queue_limits = QueueLimits()
        self._closures = Closures()
        self._submissions = Submissions((evidence.commands or {}).get(number, {}))
        self._schedules = Schedules(jobs, self._carried_out.add, self._submissions)
        self._waiting_limits = WaitingLimits(self._queue_limits)
        self._level = FIRST_LEVEL
        """The record level that was made final."""
        self.timers_judged = 0
        """Timers whose lateness was judged, and that no pause would have excused."""
        self._unsettled: dict[JobName, CheckedJob] = {}
        self._previous_batch = (0, 0)
        """The last batch: epoch of its owner, and the time at which the log took it."""

    # -- events

    def take_job_event(self, name: JobName, job: CheckedJob, event: e.Event) -> Iterator[Violation]:
        """Judge an event of a job by the state before the event, and apply it."""
        if follows_from_key(event):
            yield from self._keys.check_process(event)
        else:
            yield from self._bulk.take_job_event(name, job, event)
        if isinstance(event, e.AttemptDispatched):
            yield from self._check_deadline(job, event)
            yield from self._queue_limits.attempt_started(event)
            yield from self._waiting.check_dispatch(name, job, event)
            yield from self._check_ahead(job, event)
            yield from self._check_limits(event)
        elif isinstance(event, e.AttemptLost):
            yield from self._check_loss(event)
        else:
            yield from self._check_timer(name, job, event)
        yield from self._closures.take_job_event(name, event)
        yield from self._schedules.take_job_event(name, job, event)
        before = [getattr(job, what) for what in TIMERS]
        was_open, session, had_ended, state = job.attempt_open, job.session, job.state in TERMINAL, job.state
        if isinstance(event, ARRIVALS):
            key = event.spec.concurrency_key if isinstance(event, e.JobSubmitted) else job.terms.concurrency_key
            job.must_wait = bool(key) and self._keys.must_wait(event.queue, key)
        job.dead_letter_ms = self._queue_limits.spec(event.queue).dead_letter_ms
        yield from self._waiting_limits.check(job, event)
        yield from job.take(self._number, event)
        self._waiting.shares.take_job_event(name, job, event)
        if job.schedule and had_ended != (job.state in TERMINAL):
            self._schedules.job_moved(name, event)
        if isinstance(event, e.AttemptDispatched):
            self._attempts[event.session] += 1
        elif isinstance(event, OUTCOMES) and was_open:
            self._attempts[session] -= 1
            self._queue_limits.attempt_ended(event.queue)
            if not self._attempts[session]:
                self._emptied[session] = self._batch_no
        if isinstance(event, e.JobSubmitted):
            yield from self._submissions.check(event)
        if isinstance(event, e.JobSubmitted | e.JobRerun):
            self._waiting.begin_run(job, event)
        if isinstance(event, e.JobRerun):
            yield from self._carried_out.add(event.command_id, event.at)
        if job.state is JobState.READY and not isinstance(event, KEEP_THE_PLACE):
            self._waiting.add(name, job, job.ready_at if isinstance(event, e.JobPrioritized) else event.at)
        if job.terms.concurrency_key:
            yield from self._take_key_event(name, job, state, event)
        self._waiting_limits.job_moved(job, state, event)
        for what, old in zip(TIMERS, before, strict=True):
            self._note_timer(name, job, what, old)
        if job.unsettled:
            self._unsettled[name] = job

    def _take_key_event(
        self, name: JobName, job: CheckedJob, before: JobState | None, event: e.Event
    ) -> Iterator[Violation]:
        if job.state is JobState.PENDING and before is not JobState.PENDING:
            self._waiting.add_parked(name, job, event.at)
        if job.state is not before or isinstance(event, e.JobParked | e.JobPrioritized | e.JobStopRequested):
            yield from self._keys.job_moved(name, job, before, event)

    def _note_timer(self, name: JobName, job: CheckedJob, what: str, before: int) -> None:
        if (due_at := getattr(job, what)) and due_at != before:
            self._timers.add(due_at, _Timer(name, job, what, due_at, self._batch_no))

    def _take_reordered(self, event: e.QueueReordered) -> None:
        for key in event.jobs:
            queue, _, job_id = key.partition("/")
            if (job := self._jobs.get((queue, job_id))) is not None:
                before = job.look_at
                self._waiting_limits.reordered(queue, job, event.at)
                self._note_timer((queue, job_id), job, "look_at", before)

    def take_other_event(self, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event that belongs to no job."""
        yield from self._schedules.take_calendar(event)
        match event:
            case e.WorkerLost():
                yield from self._lost_sessions.add(event.session, event.at)
            case e.WorkerForgotten():
                yield from self._lost_sessions.forget(event.session, event)
                self._attempts.pop(event.session, None)
                self._emptied.pop(event.session, None)
            case e.UpgradeFinalized():
                self._level = event.level
                yield from self._closures.take(event)
                yield from self._waiting.take(event)
            case e.CommandIdForgotten():
                yield from self._carried_out.forget(event.command_id, event)
            case e.ScheduleEvent():
                yield from self._schedules.take(event)
            case e.ResourceEvent() | e.ResourcesReconciled() | e.WindowTurned() | e.WindowStopsAdvanced():
                yield from self._closures.take(event)
            case _:
                self._submissions.take(event)
                yield from self._queue_limits.take(event)
                yield from self._waiting.take(event)
                yield from self._keys.take(event)
                self._waiting.shares.take(event)
                yield from self._bulk.take(event)
                if isinstance(event, e.QueueReordered):
                    self._take_reordered(event)
                if isinstance(event, e.BulkBegun):
                    yield from self._carried_out.add(f"{event.queue}/{event.bulk}", event.at)

    def check_refusal(self, event: e.CommandRejected, command: c.Command | None) -> Iterator[Violation]:
        """Judge a refusal as repeated, or of a schedule. `command` is the refused command; `None` where that is not
        known."""
        yield from self._schedules.check_refusal(event, command)
        if event.code != "REPEATED" or not event.kind:
            return  # a refusal without a kind is of a forwarded command that came twice
        if isinstance(command, c.RerunJob) and not self._carried_out.has_request(command):
            text = f"expected the command id {command.command_id} to be carried out"
            yield Violation(ViolationKind.ANSWER, f"{text}, but found it refused as repeated")

    def _is_session_needed(self, session: str) -> bool:
        return self._attempts[session] > 0 or self._emptied.get(session) == self._batch_no

    def _check_deadline(self, job: CheckedJob, event: e.AttemptDispatched) -> Iterator[Violation]:
        if 0 < job.deadline_at <= event.at:
            text = f"expected no attempt after the deadline, {job.deadline_at}"
            yield Violation(ViolationKind.TIMER, f"{text}, but found one at {event.at}")

    def _check_limits(self, event: e.AttemptDispatched) -> Iterator[Violation]:
        session = event.session
        if session in self._lost_sessions:
            yield Violation(
                ViolationKind.LIMIT, f"expected no work for session {session}, which is lost, but found some"
            )
        if self._evidence.offers is None:
            return
        if event.queue not in self._evidence.offers.queues.get(session, ()):
            text = f"expected that session {session} served the queue {event.queue}, but found that it does not"
            yield Violation(ViolationKind.UNDISPATCHED, text)
        offer = self._evidence.offers.by_number.get((session, self._number, event.offer))
        if offer is None:
            yield Violation(
                ViolationKind.LIMIT, f"expected that session {session} had made the offer {event.offer}, but found none"
            )
            return
        held = self._attempts[session]
        if held >= offer.slots + offer.ahead:
            text = f"expected at most {offer.slots + offer.ahead} attempts with session {session} by its offer"
            yield Violation(ViolationKind.LIMIT, f"{text} {event.offer}, but found {held + 1}")
        elif event.ahead != (held >= offer.slots):
            text = f"expected attempts beyond the {offer.slots} slots of session {session}, and no others, to go ahead"
            yield Violation(ViolationKind.LIMIT, f"{text}, but found attempt {held + 1} otherwise")

    def _check_ahead(self, job: CheckedJob, event: e.AttemptDispatched) -> Iterator[Violation]:
        if event.ahead and (reason := "its partition's level" if self._level < AHEAD_LEVEL else job.not_ahead):
            yield Violation(ViolationKind.LIMIT, f"expected it not to be sent ahead ({reason}), but found that it was")

    def _check_loss(self, event: e.AttemptLost) -> Iterator[Violation]:
        """Judge the cause of a loss: an attempt is lost with its session, unless its worker reports the loss."""
        if event.cause is not e.Cause.COMMAND and event.session not in self._lost_sessions:
            text = f"expected session {event.session} to be lost before its attempts"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found it open")
        if event.cause is e.Cause.LAPSE and event.cause_ref != event.session:
            text = f"expected a loss because of session {event.session}"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found it because of {event.cause_ref or 'none'}")

    def _check_timer(self, name: JobName, job: CheckedJob, event: e.Event) -> Iterator[Violation]:
        match event:
            case e.JobQueued() if job.state is not JobState.PENDING:
                due_at = job.waits_until
            case e.JobForgotten() if event.cause is not e.Cause.CONTINUATION:
                due_at = job.forget_at
            case e.JobStopRequested(reason=StopReason.DEADLINE):
                due_at = job.deadline_at
            case e.JobStuck() | e.JobReviewed():
                due_at = job.look_at
            case e.JobFailed() | e.JobHeld() if action_of(event) is not None:
                due_at = job.look_at
            case e.JobFailed() if event.cause is e.Cause.TIMER and not job.unsettled:
                due_at = job.deadline_at
            case _:
                return
        if isinstance(event, e.JobQueued) and event.cause is not e.Cause.TIMER:
            yield Violation(ViolationKind.TIMER, f"expected the cause TIMER, but found {event.cause}")
        if event.cause is e.Cause.TIMER and (not due_at or event.cause_ref != str(due_at)):
            text = f"expected a timer that the job has (for {due_at})" if due_at else "expected no timer"
            yield Violation(ViolationKind.TIMER, f"{text}, but found one for {event.cause_ref}")
        elif event.at < due_at:
            yield Violation(ViolationKind.TIMER, f"expected nothing before {due_at}, but found it at {event.at}")
        else:
            self._fired.append((name, max(due_at, job.run_began_at)))

    # -- batches

    def close_batch(self, closed: e.BatchClosed, time_ms: int) -> Iterator[Violation]:
        """Judge the end of a batch: no job may be left unsettled, and no timer that was due may be left behind.

        Args:
            time_ms: when the log took the batch, by the brokers' clock.
        """
        for name, job in self._unsettled.items():
            if job.unsettled:
                yield Violation(
                    ViolationKind.END,
                    f"{job_key(*name)}: expected its end to follow {job.unsettled.reason}, but found none",
                )
        self._unsettled.clear()
        self._fired += self._schedules.fired
        yield from self._waiting.close_batch()
        yield from self._keys.close_batch()
        yield from self._closures.close_batch()
        yield from self._check_overdue(closed)
        if self._evidence.slack_ms is not None:
            yield from self._check_lateness(closed.owner_epoch, time_ms)
        self._fired.clear()
        self._previous_batch = closed.owner_epoch, time_ms
        self._batch_no += 1

    def _check_overdue(self, closed: e.BatchClosed) -> Iterator[Violation]:
        is_full = len(self._fired) >= TIMERS_MAX or self._schedules.has_large_jobs
        yield from self._schedules.close_batch(closed, is_full=is_full)
        if not closed.events or is_full:
            # A batch without events only records what the outbox has sent; a full one leaves timers to the next.
            return
        while (timer := self._timers.head()) and timer.due_at <= closed.now and timer.batch_no < self._batch_no:
            self._timers.drop_head()
            text = f"{job_key(*timer.name)}: expected its timer for {timer.due_at} to fire by {closed.now}"
            yield Violation(ViolationKind.TIMER, f"{text}, but found it left behind")
        for remembered in (self._carried_out, self._lost_sessions):
            yield from remembered.check_overdue(closed.now)

    def _check_lateness(self, owner_epoch: int, time_ms: int) -> Iterator[Violation]:
        """Judge lateness by the brokers' clock, since the clock of an owner may be wrong."""
        pauses = list(self._evidence.pauses.get(self._number, ()))
        before_epoch, before_ms = self._previous_batch
        if owner_epoch != before_epoch:
            # Between two owners, no scheduler could decide.
            pauses.append((before_ms, time_ms))
        for name, due_at in self._fired:
            late = uncovered(due_at, time_ms, pauses)
            self.timers_judged += late >= time_ms - due_at
            if self._evidence.slack_ms is not None and late > self._evidence.slack_ms:
                text = f"{job_key(*name)}: expected what was due at {due_at} within {self._evidence.slack_ms} ms"
                yield Violation(ViolationKind.TIMER, f"{text} beyond all pauses, but found it {late:g} ms late")
