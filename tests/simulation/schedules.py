"""What the events of one partition tell of its schedules, judged one by one. All have intervals, so that every instant
is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ftjm.core.records import events as e
from ftjm.core.state.resources import ResourceKind
from ftjm.core.state.schedules import CatchUp, FiredBy, Overlap, ScheduleSpec, SkipReason
from tests.simulation.world import EPOCH_MS, expect, utc_date

if TYPE_CHECKING:
    from tests.simulation.checker import Told

Name = tuple[str, str]


class ToldSchedule:
    """One schedule."""

    def __init__(self, spec: ScheduleSpec, at: int) -> None:
        self.spec = spec
        self.decided_to = at
        """Every instant up to here is decided, and none behind."""
        self.paused = False
        self.today = True
        """Whether its calendar, if it has one, does not exclude the day of this history."""
        self.waiting = 0
        self.last_job = ""

    def decide(self, event: e.Event, first: int, last: int) -> None:
        following = self.decided_to + self.spec.every_ms - self.decided_to % self.spec.every_ms
        if self.spec.calendar:
            aligned = first > self.decided_to and not first % self.spec.every_ms
            expect(aligned and self.today, "an instant on a day that does not count, or again:", event)
        else:
            expect(first == following, "an instant is left out, or repeated:", event, "expected", following)
        expect(last <= self.spec.end_at, "an instant beyond its end:", event)
        expect(not self.paused, "an instant of a paused schedule:", event)
        expect(last <= event.at, "an instant before its time:", event)
        self.decided_to = last


class Backfills:
    """The backfills of one partition: which are under way, and which runs they have begun."""

    def __init__(self, jobs: Mapping[Name, Told]) -> None:
        self._jobs = jobs
        self._begun: dict[Name, e.BackfillBegun] = {}
        self._runs: dict[Name, set[tuple[str, int]]] = {}

    def take(self, event: e.BackfillEvent) -> None:
        name = event.queue, event.name
        if isinstance(event, e.BackfillBegun):
            expect(name not in self._begun, "a second backfill:", event)
            self._begun[name], self._runs[name] = event, set()
            return
        expect(name in self._begun, "of a backfill that is not under way:", event)
        limit = self._begun[name].max_active
        if isinstance(event, e.BackfillAdvanced):
            self._runs[name] |= {(job_id, self._jobs[event.queue, job_id].run) for job_id in event.jobs}
            jobs = [(self._jobs[event.queue, job_id], run) for job_id, run in self._runs[name]]
            active = sum(run not in job.ends for job, run in jobs)
            expect(active <= limit, "more than", limit, "runs at a time:", event)
            over = event.looked_to == self._begun[name].to_at and not active
            expect(event.succeeded + event.failed == len(jobs) - active, "counted wrongly:", event)
            if not over:
                return
        del self._begun[name], self._runs[name]

    def fired(self, event: e.ScheduleFired) -> None:
        begun = self._begun.get((event.queue, event.name))
        expect(begun is not None and begun.from_at <= event.instant <= begun.to_at, "of no backfill:", event)
        expect(event.instant <= event.at, "an instant before its time:", event)


class Schedules:
    """The schedules of one partition."""

    def __init__(self, jobs: Mapping[Name, Told]) -> None:
        self._jobs = jobs
        self._told: dict[Name, ToldSchedule] = {}
        self._submitted: set[str] = set()
        """Jobs that timers have submitted in this batch, without a firing so far."""
        self._fired: set[Name] = set()
        self._replaced: set[Name] = set()
        """Jobs that must be asked to stop in this batch."""
        self.backfills = Backfills(jobs)
        self._excluded: dict[str, list[str]] = {}
        """The excluded dates of each calendar."""

    def take(self, event: e.Event) -> None:
        if isinstance(event, e.JobSubmitted) and event.cause in (e.Cause.TIMER, e.Cause.CONTINUATION):
            self._submitted.add(event.job_id)
        if isinstance(event, e.JobStopRequested | e.JobCancelled):
            self._replaced.discard((event.queue, event.job_id))
        self._take_calendar(event)
        if isinstance(event, e.BackfillEvent):
            self.backfills.take(event)
        if not isinstance(event, e.ScheduleEvent) or isinstance(event, e.ScheduleUnchanged | e.BackfillEvent):
            return
        name = event.queue, event.name
        if isinstance(event, e.ScheduleApplied):
            # Only what is beside the recurrence changes, so it goes on where it was; one that is over begins anew.
            told = self._told.setdefault(name, ToldSchedule(event.spec, event.at))
            told.spec, told.decided_to = event.spec, event.decided_to
            return
        expect(name in self._told, "of a schedule that does not exist:", event)
        told = self._told[name]
        match event:
            case e.ScheduleDeleted():
                del self._told[name]
            case e.SchedulePaused():
                told.paused, told.waiting = True, 0
            case e.ScheduleResumed():
                told.decided_to = event.at if told.paused else told.decided_to
                told.paused = False
            case e.ScheduleFired():
                self._take_firing(told, event)
            case e.ScheduleDelayed():
                expect(self._runs(event.queue, told) and not told.waiting, "waits for nothing, or twice:", event)
                expect(told.spec.overlap in (Overlap.QUEUE, Overlap.REPLACE), "must not wait:", event)
                told.decide(event, event.instant, event.instant)
                told.waiting = event.instant
                job = event.queue, told.last_job
                if told.spec.overlap is Overlap.REPLACE and not self._jobs[job].open_stop:
                    self._replaced.add(job)
            case e.ScheduleSkipped():
                self._take_skip(told, event)

    def _take_calendar(self, event: e.Event) -> None:
        if isinstance(event, e.ResourceApplied | e.ResourceAdopted):
            self._pop(event.name, event.kind is ResourceKind.CALENDAR)
            self._excluded.update((event.name, spec.excluded) for spec in event.spec.calendar)
        elif isinstance(event, e.ResourceDeleted):
            self._pop(event.name, event.kind is ResourceKind.CALENDAR)
        elif isinstance(event, e.ResourcesReconciled):
            for key in event.dropped:
                kind, _, name = key.partition("/")
                self._pop(name, kind == ResourceKind.CALENDAR)
        for told in self._told.values():
            excluded = self._excluded.get(told.spec.calendar)
            told.today = excluded is not None and utc_date(EPOCH_MS) not in excluded

    def _pop(self, name: str, is_gone: bool) -> None:
        if is_gone:
            self._excluded.pop(name, None)

    def _take_firing(self, told: ToldSchedule, event: e.ScheduleFired) -> None:
        if event.by is FiredBy.BACKFILL:
            self._submitted.discard(event.job_id)
            self.backfills.fired(event)
            return
        overlaps = told.spec.overlap is not Overlap.ALLOW and self._runs(event.queue, told)
        expect(not overlaps, "while", told.last_job, "has not ended:", event)
        expect((event.queue, event.job_id) not in self._fired, "fires a second time:", event)
        self._fired.add((event.queue, event.job_id))
        if event.by is FiredBy.WAITED:
            expect(event.instant == told.waiting and not told.paused, "has not waited:", event)
            told.waiting = 0
        elif event.by is FiredBy.DUE:
            late = event.at - event.instant > told.spec.starting_deadline_ms
            expect(not late or told.spec.catch_up is not CatchUp.NONE, "was missed:", event)
            told.decide(event, event.instant, event.instant)
        if event.by is not FiredBy.TRIGGERED:
            expect(event.job_id in self._submitted, "its job is not in its batch:", event)
            self._submitted.discard(event.job_id)
        told.last_job = event.job_id

    def _take_skip(self, told: ToldSchedule, event: e.ScheduleSkipped) -> None:
        if event.reason is SkipReason.MISSED:
            missed = event.at - event.until > told.spec.starting_deadline_ms
            expect(missed and told.spec.catch_up is not CatchUp.ALL, "was not missed:", event)
            if not told.spec.calendar:
                count = (event.until - event.instant) // told.spec.every_ms + 1
                expect(event.count == count, "counted wrongly:", event)
        elif event.reason is not SkipReason.EXISTS:
            expect(self._runs(event.queue, told), "could have fired:", event)
        if event.instant == told.waiting:
            told.waiting = 0
        else:
            told.decide(event, event.instant, event.until)

    def _runs(self, queue: str, told: ToldSchedule) -> bool:
        job = self._jobs.get((queue, told.last_job))
        return job is not None and not job.ended

    def end_of_batch(self) -> None:
        expect(not self._submitted, "jobs of timers without a firing:", self._submitted)
        expect(not self._replaced, "jobs that are replaced, and not asked to stop:", self._replaced)
