"""What a command may be answered by: once, and as it asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from ftjm.checker.report import Found, Kind
from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import JobSpec, JobState

if TYPE_CHECKING:
    from ftjm.checker.life import Life

ANSWERS: dict[type[c.Command], tuple[type[e.Event], ...]] = {
    c.SubmitJob: (e.JobSubmitted, e.SubmissionRepeated),
    c.CancelJob: (e.JobCancelled, e.JobStopRequested),
    c.HoldJob: (e.JobHeld,),
    c.ReleaseJob: (e.JobReleased,),
    c.RerunJob: (e.JobRerun,),
    c.StartAttempt: (e.AttemptStarted,),
    c.CompleteAttempt: (e.AttemptSucceeded, e.AttemptFailed),  # failed where its result is too large
    c.FailAttempt: (e.AttemptFailed, e.AttemptLost),
    c.CheckpointAttempt: (e.AttemptCheckpointed,),
    c.DeclineAttempt: (e.AttemptDeclined,),
}
"""If it is neither refused nor sent on."""
FURTHER: dict[type[e.Event], tuple[type[e.Event], ...]] = {
    e.AttemptFailed: (e.JobFailed, e.JobCancelled),
    e.AttemptLost: (e.JobFailed, e.JobCancelled, e.JobHeld),
    e.AttemptDeclined: (e.JobFailed, e.JobCancelled),
}
"""What may follow an answer, as a part of it."""
KINDS = {kind.__name__: kind for kind in ANSWERS}
SAME = frozenset(
    {"run", "attempt", "session", "command_id", "awaits", "reason", "started_at", "ended_at", "exit_code", "signal",
     "error", "result", "data"}
)  # fmt: skip
"""What an event repeats of its command, where both have it."""
NAME_MAX = 300
"""What a refusal repeats of a name, which may be anything."""


def answered(ref: str, events: Sequence[e.Event]) -> Iterator[Found]:
    """All that happened because of one command."""
    arrived = isinstance(events[0], e.ForwardReceived)
    if len(events) == arrived:
        yield Found(Kind.LOST, f"expected what became of the forwarded command {ref}, but found nothing")
        return
    first, more = events[arrived], events[arrived + 1 :]
    allowed = FURTHER.get(type(first), ())
    if len(more) > 1 or any(type(event) not in allowed or event.job_id != first.job_id for event in more):
        found = ", ".join(f"{type(event).__name__} of {event.job_id or 'no job'}" for event in events)
        yield Found(Kind.ANSWER, f"expected one answer to the command {ref}, but found {found}")
    if isinstance(first, e.CommandRejected) and first.code == "INTERNAL_ERROR":
        yield Found(Kind.ANSWER, f"expected the command {ref} to be decided, but found {first.code}: {first.text}")


def fits(ref: str, first: e.Event, asked: c.Command | None) -> Iterator[Found]:
    """Whether an answer is one to what was asked for, which is None where that cannot be read."""
    kind = "unreadable command" if asked is None else type(asked).__name__
    if isinstance(first, e.CommandRejected):
        if not first.kind:
            return  # before anybody looked at what it says
        about, wrong = first.kind, first.kind != kind
    else:
        about = type(first).__name__
        wrong = asked is None or not isinstance(first, (e.CommandForwarded, *ANSWERS[type(asked)]))
    if wrong or asked is None:
        yield Found(Kind.ANSWER, f"expected an answer to the {kind} {ref}, but found one as to {about}")
    elif (first.queue, first.job_id) != (asked.queue[:NAME_MAX], asked.job_id[:NAME_MAX]):
        text = f"expected an answer about {asked.queue}/{asked.job_id} to the {kind} {ref}"
        yield Found(Kind.ANSWER, f"{text}, but found one about {first.queue}/{first.job_id}")
    elif found := ", ".join(_differences(asked, first)):
        yield Found(Kind.ANSWER, f"expected what the {kind} {ref} says, but found other {found}")


@cache
def _common(asked: type[c.Command], answer: type[e.Event]) -> list[str]:
    if answer in (e.CommandRejected, e.CommandForwarded):
        return []
    fields = SAME & {*asked.__struct_fields__} & {*answer.__struct_fields__}
    return sorted(fields - {"reason"} if asked is c.CancelJob else fields)  # of which the events say their own


def _differences(asked: c.Command, answer: e.Event) -> Iterator[str]:
    for field in _common(type(asked), type(answer)):
        if getattr(asked, field) != getattr(answer, field):
            yield field
    if isinstance(asked, c.SubmitJob) and isinstance(answer, e.JobSubmitted):
        yield from _other_fields(asked.spec, answer.spec)


def _other_fields(asked: JobSpec, found: JobSpec) -> Iterator[str]:
    if not asked.retention_ms:  # then it is the cluster's
        found = msgspec.structs.replace(found, retention_ms=0)
    if found != asked:
        yield from (name for name in JobSpec.__struct_fields__ if getattr(asked, name) != getattr(found, name))


def refused(event: e.CommandRejected, life: Life | None, asked: c.Command | None) -> Iterator[Found]:
    """Whether what a refusal says of its job is so; `asked` is None where it is not known."""
    exists = life is not None and not life.forgotten
    if not event.kind or life is None or not exists:
        if event.code in ("WRONG_STATE", "STALE_ATTEMPT", "IDENTITY_TAKEN"):
            yield Found(Kind.ANSWER, f"expected {event.code} of a job that exists only, but found none")
        return
    if event.code == "UNKNOWN_JOB":
        yield Found(Kind.ANSWER, "expected the job to be known, but found UNKNOWN_JOB")
    elif event.code == "WRONG_STATE" and (kind := KINDS.get(event.kind)) and _may(kind, life.state):
        assert life.state is not None
        text = f"expected the {event.kind} to be carried out in the state {life.state.name}"
        yield Found(Kind.ANSWER, f"{text}, but found it refused")
    elif event.code == "STALE_ATTEMPT" and life.attempt_open and _is_newest(asked, life):
        text = f"expected a report of attempt {life.attempt}, the newest, to be taken"
        yield Found(Kind.ANSWER, f"{text}, but found it refused as stale")


def _is_newest(asked: c.Command | None, life: Life) -> bool:
    return isinstance(asked, c.AttemptReport) and (asked.attempt, asked.session) == (life.attempt, life.session)


def _may(kind: type[c.Command], state: JobState | None) -> bool:
    return any(state in LIFECYCLE[answer] for answer in ANSWERS[kind])
