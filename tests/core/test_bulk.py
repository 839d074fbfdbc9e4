"""Bulk requests: the same for many jobs of a queue, a slice in each batch."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.decide import bulk as bulk_module
from ftjm.core.decide.decision import Rejected
from ftjm.core.decide.processes import next_slice
from ftjm.core.evolve.handlers import evolve
from ftjm.core.limits import COMMAND_ID_MEMORY_MS
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import QUEUE_LEVEL
from ftjm.core.state.model import STATE_VERSION, JobState
from ftjm.core.state.processes import Bulk, BulkAction, JobFilter, ProcessKind
from ftjm.core.state.tables import BULK_RESULTS
from tests.core.story import (
    NOW,
    POLICY,
    Story,
    cancelled,
    command,
    dispatched,
    failed,
    given,
    held,
    like,
    submitted,
    succeeded,
)

FINAL = e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=STATE_VERSION)


def bulk(action: BulkAction, command_id: str = "b1", priority: int = 0, reason: str = "", **jobs: Any) -> c.Command:
    return command(
        c.BulkJobs,
        job_id="",
        action=action,
        filter=JobFilter(**jobs),
        command_id=command_id,
        priority=priority,
        reason=reason,
        actor="ann",
    )


def stop(name: str = "b1") -> c.Command:
    return command(c.StopBulk, job_id="", bulk=name)


def advance(story: Story, rows: int = 1_000) -> list[e.Event]:
    """Do the next slice of the only request. Returns its events."""
    ((kind, name),) = story.state.processes()
    events = next_slice(story.state, kind, name, rows, story.now, POLICY)
    for event in events:
        event.at = story.now
        evolve(story.state, event)
    story.written()
    return events


def changed(story: Story) -> list[tuple[type[e.Event], str]]:
    """The jobs that the next slice changes."""
    *events, last = advance(story)
    assert isinstance(last, e.BulkAdvanced)
    return [(type(event), event.job_id) for event in events]


def result(story: Story, name: str = "b1") -> Bulk:
    raw = story.state.rows.get(BULK_RESULTS.prefix + f"q/{name}".encode())
    assert raw is not None
    return BULK_RESULTS.decode(raw)


def of_each_state() -> Story:
    """Jobs in each state that people meet, named by it."""
    return given(
        FINAL,
        submitted(job_id="held"),
        held(job_id="held"),
        submitted(job_id="ready"),
        submitted(job_id="scheduled", due_at=NOW + 9_000),
        submitted(job_id="running"),
        dispatched(job_id="running"),
        submitted(job_id="succeeded"),
        dispatched(job_id="succeeded"),
        succeeded(job_id="succeeded"),
        submitted(job_id="failed"),
        failed(job_id="failed"),
        submitted(job_id="cancelled"),
        cancelled(job_id="cancelled"),
    )


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (
            BulkAction.CANCEL,
            {
                (e.JobCancelled, "held"),
                (e.JobCancelled, "ready"),
                (e.JobCancelled, "scheduled"),
                (e.JobStopRequested, "running"),
            },
        ),
        (BulkAction.HOLD, {(e.JobHeld, "ready"), (e.JobHeld, "scheduled")}),
        (BulkAction.RELEASE, {(e.JobReleased, "held")}),
        (BulkAction.RERUN, {(e.JobRerun, "failed"), (e.JobRerun, "cancelled")}),
        (
            BulkAction.PURGE,
            {(e.JobForgotten, "succeeded"), (e.JobForgotten, "failed"), (e.JobForgotten, "cancelled")},
        ),
        (
            BulkAction.PRIORITIZE,
            {(e.JobPrioritized, name) for name in ("held", "ready", "scheduled", "running")},
        ),
    ],
)
def test_without_states_an_action_is_about_all_in_which_it_makes_sense(
    action: BulkAction, expected: set[tuple[type[e.Event], str]]
):
    story = of_each_state().when(bulk(action, priority=90, reason="enough"))
    story.then(like(e.BulkBegun, queue="q", job_id="", bulk="b1", action=action, reason="enough", jobs=7))
    assert set(changed(story)) == expected
    assert story.state.processes() == []
    found = result(story)
    assert (found.looked, found.changed, found.refused, found.stopped) == (7, len(expected), 0, False)
    assert (found.queue, found.jobs, found.ended_at) == ("q", 7, NOW)


def test_a_job_of_a_state_that_is_named_and_does_not_allow_the_action_is_counted_as_refused():
    story = of_each_state().when(bulk(BulkAction.RERUN, states=["SUCCEEDED", "READY"]))
    assert changed(story) == [(e.JobRerun, "succeeded")]
    assert result(story).refused == 1
    story = of_each_state().when(bulk(BulkAction.PURGE, states=["READY", "FAILED"]))
    assert changed(story) == [(e.JobForgotten, "failed")]
    assert result(story).refused == 1


def test_labels_and_times_narrow_a_request():
    story = given(
        FINAL,
        submitted(job_id="a", labels={"app": "x", "team": "t"}, at=NOW),
        submitted(job_id="b", labels={"app": "y"}, at=NOW),
        submitted(job_id="c", labels={"app": "x"}, at=NOW + 10),
        submitted(job_id="d", at=NOW + 20),
    )
    for jobs, expected in (
        ({"labels": {"app": "x"}}, ["a", "c"]),
        ({"labels": {"app": "x", "team": "t"}}, ["a"]),
        ({"submitted_before": NOW + 10}, ["a", "b"]),
        ({"submitted_after": NOW + 10}, ["c", "d"]),
        ({"submitted_after": NOW + 10, "submitted_before": NOW + 20}, ["c"]),
        ({}, ["a", "b", "c", "d"]),
    ):
        name = f"b{len(expected)}{len(str(jobs))}"
        story.when(bulk(BulkAction.PRIORITIZE, name, priority=7, **jobs))
        assert [job_id for _, job_id in changed(story)] == expected


def test_other_queues_and_jobs_that_come_later_are_left_alone():
    other = submitted(job_id="b")
    other.queue = "q2"
    story = given(FINAL, submitted(), other).when(bulk(BulkAction.CANCEL))
    story.evolve(submitted(job_id="later")).written()
    assert changed(story) == [(e.JobCancelled, "a")]


def test_a_job_that_begins_another_run_meanwhile_is_left_alone():
    story = given(FINAL, submitted(), failed()).when(bulk(BulkAction.CANCEL, states=["READY", "FAILED"]))
    story.evolve(e.JobRerun(queue="q", job_id="a", run=2, at=NOW, command_id="x")).written()
    assert changed(story) == []


def test_a_new_priority_gives_a_waiting_job_another_place_at_once():
    story = given(FINAL, submitted(job_id="a", at=NOW), submitted(job_id="b", at=NOW + 1))
    story.when(command(c.PrioritizeJob, job_id="b", priority=51)).then(like(e.JobPrioritized, priority=51))
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["b", "a"]
    story.evolve(dispatched(job_id="a")).when(command(c.PrioritizeJob, job_id="a", priority=3))
    assert story.job("a").priority == 3
    story.evolve(succeeded(job_id="a")).when(command(c.PrioritizeJob, job_id="a", priority=4)).refused("WRONG_STATE")
    story.when(command(c.PrioritizeJob, job_id="none", priority=4)).refused("UNKNOWN_JOB")
    story.when(command(c.PrioritizeJob, job_id="b", priority=101)).refused("INVALID", "priority")


# ---- slices


def test_a_slice_is_bounded_in_what_it_changes_and_looks_at(monkeypatch: pytest.MonkeyPatch):
    story = given(FINAL, *(submitted(job_id=f"j{number}") for number in range(9)))
    story.when(bulk(BulkAction.CANCEL))
    assert len(advance(story, rows=4 * bulk_module.ROWS_OF_A_CHANGE)) == 4 + 1
    monkeypatch.setattr(bulk_module, "CHANGED_MAX", 2)
    assert [event.job_id for event in advance(story)] == ["j4", "j5", ""]
    monkeypatch.setattr(bulk_module, "LOOKED_MAX", 1)
    assert [event.job_id for event in advance(story)] == ["j6", ""]
    monkeypatch.undo()
    assert [event.job_id for event in advance(story)] == ["j7", "j8", ""]
    assert (result(story).looked, result(story).changed) == (9, 9)


def test_a_request_that_is_stopped_changes_no_further_job(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bulk_module, "CHANGED_MAX", 1)
    story = given(FINAL, submitted(), submitted(job_id="b")).when(bulk(BulkAction.CANCEL))
    assert changed(story) == [(e.JobCancelled, "a")]
    story.when(stop()).then(like(e.BulkStopped, bulk="b1"))
    assert story.state.processes() == []
    assert (result(story).changed, result(story).stopped) == (1, True)
    story.when(stop()).refused("UNKNOWN_BULK", "b1")


def test_several_requests_are_under_way_at_a_time():
    story = given(FINAL, submitted()).when(bulk(BulkAction.HOLD)).when(bulk(BulkAction.CANCEL, "b2"))
    assert story.state.processes() == [(ProcessKind.BULK, "q/b1"), (ProcessKind.BULK, "q/b2")]


# ---- the request


def test_a_repeated_request_is_refused_for_a_day_and_its_result_is_kept_as_long():
    story = given(FINAL, submitted()).when(bulk(BulkAction.CANCEL))
    story.when(bulk(BulkAction.CANCEL)).refused("REPEATED", "b1")
    story.when(bulk(BulkAction.HOLD)).refused("IDENTITY_TAKEN", "cancel")
    advance(story)
    story.when(bulk(BulkAction.CANCEL)).refused("REPEATED")
    story.when(bulk(BulkAction.CANCEL, states=["READY"])).refused("IDENTITY_TAKEN")
    assert result(story).action is BulkAction.CANCEL
    story.when_due(NOW + COMMAND_ID_MEMORY_MS)
    assert not list(story.state.rows.scan(BULK_RESULTS.prefix, BULK_RESULTS.end))
    story.when(bulk(BulkAction.CANCEL)).then(like(e.BulkBegun))


def test_a_request_needs_a_cluster_that_knows_it():
    for told in (bulk(BulkAction.CANCEL), stop(), command(c.PrioritizeJob, priority=1)):
        given(submitted()).when(told).refused("NOT_YET_SUPPORTED")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (bulk(BulkAction.CANCEL, command_id=""), "command_id"),
        (bulk(BulkAction.CANCEL, states=["ready"]), "filter.states"),
        (bulk(BulkAction.CANCEL, submitted_before=-1), "submitted_before"),
        (bulk(BulkAction.PRIORITIZE, priority=101), "priority"),
        (stop("no name"), "bulk"),
    ],
)
def test_a_wrong_request_is_refused(wrong: c.Command, words: str):
    story = given(FINAL).when(wrong)
    assert isinstance(story.decided, Rejected)
    story.refused("INVALID", words)


def test_a_cancelled_job_of_a_request_is_as_any_other():
    story = given(FINAL, submitted(awaits=True, reply="0/client/7")).when(bulk(BulkAction.CANCEL, reason="enough"))
    advance(story)
    story.job_is(JobState.CANCELLED, reason="enough", waiters=())


def test_a_request_that_is_under_way_is_not_begun_again_when_its_name_is_forgotten():
    story = given(FINAL, submitted()).when(bulk(BulkAction.CANCEL))
    story.when_due(NOW + COMMAND_ID_MEMORY_MS)
    story.when(bulk(BulkAction.CANCEL)).refused("REPEATED")
    advance(story)
    assert not list(story.state.rows.scan(BULK_RESULTS.prefix, BULK_RESULTS.end)), "nothing would delete it"
