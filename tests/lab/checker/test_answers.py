"""Each command has one matching answer. Each fault is planted in a good history, and judged with the commands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason, JobSpec, StopReason
from ftjm.lab.checker import Evidence, Verdict, ViolationKind
from tests.lab.checker.test_checker import (
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

COMMAND = e.Cause.COMMAND
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
    """Return the commands that a good story answers, by offset; a refused one is `None`: it cannot be decoded."""
    found: dict[int, c.Command | None] = {}
    for event in (event for batch in story for event in batch if event.cause is COMMAND):
        kind = ASKED.get(type(event))
        facts = msgspec.structs.asdict(event) | {"spec": getattr(event, "spec", JobSpec())}
        fields: dict[str, Any] = {k: facts[k] for k in kind.__struct_fields__ if k in facts} if kind else {}
        command = kind(**fields) if kind else None
        found.setdefault(int(event.cause_ref), command)
    return found


def behind(*batches: Batch, asked: dict[int, c.Command | None] | None = None) -> Verdict:
    """Judge the good story followed by `batches`, with its commands and those of `asked`."""
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
    return of(e.CommandForwarded, job_id, COMMAND, f"{command}", run=0, partition=0, body=b"")


def test_answers_that_fit_their_commands_pass():
    report = behind(
        [submitted("x", 16, retention_ms=7), dispatched("x", 1), refused("y", 17, "UNKNOWN_JOB", "CancelJob")],
        [of(e.JobStopRequested, "x", COMMAND, "18", attempt=1, reason=StopReason.CANCELLED, text="enough")],
        [of(e.AttemptFailed, "x", COMMAND, "19", **FAILURE), of(e.JobCancelled, "x", COMMAND, "19")],
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
    "a submission that is both accepted and refused": (
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
            [of(e.AttemptFailed, "x", COMMAND, "18", **FAILURE), of(e.JobCancelled, "y", COMMAND, "18")],
            [of(e.JobFailed, "x", COMMAND, "18", reason="EXIT_CODE")],
        ],
        {},
        "expected one answer to the command 18, but found AttemptFailed of x, JobCancelled of y",
    ),
    "a command that ended in an internal error": (
        [[*BORN, refused("x", 17, "INTERNAL_ERROR", "CancelJob")], [of(e.JobCancelled, "x", COMMAND, "18")]],
        {17: CANCEL},
        "expected the command 17 to be decided, but found INTERNAL_ERROR",
    ),
    "a forwarded command that arrives and is not answered": (
        [[e.ForwardReceived(source=0, number=1, cause_ref="16"), _forwarded("z", 17)]],
        {17: c.CancelJob(queue="q", job_id="z")},
        "expected an answer to the forwarded command 16, but found none",
    ),
    "another command": (
        [[*BORN, of(e.JobReleased, "x", COMMAND, "17"), dispatched("x", 1)], [succeeded("x", 1, 18)]],
        {17: CANCEL},
        "expected an answer to the CancelJob 17, but found one as to JobReleased",
    ),
    "another job": (
        [[*BORN, of(e.JobCancelled, "x", COMMAND, "17")]],
        {17: c.CancelJob(queue="q", job_id=GOOD)},
        "expected an answer about q/good to the CancelJob 17, but found one about q/x",
    ),
    "another program": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {16: _submit("x", command=["rm"])},
        "expected the values of the SubmitJob 16, but found others for command",
    ),
    "another result": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {17: c.CompleteAttempt(**REPORT, started_at=1, ended_at=2, result=b"1")},
        "expected the values of the CompleteAttempt 17, but found others for result",
    ),
    "a failure that was reported as a success": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {17: c.FailAttempt(**REPORT, started_at=1, ended_at=2, reason=FailureReason.EXIT_CODE)},
        "expected an answer to the FailAttempt 17, but found one as to AttemptSucceeded",
    ),
    "an undecodable command that is carried out": (
        [[*BEGUN], [succeeded("x", 1, 17)]],
        {17: None},
        "expected an answer to the unreadable command 17, but found one as to AttemptSucceeded",
    ),
    "a refusal of another command": (
        [[refused("x", 16, "UNKNOWN_JOB", "HoldJob")]],
        {16: CANCEL},
        "expected an answer to the CancelJob 16, but found one as to HoldJob",
    ),
    "a refusal as unknown of a job that exists": (
        [[*BORN, refused("x", 17, "UNKNOWN_JOB", "CancelJob"), of(e.JobCancelled, "x", COMMAND, "18")]],
        {17: CANCEL},
        "q/x: expected the job to be known, but found UNKNOWN_JOB",
    ),
    "a refusal for the state of a job that does not exist": (
        [[refused("x", 16, "WRONG_STATE", "CancelJob")]],
        {16: CANCEL},
        "q/x: expected WRONG_STATE of a job that exists only, but found none",
    ),
    "a refusal of a command that the state allows": (
        [[*BORN, refused("x", 17, "WRONG_STATE", "CancelJob"), of(e.JobCancelled, "x", COMMAND, "18")]],
        {17: CANCEL},
        "q/x: expected the CancelJob to be carried out in the state HELD, but found it refused",
    ),
    "a refusal of a rerun whose id is new": (
        [[refused(GOOD, 16, "REPEATED", "RerunJob")]],
        {16: c.RerunJob(queue="q", job_id=GOOD, command_id="new")},
        "q/good: expected the command id new to be carried out, but found it refused as repeated",
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
    assert report.kinds[ViolationKind.ANSWER] or report.kinds[ViolationKind.LOST]
    assert any(text in violation for violation in report.violations), report.violations
