"""The rules on answers: a command has one answer, of a type that fits the command, with the values that it gave.

Every command that an owner consumes leads to at least one event that names its offset as the cause: the event that
carries it out, a refusal, or the record of forwarding it to another partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobState
from ftjm.lab.checker.causes import follows_from_key
from ftjm.lab.checker.verdict import Violation, ViolationKind

if TYPE_CHECKING:
    from ftjm.lab.checker.job import CheckedJob

ANSWERS: dict[type[c.Command], tuple[type[e.Event], ...]] = {
    c.SubmitJob: (e.JobSubmitted, e.SubmissionRepeated),
    c.AwaitJob: (e.SubmissionRepeated,),
    c.CancelJob: (e.JobCancelled, e.JobStopRequested),
    c.HoldJob: (e.JobHeld,),
    c.ReleaseJob: (e.JobReleased,),
    c.RerunJob: (e.JobRerun,),
    c.PrioritizeJob: (e.JobPrioritized,),
    c.BulkJobs: (e.BulkBegun,),
    c.StopBulk: (e.BulkStopped,),
    c.PauseQueue: (e.QueuePaused,),
    c.ResumeQueue: (e.QueueResumed,),
    c.ApplyQueue: (e.QueueApplied, e.QueueUnchanged),
    c.DeleteQueue: (e.QueueDeleted, e.QueueUnchanged),
    c.ApplySchedule: (e.ScheduleApplied, e.ScheduleUnchanged),
    c.DeleteSchedule: (e.ScheduleDeleted, e.ScheduleUnchanged),
    c.PauseSchedule: (e.SchedulePaused,),
    c.ResumeSchedule: (e.ScheduleResumed,),
    c.TriggerSchedule: (e.JobSubmitted, e.SubmissionRepeated),
    c.BackfillSchedule: (e.BackfillBegun,),
    c.StopBackfill: (e.BackfillStopped,),
    c.ApplyResource: (e.ResourceApplied, e.ResourceUnchanged),
    c.DeleteResource: (e.ResourceDeleted, e.ResourceUnchanged),
    c.AdoptResource: (e.ResourceAdopted, e.ResourceConfirmed),
    c.ReconcileResources: (e.ResourcesReconciled,),
    c.ConfirmAdoption: (e.AdoptionConfirmed, e.ResourceUnchanged),
    c.AskResources: (e.ReconciliationBegun,),
    c.StartAttempt: (e.AttemptStarted,),
    c.CompleteAttempt: (e.AttemptSucceeded, e.AttemptFailed),  # failed where its result is too large
    c.FailAttempt: (e.AttemptFailed, e.AttemptLost, e.AttemptStopped),
    c.CheckpointAttempt: (e.AttemptCheckpointed,),
    c.DeclineAttempt: (e.AttemptDeclined,),
}
"""The events that may answer a command that is neither refused nor forwarded."""
FURTHER: dict[type[e.Event], tuple[type[e.Event], ...]] = {
    e.JobSubmitted: (e.ScheduleFired,),
    e.ScheduleDeleted: (e.BackfillStopped,),
    e.AttemptFailed: (e.JobFailed, e.JobCancelled),
    e.AttemptLost: (e.JobFailed, e.JobCancelled, e.JobHeld),
    e.AttemptDeclined: (e.JobFailed, e.JobCancelled),
}
"""Events that may follow an answer, caused by the same command, beside those of jobs at the same concurrency key."""
OF_RESOURCES = (e.WindowTurned, e.ResourceSettled)
"""Events that may follow an answer to a command about a resource, in any number."""
AFTER_LOSS = (e.ResourcesAsked, e.ReconciliationBegun)
"""One of these may stand behind all others: a message of another partition was lost, or came twice."""
KINDS = {kind.__name__: kind for kind in ANSWERS}
SAME = frozenset(
    {"run", "attempt", "session", "command_id", "awaits", "reason", "started_at", "ended_at", "exit_code", "signal",
     "error", "result", "data", "spec", "labels", "name",
     "kind", "revision", "home", "applied_at", "partition",
     "action", "filter", "priority", "bulk",
     "from_at", "to_at", "reprocess", "max_active", "backfill"}
)  # fmt: skip
"""Fields that an event copies from its command, where both have the field."""
OWN_VALUES: dict[type[c.Command], set[str]] = {c.CancelJob: {"reason"}, c.SubmitJob: {"spec"}}
"""Fields of these that the answer has with a value of its own: the reason of an end; a spec with the defaults of queue
and cluster, which `submissions.py` judges."""
NAME_MAX = 300
"""Length to which a refusal shortens a name: a name in a command may be anything."""


def check_events_of_command(ref: str, events: Sequence[e.Event]) -> Iterator[Violation]:
    """Judge all events that one command caused: one answer, and what may follow that answer.

    Args:
        ref: offset of the command, as events name it.
    """
    arrived = isinstance(events[0], e.ForwardReceived)
    if len(events) == arrived:
        yield Violation(ViolationKind.LOST, f"expected an answer to the forwarded command {ref}, but found none")
        return
    first, further = events[arrived], events[arrived + 1 :]
    more = [event for place, event in enumerate(further) if not _is_of_key(event, first, further[:place])]
    if isinstance(first, e.ResourceEvent):
        more = [event for event in more if not isinstance(event, OF_RESOURCES)]
    came_twice = isinstance(first, e.CommandRejected) and not first.kind
    if more and isinstance(more[-1], AFTER_LOSS) and (arrived or came_twice):
        more = more[:-1]
    allowed = FURTHER.get(type(first), ())
    if len(more) > 1 or any(type(event) not in allowed or event.job_id != first.job_id for event in more):
        found = ", ".join(f"{type(event).__name__} of {event.job_id or 'no job'}" for event in events)
        yield Violation(ViolationKind.ANSWER, f"expected one answer to the command {ref}, but found {found}")
    if isinstance(first, e.CommandRejected) and first.code == "INTERNAL_ERROR":
        yield Violation(
            ViolationKind.ANSWER, f"expected the command {ref} to be decided, but found {first.code}: {first.text}"
        )


def _is_of_key(event: e.Event, first: e.Event, before: Sequence[e.Event]) -> bool:
    """Whether an event tells of a job at its concurrency key. A job whose attempt has ended does not get the key at
    once, but one that was sent back may give it up and get it again."""
    if isinstance(event, e.JobQueued) and event.job_id == first.job_id:
        gave_up = any(isinstance(one, e.JobParked) and one.job_id == first.job_id for one in before)
        return gave_up or not isinstance(first, e.AttemptEvent)
    return follows_from_key(event)


def check_answer(ref: str, first: e.Event, command: c.Command | None) -> Iterator[Violation]:
    """Judge whether an answer fits its command. `command` is `None` where the command cannot be decoded."""
    kind = "unreadable command" if command is None else type(command).__name__
    if isinstance(first, e.CommandRejected):
        if not first.kind:
            return  # the command was refused before it was decoded
        about, wrong = first.kind, first.kind != kind
    else:
        about = type(first).__name__
        wrong = command is None or not isinstance(first, (e.CommandForwarded, *ANSWERS[type(command)]))
    if wrong or command is None:
        yield Violation(ViolationKind.ANSWER, f"expected an answer to the {kind} {ref}, but found one as to {about}")
    elif (first.queue, first.job_id) != (command.queue[:NAME_MAX], (job_id := _job_id(command, first))[:NAME_MAX]):
        text = f"expected an answer about {command.queue}/{job_id} to the {kind} {ref}"
        yield Violation(ViolationKind.ANSWER, f"{text}, but found one about {first.queue}/{first.job_id}")
    elif found := ", ".join(_differences(command, first)):
        yield Violation(ViolationKind.ANSWER, f"expected the values of the {kind} {ref}, but found others for {found}")


def _job_id(command: c.Command, answer: e.Event) -> str:
    """The job that an answer must be about. A request to a schedule is answered with the job that it makes."""
    if isinstance(command, c.TriggerSchedule) and isinstance(answer, e.JobSubmitted | e.SubmissionRepeated):
        return f"{command.name}.now.{command.command_id}"
    return command.job_id


@cache
def _common(command: type[c.Command], answer: type[e.Event]) -> list[str]:
    if answer in (e.CommandRejected, e.CommandForwarded):
        return []
    fields = SAME & {*command.__struct_fields__} & {*answer.__struct_fields__}
    return sorted(fields - OWN_VALUES.get(command, set()))


def _differences(command: c.Command, answer: e.Event) -> Iterator[str]:
    for field in _common(type(command), type(answer)):
        if field == "run" and isinstance(command, c.AttemptReport) and not command.run:
            continue  # the worker does not know it
        given, found = getattr(command, field), getattr(answer, field)
        if field == "command_id" and found.startswith(f"{command.queue}/{command.job_id}/"):
            found = found.rpartition("/")[2]
        if given != found:
            yield field


def check_refusal(event: e.CommandRejected, job: CheckedJob | None, command: c.Command | None) -> Iterator[Violation]:
    """Judge whether the reason of a refusal is true.

    Args:
        job: the job that the refusal names; `None` where there is none.
        command: the refused command; `None` where it is not known.
    """
    exists = job is not None and not job.forgotten
    if not event.kind or job is None or not exists:
        of_job = event.kind != c.TriggerSchedule.__name__  # which is about a job that it does not name
        if of_job and event.code in ("WRONG_STATE", "STALE_ATTEMPT", "IDENTITY_TAKEN"):
            yield Violation(ViolationKind.ANSWER, f"expected {event.code} of a job that exists only, but found none")
        return
    if event.code == "UNKNOWN_JOB":
        yield Violation(ViolationKind.ANSWER, "expected the job to be known, but found UNKNOWN_JOB")
    elif event.code == "WRONG_STATE" and (kind := KINDS.get(event.kind)) and _is_allowed(kind, job.state):
        assert job.state is not None
        text = f"expected the {event.kind} to be carried out in the state {job.state.name}"
        yield Violation(ViolationKind.ANSWER, f"{text}, but found it refused")
    elif event.code == "STALE_ATTEMPT" and job.attempt_open and _is_newest(command, job):
        text = f"expected a report of attempt {job.attempt}, the newest, to be taken"
        yield Violation(ViolationKind.ANSWER, f"{text}, but found it refused as stale")


def _is_newest(command: c.Command | None, job: CheckedJob) -> bool:
    return isinstance(command, c.AttemptReport) and (command.attempt, command.session) == (job.attempt, job.session)


def _is_allowed(kind: type[c.Command], state: JobState | None) -> bool:
    return any(state in LIFECYCLE[answer] for answer in ANSWERS[kind])
