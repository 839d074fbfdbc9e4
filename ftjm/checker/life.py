"""One job from its submission until it is forgotten, by the events alone.

Every state here follows from what an event says, and is then looked up in the table: two ways to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ftjm.checker import ends, terms
from ftjm.checker.report import Found, Kind
from ftjm.checker.terms import Terms
from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import TERMINAL, JobState

Outcome = e.AttemptSucceeded | e.AttemptFailed | e.AttemptLost | e.AttemptDeclined
OUTCOMES = (e.AttemptSucceeded, e.AttemptFailed, e.AttemptLost, e.AttemptDeclined)
WAITS = frozenset({JobState.SCHEDULED, JobState.RETRY_WAIT})


class Unsettled(NamedTuple):
    """A job that may not stay as it is."""

    why: str
    ends_as: type[e.Event]
    """What has to follow in the batch."""
    cause: tuple[e.Cause, str]
    """And because of what."""


class Life:
    """Small, since there is one for every job that is not forgotten."""

    __slots__ = (
        "attempt", "attempt_open", "deadline_at", "due_at", "failures", "forget_at", "forgotten", "losses", "order",
        "partition", "run", "session", "since", "state", "stopping", "succeeded_run", "terms", "turn", "unsettled",
    )  # fmt: skip

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.state: JobState | None = None
        self.terms = Terms()
        self.run = 1
        self.attempt = 0
        self.attempt_open = False
        self.session = ""
        """Where the newest attempt was sent."""
        self.failures = 0
        self.losses = 0
        self.stopping = ""
        self.unsettled: Unsettled | None = None
        self.succeeded_run = 0
        self.forgotten = False
        self.order = 0
        """Its place among jobs of equal priority."""
        self.turn = 0
        """Tells its newest entry in the ready queue from older ones."""
        self.since = 0
        """When its run began."""
        self.due_at = self.deadline_at = self.forget_at = 0

    @property
    def waits_until(self) -> int:
        """When the delay is over that it waits for; 0 if for none."""
        return self.due_at if self.state in WAITS else 0

    def take(self, partition: int, event: e.Event) -> Iterator[Found]:
        """Judge an event of the job, and make it true."""
        if partition != self.partition:
            text = f"expected all of its events in partition {self.partition}, but found one in {partition}"
            yield Found(Kind.CHAIN, text)
        yield from self._runs(event)
        yield from ends.by_itself(event) if self.unsettled is None else ends.followed(self, event)
        match event:
            case e.JobSubmitted():
                yield from terms.birth(event)
            case e.JobRerun():
                yield from terms.rebirth(self.terms, event)
            case e.AttemptDispatched():
                yield from self._numbered(event)
            case e.AttemptStarted() | e.AttemptCheckpointed():
                yield from self._sent(event.attempt, event.session)
            case e.JobStopRequested():
                yield from self._sent(event.attempt, self.session)
            case e.AttemptSucceeded() | e.AttemptFailed() | e.AttemptLost() | e.AttemptDeclined():
                yield from self._outcome(event)
            case _:
                pass
        yield from self._moves(event)

    # -- what it may become

    def _moves(self, event: e.Event) -> Iterator[Found]:
        row = LIFECYCLE[type(event)]
        state = None if self.forgotten else self.state
        if state not in row:
            found = "forgotten" if self.forgotten else name_of(self.state)
            # A birth of what lives is what two owners would do, each for itself.
            kind = Kind.DOUBLED if isinstance(event, e.JobSubmitted) else Kind.TRANSITION
            yield Found(kind, f"expected what may happen to a job that is {found}, but found what may not")
        after = self._after(event)
        if state in row and after not in row[state]:
            yield Found(Kind.TRANSITION, f"expected {_names(row[state])}, but found it {name_of(after)}")
        self._settle(event, after)

    def _after(self, event: e.Event) -> JobState | None:
        """The state that the event leads to, by what it says."""
        match event:
            case e.JobSubmitted(spec=spec):
                return JobState.HELD if spec.held else self._waiting(event.due_at, event.at)
            case e.JobReleased():
                return self._waiting(self.due_at, event.at)
            case e.JobQueued() | e.AttemptDeclined() | e.JobRerun():
                return JobState.READY
            case e.JobHeld():
                return JobState.HELD
            case e.JobCancelled():
                return JobState.CANCELLED
            case e.JobFailed():
                return JobState.FAILED
            case e.AttemptDispatched():
                return JobState.DISPATCHED
            case e.AttemptStarted():
                return JobState.RUNNING
            case e.AttemptSucceeded():
                return JobState.SUCCEEDED
            case e.AttemptFailed() | e.AttemptLost():
                return JobState.READY if 0 < event.retry_at <= event.at else JobState.RETRY_WAIT
            case _:
                return self.state

    def _waiting(self, due_at: int, at: int) -> JobState:
        if due_at <= at:
            return JobState.READY
        return JobState.RETRY_WAIT if self.attempt else JobState.SCHEDULED

    def _settle(self, event: e.Event, after: JobState | None) -> None:
        """Make the event true."""
        self.unsettled = None
        match event:
            case e.JobSubmitted():
                self.terms, self.due_at, self.deadline_at = Terms.of(event.spec), event.due_at, event.deadline_at
                self.since = event.at
            case e.JobRerun():
                self.since = event.at
                self.failures = self.losses = self.due_at = self.forget_at = 0
                self.deadline_at = event.deadline_at
            case e.JobStopRequested():
                self.stopping, self.deadline_at = event.reason, 0
            case e.AttemptDispatched():
                self.attempt, self.session, self.attempt_open = event.attempt, event.session, True
            case e.AttemptFailed() | e.AttemptLost():
                self.due_at = event.retry_at
                if not event.retry_at:
                    self._unsettle(event, "no further attempt")
            case e.AttemptDeclined() if self.stopping:
                self._unsettle(event, "a stop that was asked for")
            case e.JobForgotten():
                self.forgotten, self.forget_at = True, 0
            case _:
                pass
        if after in TERMINAL and self.state not in TERMINAL:
            self.deadline_at, self.stopping = 0, ""
            self.forget_at = event.at + self.terms.retention_ms
        self.state = after
        if after is JobState.READY:
            self.due_at = 0

    def _unsettle(self, event: e.Event, why: str) -> None:
        self.unsettled = Unsettled(why, ends.end_after(self, event), (event.cause, event.cause_ref))

    # -- runs, attempts and their outcomes

    def _runs(self, event: e.Event) -> Iterator[Found]:
        expected = self.run + isinstance(event, e.JobRerun)
        if event.run != expected:
            yield Found(Kind.TRANSITION, f"expected run {expected}, but found {event.run}")
        self.run = event.run

    def _numbered(self, event: e.AttemptDispatched) -> Iterator[Found]:
        if event.attempt != self.attempt + 1:
            yield Found(Kind.TRANSITION, f"expected attempt {self.attempt + 1}, but found {event.attempt}")

    def _sent(self, attempt: int, session: str) -> Iterator[Found]:
        if attempt > self.attempt or attempt < 1:
            yield Found(Kind.UNDISPATCHED, f"expected a dispatch of attempt {attempt} before, but found none")
        elif attempt != self.attempt:
            yield Found(Kind.TRANSITION, f"expected the newest attempt, {self.attempt}, but found {attempt}")
        elif self.session != session:
            text = f"expected attempt {attempt} with session {self.session}, but found {session}"
            yield Found(Kind.UNDISPATCHED, text)

    def _outcome(self, event: Outcome) -> Iterator[Found]:
        sent = list(self._sent(event.attempt, event.session))
        yield from sent
        again = event.attempt < self.attempt or (event.attempt == self.attempt and not self.attempt_open)
        if again and event.attempt >= 1:
            yield Found(Kind.DOUBLED, f"expected one outcome of attempt {event.attempt}, but found another")
        self.attempt_open = False
        match event:
            case e.AttemptSucceeded():
                if event.run == self.succeeded_run:
                    yield Found(Kind.DOUBLED, f"expected one success of run {event.run}, but found another")
                self.succeeded_run = event.run
            case e.AttemptFailed():
                self.failures += 1
                yield from ends.retried(self, event)
            case e.AttemptLost():
                self.losses += 1
                yield from ends.requeued(self, event)
            case _:
                pass


def name_of(state: JobState | None) -> str:
    """A state in words."""
    return state.name if state else "not submitted"


def _names(states: Iterable[JobState]) -> str:
    return " or ".join(sorted(state.name for state in states))
