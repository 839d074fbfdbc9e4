"""The rules of schedules, by the events of one partition alone.

- An instant is decided once: it fires, waits or is skipped, in the order of time, neither before its time nor while the
  schedule is paused or does not exist. Of an interval, every instant is known, so none may be left out.
- A firing has its job in the same batch, and a job that a timer submits has its firing there. The job is the template,
  under the id and with the variables of its instant.
- An instant that is missed fires only if it is to be caught up; one that is not missed is not skipped as missed.
- Unless jobs may overlap, a firing comes behind the end of the last firing's job. A job is replaced only by an instant
  that waits for its end, and then it is asked to stop in the same batch.
- The timer of a schedule is due at the next instant, or once what it waits for has ended.

`backfills.py` has the rules of instants that have passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import TERMINAL, StopReason
from ftjm.core.state.schedules import CatchUp, FiredBy, Overlap, ScheduleSpec, SkipReason
from ftjm.lab.checker.backfills import Backfills, Remember, is_backfills
from ftjm.lab.checker.calendars import Calendars
from ftjm.lab.checker.causes import is_replacement
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.lazy_heap import LazyHeap
from ftjm.lab.checker.schedule_terms import (
    ScheduleTimer,
    SeenSchedule,
    check_job,
    check_next,
    job_id_of,
    recurrence,
    wrong,
)
from ftjm.lab.checker.submissions import Submissions
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind

FIRINGS_MAX = 50
"""A batch fires at most so many timers of schedules, and may leave others to the next."""
LARGE_BYTES = 1024 * 1024
Found = Iterator[Violation]


class Schedules:
    """Judges the schedules of one partition."""

    def __init__(self, jobs: Mapping[JobName, CheckedJob], remember: Remember, submissions: Submissions) -> None:
        """`jobs` holds all jobs of the history as of now, by their names; `remember` is told of ended backfills."""
        self._jobs = jobs
        self._submissions = submissions
        self._told: dict[JobName, SeenSchedule] = {}
        self._revision = 0
        self._batch_no = 1
        self._timers: LazyHeap[ScheduleTimer] = LazyHeap(ScheduleTimer.counts)
        self._submitted: dict[JobName, e.JobSubmitted] = {}
        """Jobs that this batch has submitted, and of which no firing was seen."""
        self._to_stop: dict[JobName, str] = {}
        """Jobs that must be asked to stop in this batch, and by which timer."""
        self._bytes = 0
        self.fired: list[tuple[JobName, int]] = []
        """Timers that fired in this batch: the schedule, and the time at which it was due."""
        self.backfills = Backfills(jobs, self._spec_of, remember)
        self._calendars = Calendars()

    @property
    def has_large_jobs(self) -> bool:
        """Whether this batch has submitted so much that it may leave timers to the next: it is limited in bytes."""
        return self._bytes >= LARGE_BYTES

    # -- jobs

    def take_job_event(self, name: JobName, before: CheckedJob, event: e.Event) -> Found:
        """Judge an event of a job by the state before it."""
        by_timer = event.cause is e.Cause.TIMER
        if is_backfills(event):
            yield from self.backfills.take_job_event(name, before, event)
        if isinstance(event, e.JobSubmitted):
            self._submitted[name] = event
            self._bytes += len(event.spec.payload) + sum(map(len, event.spec.command))
        asked = isinstance(event, e.JobStopRequested) and event.reason == StopReason.CANCELLED
        cancels = by_timer and not is_replacement(event) and (asked or isinstance(event, e.JobCancelled))
        if cancels and (self._to_stop.pop(name, None) != event.cause_ref or before.is_ending):
            yield Violation(ViolationKind.CAUSE, "expected a timer to cancel only what is replaced, but found this")

    def job_moved(self, name: JobName, event: e.Event) -> None:
        """A job has ended, or begins another run: what waits for the end of the last firing's job may fire."""
        schedule = self._jobs[name].schedule
        if self._jobs[name].state in TERMINAL:
            self.backfills.job_ended(name, schedule)
        told = self._told.get((name[0], schedule))
        if told is not None and told.waiting and told.last_job == name[1]:
            self._set_timer((name[0], schedule), told, event.at)

    def _is_under_way(self, queue: str, told: SeenSchedule) -> bool:
        job = self._jobs.get((queue, told.last_job))
        fired = job is not None and job.schedule == told.name  # else it was submitted under this id later
        return job is not None and fired and not job.forgotten and job.state not in TERMINAL

    # -- schedules

    def take_calendar(self, event: e.Event) -> Found:
        """Apply what an event says of calendars. Behind the last slice, no schedule is left with an old one."""
        if changed := self._calendars.take(event):
            for told in self._told.values():
                told.stale |= told.spec.calendar in changed
        if not isinstance(event, e.SchedulesReckoned) or event.next_schedule:
            return
        for name, told in self._told.items():
            if told.stale and not told.paused and told.spec.calendar == event.calendar:
                text = f"expected the schedule {'/'.join(name)} to be reckoned by the new calendar {event.calendar}"
                yield Violation(ViolationKind.LOST, f"{text}, but found it left out")

    def _spec_of(self, name: JobName) -> ScheduleSpec | None:
        told = self._told.get(name)
        return None if told is None else told.spec

    def take(self, event: e.ScheduleEvent) -> Found:
        """Judge an event of a schedule, and apply it."""
        name = (event.queue, event.name)
        if isinstance(event, e.BackfillEvent):
            yield from self.backfills.take(event)
            return
        if isinstance(event, e.ScheduleApplied):
            yield from self._applied(name, event)
            return
        told = self._told.get(name)
        if isinstance(event, e.ScheduleUnchanged):
            return
        if told is None:
            yield wrong(ViolationKind.TRANSITION, event, "a schedule that exists", "none")
            return
        if event.cause is e.Cause.TIMER:
            yield from self._check_timer(name, told, event)
        match event:
            case e.ScheduleDeleted():
                del self._told[name]
                told.timer_at = 0
                return
            case e.SchedulePaused():
                told.paused, told.next_at, told.waiting = True, 0, 0
            case e.ScheduleResumed():
                yield from self._resumed(told, event)
            case e.ScheduleReckoned():
                if event.tzdata == told.tzdata and not told.stale:
                    yield wrong(ViolationKind.CAUSE, event, "other time zones or another calendar", event.tzdata)
                yield from self._begin_at(told, event, told.decided_to)
            case e.ScheduleFired():
                yield from self._check_firing(told, event)
            case e.ScheduleDelayed():
                yield from self._check_delay(told, event)
            case e.ScheduleSkipped():
                yield from self._check_skip(told, event)
        if not (isinstance(event, e.ScheduleSkipped) and event.reason is SkipReason.REPLACED):  # more follows
            self._set_timer(name, told, event.at, fired=event.cause is e.Cause.TIMER)

    def _applied(self, name: JobName, event: e.ScheduleApplied) -> Found:
        if event.revision <= self._revision:
            yield wrong(ViolationKind.CHAIN, event, f"a revision above {self._revision}", event.revision)
        self._revision = event.revision
        before = self._told.get(name)
        told = self._told.setdefault(name, SeenSchedule(event.name, event.spec))
        same = before is not None and before.next_at and recurrence(before.spec) == recurrence(event.spec)
        told.spec = event.spec
        yield from self._begin_at(told, event, told.decided_to if same else event.at)
        self._set_timer(name, told, event.at)

    def _resumed(self, told: SeenSchedule, event: e.ScheduleResumed) -> Found:
        if told.paused:
            told.paused = False
            yield from self._begin_at(told, event, event.at)
        elif event.next_at != told.next_at:
            yield wrong(ViolationKind.TRANSITION, event, f"the next instant {told.next_at} as before", event.next_at)

    def _begin_at(
        self, told: SeenSchedule, event: e.ScheduleApplied | e.ScheduleResumed | e.ScheduleReckoned, after: int
    ) -> Found:
        """The next instant is the first after this time."""
        if not isinstance(event, e.ScheduleReckoned) and event.decided_to != after:
            yield wrong(ViolationKind.TRANSITION, event, f"it to begin at {after}", event.decided_to)
        told.decided_to, told.tzdata = after, event.tzdata
        if told.paused and event.next_at:
            yield wrong(ViolationKind.TRANSITION, event, "no instant while it is paused", event.next_at)
        elif not told.paused:
            yield from check_next(told.spec, event, after, event.next_at, self._calendars)
        told.next_at, told.begin, told.stale = event.next_at, event.interval_start, False

    # -- instants

    def _check_firing(self, told: SeenSchedule, event: e.ScheduleFired) -> Found:
        submitted = self._submitted.pop((event.queue, event.job_id), None)
        begin = 0
        if event.by is FiredBy.TRIGGERED:
            if event.instant != event.at or event.cause is not e.Cause.COMMAND:
                yield wrong(ViolationKind.CAUSE, event, f"a request of the time {event.at}", event.instant)
            wanted = event.job_id if event.job_id.startswith(f"{event.name}.now.") else f"{event.name}.now.…"
        elif event.by is FiredBy.BACKFILL:
            wanted = job_id_of(event.name, event.instant)
            begin = event.instant - told.spec.every_ms if told.spec.every_ms else 0
            yield from self.backfills.fired(event)
        else:
            wanted = job_id_of(event.name, event.instant)
            begin = told.waiting_begin if event.by is FiredBy.WAITED else told.begin
            if told.paused:
                yield wrong(ViolationKind.LIMIT, event, "no firing while it is paused", "one")
            if event.by is FiredBy.WAITED:
                yield from self._end_of_wait(told, event)
            else:
                yield from self._check_missed(told, event)
                yield from self._decide(told, event, event.instant, event.instant)
        is_backfill = event.by is FiredBy.BACKFILL
        if not is_backfill and told.spec.overlap is not Overlap.ALLOW and self._is_under_way(event.queue, told):
            yield wrong(ViolationKind.LIMIT, event, f"{told.last_job} to have ended", "it under way")
        if event.job_id != wanted:
            yield wrong(ViolationKind.TRANSITION, event, f"the job {wanted}", event.job_id)
        if submitted is None:
            yield wrong(ViolationKind.LOST, event, "its job to be submitted in the same batch", "none")
        else:
            yield from check_job(told.spec, event, submitted, begin, self._submissions)
            self._jobs[event.queue, event.job_id].schedule = event.name
        told.last_job = told.last_job if is_backfill else event.job_id

    def _check_delay(self, told: SeenSchedule, event: e.ScheduleDelayed) -> Found:
        overlap = told.spec.overlap
        if overlap not in (Overlap.QUEUE, Overlap.REPLACE) or not self._is_under_way(event.queue, told):
            yield wrong(ViolationKind.LIMIT, event, "a wait for a job that is under way", f"overlap {overlap}")
        if told.waiting:
            yield wrong(ViolationKind.DOUBLED, event, f"only {told.waiting} to wait", event.instant)
        if overlap is Overlap.REPLACE and not self._jobs[event.queue, told.last_job].is_ending:
            self._to_stop[event.queue, told.last_job] = event.cause_ref
        told.waiting, told.waiting_begin = event.instant, told.begin
        yield from self._decide(told, event, event.instant, event.instant)

    def _check_skip(self, told: SeenSchedule, event: e.ScheduleSkipped) -> Found:
        under_way, overlap = self._is_under_way(event.queue, told), told.spec.overlap
        match event.reason:
            case SkipReason.MISSED:
                in_time = event.at - told.spec.starting_deadline_ms
                left = told.spec.catch_up is CatchUp.LATEST and not 0 < event.next_at < in_time
                is_true = event.until < in_time and told.spec.catch_up is not CatchUp.ALL and not left
            case SkipReason.OVERLAP:
                is_true = under_way and (overlap is Overlap.FORBID or (overlap is Overlap.QUEUE and told.waiting > 0))
            case SkipReason.REPLACED:
                is_true = under_way and overlap is Overlap.REPLACE and event.instant == told.waiting
            case SkipReason.EXISTS:
                found = self._jobs.get((event.queue, job_id_of(event.name, event.instant)))
                is_true = found is not None and not found.forgotten
        if not is_true:
            yield wrong(ViolationKind.LOST, event, f"{event.instant} to fire", f"it skipped as {event.reason}")
        many = event.count > 1 or event.until > event.instant
        if many and (event.reason is not SkipReason.MISSED or event.count < 2):
            yield wrong(ViolationKind.LOST, event, "one instant at a time", event.count)
        if event.instant == told.waiting:
            yield from self._end_of_wait(told, event)
        else:
            yield from self._decide(told, event, event.instant, event.until)

    def _check_missed(self, told: SeenSchedule, event: e.ScheduleFired) -> Found:
        """A missed instant fires if it is to be caught up."""
        in_time = event.at - told.spec.starting_deadline_ms
        last = told.spec.catch_up is CatchUp.LATEST and not 0 < event.next_at < in_time
        if event.instant < in_time and not last and told.spec.catch_up is not CatchUp.ALL:
            yield wrong(ViolationKind.TIMER, event, f"{event.instant} to be missed", "it fired")

    def _decide(
        self, told: SeenSchedule, event: e.ScheduleFired | e.ScheduleDelayed | e.ScheduleSkipped, first: int, last: int
    ) -> Found:
        """Instants are decided in their order, at their time, and each once."""
        if told.stale:
            yield wrong(ViolationKind.TIMER, event, f"it to be reckoned by the new {told.spec.calendar} first", first)
        if first != told.next_at:
            kind = ViolationKind.DOUBLED if first <= told.decided_to else ViolationKind.LOST
            yield wrong(kind, event, f"the instant {told.next_at} to be decided", first)
        if event.at < last or last < first:
            yield wrong(ViolationKind.TIMER, event, f"nothing before {last}", event.at)
        told.decided_to = told.begin = last
        yield from check_next(told.spec, event, last, event.next_at, self._calendars)
        told.next_at = event.next_at

    def _end_of_wait(self, told: SeenSchedule, event: e.ScheduleFired | e.ScheduleSkipped) -> Found:
        if event.instant != told.waiting or event.next_at != told.next_at:
            found = f"{event.instant} before {event.next_at}"
            yield wrong(ViolationKind.DOUBLED, event, f"{told.waiting} to wait before {told.next_at}", found)
        told.waiting = told.waiting_begin = 0

    def check_refusal(self, event: e.CommandRejected, command: c.Command | None) -> Found:
        """Judge whether the reason of a refusal is true. `command` is the refused one; `None` where it is not known."""
        if not isinstance(command, c.ScheduleCommand):
            return
        told = self._told.get((command.queue, command.name))
        if event.code == "UNKNOWN_SCHEDULE" and told is not None:
            text = f"expected the schedule {command.name} to be known"
            yield Violation(ViolationKind.ANSWER, f"{text}, but found UNKNOWN_SCHEDULE")
        elif event.code == "OVERLAP" and (told is None or not self._is_under_way(command.queue, told)):
            text = f"expected a request to {command.name} to be carried out, since no job is under way"
            yield Violation(ViolationKind.ANSWER, f"{text}, but found OVERLAP")

    # -- timers and batches

    def _set_timer(self, name: JobName, told: SeenSchedule, at: int, *, fired: bool = False) -> None:
        """Set the timer that follows from the schedule. One that has fired is set anew, be it for the same time."""
        if told.waiting and (told.spec.overlap is Overlap.ALLOW or not self._is_under_way(name[0], told)):
            due_at = at
        else:
            due_at = max(told.next_at, at) if told.next_at else 0
        if due_at != told.timer_at or fired:
            told.timer_at = due_at
            told.timer += 1
            if due_at:
                self._timers.add(due_at, ScheduleTimer(name, told, due_at, told.timer, self._batch_no))

    def _check_timer(self, name: JobName, told: SeenSchedule, event: e.ScheduleEvent) -> Found:
        if event.cause_ref != str(told.timer_at) or not told.timer_at:
            yield wrong(ViolationKind.TIMER, event, f"a timer for {told.timer_at}", f"one for {event.cause_ref}")
        elif event.at < told.timer_at:
            yield wrong(ViolationKind.TIMER, event, f"nothing before {told.timer_at}", event.at)
        else:
            self.fired.append((name, told.timer_at))

    def close_batch(self, closed: e.BatchClosed, *, is_full: bool) -> Found:
        """Judge the end of a batch. A full one may leave timers to the next."""
        for (queue, job_id), event in self._submitted.items():
            if event.cause in (e.Cause.TIMER, e.Cause.CONTINUATION):
                text = f"{queue}/{job_id}: expected the firing of a job that no client submits, but found none"
                yield Violation(ViolationKind.CAUSE, text)
        for queue, job_id in self._to_stop:
            text = f"{queue}/{job_id}: expected it to be asked to stop, since it is replaced, but found it going on"
            yield Violation(ViolationKind.LOST, text)
        if closed.events and not is_full and len(self.fired) < FIRINGS_MAX:
            while (timer := self._timers.head()) and timer.due_at <= closed.now and timer.batch_no < self._batch_no:
                self._timers.drop_head()
                text = f"expected the timer of the schedule {'/'.join(timer.name)} for {timer.due_at}"
                yield Violation(ViolationKind.TIMER, f"{text} to fire by {closed.now}, but found it left behind")
        self._submitted.clear()
        self._to_stop.clear()
        self.fired.clear()
        self._bytes = 0
        self._batch_no += 1
