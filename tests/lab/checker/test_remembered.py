"""A partition remembers two kinds of names for a day: ids of commands that were carried out, and lost sessions."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records import events as e
from ftjm.lab.checker import Verdict, ViolationKind
from tests.lab.checker.test_checker import (
    GOOD,
    Batch,
    a_story,
    by,
    closed,
    dispatched,
    judged,
    of,
    submitted,
    succeeded,
)

COMMAND, TIMER, LAPSE = e.Cause.COMMAND, e.Cause.TIMER, e.Cause.LAPSE
DAY_MS = 86_400_000
LOST = by(LAPSE, e.WorkerLost(session="s9"))


def later(ms: int, *batches: Batch) -> Verdict:
    """The good story with a rerun by the command id `twice`, and `batches` that follow `ms` after it."""
    rerun = [of(e.JobRerun, GOOD, COMMAND, "16", run=2, command_id="twice"), dispatched(GOOD, 2, run=2)]
    story = [*a_story(), rerun, [succeeded(GOOD, 2, 17, run=2), LOST], *batches]
    found = closed(story)
    for batch in found[len(a_story()) + 2 :]:
        for event in batch:
            if isinstance(event, e.BatchClosed):
                event.now += ms
            else:
                event.at += ms
    return judged(found)


def again(command: int, command_id: str) -> list[Batch]:
    return [
        [of(e.JobRerun, GOOD, COMMAND, f"{command}", run=3, command_id=command_id), dispatched(GOOD, 3, run=3)],
        [succeeded(GOOD, 3, command + 1, run=3)],
    ]


def forgotten(cause_ref: int) -> e.Event:
    return by(TIMER, e.CommandIdForgotten(command_id="twice", cause_ref=str(cause_ref)))


def session_forgotten(cause_ref: int) -> e.Event:
    return by(TIMER, e.WorkerForgotten(session="s9", cause_ref=str(cause_ref)))


BOTH = [forgotten(1_016 + DAY_MS), session_forgotten(1_017 + DAY_MS)]
"""When they should be."""
OTHERS = [by(TIMER, e.WorkerForgotten(session="s2", cause_ref=str(1_003 + DAY_MS)))]
"""And what is of the good story itself."""
RERUN: list[e.Event] = [by(TIMER, e.CommandIdForgotten(command_id="again", cause_ref=str(1_011 + DAY_MS)))]


def test_a_command_id_may_not_occur_again_until_it_is_forgotten():
    assert later(0, *again(18, "another")).violations == []
    assert later(DAY_MS, [*OTHERS, *RERUN, *BOTH], *again(18, "twice")).violations == []


FAULTS: dict[str, tuple[int, list[Batch], ViolationKind, str]] = {
    "a command id that is carried out twice": (
        0,
        again(18, "twice"),
        ViolationKind.DOUBLED,
        "q/good: expected the command id twice once, but found it again, in JobRerun",
    ),
    "a command id that is forgotten too early": (
        0,
        [[forgotten(1_016 + DAY_MS)], *again(18, "twice")],
        ViolationKind.TIMER,
        f"expected nothing before {1_016 + DAY_MS}, but found it at 1018",
    ),
    "an unknown command id that is forgotten": (
        0,
        [[by(TIMER, e.CommandIdForgotten(command_id="x", cause_ref="1"))]],
        ViolationKind.TIMER,
        "expected the command id x to be forgotten never, but found a timer for 1",
    ),
    "a command id that is forgotten by another timer": (
        0,
        [[forgotten(1)]],
        ViolationKind.TIMER,
        f"expected the command id twice to be forgotten at {1_016 + DAY_MS}, but found a timer for 1",
    ),
    "a command id that is never forgotten": (
        DAY_MS,
        [[*OTHERS, *RERUN, BOTH[1]]],
        ViolationKind.TIMER,
        f"expected the command id twice to be forgotten at {1_016 + DAY_MS}, but found it left behind",
    ),
    "a session that is lost twice": (
        0,
        [[by(LAPSE, e.WorkerLost(session="s9"))]],
        ViolationKind.DOUBLED,
        "expected the loss of session s9 once, but found it again",
    ),
    "a session that is forgotten at once": (
        0,
        [[session_forgotten(1_017 + DAY_MS)]],
        ViolationKind.TIMER,
        f"expected nothing before {1_017 + DAY_MS}, but found it at 1018",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: Any) -> None:
    ms, batches, kind, text = FAULTS[fault]
    report = later(ms, *batches)
    assert report.kinds == {kind: 1}, report.violations
    assert text in report.violations[0]


def with_an_attempt_that_outlives_its_session(*batches: Batch) -> Verdict:
    """The good story, an attempt of x that runs on when its session is lost at 1,017, and `batches` a day later."""
    before = [*a_story(), [submitted("x", 16), dispatched("x", 1, "s9")], [LOST]]
    found = closed([*before, *batches])
    for batch in found[len(before) :]:
        for event in batch:
            if isinstance(event, e.BatchClosed):
                event.now += DAY_MS
            else:
                event.at += DAY_MS
    return judged(found)


def test_a_lost_session_is_remembered_while_it_holds_attempts_and_then_forgotten():
    due = [*OTHERS, *RERUN]
    passed = [due, [succeeded("x", 1, 17, "s9")], [session_forgotten(1_017 + DAY_MS)]]
    assert with_an_attempt_that_outlives_its_session(*passed).violations == []
    report = with_an_attempt_that_outlives_its_session(
        [*due, session_forgotten(1_017 + DAY_MS)], [succeeded("x", 1, 17, "s9")]
    )
    assert "to be remembered while it holds attempts, but found it forgotten" in report.violations[0]
    report = with_an_attempt_that_outlives_its_session(
        *passed[:2], [of(e.SubmissionRepeated, "x", COMMAND, "18")], [of(e.SubmissionRepeated, "x", COMMAND, "19")]
    )
    assert report.kinds == {ViolationKind.TIMER: 1}, report.violations
    assert f"session s9 to be forgotten at {1_017 + DAY_MS}, but found it left behind" in report.violations[0]


def test_no_timer_ends_an_attempt():
    retry_at = 1_018 + DAY_MS
    facts: dict[str, Any] = {"attempt": 1, "session": "s9", "reason": "LAPSED", "retry_at": retry_at}
    lost = of(e.AttemptLost, "x", TIMER, str(1_017 + DAY_MS), **facts)
    report = with_an_attempt_that_outlives_its_session(
        [*OTHERS, *RERUN, lost, session_forgotten(1_017 + DAY_MS), dispatched("x", 2)], [succeeded("x", 2, 17)]
    )
    assert "expected the cause COMMAND or LAPSE, but found TIMER" in report.violations[0]
