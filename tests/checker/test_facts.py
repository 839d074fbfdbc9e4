"""The demo's comparison of the API with the log: whatever they differ in is told."""

from __future__ import annotations

import pytest

from ftjm.checker import Entry
from ftjm.core import events as e
from ftjm.demo import facts
from ftjm.demo.web import Place

LOGGED = [Place(0, 0), Place(0, 1), Place(1, 0), Place(0, 4)]
NAMES = [("q", "a"), ("q", "b")]


def released(offset: int) -> Entry:
    event = e.JobReleased(at=1, queue="q", job_id="a", run=1, cause=e.Cause.COMMAND, cause_ref="0")
    return Entry(0, offset, event, 1)


def closed(offset: int) -> Entry:
    rest = {"batch_no": 1, "now": 0, "next_command": 0, "owner_epoch": 1, "outbox_sent": 0, "events": 1}
    return Entry(0, offset, e.BatchClosed(**rest, owner="a", state_version=1, state_hash=b""), 1)


def test_the_feed_tells_of_all_but_the_ends_of_batches():
    assert facts.told([released(0), closed(1), released(3)]) == [Place(0, 0), Place(0, 3)]


def test_a_feed_may_mix_partitions_and_nothing_else():
    assert list(facts.verify_feed([LOGGED[2], *LOGGED[:2], LOGGED[3]], LOGGED)) == []


@pytest.mark.parametrize(
    ("fed", "why"),
    [
        (LOGGED[:3], "missed 1: events[0] at 4"),
        ([*LOGGED, Place(0, 4)], "told twice of 1: events[0] at 4"),
        ([*LOGGED, Place(1, 9)], "invented 1: events[1] at 9"),
        ([LOGGED[1], LOGGED[0], *LOGGED[2:]], "events[0] at 0 came late"),
    ],
)
def test_what_is_wrong_with_a_feed_is_told(fed, why):
    [text] = facts.verify_feed(fed, LOGGED)
    assert why in text


@pytest.mark.parametrize(
    ("states", "listed", "why"),
    [
        ({"SUCCEEDED": 2}, ["q/b", "q/a"], []),
        ({"SUCCEEDED": 1, "FAILED": 1}, ["q/a", "q/b"], ["its queues hold {'SUCCEEDED': 1, 'FAILED': 1}"]),
        ({"SUCCEEDED": 2}, ["q/a", "q/a", "q/b"], ["1 came twice"]),
        ({"SUCCEEDED": 2}, ["q/a"], ["1 differ: ['q/b']"]),
        ({"SUCCEEDED": 2}, ["q/a", "q/b", "q/c"], ["1 differ: ['q/c']"]),
    ],
)
def test_counts_and_pages_are_those_of_the_log(states, listed, why):
    found = list(facts.verify_jobs(states, listed, NAMES))
    assert len(found) == len(why)
    assert all(part in text for part, text in zip(why, found, strict=True))


def test_a_result_that_somebody_knows_otherwise_is_told():
    wanted = {name: {"lines": number} for number, name in enumerate(NAMES)}
    assert list(facts.verify_results(wanted, {"the log": wanted, "the API": wanted})) == []
    [text] = facts.verify_results(wanted, {"the log": wanted, "the API": {NAMES[0]: {"lines": 0}}})
    assert "the API: expected {'lines': 1} as the result of q/b, but found None; 1 results differ" in text
