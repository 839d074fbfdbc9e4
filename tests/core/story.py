"""Tests of the core as stories: given these events, when this command arrives, then these events follow.

    given(submitted(), dispatched()).when(CompleteAttempt(...)).then(like(AttemptSucceeded, attempt=1))

A story goes on after `then`: `evolve` applies the events, and the next `when` meets the resulting state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide.decision import Policy, Rejected
from ftjm.core.decide.handlers import decide
from ftjm.core.decide.keys import follow_up
from ftjm.core.decide.sessions import decide_lapse
from ftjm.core.decide.timers import decide_timer
from ftjm.core.evolve.handlers import evolve
from ftjm.core.identity import content_hash, pack_content
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason, Job, JobSpec, JobState, StopReason, job_key
from ftjm.core.state.outbox import OutboxMessage
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer
from tests.core.consistency import check_state

NOW = 1_000_000
HOUR_MS = 3_600_000
POLICY = Policy(partition=0, partitions=1, retention_ms=HOUR_MS, inline_bytes_max=1_000, calendar=LocalCalendar())
REPLY_TO = "0/client/7"
"""A reply address: lane, client session, correlation."""


class Like:
    """Matches an event of this type with these fields; other fields may have any value."""

    def __init__(self, kind: type[e.Event], fields: dict[str, Any]) -> None:
        self.kind = kind
        self.fields = fields

    def differs(self, event: e.Event) -> str:
        if type(event) is not self.kind:
            return f"expected {self.kind.__name__}, but found {event}"
        for name, value in self.fields.items():
            if (found := getattr(event, name)) != value:
                return f"expected {name} of {self.kind.__name__} to be {value!r}, but found {found!r}"
        return ""


def like(kind: type[e.Event], **fields: Any) -> Like:
    return Like(kind, fields)


class Story:
    """The state of a partition and its story."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.state = State(self.store)
        self.now = NOW
        self.decided: list[e.Event] | Rejected = []
        self.messages: list[Any] = []

    # -- given

    def evolve(self, *events: e.Event) -> Story:
        for event in events:
            self.now = max(self.now, event.at)
            evolve(self.state, event)
        return self

    def written(self) -> Story:
        """End the batch: write its rows to the store."""
        changes, _ = self.state.seal()
        self.store.write(changes)
        self.messages = [message for _, message in self.state.pushed]
        self.state.written()
        check_state(self.store)
        return self

    def taken_over(self) -> Story:
        """Another owner leads, with the store as it is written."""
        self.state = State(self.store)
        return self

    # -- when

    def when(self, command: c.Command, at: int | None = None, policy: Policy = POLICY, reply: str = "") -> Story:
        self._at(at)
        self.decided = decide(self.state, command, self.now, policy)
        if isinstance(self.decided, Rejected):
            return self
        return self._record(self.decided, e.Cause.COMMAND, "0", reply)

    def when_due(self, at: int, policy: Policy = POLICY) -> Story:
        """Let time pass to `at`. Timers fire one after the other."""
        self._at(at)
        self.decided = []
        for timer in list(self.state.due(at)):
            if self.state.has_timer(timer):
                events = decide_timer(self.state, timer, self.now, policy)
                self._record(events, e.Cause.TIMER, str(timer.due_at), "", write=False)
                self.decided += events
        return self.written()

    def when_silent(self, session: str, silent_ms: int, closed: bool = False, at: int | None = None) -> Story:
        self._at(at)
        self.decided = decide_lapse(self.state, session, silent_ms, self.now, closed)
        return self._record(self.decided, e.Cause.LAPSE, session, "")

    def _at(self, at: int | None) -> None:
        self.now = self.now if at is None else at

    def _record(self, events: list[e.Event], cause: e.Cause, ref: str, reply: str, write: bool = True) -> Story:
        for event in events:
            event.at, event.cause, event.cause_ref = self.now, cause, ref
            event.reply, reply = reply, ""
            evolve(self.state, event)
        if self.state.unsettled_keys:
            following = follow_up(self.state, self.state.take_unsettled_keys())
            events += following  # `decided` has them, too
            self._record(following, cause, ref, "", write=False)
        return self.written() if write else self

    # -- then

    def then(self, *expected: Like) -> Story:
        assert not isinstance(self.decided, Rejected), self.decided
        differences = [like.differs(event) for like, event in zip(expected, self.decided, strict=False)]
        assert not any(differences), differences
        assert len(expected) == len(self.decided), self.decided
        return self

    def then_nothing(self) -> Story:
        return self.then()

    def refused(self, code: str, *words: str) -> Story:
        assert isinstance(self.decided, Rejected), self.decided
        assert self.decided.code == code, self.decided
        assert all(word in self.decided.text for word in words), self.decided.text
        return self

    def job_is(self, state: JobState | None = None, **fields: Any) -> Story:
        """Check the job's state and fields."""
        job = self.job()
        if state is not None:
            assert job.state is JobState(state), job
        for name, value in fields.items():
            assert getattr(job, name) == value, (name, job)
        return self

    def job_is_of(self, job_id: str, **fields: Any) -> Story:
        """Check fields of another job of the queue."""
        for name, value in fields.items():
            assert getattr(self.job(job_id), name) == value, (name, self.job(job_id))
        return self

    def job(self, job_id: str = "a") -> Job:
        job = self.state.job(job_key("q", job_id))
        assert job is not None
        return job

    def sends(self, *kinds: type[OutboxMessage]) -> Story:
        """Check which messages the newest batch put into the outbox."""
        assert [type(message) for message in self.messages] == list(kinds), self.messages
        return self

    def has_timers(self, *due_at: int) -> Story:
        assert [timer.due_at for timer in self.timers()] == list(due_at), list(self.timers())
        return self

    def timers(self) -> Iterator[Timer]:
        return self.state.due((1 << 62) - 1)


def given(*events: e.Event) -> Story:
    return Story().evolve(*events).written()


# -- events with short defaults: job `a` of queue `q`, run 1, attempt 1, worker session `s1`


def spec(**fields: Any) -> JobSpec:
    return JobSpec(**{"command": ["true"], "retention_ms": HOUR_MS, **fields})


def submitted(
    *,
    job_id: str = "a",
    at: int = NOW,
    due_at: int = 0,
    deadline_at: int = 0,
    awaits: bool = False,
    reply: str = "",
    **fields: Any,
) -> e.Event:
    wanted = spec(**fields)
    return e.JobSubmitted(
        queue="q",
        job_id=job_id,
        run=1,
        at=at,
        spec=wanted,
        due_at=due_at,
        deadline_at=deadline_at,
        content=pack_content(1, content_hash(spec(**{"retention_ms": 0, **fields}), 1)),
        awaits=awaits,
        reply=reply,
    )


def _event_factory(kind: type[e.Event], **defaults: Any) -> Callable[..., e.Event]:
    def make(**fields: Any) -> e.Event:
        return kind(**{"queue": "q", "job_id": "a", "run": 1, "at": NOW, **defaults, **fields})

    return make


dispatched = _event_factory(e.AttemptDispatched, attempt=1, session="s1", worker="w", lane=3, lease_ms=5_000, offer=1)
started = _event_factory(e.AttemptStarted, attempt=1, session="s1", started_at=NOW)
checkpointed = _event_factory(e.AttemptCheckpointed, attempt=1, session="s1", data=b"7")
succeeded = _event_factory(e.AttemptSucceeded, attempt=1, session="s1", started_at=NOW, ended_at=NOW)
attempt_failed = _event_factory(
    e.AttemptFailed, attempt=1, session="s1", started_at=NOW, ended_at=NOW, reason=FailureReason.EXIT_CODE
)
attempt_lost = _event_factory(e.AttemptLost, attempt=1, session="s1", reason="LAPSED")
attempt_stopped = _event_factory(e.AttemptStopped, attempt=1, session="s1", started_at=NOW, ended_at=NOW)
declined = _event_factory(e.AttemptDeclined, attempt=1, session="s1")
queued = _event_factory(e.JobQueued)
held = _event_factory(e.JobHeld)
released = _event_factory(e.JobReleased)
cancelled = _event_factory(e.JobCancelled)
failed = _event_factory(e.JobFailed, reason="EXIT_CODE")
rerun = _event_factory(e.JobRerun, run=2, command_id="request-1")
forgotten = _event_factory(e.JobForgotten)
repeated = _event_factory(e.SubmissionRepeated)
stop_requested = _event_factory(e.JobStopRequested, attempt=1, reason=StopReason.CANCELLED)


def worker_lost(session: str = "s1", at: int = NOW, closed: bool = False) -> e.Event:
    return e.WorkerLost(session=session, closed=closed, at=at)


# -- commands with short defaults


def command(kind: type[c.Command], **fields: Any) -> c.Command:
    return kind(**{"queue": "q", "job_id": "a", **fields})


def submit(job_id: str = "a", awaits: bool = False, **fields: Any) -> c.Command:
    return command(c.SubmitJob, job_id=job_id, awaits=awaits, spec=spec(**{"retention_ms": 0, **fields}))


def report(kind: type[c.AttemptReport], **fields: Any) -> c.Command:
    """A worker's report on attempt 1 of job `a`, which session `s1` holds."""
    defaults = {"run": 1, "attempt": 1, "session": "s1", "started_at": NOW, "ended_at": NOW + 5}
    if kind is c.FailAttempt:
        defaults |= {"reason": FailureReason.EXIT_CODE}
    known = {field.name for field in msgspec.structs.fields(kind)}
    return command(kind, **{name: value for name, value in {**defaults, **fields}.items() if name in known})
