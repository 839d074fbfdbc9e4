"""The rules of one partition's queues, slots and timers, at every prefix of its log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ftjm.checker.agenda import Agenda
from ftjm.checker.evidence import Evidence
from ftjm.checker.life import OUTCOMES, Life
from ftjm.checker.memory import SESSION_MS, WISH_MS, Memory
from ftjm.checker.report import Found, Kind, Name
from ftjm.checker.spans import uncovered
from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.model import JobState, StopReason, job_key

TIMERS_MAX = 100
"""A batch in which so many fired may leave others to the next one."""
TIMERS = ("waits_until", "deadline_at", "forget_at")
"""Of a `Life`: when something is due."""


class _Ready(NamedTuple):
    name: Name
    life: Life
    turn: int

    def counts(self) -> bool:
        return self.life.turn == self.turn and self.life.state is JobState.READY


class _Timer(NamedTuple):
    name: Name
    life: Life
    what: str
    due_at: int
    batch_no: int
    """In which it was set."""

    def counts(self) -> bool:
        return bool(getattr(self.life, self.what) == self.due_at)


class Rules:
    """Takes the events of jobs and sessions; memory is that of live jobs, their timers, and open sessions."""

    def __init__(self, number: int, evidence: Evidence) -> None:
        self._number = number
        self._evidence = evidence
        self._serial = 0
        self._batch_no = 1
        self._ready: dict[str, Agenda[_Ready]] = {}
        self._timers: Agenda[_Timer] = Agenda(_Timer.counts)
        self._attempts: Counter[str] = Counter()
        """By session."""
        self._given_up = Memory("the loss of session", SESSION_MS)
        self._wishes = Memory("the wish", WISH_MS)
        """Ids of commands that were carried out."""
        self._fired: list[tuple[Name, int]] = []
        """In this batch: whose timers, and since when they were due."""
        self.timers_judged = 0
        """Whose lateness nothing excused."""
        self._unsettled: dict[Name, Life] = {}
        self._before = (0, 0)
        """Of the last batch: its owner's epoch, and when the log took it."""

    # -- events

    def take(self, name: Name, life: Life, event: e.Event) -> Iterator[Found]:
        """An event of a job: judge it by what was true before, and make it true."""
        if isinstance(event, e.AttemptDispatched):
            yield from self._next_in_queue(name, life)
            yield from self._within_limits(event)
        elif isinstance(event, e.AttemptLost):
            yield from self._is_given_up(event)
        else:
            yield from self._fires(name, life, event)
        before = [getattr(life, what) for what in TIMERS]
        was_open, session = life.attempt_open, life.session
        yield from life.take(self._number, event)
        if isinstance(event, e.AttemptDispatched):
            self._attempts[event.session] += 1
        elif isinstance(event, OUTCOMES) and was_open:
            self._attempts[session] -= 1
        if isinstance(event, e.JobSubmitted | e.JobRerun):
            self._serial += 1
            life.order = self._serial
        if isinstance(event, e.JobRerun):
            yield from self._wishes.add(event.command_id, event.at)
        if life.state is JobState.READY and not isinstance(event, e.SubmissionRepeated):
            self._enqueue(name, life)
        for what, old in zip(TIMERS, before, strict=True):
            if (due_at := getattr(life, what)) and due_at != old:
                self._timers.add(due_at, _Timer(name, life, what, due_at, self._batch_no))
        if life.unsettled:
            self._unsettled[name] = life

    def told(self, event: e.Event) -> Iterator[Found]:
        """An event of no job."""
        match event:
            case e.WorkerLost():
                yield from self._given_up.add(event.session, event.at)
            case e.WorkerForgotten():
                yield from self._given_up.drop(event.session, event)
                self._attempts.pop(event.session, None)
            case e.CommandIdForgotten():
                yield from self._wishes.drop(event.command_id, event)
            case _:
                pass

    def refuses(self, event: e.CommandRejected, asked: c.Command | None) -> Iterator[Found]:
        """A refusal, of what was asked for if that is known."""
        if event.code != "REPEATED" or not event.kind:
            return  # without a kind, it is a forwarded command that came twice
        if isinstance(asked, c.RerunJob) and asked.command_id not in self._wishes:
            text = f"expected the wish {asked.command_id} to be carried out"
            yield Found(Kind.ANSWER, f"{text}, but found it refused as repeated")

    def _enqueue(self, name: Name, life: Life) -> None:
        self._serial += 1
        life.turn = self._serial
        queue = self._ready.get(name[0])
        if queue is None:
            queue = self._ready[name[0]] = Agenda(_Ready.counts)
        # By priority, then age; an order is below 2^40 for the next hundred years.
        queue.add((-life.terms.priority << 40) + life.order, _Ready(name, life, life.turn))

    def _next_in_queue(self, name: Name, life: Life) -> Iterator[Found]:
        queue = self._ready.get(name[0])
        first = queue.head() if queue else None
        if first is not None and first.life is not life and life.state is JobState.READY:
            yield Found(
                Kind.ORDER,
                f"expected {job_key(*first.name)} to be dispatched first (priority {first.life.terms.priority}, place "
                f"{first.life.order}), but found this one (priority {life.terms.priority}, place {life.order})",
            )

    def _within_limits(self, event: e.AttemptDispatched) -> Iterator[Found]:
        session = event.session
        if session in self._given_up:
            yield Found(Kind.LIMIT, f"expected no work for session {session}, which was given up, but found some")
        if self._evidence.heard is None:
            return
        if event.queue not in self._evidence.heard.queues.get(session, ()):
            text = f"expected that session {session} served the queue {event.queue}, but found that it does not"
            yield Found(Kind.UNDISPATCHED, text)
        slots = self._evidence.heard.offers.get((session, self._number, event.offer))
        if slots is None:
            yield Found(Kind.LIMIT, f"expected that session {session} had made the offer {event.offer}, but found none")
        elif self._attempts[session] >= slots:
            text = f"expected at most {slots} attempts with session {session} by its offer {event.offer}"
            yield Found(Kind.LIMIT, f"{text}, but found {self._attempts[session] + 1}")

    def _is_given_up(self, event: e.AttemptLost) -> Iterator[Found]:
        """Unless its worker reports it, an attempt is lost with its session."""
        if event.cause is not e.Cause.COMMAND and event.session not in self._given_up:
            text = f"expected session {event.session} to be given up before its attempts"
            yield Found(Kind.CAUSE, f"{text}, but found it open")
        if event.cause is e.Cause.LAPSE and event.cause_ref != event.session:
            text = f"expected a loss because of session {event.session}"
            yield Found(Kind.CAUSE, f"{text}, but found it because of {event.cause_ref or 'none'}")

    def _fires(self, name: Name, life: Life, event: e.Event) -> Iterator[Found]:
        match event:
            case e.JobQueued():
                due_at = life.waits_until
            case e.JobForgotten():
                due_at = life.forget_at
            case e.JobStopRequested(reason=StopReason.DEADLINE):
                due_at = life.deadline_at
            case e.JobFailed() if event.cause is e.Cause.TIMER and not life.unsettled:
                due_at = life.deadline_at
            case _:
                return
        if event.cause is e.Cause.TIMER and (not due_at or event.cause_ref != str(due_at)):
            text = f"expected a timer that the job has (for {due_at})" if due_at else "expected no timer"
            yield Found(Kind.TIMER, f"{text}, but found one for {event.cause_ref}")
        elif event.at < due_at:
            yield Found(Kind.TIMER, f"expected nothing before {due_at}, but found it at {event.at}")
        else:
            self._fired.append((name, max(due_at, life.since)))

    # -- batches

    def close(self, closed: e.BatchClosed, time_ms: int) -> Iterator[Found]:
        """A batch ends: nothing may be left open in it, and no timer left behind."""
        for name, life in self._unsettled.items():
            if life.unsettled:
                yield Found(
                    Kind.END, f"{job_key(*name)}: expected its end to follow {life.unsettled.why}, but found none"
                )
        self._unsettled.clear()
        yield from self._left_behind(closed)
        if self._evidence.slack_ms is not None:
            yield from self._late(closed.owner_epoch, time_ms)
        self._fired.clear()
        self._before = closed.owner_epoch, time_ms
        self._batch_no += 1

    def _left_behind(self, closed: e.BatchClosed) -> Iterator[Found]:
        if not closed.events or len(self._fired) >= TIMERS_MAX:
            return  # it only tells of the outbox, or had its fill
        while (timer := self._timers.head()) and timer.due_at <= closed.now and timer.batch_no < self._batch_no:
            self._timers.drop_head()
            text = f"{job_key(*timer.name)}: expected its timer for {timer.due_at} to fire by {closed.now}"
            yield Found(Kind.TIMER, f"{text}, but found it left behind")
        for memory in (self._wishes, self._given_up):
            yield from memory.left_behind(closed.now)

    def _late(self, owner_epoch: int, time_ms: int) -> Iterator[Found]:
        """By the brokers' clock: an owner's own may be what is wrong."""
        pauses = list(self._evidence.pauses.get(self._number, ()))
        before_epoch, before_ms = self._before
        if owner_epoch != before_epoch:
            # Nobody could decide between two owners.
            pauses.append((before_ms, time_ms))
        for name, due_at in self._fired:
            late = uncovered(due_at, time_ms, pauses)
            self.timers_judged += late >= time_ms - due_at
            if self._evidence.slack_ms is not None and late > self._evidence.slack_ms:
                text = f"{job_key(*name)}: expected what was due at {due_at} within {self._evidence.slack_ms} ms"
                yield Found(Kind.TIMER, f"{text} beyond all pauses, but found it {late:g} ms late")
