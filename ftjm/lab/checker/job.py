"""The rules of one job, from its submission until it is forgotten, judged by its events alone.

The state after an event is found in two ways that must agree: `_state_after` derives it from the fields of the event
(a `retry_at` in the future means RETRY_WAIT), and the product's table of transitions lists the states that the event
may lead to from the state before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.records import events as e
from ftjm.core.state.model import DEAD, TERMINAL, FailureReason, JobState, OnWorkerLoss
from ftjm.lab.checker import job_terms, outcomes
from ftjm.lab.checker.job_terms import JobTerms
from ftjm.lab.checker.outcomes import Unsettled
from ftjm.lab.checker.verdict import Violation, ViolationKind

Outcome = e.AttemptSucceeded | e.AttemptFailed | e.AttemptLost | e.AttemptStopped | e.AttemptDeclined
OUTCOMES = (e.AttemptSucceeded, e.AttemptFailed, e.AttemptLost, e.AttemptStopped, e.AttemptDeclined)
GIVEN_UP = frozenset({"LAPSED", "CLOSED"})
"""Reasons of a loss that no worker has reported."""
AT_KEY = frozenset({JobState.READY, JobState.PENDING})
WAITS = frozenset({JobState.SCHEDULED, JobState.RETRY_WAIT})


class CheckedJob:
    """The state of a job by its events. The class has slots, since every job of the history has an instance."""

    __slots__ = (
        "age_order",
        "attempt",
        "attempt_open",
        "dead_letter_ms",
        "deadline_at",
        "dispatched_run",
        "due_at",
        "eligible_at",
        "failures",
        "forget_at",
        "forgotten",
        "look_at",
        "losses",
        "must_wait",
        "never_ahead",
        "partition",
        "queue_entry",
        "ready_at",
        "run",
        "run_began_at",
        "schedule",
        "session",
        "state",
        "stopping",
        "submitted_at",
        "succeeded_run",
        "terms",
        "unsettled",
        "unstarted",
        "waits_since",
    )  # fmt: skip

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.state: JobState | None = None
        self.terms = JobTerms()
        self.run = 1
        self.attempt = 0
        self.attempt_open = False
        self.schedule = ""
        """The schedule that made it; empty if none did."""
        self.session = ""
        """Session that the newest attempt was dispatched to."""
        self.unstarted = False
        """Whether the newest attempt was sent ahead, and nothing tells that it has started."""
        self.never_ahead = False
        """Whether an attempt of this run that was sent ahead came back or was given up unstarted."""
        self.dispatched_run = 0
        """The run of the newest attempt."""
        self.dead_letter_ms = 0
        """How long its queue keeps a job that fails now."""
        self.look_at = self.waits_since = 0
        """When the limits of its queue's waiting are looked at next, and since when it waits."""
        self.must_wait = False
        """Whether its concurrency key is taken, so that an event that brings it to that gate makes it PENDING."""
        self.failures = 0
        self.losses = 0
        self.stopping = ""
        """Why its attempt was asked to stop, the last time; empty if it was not."""
        self.unsettled: Unsettled | None = None
        self.succeeded_run = 0
        self.forgotten = False
        self.age_order = 0
        """Rank by age: of two ready jobs of equal place, the one with the smaller number is dispatched first."""
        self.submitted_at = self.ready_at = self.eligible_at = 0
        """When it was submitted, when it became ready last, and since when its run counts as eligible."""
        self.queue_entry = 0
        """Number of the job's newest entry in the ready queue; entries with other numbers are stale."""
        self.run_began_at = 0
        self.due_at = self.deadline_at = self.forget_at = 0

    @property
    def is_ending(self) -> bool:
        """Whether its attempt was asked to stop, and it gets no other one."""
        return outcomes.is_ending(self.stopping)

    @property
    def not_ahead(self) -> str:
        """The reason why its next attempt must not be sent ahead; empty if it may be."""
        if self.terms.on_worker_loss != OnWorkerLoss.REQUEUE:
            return f"on_worker_loss {self.terms.on_worker_loss}"
        if self.terms.continue_for_ms:
            return "continue_for"
        if not self.terms.worker_losses_max:
            return "worker_losses_max 0"
        return "an attempt of this run came back" if self.never_ahead else ""

    @property
    def waits_until(self) -> int:
        """Time at which the delay of a waiting job ends; 0 if the job waits for no delay."""
        return self.due_at if self.state in WAITS else 0

    def take(self, partition: int, event: e.Event) -> Iterator[Violation]:
        """Judge an event of the job that was read from `partition`, and apply it."""
        if partition != self.partition:
            text = f"expected all of its events in partition {self.partition}, but found one in {partition}"
            yield Violation(ViolationKind.CHAIN, text)
        yield from self._check_run(event)
        if self.unsettled is None:
            yield from outcomes.check_unprompted(event)
        else:
            yield from outcomes.check_settling(self.unsettled, event)
        match event:
            case e.JobSubmitted():
                yield from job_terms.check_submission(event)
            case e.JobRerun():
                yield from job_terms.check_rerun(self.terms, event)
            case e.AttemptDispatched():
                yield from self._check_attempt_number(event)
            case e.AttemptStarted() | e.AttemptCheckpointed():
                yield from self._check_dispatched(event.attempt, event.session)
            case e.JobStopRequested():
                yield from self._check_dispatched(event.attempt, self.session)
            case e.AttemptSucceeded() | e.AttemptFailed() | e.AttemptLost() | e.AttemptStopped() | e.AttemptDeclined():
                yield from self._check_outcome(event)
            case _:
                pass
        yield from self._check_transition(event)

    # -- transitions

    def _check_transition(self, event: e.Event) -> Iterator[Violation]:
        row = LIFECYCLE[type(event)]
        state = None if self.forgotten else self.state
        if state not in row:
            found = "forgotten" if self.forgotten else name_of(self.state)
            # Two owners that decide at the same time would both submit the job.
            kind = ViolationKind.DOUBLED if isinstance(event, e.JobSubmitted) else ViolationKind.TRANSITION
            yield Violation(kind, f"expected an event that a job that is {found} may have, but found another")
        after = self._state_after(event)
        if state in row and after not in row[state]:
            yield Violation(ViolationKind.TRANSITION, f"expected {_names(row[state])}, but found it {name_of(after)}")
        self._apply(event, after)

    def _state_after(self, event: e.Event) -> JobState | None:
        """Return the state that the event leads to, derived from the fields of the event."""
        match event:
            case e.JobSubmitted(spec=spec):
                return JobState.HELD if spec.held else self._waiting_state(event.due_at, event.at)
            case e.JobReleased():
                return self._waiting_state(self.due_at, event.at)
            case e.JobQueued() if self.state is not JobState.PENDING:
                return self._state_at_key()
            case e.JobRerun():
                return self._state_at_key()
            case e.JobQueued() | e.AttemptStopped() | e.AttemptDeclined():
                return JobState.READY
            case e.JobParked():
                return JobState.PENDING
            case e.JobSkipped():
                return JobState.SKIPPED
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

    def _waiting_state(self, due_at: int, at: int) -> JobState:
        if due_at <= at:
            return self._state_at_key()
        return JobState.RETRY_WAIT if self.attempt else JobState.SCHEDULED

    def _state_at_key(self) -> JobState:
        return JobState.PENDING if self.must_wait else JobState.READY

    def _apply(self, event: e.Event, after: JobState | None) -> None:
        self.unsettled = None
        match event:
            case e.JobSubmitted():
                self.terms, self.due_at, self.deadline_at = JobTerms.of(event.spec), event.due_at, event.deadline_at
                self.run_began_at = event.at
            case e.JobRerun():
                self.run_began_at = event.at
                self.failures = self.losses = self.due_at = self.forget_at = 0
                self.never_ahead = False
                self.deadline_at = event.deadline_at
            case e.JobStopRequested():
                self.stopping = event.reason
                if self.is_ending:
                    self.deadline_at = 0
            case e.JobPrioritized():
                self.terms = self.terms._replace(priority=event.priority)
            case e.AttemptDispatched():
                self.attempt, self.session, self.attempt_open = event.attempt, event.session, True
                self.unstarted, self.dispatched_run = event.ahead, event.run
            case e.AttemptStarted() | e.AttemptCheckpointed():
                self.unstarted = False
            case e.AttemptFailed() | e.AttemptLost():
                self.due_at = event.retry_at
                if not event.retry_at:
                    self._unsettle(event, "no further attempt")
            case e.AttemptDeclined() if self.is_ending:
                self._unsettle(event, "a requested stop")
            case e.JobForgotten():
                self.forgotten, self.forget_at = True, 0
            case _:
                pass
        if isinstance(event, OUTCOMES) and not self.is_ending:
            self.stopping = ""
        if after in TERMINAL and self.state not in TERMINAL:
            self.deadline_at, self.stopping = 0, ""
            kept_ms = self.dead_letter_ms if after in DEAD else 0
            self.forget_at = event.at + max(self.terms.retention_ms, kept_ms)
        self.state = after
        if after in AT_KEY:
            self.due_at = 0

    def _unsettle(self, event: e.Event, reason: str) -> None:
        follows = outcomes.event_after_last_attempt(self.terms, self.stopping, event)
        self.unsettled = Unsettled(reason, follows, (event.cause, event.cause_ref))

    # -- runs, attempts and their outcomes

    def _check_run(self, event: e.Event) -> Iterator[Violation]:
        expected = self.run + isinstance(event, e.JobRerun)
        if event.run != expected:
            yield Violation(ViolationKind.TRANSITION, f"expected run {expected}, but found {event.run}")
        self.run = event.run

    def _check_attempt_number(self, event: e.AttemptDispatched) -> Iterator[Violation]:
        if event.attempt != self.attempt + 1:
            yield Violation(ViolationKind.TRANSITION, f"expected attempt {self.attempt + 1}, but found {event.attempt}")

    def _check_dispatched(self, attempt: int, session: str) -> Iterator[Violation]:
        if attempt > self.attempt or attempt < 1:
            yield Violation(
                ViolationKind.UNDISPATCHED, f"expected a dispatch of attempt {attempt} before, but found none"
            )
        elif attempt != self.attempt:
            yield Violation(
                ViolationKind.TRANSITION, f"expected the newest attempt, {self.attempt}, but found {attempt}"
            )
        elif self.session != session:
            text = f"expected attempt {attempt} with session {self.session}, but found {session}"
            yield Violation(ViolationKind.UNDISPATCHED, text)

    def _check_outcome(self, event: Outcome) -> Iterator[Violation]:
        yield from self._check_dispatched(event.attempt, event.session)
        again = event.attempt < self.attempt or (event.attempt == self.attempt and not self.attempt_open)
        if again and event.attempt >= 1:
            yield Violation(
                ViolationKind.DOUBLED, f"expected one outcome of attempt {event.attempt}, but found another"
            )
        self.attempt_open = False
        match event:
            case e.AttemptSucceeded():
                if event.run == self.succeeded_run:
                    yield Violation(
                        ViolationKind.DOUBLED, f"expected one success of run {event.run}, but found another"
                    )
                self.succeeded_run = event.run
            case e.AttemptFailed():
                self.failures += 1
                yield from outcomes.check_retry(self.terms, self.failures, self.stopping, event)
            case e.AttemptLost():
                given_up = event.reason in GIVEN_UP
                self.losses += event.reason != FailureReason.GUARD_LOST_BESIDE and not (given_up and self.unstarted)
                self.never_ahead |= given_up and self.unstarted
                yield from outcomes.check_requeue(self.terms, self.losses, self.stopping, event)
            case e.AttemptStopped():
                yield from outcomes.check_stop(self.stopping)
            case e.AttemptDeclined():
                self.never_ahead |= self.unstarted


def name_of(state: JobState | None) -> str:
    """Return the state's name for a message; `None` stands for a job that has no event yet."""
    return state.name if state else "not submitted"


def _names(states: Iterable[JobState]) -> str:
    return " or ".join(sorted(state.name for state in states))
