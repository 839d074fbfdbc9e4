"""A command is answered once, and as it asks: each fault is planted in a good history, beside what was asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.checker import Evidence, Kind, Report
from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.model import FailureReason, JobSpec, StopReason
from tests.checker.test_checker import (
    AGAIN,
    GOOD,
    Batch,
    Story,
    a_story,
    closed,
    dispatched,
    judged,
    of,
    submitted,
    succeeded,
)

TOLD = e.Cause.COMMAND
ASKED: dict[type[e.Event], type[c.Command]] = {
    e.JobSubmitted: c.SubmitJob,
    e.SubmissionRepeated: c.SubmitJob,
    e.JobStopRequested: c.CancelJob,
    e.JobCancelled: c.CancelJob,
    e.JobHeld: c.HoldJob,
    e.JobReleased: c.ReleaseJob,
    e.JobRerun: c.RerunJob,
    e.AttemptStarted: c.StartAttempt,
    e.AttemptSucceeded: c.CompleteAttempt,
    e.AttemptFailed: c.FailAttempt,
    e.AttemptDeclined: c.DeclineAttempt,
}


def commands_of(story: Story) -> dict[int, c.Command | None]:
    """What a good story answers, by its offset; what it refuses cannot be read."""
    found: dict[int, c.Command | None] = {}
    for event in (event for batch in story for event in batch if event.cause is TOLD):
        kind = ASKED.get(type(event))
        facts = msgspec.structs.asdict(event) | {"spec": getattr(event, "spec", JobSpec())}
        fields: dict[str, Any] = {k: facts[k] for k in kind.__struct_fields__ if k in facts} if kind else {}
        command = kind(**fields) if kind else None
        found.setdefault(int(event.cause_ref), command)
    return found


def behind(*batches: Batch, asked: dict[int, c.Command | None] | None = None) -> Report:
    """The good story and what comes then, beside what was asked for; `asked` says what the events do not."""
    story = [*a_story(), *batches]
    return judged(closed(story), evidence=Evidence(commands={0: commands_of(story) | (asked or {})}))


def refused(job_id: str, command: int, code: str, kind: str = "", run: int = 1) -> e.Event:
    event = e.CommandRejected(code=code, text="", kind=kind, cause_ref=f"{command}")
    return msgspec.structs.replace(event, queue="q", job_id=job_id, run=run)


FAILURE: dict[str, Any] = {"attempt": 1, "session": "s1", "started_at": 1, "ended_at": 2, "reason": "EXIT_CODE"}
REPORT: dict[str, Any] = {"queue": "q", "job_id": "x", "run": 1, "attempt": 1, "session": "s1"}
BORN = [submitted("x", 16, held=True)]
BEGUN = [submitted("x", 16), dispatched("x", 1)]
CANCEL = c.CancelJob(queue="q", job_id="x")


def _submit(job_id: str, **fields: Any) -> c.SubmitJob:
    return c.SubmitJob(queue="q", job_id=job_id, spec=JobSpec(**fields))


def _forwarded(job_id: str, command: int) -> e.Event:
    return of(e.CommandForwarded, job_id, TOLD, f"{command}", run=0, partition=0, body=b"")


def test_what_answers_its_command_passes():
    report = behind(
        [submitted("x", 16, retention_ms=7), dispatched("x", 1), refused("y", 17, "UNKNOWN_JOB", "CancelJob")],
        [of(e.JobStopRequested, "x", TOLD, "18", attempt=1, reason=StopReason.CANCELLED, text="enough")],
        [of(e.AttemptFailed, "x", TOLD, "19", **FAILURE), of(e.JobCancelled, "x", TOLD, "19")],
        [refused("x", 20, "STALE_ATTEMPT", "CompleteAttempt"), refused("x", 21, "WRONG_STATE", "CancelJob")],
        [e.ForwardReceived(source=0, number=1, cause_ref="22"), refused("y", 22, "UNKNOWN_JOB", "HoldJob")],
        [_forwarded("z", 23), refused(AGAIN, 24, "REPEATED", "RerunJob")],
        asked={
            16: _submit("x"),
            17: c.CancelJob(queue="q", job_id="y"),
            18: c.CancelJob(queue="q", job_id="x", reason="enough"),
            20: c.CompleteAttempt(**REPORT, started_at=1, ended_at=2),
            21: CANCEL,
            22: c.HoldJob(queue="q", job_id="y"),
            23: c.CancelJob(queue="q", job_id="z"),
            24: c.RerunJob(queue="q", job_id=AGAIN, command_id="again"),
        },
    )
    assert report.violations == []


FAULTS: dict[str, tuple[list[Batch], dict[int, c.Command | None], str]] = {
    "a submission that is taken and refused": (
        [[*BEGUN, refused("x", 16, "INVALID", "SubmitJob")], [succeeded("x", 1, 17)]],
        {},
        "expected one answer to the command 16, but found JobSubmitted of x, CommandRejected of x",
    ),
    "a submission that makes two jobs": (
        [
            [submitted("x", 16), submitted("y", 16), dispatched("x", 1), dispatched("y", 1)],
            [succeeded("x", 1, 17), succeeded("y", 1, 18)],
        ],
        {},
        "expected one answer to the command 16, but found JobSubmitted of x, JobSubmitted of y",
    ),
    "a failure that ends another job": (
        [
            [*BEGUN, submitted("y", 17)],
            [of(e.AttemptFailed, "x", TOLD, "18", **FAILURE), of(e.JobCancelled, "y", TOLD, "18")],
            [of(e.JobFailed, "x", TOLD, "18", reason="EXIT_CODE")],
        ],
        {},
        "expected one answer to the command 18, but found AttemptFailed of x, JobCancelled of y",
    ),
    "a command that nobody could decide": (
        [[*BORN, refused("x", 17, "INTERNAL_ERROR", "CancelJob")], [of(e.JobCancelled, "x", TOLD, "18")]],
        {17: CANCEL},
        "expected the command 17 to be decided, but found INTERNAL_ERROR",
    ),
    "a forwarded command that only arrives": (
        [[e.ForwardReceived(source=0, number=1, cause_ref="16"), _forwarded("z", 17)]],
        {17: c.CancelJob(queue="q", job_id="z")},
        "expected what became of the forwarded command 16, but found nothing",
    ),
    "another command": (
        [[*BORN, of(e.JobReleased, "x", TOLD, "17"), dispatched("x", 1)], [succeeded("x", 1, 18)]],
        {17: CANCEL},
        "expected an answer to the CancelJob 17, but found one as to JobReleased",
    ),
    "another job": (
        [[*BORN, of(e.JobCancelled, "x", TOLD, "17")]],
        {17: c.CancelJob(queue="q", job_id=GOOD)},
        "expected an answer about q/good to the CancelJob 17, but found one about q/x",
    ),
    "another program": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {16: _submit("x", command=["rm"])},
        "expected what the SubmitJob 16 says, but found other command",
    ),
    "another result": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {17: c.CompleteAttempt(**REPORT, started_at=1, ended_at=2, result=b"1")},
        "expected what the CompleteAttempt 17 says, but found other result",
    ),
    "a failure that was reported as a success": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {17: c.FailAttempt(**REPORT, started_at=1, ended_at=2, reason=FailureReason.EXIT_CODE)},
        "expected an answer to the FailAttempt 17, but found one as to AttemptSucceeded",
    ),
    "a command that nobody can read": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {17: None},
        "expected an answer to the unreadable command 17, but found one as to AttemptSucceeded",
    ),
    "a refusal of another command": (
        [[refused("x", 16, "UNKNOWN_JOB", "HoldJob")]],
        {16: CANCEL},
        "expected an answer to the CancelJob 16, but found one as to HoldJob",
    ),
    "a refusal to know a job": (
        [[*BORN, refused("x", 17, "UNKNOWN_JOB", "CancelJob"), of(e.JobCancelled, "x", TOLD, "18")]],
        {17: CANCEL},
        "q/x: expected the job to be known, but found UNKNOWN_JOB",
    ),
    "a refusal for the state of a job that does not exist": (
        [[refused("x", 16, "WRONG_STATE", "CancelJob")]],
        {16: CANCEL},
        "q/x: expected WRONG_STATE of a job that exists only, but found none",
    ),
    "a refusal of what is possible": (
        [[*BORN, refused("x", 17, "WRONG_STATE", "CancelJob"), of(e.JobCancelled, "x", TOLD, "18")]],
        {17: CANCEL},
        "q/x: expected the CancelJob to be carried out in the state HELD, but found it refused",
    ),
    "a refusal of a wish that is new": (
        [[refused(GOOD, 16, "REPEATED", "RerunJob")]],
        {16: c.RerunJob(queue="q", job_id=GOOD, command_id="new")},
        "q/good: expected the wish new to be carried out, but found it refused as repeated",
    ),
    "a refusal of the newest attempt's report": (
        [[*BEGUN], [refused("x", 17, "STALE_ATTEMPT", "CompleteAttempt"), succeeded("x", 1, 18)]],
        {17: c.CompleteAttempt(**REPORT, started_at=1, ended_at=2)},
        "q/x: expected a report of attempt 1, the newest, to be taken, but found it refused as stale",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    batches, asked, text = FAULTS[fault]
    report = behind(*batches, asked=asked)
    assert report.kinds[Kind.ANSWER] or report.kinds[Kind.LOST]
    assert any(text in violation for violation in report.violations), report.violations
