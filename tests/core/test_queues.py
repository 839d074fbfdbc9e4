"""Queues that are paused and resumed."""

from __future__ import annotations

import pytest

from ftjm.core.placement import Offer, match
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import PAUSE_LEVEL
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.queues import QueueStatus
from tests.core.story import NOW, Story, command, dispatched, given, like, report, submitted

FINAL = e.UpgradeFinalized(level=PAUSE_LEVEL, state_version=STATE_VERSION)


def pause(reason: str = "", **fields: object) -> c.Command:
    return command(c.PauseQueue, job_id="", reason=reason, **fields)


def resume() -> c.Command:
    return command(c.ResumeQueue, job_id="")


def paused(queue: str = "q", **fields: object) -> e.QueuePaused:
    return e.QueuePaused(queue=queue, **{"at": NOW, **fields})  # type: ignore[arg-type]


def started(story: Story, *queues: str) -> list[str]:
    """The jobs that a worker with nine slots gets."""
    offer = Offer("s9", "w9", 3, 5_000, queues or ("q",), number=1, slots=9)
    return [event.job_id for event in match(story.state, [offer], 100, NOW).dispatches]


def test_none_of_a_paused_queues_jobs_starts_until_it_is_resumed():
    story = given(FINAL, submitted())
    story.when(pause("disk is full")).then(like(e.QueuePaused, queue="q", job_id="", reason="disk is full"))
    assert started(story) == []
    story.when(resume()).then(like(e.QueueResumed, queue="q"))
    assert started(story) == ["a"]
    assert story.state.queue_status("q") is None


def test_other_queues_of_the_same_worker_go_on():
    other = submitted(job_id="b")
    other.queue = "other"
    assert started(given(FINAL, submitted(), other, paused()), "q", "other") == ["b"]


def test_an_attempt_that_was_sent_before_ends_as_ever():
    story = given(FINAL, submitted(), dispatched(), paused())
    story.when(report(c.CompleteAttempt)).then(like(e.AttemptSucceeded))


def test_a_queue_without_jobs_is_paused_for_those_that_come():
    story = given(FINAL, paused()).written()
    assert started(story.evolve(submitted())) == []


def test_a_queue_that_is_paused_again_has_the_new_reason_and_the_first_time():
    story = given(FINAL, paused(at=5, reason="disk", actor="ann"), paused(at=9, reason="network", actor="bob"))
    assert story.state.queue_status("q") == QueueStatus(5, "network", "bob")


def test_a_queue_that_is_not_paused_may_be_resumed():
    story = given(FINAL, submitted())
    story.when(resume()).then(like(e.QueueResumed, queue="q"))
    assert story.written().state.rows.get(b"gq") is None
    assert started(story) == ["a"]


def test_a_pause_outlives_the_batch_and_its_end_does_too():
    story = given(FINAL, submitted(), paused(), paused("empty")).written()
    assert list(story.state.paused_queues()) == ["empty", "q"]
    assert started(story) == []
    assert started(story.evolve(e.QueueResumed(queue="q")).written()) == ["a"]


def test_who_follows_counts_learns_of_a_pause():
    story = given(FINAL, submitted()).written()
    assert story.state.changed_queues() is None
    assert story.evolve(paused()).written().state.changed_queues() == {"q"}
    assert story.state.changed_queues() == set()
    assert story.evolve(e.QueueResumed(queue="q")).written().state.changed_queues() == {"q"}


def test_a_pause_needs_a_cluster_that_knows_it():
    for told in (pause(), resume()):
        given().when(told).refused("NOT_YET_SUPPORTED")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (c.PauseQueue(queue="no name"), "BAD_NAME"),
        (c.PauseQueue(queue="q", job_id="a"), "INVALID"),
        (c.PauseQueue(queue="q", reason="x" * 5_000), "INVALID"),
        (c.ResumeQueue(queue="q", job_id="a"), "INVALID"),
    ],
)
def test_a_wrong_request_is_refused(wrong: c.QueueCommand, code: str):
    given(FINAL).when(wrong).refused(code)
