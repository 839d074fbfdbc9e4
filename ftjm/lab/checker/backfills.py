"""The rules of backfills: each instant in their time has one job, and few of their runs are under way.

What a backfill causes is a job of its schedule: a new one, of an instant in its time, or one that runs again because
its state is one of those that were asked for. At no time have more than `max_active` of these runs not ended. The
numbers that it reports at the end of each slice are those of its events. It ends with its last run, and then each
instant of an interval has had a job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from ftjm.core.records import events as e
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.model import TERMINAL, JobState
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.lab.checker.causes import follows_from_key
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.schedule_terms import first_instant, job_id_of, wrong
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind

PREFIX = "BACKFILL/"
"""What a backfill causes has the cause CONTINUATION, and this with the schedule's name as the reference."""
Found = Iterator[Violation]
Remember = Callable[[str, int], Found]


class _Backfill:
    def __init__(self, event: e.BackfillBegun, spec: ScheduleSpec | None) -> None:
        self.id = event.backfill
        self.times = range(event.from_at, event.to_at + 1)
        self.reprocess = event.reprocess
        self.max_active = event.max_active
        self.spec = spec
        """What the schedule was declared to when it began."""
        self.active: set[JobName] = set()
        self.slice: list[str] = []
        """Jobs whose runs the present slice has begun."""
        self.counts: Counter[str] = Counter()


class Backfills:
    """The backfills of one partition."""

    def __init__(
        self,
        jobs: Mapping[JobName, CheckedJob],
        spec_of: Callable[[JobName], ScheduleSpec | None],
        remember: Remember,
    ) -> None:
        """Begin without any.

        Args:
            jobs: all jobs of the history as of now, by their names.
            spec_of: tells what a schedule is declared to; None if there is none.
            remember: is told the name of a backfill that has ended, and when.
        """
        self._jobs = jobs
        self._spec_of = spec_of
        self._remember = remember
        self._under_way: dict[JobName, _Backfill] = {}

    def take(self, event: e.BackfillEvent) -> Found:
        """Judge and apply an event of a backfill."""
        name = (event.queue, event.name)
        backfill = self._under_way.get(name)
        if isinstance(event, e.BackfillBegun):
            if backfill is not None:
                yield wrong(ViolationKind.DOUBLED, event, f"only {backfill.id} to be under way", event.backfill)
            if event.to_at > event.at:
                yield wrong(ViolationKind.TIMER, event, f"instants up to {event.at}", event.to_at)
            self._under_way[name] = _Backfill(event, self._spec_of(name))
        elif backfill is None or backfill.id != event.backfill:
            yield wrong(ViolationKind.CAUSE, event, "a backfill that is under way", event.backfill)
        elif isinstance(event, e.BackfillStopped):
            yield from self._end(name, event)
        else:
            assert isinstance(event, e.BackfillAdvanced)
            yield from self._advanced(name, backfill, event)

    def _advanced(self, name: JobName, backfill: _Backfill, event: e.BackfillAdvanced) -> Found:
        if event.jobs != backfill.slice:
            yield wrong(ViolationKind.ANSWER, event, f"the jobs {backfill.slice}", event.jobs)
        backfill.slice = []
        for count in ("submitted", "rerun", "succeeded", "failed"):
            if (found := getattr(event, count)) != backfill.counts[count]:
                yield wrong(ViolationKind.ANSWER, event, f"{count} {backfill.counts[count]}", found)
        if event.looked_to >= backfill.times[-1] and not backfill.active:
            yield from self._end(name, event)
            yield from self._check_complete(name, backfill, event)

    def _end(self, name: JobName, event: e.BackfillEvent) -> Found:
        del self._under_way[name]
        yield from self._remember(f"{name[0]}/{name[1]}/{event.backfill}", event.at)

    def _check_complete(self, name: JobName, backfill: _Backfill, event: e.BackfillAdvanced) -> Found:
        """Judge whether each instant of an interval has had a job, unless the declaration was changed meanwhile."""
        spec = backfill.spec
        if spec is None or not spec.every_ms or spec != self._spec_of(name):
            return
        instant = first_instant(spec, backfill.times[0])
        while not spec.calendar and instant in backfill.times and instant <= (spec.end_at or instant):
            if (name[0], job_id_of(name[1], instant)) not in self._jobs:
                yield wrong(ViolationKind.LOST, event, f"a job of the instant {instant}", "none")
            instant += spec.every_ms

    def take_job_event(self, name: JobName, before: CheckedJob, event: e.Event) -> Found:
        """Judge an event of a job that a backfill has caused. `before` is the job before it."""
        queue, _, schedule = event.cause_ref.removeprefix(PREFIX).partition("/")
        backfill = self._under_way.get((queue, schedule))
        if backfill is None:
            text = f"expected the process {event.cause_ref} to be under way, but it is not"
            yield Violation(ViolationKind.CAUSE, text)
        elif isinstance(event, e.JobRerun):
            if before.schedule != schedule or not _runs_again(backfill.reprocess, before.state):
                text = f"expected {event.cause_ref} to run jobs again as {backfill.reprocess} says"
                yield Violation(ViolationKind.CAUSE, f"{text}, but found another")
            yield from self._begin_run(name, backfill, "rerun", event.cause_ref)
        elif not (isinstance(event, e.JobSubmitted) or follows_from_key(event)):
            text = f"expected {event.cause_ref} to begin runs alone, but found {type(event).__name__}"
            yield Violation(ViolationKind.CAUSE, text)

    def fired(self, event: e.ScheduleFired) -> Found:
        """Judge a firing by a backfill, whose job was submitted right before it."""
        backfill = self._under_way.get((event.queue, event.name))
        if backfill is None or event.cause_ref != f"{PREFIX}{event.queue}/{event.name}":
            yield wrong(ViolationKind.CAUSE, event, "a backfill that is under way", event.cause_ref)
            return
        if event.instant not in backfill.times:
            yield wrong(ViolationKind.TIMER, event, f"an instant in {backfill.times}", event.instant)
        yield from self._begin_run((event.queue, event.job_id), backfill, "submitted", event.cause_ref)

    def _begin_run(self, name: JobName, backfill: _Backfill, count: str, ref: str) -> Found:
        backfill.counts[count] += 1
        backfill.slice.append(name[1])
        backfill.active.add(name)
        if len(backfill.active) > backfill.max_active:
            text = f"expected at most {backfill.max_active} runs of {ref} at a time, but found {len(backfill.active)}"
            yield Violation(ViolationKind.LIMIT, text)

    def job_ended(self, name: JobName, schedule: str) -> None:
        """The run of a job that a schedule has made has ended."""
        backfill = self._under_way.get((name[0], schedule))
        if backfill is not None and name in backfill.active:
            backfill.active.discard(name)
            backfill.counts["succeeded" if self._jobs[name].state is JobState.SUCCEEDED else "failed"] += 1


def is_backfills(event: e.Event) -> bool:
    """Whether a backfill has caused the event."""
    return event.cause is e.Cause.CONTINUATION and event.cause_ref.startswith(PREFIX)


def _runs_again(reprocess: Reprocess, state: JobState | None) -> bool:
    if reprocess is Reprocess.FAILED and state is JobState.SUCCEEDED:
        return False
    return reprocess is not Reprocess.NONE and state in TERMINAL
