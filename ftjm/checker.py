"""Judges a whole history by the events alone: nothing lost, nothing doubled, nothing that may not be.

Pure, and trusts no code that made the history: of the product it takes the records and the table of transitions.
Where the table leaves a choice of states, each of them is thought possible until a later event tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import TERMINAL, JobState, job_key

Name = tuple[str, str]
"""Queue and job id."""
Outcome = e.AttemptSucceeded | e.AttemptFailed | e.AttemptLost | e.AttemptDeclined

SHOWN_MAX = 5
"""How many offsets one violation names."""


class Entry(NamedTuple):
    """A committed record of `events`, decoded, with its place in the log."""

    partition: int
    offset: int
    event: e.Event | e.BatchClosed


class Report(msgspec.Struct):
    """What a history holds, and what is wrong with it."""

    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    attempts_failed: int = 0
    attempts_lost: int = 0
    attempts_declined: int = 0
    submissions_repeated: int = 0
    commands_refused: int = 0
    batches: int = 0
    events: int = 0
    violations: list[str] = []

    @property
    def passed(self) -> bool:
        return not self.violations


def check(history: Iterable[Entry], acknowledged: Iterable[Name] = ()) -> Report:
    """Judge a history from its first batch to a point where all jobs should have ended.

    Args:
        history: records of any number of partitions, each from offset 0 on and in order.
        acknowledged: jobs whose submission the log has taken: each must be there.
    """
    report = Report()
    chains: dict[int, _Chain] = {}
    lives: dict[Name, _Life] = {}
    for entry in history:
        chain = chains.setdefault(entry.partition, _Chain())
        found = list(chain.take(entry.event))
        if isinstance(entry.event, e.BatchClosed):
            report.batches += 1
        else:
            report.events += 1
            _count(report, entry.event)
            found += _live(lives, entry.partition, entry.event)
        report.violations += [f"events[{entry.partition}] at {entry.offset}: {text}" for text in found]
    for partition, chain in chains.items():
        if chain.open_events:
            report.violations.append(
                f"events[{partition}]: expected every event in a closed batch, but the last are not"
            )
    report.violations += _ends(lives, acknowledged)
    return report


_COUNTED: dict[type[e.Event], str] = {
    e.JobSubmitted: "jobs",
    e.AttemptSucceeded: "succeeded",
    e.JobFailed: "failed",
    e.JobCancelled: "cancelled",
    e.AttemptDispatched: "attempts",
    e.AttemptFailed: "attempts_failed",
    e.AttemptLost: "attempts_lost",
    e.AttemptDeclined: "attempts_declined",
    e.SubmissionRepeated: "submissions_repeated",
    e.CommandRejected: "commands_refused",
}


def _count(report: Report, event: e.Event) -> None:
    if (name := _COUNTED.get(type(event))) is not None:
        setattr(report, name, getattr(report, name) + 1)


def _live(lives: dict[Name, _Life], partition: int, event: e.Event) -> Iterator[str]:
    """Take what happens to a job into its life. Other events (a refusal, a forward) only name one."""
    if type(event) not in LIFECYCLE:
        return
    name = (event.queue, event.job_id)
    life = lives.setdefault(name, _Life(partition))
    if life.forgotten and isinstance(event, e.JobSubmitted):
        # Its retention was over, so the same name is another job.
        lives[name] = life = _Life(partition)
    for text in life.take(partition, event):
        yield f"{job_key(*name)}: {text}, in {type(event).__name__}"


def _ends(lives: dict[Name, _Life], acknowledged: Iterable[Name]) -> Iterator[str]:
    for name in dict.fromkeys(acknowledged):
        if name not in lives:
            yield f"{job_key(*name)}: expected the acknowledged job in the log, but found no trace of it"
    for name, life in lives.items():
        if not life.states <= TERMINAL:
            yield f"{job_key(*name)}: expected it to have ended, but found it {_names(life.states)}"


def _names(states: Iterable[JobState | None]) -> str:
    return " or ".join(sorted(state.name if state else "not submitted" for state in states))


class _Chain:
    """The batches of one partition: each follows the one before it, and answers the commands that it consumed."""

    def __init__(self) -> None:
        self.open_events: list[e.Event] = []
        self._before = e.BatchClosed(
            batch_no=0, now=0, next_command=0, owner_epoch=0, owner="", outbox_sent=0, events=0, state_version=0,
            state_hash=b"",
        )  # fmt: skip

    def take(self, event: e.Event | e.BatchClosed) -> Iterator[str]:
        if isinstance(event, e.Event):
            self.open_events.append(event)
            return
        yield from self._follows(event, self._before)
        yield from self._answers(range(self._before.next_command, event.next_command))
        self._before, self.open_events = event, []

    def _follows(self, closed: e.BatchClosed, before: e.BatchClosed) -> Iterator[str]:
        if closed.batch_no != before.batch_no + 1:
            yield f"expected batch {before.batch_no + 1}, but found {closed.batch_no}"
        if closed.events != len(self.open_events):
            yield f"expected {closed.events} events in batch {closed.batch_no}, but found {len(self.open_events)}"
        for field in ("next_command", "owner_epoch", "outbox_sent", "now"):
            was, now = getattr(before, field), getattr(closed, field)
            if now < was:
                yield f"expected {field} of batch {closed.batch_no} never to go back from {was}, but found {now}"
        if closed.owner_epoch == before.owner_epoch and closed.owner != before.owner:
            yield f"expected {before.owner} as the owner of epoch {closed.owner_epoch}, but found {closed.owner}"

    def _answers(self, consumed: range) -> Iterator[str]:
        answered = {event.cause_ref for event in self.open_events if event.cause is e.Cause.COMMAND}
        wanted = {str(offset) for offset in consumed}
        if unanswered := wanted - answered:
            yield f"expected an event for each command consumed, but found none for {_offsets(unanswered)}"
        if strange := answered - wanted:
            yield f"expected answers to the commands {consumed} only, but found some to {_offsets(strange)}"


def _offsets(refs: set[str]) -> str:
    shown = sorted(refs, key=lambda ref: (len(ref), ref))
    more = f" and {len(shown) - SHOWN_MAX} more" if len(shown) > SHOWN_MAX else ""
    return ", ".join(shown[:SHOWN_MAX]) + more


class _Life:
    """One job from its submission until it is forgotten."""

    def __init__(self, partition: int) -> None:
        self.states: frozenset[JobState | None] = frozenset({None})
        """Those that it may be in, by what has happened."""
        self.forgotten = False
        self._partition = partition
        self._run = 1
        self._attempt = 0
        self._sessions: dict[int, str] = {}
        """Where each attempt was sent."""
        self._outcomes: set[int] = set()
        self._succeeded: set[int] = set()
        """Runs."""

    def take(self, partition: int, event: e.Event) -> Iterator[str]:
        if partition != self._partition:
            yield f"expected all of its events in partition {self._partition}, but found one in {partition}"
        yield from self._moves(event)
        yield from self._runs(event)
        match event:
            case e.AttemptDispatched():
                yield from self._dispatched(event)
            case e.AttemptStarted() | e.AttemptCheckpointed():
                yield from self._sent(event.attempt, event.session)
            case e.JobStopRequested():
                yield from self._sent(event.attempt, self._sessions.get(event.attempt))
            case e.AttemptSucceeded() | e.AttemptFailed() | e.AttemptLost() | e.AttemptDeclined():
                yield from self._ended(event)
            case e.JobForgotten():
                self.forgotten = True
            case _:
                pass

    def _moves(self, event: e.Event) -> Iterator[str]:
        row = LIFECYCLE[type(event)]
        after = frozenset[JobState | None]().union(*(row.get(state, ()) for state in self.states))
        if not after or self.forgotten:
            state = "forgotten" if self.forgotten else _names(self.states)
            yield f"expected what may happen to a job that is {state}, but found what may not"
            after = frozenset[JobState | None]().union(*row.values())
        self.states = after

    def _runs(self, event: e.Event) -> Iterator[str]:
        expected = self._run + isinstance(event, e.JobRerun)
        if event.run != expected:
            yield f"expected run {expected}, but found {event.run}"
        self._run = event.run

    def _dispatched(self, event: e.AttemptDispatched) -> Iterator[str]:
        if event.attempt != self._attempt + 1:
            yield f"expected attempt {self._attempt + 1}, but found {event.attempt}"
        self._attempt = event.attempt
        self._sessions[event.attempt] = event.session

    def _sent(self, attempt: int, session: str | None) -> Iterator[str]:
        if attempt not in self._sessions:
            yield f"expected a dispatch of attempt {attempt} before, but found none"
        elif self._sessions[attempt] != session:
            yield f"expected attempt {attempt} with session {self._sessions[attempt]}, but found {session}"
        elif attempt != self._attempt:
            yield f"expected the newest attempt, {self._attempt}, but found {attempt}"

    def _ended(self, event: Outcome) -> Iterator[str]:
        yield from self._sent(event.attempt, event.session)
        if event.attempt in self._outcomes:
            yield f"expected one outcome of attempt {event.attempt}, but found another"
        self._outcomes.add(event.attempt)
        if isinstance(event, e.AttemptSucceeded):
            if event.run in self._succeeded:
                yield f"expected one success of run {event.run}, but found another"
            self._succeeded.add(event.run)
