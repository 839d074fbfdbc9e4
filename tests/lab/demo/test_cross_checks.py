"""The demo compares the API's answers with the log, and reports every difference."""

from __future__ import annotations

import pytest

from ftjm.core.records import events as e
from ftjm.lab.checker import LogEntry
from ftjm.lab.demo import cross_checks
from ftjm.lab.demo.api_client import EventPosition

LOGGED = [EventPosition(0, 0), EventPosition(0, 1), EventPosition(1, 0), EventPosition(0, 4)]
NAMES = [("q", "a"), ("q", "b")]


def released(offset: int) -> LogEntry:
    event = e.JobReleased(at=1, queue="q", job_id="a", run=1, cause=e.Cause.COMMAND, cause_ref="0")
    return LogEntry(0, offset, event, 1)


def closed(offset: int) -> LogEntry:
    rest = {"batch_no": 1, "now": 0, "next_command": 0, "owner_epoch": 1, "outbox_sent": 0, "events": 1}
    return LogEntry(0, offset, e.BatchClosed(**rest, owner="a", state_version=1, state_hash=b""), 1)


def test_the_feed_has_every_event_except_the_ends_of_batches():
    assert cross_checks.logged_positions([released(0), closed(1), released(3)]) == [
        EventPosition(0, 0),
        EventPosition(0, 3),
    ]


def test_a_feed_may_mix_partitions():
    assert list(cross_checks.verify_feed([LOGGED[2], *LOGGED[:2], LOGGED[3]], LOGGED)) == []


@pytest.mark.parametrize(
    ("fed", "problem"),
    [
        (LOGGED[:3], "missed 1: events[0] at 4"),
        ([*LOGGED, EventPosition(0, 4)], "repeated 1: events[0] at 4"),
        ([*LOGGED, EventPosition(1, 9)], "invented 1: events[1] at 9"),
        ([LOGGED[1], LOGGED[0], *LOGGED[2:]], "events[0] at 0 came late"),
    ],
)
def test_a_wrong_feed_is_reported(fed, problem):
    [text] = cross_checks.verify_feed(fed, LOGGED)
    assert problem in text


@pytest.mark.parametrize(
    ("states", "listed", "problem"),
    [
        ({"SUCCEEDED": 2}, ["q/b", "q/a"], []),
        ({"SUCCEEDED": 1, "FAILED": 1}, ["q/a", "q/b"], ["its queues hold {'SUCCEEDED': 1, 'FAILED': 1}"]),
        ({"SUCCEEDED": 2}, ["q/a", "q/a", "q/b"], ["1 came twice"]),
        ({"SUCCEEDED": 2}, ["q/a"], ["1 differ: ['q/b']"]),
        ({"SUCCEEDED": 2}, ["q/a", "q/b", "q/c"], ["1 differ: ['q/c']"]),
    ],
)
def test_counts_and_pages_must_agree_with_the_log(states, listed, problem):
    found = list(cross_checks.verify_jobs(states, listed, NAMES))
    assert len(found) == len(problem)
    assert all(part in text for part, text in zip(problem, found, strict=True))


def test_a_result_that_differs_from_the_log_is_reported():
    wanted = {name: {"lines": number} for number, name in enumerate(NAMES)}
    assert list(cross_checks.verify_results(wanted, {"the log": wanted, "the API": wanted})) == []
    [text] = cross_checks.verify_results(wanted, {"the log": wanted, "the API": {NAMES[0]: {"lines": 0}}})
    assert "the API: expected {'lines': 1} as the result of q/b, but found None; 1 results differ" in text
