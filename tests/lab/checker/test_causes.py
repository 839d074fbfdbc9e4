"""The checker names an event without its cause, and nothing else. Each fault follows a good history."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core.records import events as e
from ftjm.core.state.model import StopReason
from ftjm.lab.checker import Verdict, ViolationKind
from tests.lab.checker.test_checker import FAILURE, GOOD, Batch, a_story, by, closed, dispatched, judged, of, submitted
from tests.lab.checker.test_checker import succeeded as success

COMMAND, TIMER, LAPSE, OFFER = e.Cause.COMMAND, e.Cause.TIMER, e.Cause.LAPSE, e.Cause.OFFER
HOUR_MS = 3_600_000
WISH: dict[str, Any] = {"attempt": 1, "reason": StopReason.CANCELLED}
DEADLINE: dict[str, Any] = {"attempt": 1, "reason": StopReason.DEADLINE}


def behind(*batches: Batch) -> Verdict:
    """Judge the good story followed by `batches`. The first of them has the time 1,016 and the command 16."""
    return judged(closed([*a_story(), *batches]))


def failed(command: int, **changes: Any) -> e.Event:
    return of(e.AttemptFailed, "x", COMMAND, f"{command}", **FAILURE | changes)


def test_events_with_their_causes_pass():
    report = behind(
        [submitted("x", 16, max_attempts=2, deadline_ms=3, retention_ms=2), dispatched("x", 1)],
        [failed(17, retry_at=1_018)],
        [of(e.JobQueued, "x", TIMER, "1018"), submitted("z", 18, delay_ms=HOUR_MS), dispatched("x", 2)],
        [of(e.JobStopRequested, "x", TIMER, "1019", **DEADLINE | {"attempt": 2})],
        [
            failed(19, attempt=2),
            of(e.JobFailed, "x", COMMAND, "19", reason="DEADLINE"),
            of(e.JobHeld, "z", COMMAND, "20"),
        ],
        [of(e.JobReleased, "z", COMMAND, "21"), of(e.JobCancelled, "z", COMMAND, "22")],
        [of(e.JobForgotten, "x", TIMER, "1022")],
    )
    assert report.violations == []


def due(job_id: str, command: int, deadline_at: int) -> e.Event:
    event = submitted(job_id, command, deadline_at=deadline_at)
    event.spec = msgspec.structs.replace(event.spec, deadline_at=deadline_at)
    return event


def test_a_job_whose_deadline_has_passed_is_passed_over():
    report = behind(
        [due("x", 16, 1), submitted("y", 17), dispatched("y", 1)],
        [of(e.JobFailed, "x", TIMER, "1", reason="DEADLINE"), success("y", 1, 18)],
    )
    assert report.violations == []


FAULTS: dict[str, tuple[list[Batch], list[str]]] = {
    "an attempt after the deadline": (
        [[due("x", 16, 1_016), dispatched("x", 1)], [success("x", 1, 17)]],
        ["expected no attempt after the deadline, 1016, but found one at 1016"],
    ),
    "more attempts than are allowed": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [failed(17), of(e.JobQueued, "x", COMMAND, "17"), dispatched("x", 2)],
            [success("x", 2, 18)],
        ],
        [
            "expected the cause TIMER, but found COMMAND",
            "expected one answer to the command 17, but found AttemptFailed of x, JobQueued of x",
            "expected JobFailed to follow no further attempt, but found something else, in JobQueued",
        ],
    ),
    "a further attempt in a later batch": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [failed(17)],
            [of(e.JobQueued, "x", TIMER, "0"), dispatched("x", 2)],
            [success("x", 2, 18)],
        ],
        [
            "q/x: expected its end to follow no further attempt, but found none",
            "expected no timer, but found one for 0, in JobQueued",
            "expected JobFailed to follow no further attempt, but found something else, in JobQueued",
        ],
    ),
    "a delay that is skipped": (
        [
            [submitted("x", 16, delay_ms=HOUR_MS)],
            [of(e.JobQueued, "x", LAPSE), dispatched("x", 1)],
            [success("x", 1, 17)],
        ],
        ["expected the cause TIMER, but found LAPSE", "expected nothing before 3601016, but found it at 1017"],
    ),
    "a delay that is forgotten": (
        [[submitted("x", 16, delay_ms=HOUR_MS, due_at=0), dispatched("x", 1)], [success("x", 1, 17)]],
        ["expected it to wait until 3601016, but found 0, in JobSubmitted"],
    ),
    "a deadline that is forgotten": (
        [[submitted("x", 16, deadline_ms=5, deadline_at=0), dispatched("x", 1)], [success("x", 1, 17)]],
        ["expected the deadline 1021, but found 0, in JobSubmitted"],
    ),
    "a run whose deadline is forgotten": (
        [
            [submitted("x", 16, deadline_ms=5), dispatched("x", 1)],
            [success("x", 1, 17)],
            [of(e.JobRerun, "x", COMMAND, "18", run=2, command_id="c"), dispatched("x", 2, run=2)],
            [success("x", 2, 19, run=2)],
        ],
        ["expected the deadline 1023, but found 0, in JobRerun"],
    ),
    "a job that is forgotten at once": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [success("x", 1, 17), of(e.JobForgotten, "x", OFFER), submitted("x", 18), dispatched("x", 1)],
            [success("x", 1, 19)],
        ],
        [
            "expected the cause CONTINUATION or TIMER, but found OFFER",
            "expected nothing before 864001017, but found it",
        ],
    ),
    "a job that ends without a kill": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [of(e.JobStopRequested, "x", LAPSE, **WISH)],
            [failed(17), of(e.JobCancelled, "x", COMMAND, "17")],
        ],
        ["expected the cause COMMAND or CONTINUATION or TIMER, but found LAPSE", "expected a command to stop it, but"],
    ),
    "a stop at the deadline that claims to be a cancel": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [of(e.JobStopRequested, "x", TIMER, "1017", **WISH)],
            [failed(17), of(e.JobCancelled, "x", COMMAND, "17")],
        ],
        ["expected a timer to cancel only what is replaced"],
    ),
    "a deadline that names a command as its cause": (
        [
            [submitted("x", 16, deadline_ms=HOUR_MS), dispatched("x", 1)],
            [of(e.JobStopRequested, "x", COMMAND, "17", **DEADLINE)],
            [failed(18), of(e.JobFailed, "x", COMMAND, "18", reason="DEADLINE")],
        ],
        ["expected nothing before 3601016, but found", "expected a deadline to stop it, but found the cause COMMAND"],
    ),
    "a hold without a command": (
        [[submitted("x", 16), of(e.JobHeld, "x", LAPSE), of(e.JobCancelled, "x", COMMAND, "17")]],
        ["expected a command to hold it, but found the cause LAPSE, in JobHeld"],
    ),
    "a release without a command": (
        [
            [
                submitted("x", 16, held=True),
                of(e.JobReleased, "x", TIMER, "1016"),
                of(e.JobCancelled, "x", COMMAND, "17"),
            ]
        ],
        ["expected the cause COMMAND or CONTINUATION, but found TIMER"],
    ),
    "a rerun without a command": (
        [[of(e.JobRerun, GOOD, TIMER, "1", run=2), of(e.JobCancelled, GOOD, COMMAND, "16", run=2)]],
        ["expected the cause COMMAND or CONTINUATION, but found TIMER"],
    ),
    "an end for another reason than the attempt's": (
        [[submitted("x", 16), dispatched("x", 1)], [failed(17), of(e.JobFailed, "x", LAPSE, reason="EXIT_CODE")]],
        ["expected the cause of the last attempt's end, COMMAND 17, but found LAPSE , in JobFailed"],
    ),
    "a success that no worker reported": (
        [[submitted("x", 16), dispatched("x", 1)], [by(TIMER, success("x", 1, 17))]],
        ["expected the cause COMMAND, but found TIMER"],
    ),
    "a dispatch that was not offered": (
        [[submitted("x", 16), by(LAPSE, dispatched("x", 1))], [success("x", 1, 17)]],
        ["expected the cause OFFER, but found LAPSE"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    batches, texts = FAULTS[fault]
    found = behind(*batches).violations
    assert len(found) == len(texts), found
    for text in texts:
        assert any(text in violation for violation in found), found


def test_an_event_that_only_a_timer_may_cause_is_a_violation_of_its_own_kind():
    report = behind([submitted("x", 16, delay_ms=HOUR_MS)], [of(e.JobQueued, "x", LAPSE), dispatched("x", 1)])
    assert report.kinds[ViolationKind.TIMER] == 2
    report = behind([of(e.JobRerun, GOOD, TIMER, "1", run=2)])
    assert report.kinds[ViolationKind.CAUSE] == 1
