"""Tests of the core as stories: given these events, when this is wanted, then these events.

    given(submitted(), dispatched()).when(CompleteAttempt(...)).then(like(AttemptSucceeded, attempt=1))

A story goes on after `then`: what happened is evolved, and the next `when` meets the state that it led to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ftjm.adapters.memory import MemoryStore
from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.decide import Policy, Rejected, decide, decide_lapse, decide_timer
from ftjm.core.evolve import evolve
from ftjm.core.identity import content_hash
from ftjm.core.model import FailureReason, Job, JobSpec, JobState, Message, MessageKind, StopReason, Timer, job_key
from ftjm.core.state import State
from tests.core.consistency import check_state

NOW = 1_000_000
HOUR_MS = 3_600_000
POLICY = Policy(partition=0, partitions=1, retention_ms=HOUR_MS, inline_bytes_max=1_000)
TOLD = "0/client/7"
"""A reply address: lane, client session, correlation."""


class Like:
    """An event of this type with these fields, whatever its others are."""

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
    """A partition's state, and what happens in it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.state = State(self.store)
        self.now = NOW
        self.happened: list[e.Event] | Rejected = []
        self.said: list[Message] = []

    # -- given

    def evolve(self, *events: e.Event) -> Story:
        for event in events:
            self.now = max(self.now, event.at)
            evolve(self.state, event)
        return self

    def written(self) -> Story:
        """The batch ends here: its rows go to the store, and the next ones begin from there."""
        changes, _ = self.state.seal()
        self.store.write(changes)
        self.said = [message for _, message in self.state.pushed]
        self.state.written()
        check_state(self.store)
        return self

    # -- when

    def when(self, command: c.Command, at: int | None = None, policy: Policy = POLICY, reply: str = "") -> Story:
        self._at(at)
        self.happened = decide(self.state, command, self.now, policy)
        if isinstance(self.happened, Rejected):
            return self
        return self._record(self.happened, e.Cause.COMMAND, "0", reply)

    def when_due(self, at: int) -> Story:
        """Time passes to `at`: timers fire one after the other."""
        self._at(at)
        self.happened = []
        for timer in list(self.state.due(at)):
            if self.state.has_timer(timer):
                events = decide_timer(self.state, timer, self.now)
                self.happened += events
                self._record(events, e.Cause.TIMER, str(timer.due_at), "", write=False)
        return self.written()

    def when_silent(self, session: str, silent_ms: int, closed: bool = False, at: int | None = None) -> Story:
        self._at(at)
        self.happened = decide_lapse(self.state, session, silent_ms, self.now, closed)
        return self._record(self.happened, e.Cause.LAPSE, session, "")

    def _at(self, at: int | None) -> None:
        self.now = self.now if at is None else at

    def _record(self, events: list[e.Event], cause: e.Cause, ref: str, reply: str, write: bool = True) -> Story:
        for event in events:
            event.at, event.cause, event.cause_ref = self.now, cause, ref
            event.reply, reply = reply, ""
            evolve(self.state, event)
        return self.written() if write else self

    # -- then

    def then(self, *expected: Like) -> Story:
        assert not isinstance(self.happened, Rejected), self.happened
        differences = [like.differs(event) for like, event in zip(expected, self.happened, strict=False)]
        assert not any(differences), differences
        assert len(expected) == len(self.happened), self.happened
        return self

    def then_nothing(self) -> Story:
        return self.then()

    def refused(self, code: str, *words: str) -> Story:
        assert isinstance(self.happened, Rejected), self.happened
        assert self.happened.code == code, self.happened
        assert all(word in self.happened.text for word in words), self.happened.text
        return self

    def job_is(self, state: JobState | None = None, **fields: Any) -> Story:
        """What is true of the job now."""
        job = self.job()
        if state is not None:
            assert job.state is JobState(state), job
        for name, value in fields.items():
            assert getattr(job, name) == value, (name, job)
        return self

    def job(self, job_id: str = "a") -> Job:
        job = self.state.job(job_key("q", job_id))
        assert job is not None
        return job

    def tells(self, *kinds: MessageKind) -> Story:
        """What the newest batch put into the outbox."""
        assert [message.kind for message in self.said] == list(kinds), self.said
        return self

    def has_timers(self, *due_at: int) -> Story:
        assert [timer.due_at for timer in self.timers()] == list(due_at), list(self.timers())
        return self

    def timers(self) -> Iterator[Timer]:
        return self.state.due((1 << 62) - 1)


def given(*events: e.Event) -> Story:
    return Story().evolve(*events).written()


# -- events, told briefly: of job `a` of queue `q`, its run 1, attempt 1, on worker session `s1`


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
        content=content_hash(spec(**{"retention_ms": 0, **fields})),
        awaits=awaits,
        reply=reply,
    )


def _teller(kind: type[e.Event], **defaults: Any) -> Callable[..., e.Event]:
    def tell(**fields: Any) -> e.Event:
        return kind(**{"queue": "q", "job_id": "a", "run": 1, "at": NOW, **defaults, **fields})

    return tell


dispatched = _teller(e.AttemptDispatched, attempt=1, session="s1", worker="w", lane=3, lease_ms=5_000, offer=1)
started = _teller(e.AttemptStarted, attempt=1, session="s1", started_at=NOW)
checkpointed = _teller(e.AttemptCheckpointed, attempt=1, session="s1", data=b"7")
succeeded = _teller(e.AttemptSucceeded, attempt=1, session="s1", started_at=NOW, ended_at=NOW)
attempt_failed = _teller(
    e.AttemptFailed, attempt=1, session="s1", started_at=NOW, ended_at=NOW, reason=FailureReason.EXIT_CODE
)
attempt_lost = _teller(e.AttemptLost, attempt=1, session="s1", reason="LAPSED")
declined = _teller(e.AttemptDeclined, attempt=1, session="s1")
queued = _teller(e.JobQueued)
held = _teller(e.JobHeld)
released = _teller(e.JobReleased)
cancelled = _teller(e.JobCancelled)
failed = _teller(e.JobFailed, reason="EXIT_CODE")
rerun = _teller(e.JobRerun, run=2, command_id="wish-1")
forgotten = _teller(e.JobForgotten)
repeated = _teller(e.SubmissionRepeated)
stop_requested = _teller(e.JobStopRequested, attempt=1, reason=StopReason.CANCELLED)


def worker_lost(session: str = "s1", at: int = NOW, closed: bool = False) -> e.Event:
    return e.WorkerLost(session=session, closed=closed, at=at)


# -- commands, told briefly


def command(kind: type[c.Command], **fields: Any) -> c.Command:
    return kind(**{"queue": "q", "job_id": "a", **fields})


def submit(job_id: str = "a", awaits: bool = False, **fields: Any) -> c.Command:
    return command(c.SubmitJob, job_id=job_id, awaits=awaits, spec=spec(**{"retention_ms": 0, **fields}))


def report(kind: type[c.AttemptReport], **fields: Any) -> c.Command:
    """A worker's report of attempt 1 of job `a`, which session `s1` holds."""
    defaults = {"run": 1, "attempt": 1, "session": "s1", "started_at": NOW, "ended_at": NOW + 5}
    if kind is c.FailAttempt:
        defaults |= {"reason": FailureReason.EXIT_CODE}
    known = {field.name for field in msgspec.structs.fields(kind)}
    return command(kind, **{name: value for name, value in {**defaults, **fields}.items() if name in known})
