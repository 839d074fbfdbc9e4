"""What happens without what it takes is named, and nothing else: each fault comes behind a good history."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.checker import Kind, Report
from ftjm.core import events as e
from ftjm.core.model import StopReason
from tests.checker.test_checker import FAILURE, GOOD, Batch, a_story, by, closed, dispatched, judged, of, submitted
from tests.checker.test_checker import succeeded as success

TOLD, TIMER, LAPSE, OFFER = e.Cause.COMMAND, e.Cause.TIMER, e.Cause.LAPSE, e.Cause.OFFER
HOUR_MS = 3_600_000
WISH: dict[str, Any] = {"attempt": 1, "reason": StopReason.CANCELLED}
DEADLINE: dict[str, Any] = {"attempt": 1, "reason": StopReason.DEADLINE}


def behind(*batches: Batch) -> Report:
    """The good story and what comes then, judged. Its first batch is of 1,016, and its first command 16."""
    return judged(closed([*a_story(), *batches]))


def failed(command: int, **changes: Any) -> e.Event:
    return of(e.AttemptFailed, "x", TOLD, f"{command}", **FAILURE | changes)


def test_what_has_its_cause_passes():
    report = behind(
        [submitted("x", 16, max_attempts=2, deadline_ms=3, retention_ms=2), dispatched("x", 1)],
        [failed(17, retry_at=1_018)],
        [of(e.JobQueued, "x", TIMER, "1018"), submitted("z", 18, delay_ms=HOUR_MS), dispatched("x", 2)],
        [of(e.JobStopRequested, "x", TIMER, "1019", **DEADLINE | {"attempt": 2})],
        [failed(19, attempt=2), of(e.JobFailed, "x", TOLD, "19", reason="DEADLINE"), of(e.JobHeld, "z", TOLD, "20")],
        [of(e.JobReleased, "z", TOLD, "21"), of(e.JobCancelled, "z", TOLD, "22")],
        [of(e.JobForgotten, "x", TIMER, "1022")],
    )
    assert report.violations == []


FAULTS: dict[str, tuple[list[Batch], list[str]]] = {
    "more attempts than are allowed": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [failed(17), of(e.JobQueued, "x", TOLD, "17"), dispatched("x", 2)],
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
            [of(e.JobRerun, "x", TOLD, "18", run=2, command_id="c"), dispatched("x", 2, run=2)],
            [success("x", 2, 19, run=2)],
        ],
        ["expected the deadline 1023, but found 0, in JobRerun"],
    ),
    "an identity that is lost at once": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [success("x", 1, 17), of(e.JobForgotten, "x", OFFER), submitted("x", 18), dispatched("x", 1)],
            [success("x", 1, 19)],
        ],
        ["expected the cause TIMER, but found OFFER", "expected nothing before 864001017, but found it at 1017"],
    ),
    "a job that nobody kills": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [of(e.JobStopRequested, "x", LAPSE, **WISH)],
            [failed(17), of(e.JobCancelled, "x", TOLD, "17")],
        ],
        ["expected the cause COMMAND or TIMER, but found LAPSE", "expected somebody's wish to stop it, but found the"],
    ),
    "a job that time kills, as if somebody had wished it": (
        [
            [submitted("x", 16), dispatched("x", 1)],
            [of(e.JobStopRequested, "x", TIMER, "1017", **WISH)],
            [failed(17), of(e.JobCancelled, "x", TOLD, "17")],
        ],
        ["expected somebody's wish to stop it, but found the cause TIMER"],
    ),
    "a deadline because of a command": (
        [
            [submitted("x", 16, deadline_ms=HOUR_MS), dispatched("x", 1)],
            [of(e.JobStopRequested, "x", TOLD, "17", **DEADLINE)],
            [failed(18), of(e.JobFailed, "x", TOLD, "18", reason="DEADLINE")],
        ],
        ["expected nothing before 3601016, but found", "expected a deadline to stop it, but found the cause COMMAND"],
    ),
    "a hold that nobody wished for": (
        [[submitted("x", 16), of(e.JobHeld, "x", LAPSE), of(e.JobCancelled, "x", TOLD, "17")]],
        ["expected somebody's wish to hold it, but found the cause LAPSE, in JobHeld"],
    ),
    "a release that nobody wished for": (
        [[submitted("x", 16, held=True), of(e.JobReleased, "x", TIMER, "1016"), of(e.JobCancelled, "x", TOLD, "17")]],
        ["expected the cause COMMAND, but found TIMER"],
    ),
    "a run that nobody wished for": (
        [[of(e.JobRerun, GOOD, TIMER, "1", run=2), of(e.JobCancelled, GOOD, TOLD, "16", run=2)]],
        ["expected the cause COMMAND, but found TIMER"],
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


def test_what_only_a_timer_may_do_is_told_apart():
    report = behind([submitted("x", 16, delay_ms=HOUR_MS)], [of(e.JobQueued, "x", LAPSE), dispatched("x", 1)])
    assert report.kinds[Kind.TIMER] == 2
    report = behind([of(e.JobRerun, GOOD, TIMER, "1", run=2)])
    assert report.kinds[Kind.CAUSE] == 1
