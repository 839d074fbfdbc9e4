"""What a partition remembers for a day: wishes that were carried out, and sessions that were given up."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.checker import Kind, Report
from ftjm.core import events as e
from tests.checker.test_checker import GOOD, Batch, a_story, by, closed, dispatched, judged, of, succeeded

TOLD, TIMER, LAPSE = e.Cause.COMMAND, e.Cause.TIMER, e.Cause.LAPSE
DAY_MS = 86_400_000
LOST = by(LAPSE, e.WorkerLost(session="s9"))


def later(ms: int, *batches: Batch) -> Report:
    """The good story with a wish `twice` for a second run, and `batches` so long after it."""
    wished = [of(e.JobRerun, GOOD, TOLD, "16", run=2, command_id="twice"), dispatched(GOOD, 2, run=2)]
    story = [*a_story(), wished, [succeeded(GOOD, 2, 17, run=2), LOST], *batches]
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
        [of(e.JobRerun, GOOD, TOLD, f"{command}", run=3, command_id=command_id), dispatched(GOOD, 3, run=3)],
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


def test_wishes_are_told_apart_until_they_are_forgotten():
    assert later(0, *again(18, "another")).violations == []
    assert later(DAY_MS, [*OTHERS, *RERUN, *BOTH], *again(18, "twice")).violations == []


FAULTS: dict[str, tuple[int, list[Batch], Kind, str]] = {
    "a wish that is carried out twice": (
        0,
        again(18, "twice"),
        Kind.DOUBLED,
        "q/good: expected the wish twice once, but found it again, in JobRerun",
    ),
    "a wish that is forgotten too early": (
        0,
        [[forgotten(1_016 + DAY_MS)], *again(18, "twice")],
        Kind.TIMER,
        f"expected nothing before {1_016 + DAY_MS}, but found it at 1018",
    ),
    "a wish that nobody had": (
        0,
        [[by(TIMER, e.CommandIdForgotten(command_id="x", cause_ref="1"))]],
        Kind.TIMER,
        "expected the wish x to be forgotten never, but found a timer for 1",
    ),
    "a wish that is forgotten for another time": (
        0,
        [[forgotten(1)]],
        Kind.TIMER,
        f"expected the wish twice to be forgotten at {1_016 + DAY_MS}, but found a timer for 1",
    ),
    "a wish that is never forgotten": (
        DAY_MS,
        [[*OTHERS, *RERUN, BOTH[1]]],
        Kind.TIMER,
        f"expected the wish twice to be forgotten at {1_016 + DAY_MS}, but found it left behind",
    ),
    "a session that is given up twice": (
        0,
        [[by(LAPSE, e.WorkerLost(session="s9"))]],
        Kind.DOUBLED,
        "expected the loss of session s9 once, but found it again",
    ),
    "a session that is forgotten at once": (
        0,
        [[session_forgotten(1_017 + DAY_MS)]],
        Kind.TIMER,
        f"expected nothing before {1_017 + DAY_MS}, but found it at 1018",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: Any) -> None:
    ms, batches, kind, text = FAULTS[fault]
    report = later(ms, *batches)
    assert report.kinds == {kind: 1}, report.violations
    assert text in report.violations[0]
