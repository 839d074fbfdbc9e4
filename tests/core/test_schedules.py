"""Schedules that are declared, deleted, paused, resumed and triggered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core.decide.decision import Policy
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec, JobState
from ftjm.core.state.outbox import ReplyMessage
from ftjm.core.state.schedules import FiredBy, Overlap
from tests.core.schedule_story import (
    FINAL,
    FIRST,
    MINUTE,
    apply,
    declared,
    fired,
    let_pass,
    order,
    other_zones,
    row,
    schedule,
)
from tests.core.story import (
    NOW,
    POLICY,
    REPLY_TO,
    cancelled,
    dispatched,
    given,
    like,
    rerun,
    submit,
    submitted,
    succeeded,
)

ZONES = "2026f"


# ---- declarations


def test_a_schedule_is_declared_with_its_author_and_its_next_instant():
    story = given(FINAL).when(apply(labels={"app": "etl"}))
    story.then(
        like(
            e.ScheduleApplied,
            queue="q",
            name="n",
            revision=1,
            spec=schedule(),
            labels={"app": "etl"},
            next_at=FIRST,
            interval_start=FIRST - MINUTE,
            decided_to=NOW,
            tzdata=ZONES,
        )
    )
    found = row(story)
    assert (found.revision, found.applied_at, found.next_at, found.timer_at) == (1, NOW, FIRST, FIRST)


def test_cron_is_reckoned_in_its_time_zone():
    story = declared(cron="30 2 * * *", time_zone="Europe/Berlin")
    assert row(story).next_at == (60 + 30) * MINUTE  # 02:30 of a winter that is an hour ahead
    assert row(story).interval_start == (60 + 30 - 24 * 60) * MINUTE


def test_a_change_has_a_higher_revision_and_goes_on_where_it_was():
    story = declared().when(apply(expected=1, starting_deadline_ms=9_000))
    story.then(like(e.ScheduleApplied, revision=2, next_at=FIRST, decided_to=NOW))
    assert row(story).revision == 2


def test_the_same_declaration_again_changes_nothing_whatever_revision_its_sender_expects():
    story = declared()
    for expected in (0, 1, 77, c.ANY_REVISION):
        story.when(apply(expected=expected)).then(like(e.ScheduleUnchanged, queue="q", name="n", revision=1))


def test_a_change_of_what_was_changed_meanwhile_is_a_conflict():
    story = given(FINAL).when(apply(expected=0)).when(apply(expected=1, jitter_ms=1))
    for expected in (0, 1):
        story.when(apply(expected=expected)).refused("CONFLICT", "schedule", "revision 2", "ftjm plan")
        story.when(order(c.DeleteSchedule, expected_revision=expected)).refused("CONFLICT", "revision 2")
    given(FINAL).when(apply(expected=4)).refused("CONFLICT", "revision 4", "found none")


def test_a_schedule_is_deleted_once_and_its_revision_never_comes_back():
    story = declared().when(order(c.DeleteSchedule, expected_revision=1)).then(like(e.ScheduleDeleted, name="n"))
    assert story.state.schedule("q/n") is None
    story.has_timers()
    story.when(order(c.DeleteSchedule)).then(like(e.ScheduleUnchanged, revision=0))
    story.when(apply(expected=0)).then(like(e.ScheduleApplied, revision=2))


def test_the_jobs_of_a_deleted_schedule_go_on_and_one_that_comes_in_its_place_is_another():
    story = declared(overlap=Overlap.FORBID).when_due(FIRST)
    (job_id,) = fired(story)
    story.when(order(c.DeleteSchedule)).evolve(dispatched(job_id=job_id)).written()
    story.when(apply(overlap=Overlap.QUEUE)).evolve(succeeded(job_id=job_id)).written()
    assert story.job(job_id).state is JobState.SUCCEEDED
    assert row(story).last_job == ""


def test_a_schedule_needs_a_cluster_that_knows_it():
    for kind in (c.DeleteSchedule, c.PauseSchedule, c.ResumeSchedule, c.TriggerSchedule):
        given().when(order(kind)).refused("NOT_YET_SUPPORTED")
    given().when(apply()).refused("NOT_YET_SUPPORTED")


def test_what_falls_before_the_declaration_is_not_missed():
    story = declared(start_at=1_000, catch_up="all")
    assert row(story).next_at == 1_021_000  # every minute from the first second on


def test_a_changed_recurrence_begins_at_the_time_of_its_change():
    story = declared(catch_up="all")
    story.when(apply(catch_up="all", every_ms=1_000), at=NOW + 10 * MINUTE)
    story.then(like(e.ScheduleApplied, next_at=NOW + 10 * MINUTE + 1_000, decided_to=NOW + 10 * MINUTE))


def test_a_change_beside_the_recurrence_leaves_what_is_to_be_caught_up():
    story = declared(catch_up="all").when(apply(catch_up="all", jitter_ms=5_000), at=NOW + 10 * MINUTE)
    story.then(like(e.ScheduleApplied, next_at=FIRST, decided_to=NOW))
    assert len(let_pass(story, NOW + 10 * MINUTE)) == 10


def test_a_schedule_that_is_over_and_gets_a_later_end_goes_on_from_then():
    story = declared(end_at=NOW + MINUTE, catch_up="all")
    assert let_pass(story, FIRST) == [FIRST]
    assert (row(story).next_at, row(story).timer_at) == (0, 0)
    late = NOW + 60 * MINUTE
    story.when(apply(catch_up="all"), at=late).then(like(e.ScheduleApplied, next_at=late + 20_000))


def test_a_schedule_may_be_declared_whose_end_has_passed():
    story = given(FINAL).when(apply(end_at=FIRST), at=FIRST + 1).then(like(e.ScheduleApplied, next_at=0))
    story.has_timers()


LONG = "n" * 112


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": LONG}, ["name", "111", "112"]),
        ({"name": "no name"}, ["name"]),
        ({"labels": {"no name": "x"}}, ["labels"]),
        ({"labels": {f"l{number}": "x" for number in range(101)}}, ["labels"]),
        ({"expected": -2}, ["expected_revision"]),
        ({"cron": "* * * * *", "every_ms": MINUTE}, ["cron, interval", "both"]),
        ({"cron": ""}, ["cron, interval", "none"]),
        ({"cron": "61 * * * *"}, ["cron: expected 0 to 59", "61"]),
        ({"cron": "0 0 30 2 *"}, ["cron: expected a date that comes"]),
        ({"cron": "x" * 201}, ["cron", "200"]),
        ({"time_zone": "Europe/Berln"}, ["time_zone", "Europe/Berlin"]),
        ({"time_zone": "x" * 101}, ["time_zone"]),
        ({"every_ms": -1_000}, ["every_ms"]),
        ({"every_ms": 1_500}, ["interval: expected whole seconds", "1500"]),
        ({"every_ms": 10**13}, ["every_ms"]),
        ({"start_at": 1_001}, ["start: expected whole seconds"]),
        ({"end_at": 1_001}, ["end: expected whole seconds"]),
        ({"end_at": 10**15}, ["end_at"]),
        ({"start_at": 5_000, "end_at": 4_000}, ["between start and end"]),
        ({"cron": "0 0 1 1 *", "start_at": 86_400_000, "end_at": 2 * 86_400_000}, ["would never fire"]),
        ({"starting_deadline_ms": 999}, ["starting_deadline", "999"]),
        ({"starting_deadline_ms": 0}, ["starting_deadline_ms"]),
        ({"jitter_ms": -1}, ["jitter_ms"]),
        ({"jitter_ms": 86_400_001}, ["jitter_ms"]),
        ({"job": JobSpec()}, ["job.command"]),
        ({"job": JobSpec(command=["a"], priority=101)}, ["job.priority"]),
        ({"job": JobSpec(command=["a"], start_at=5)}, ["job.start_at", "expected none"]),
        ({"job": JobSpec(command=["a"], delay_ms=5)}, ["job.delay_ms"]),
        ({"job": JobSpec(command=["a"], deadline_at=5)}, ["job.deadline_at"]),
        ({"job": JobSpec(command=["a"], environment={"FTJM_SCHEDULE": "x"})}, ["job.environment", "FTJM_SCHEDULE"]),
        ({"job": JobSpec(command=["a" * 980])}, ["job.command, environment"]),
        ({"job": JobSpec(command=["a"], payload=b"x" * 1_001)}, ["job.payload", "1000"]),
    ],
)
def test_a_wrong_declaration_is_refused_in_words(wrong: dict[str, Any], words: list[str]):
    given(FINAL).when(apply(**wrong)).refused("INVALID", *words)


@pytest.mark.parametrize(
    "kind", [c.ApplySchedule, c.DeleteSchedule, c.PauseSchedule, c.ResumeSchedule, c.TriggerSchedule]
)
def test_a_command_about_a_schedule_is_about_no_job(kind: type[c.ScheduleCommand]):
    more = {"spec": schedule()} if kind is c.ApplySchedule else {}
    given(FINAL).when(order(kind, job_id="a", **more)).refused("INVALID", "job_id")


@pytest.mark.parametrize("kind", [c.PauseSchedule, c.ResumeSchedule, c.TriggerSchedule])
def test_what_does_not_exist_is_neither_paused_nor_triggered(kind: type[c.ScheduleCommand]):
    given(FINAL).when(order(kind, command_id="x")).refused("UNKNOWN_SCHEDULE", "q/n")


def test_who_decides_needs_a_calendar():
    with pytest.raises(AssertionError, match="calendar"):
        given(FINAL).when(apply(), policy=Policy(0, 1))


# ---- pauses


def test_a_paused_schedule_does_not_fire_and_what_fell_into_the_pause_is_not_caught_up():
    story = declared(catch_up="all")
    story.when(order(c.PauseSchedule, reason="disk"), at=FIRST - 1).then(like(e.SchedulePaused, reason="disk"))
    assert (row(story).paused_at, row(story).pause_reason, row(story).next_at) == (FIRST - 1, "disk", 0)
    assert let_pass(story, FIRST + 9 * MINUTE) == []
    story.when(order(c.ResumeSchedule), at=FIRST + 9 * MINUTE + 1)
    next_at = FIRST + 10 * MINUTE
    story.then(like(e.ScheduleResumed, next_at=next_at, interval_start=next_at - MINUTE, tzdata=ZONES))
    assert let_pass(story, FIRST + 10 * MINUTE) == [next_at]


def test_a_schedule_that_is_paused_again_has_the_new_reason_and_the_first_time():
    story = (
        declared().when(order(c.PauseSchedule, reason="disk")).when(order(c.PauseSchedule, reason="net"), at=NOW + 9)
    )
    assert (row(story).paused_at, row(story).pause_reason) == (NOW, "net")


def test_a_schedule_that_is_not_paused_may_be_resumed_and_keeps_what_is_to_be_caught_up():
    story = declared(catch_up="all").when(order(c.ResumeSchedule), at=NOW + 10 * MINUTE)
    story.then(like(e.ScheduleResumed, next_at=FIRST, decided_to=NOW))
    assert len(let_pass(story, NOW + 10 * MINUTE)) == 10


def test_no_declaration_resumes_a_schedule():
    story = declared().when(order(c.PauseSchedule)).when(apply(jitter_ms=7))
    story.then(like(e.ScheduleApplied, next_at=0, interval_start=0))
    assert row(story).paused_at == NOW
    story.has_timers()


def test_a_pause_drops_the_instant_that_waits():
    story = declared(overlap=Overlap.QUEUE).when_due(FIRST)
    (job_id,) = fired(story)
    story.when_due(FIRST + MINUTE).then(like(e.ScheduleDelayed, instant=FIRST + MINUTE))
    story.when(order(c.PauseSchedule))
    story.evolve(cancelled(job_id=job_id)).written()
    assert let_pass(story, FIRST + 2 * MINUTE) == []


def test_a_paused_schedule_may_be_deleted():
    story = declared().when(order(c.PauseSchedule)).when(order(c.DeleteSchedule)).then(like(e.ScheduleDeleted))
    assert story.state.schedule("q/n") is None


def test_a_schedule_is_resumed_that_is_over():
    story = declared(end_at=FIRST).when(order(c.PauseSchedule)).when(order(c.ResumeSchedule), at=FIRST)
    story.then(like(e.ScheduleResumed, next_at=0, interval_start=0))
    story.has_timers()


# ---- requests


def trigger(command_id: str = "x") -> c.Command:
    return order(c.TriggerSchedule, command_id=command_id)


def test_a_request_makes_a_job_now_and_leaves_the_next_instant():
    story = declared(jitter_ms=5_000).when(trigger(), reply=REPLY_TO)
    story.then(
        like(e.JobSubmitted, job_id="n.now.x", due_at=0, reply=REPLY_TO),
        like(e.ScheduleFired, job_id="n.now.x", name="n", instant=NOW, by=FiredBy.TRIGGERED, next_at=FIRST),
    )
    assert story.messages == [ReplyMessage(REPLY_TO, "q", "n.now.x", 1, state=JobState.READY)]
    assert (row(story).next_at, row(story).last_job, row(story).last_instant) == (FIRST, "n.now.x", 0)
    assert story.state.spec("q/n.now.x").environment == {
        "FTJM_SCHEDULE": "n",
        "FTJM_SCHEDULED_AT": "1970-01-01T00:16:40Z",
        "FTJM_INTERVAL_START": "1970-01-01T00:16:00Z",
        "FTJM_INTERVAL_END": "1970-01-01T00:16:40Z",
    }


def test_a_repeated_request_gives_the_same_job():
    story = declared().when(trigger())
    story.when(trigger(), at=NOW + 5).then(like(e.SubmissionRepeated, job_id="n.now.x", run=1))
    story.when(trigger("y")).then(like(e.JobSubmitted, job_id="n.now.y"), like(e.ScheduleFired))


def test_a_request_is_not_taken_for_a_job_of_another_origin():
    story = declared().evolve(submitted(job_id="n.now.x")).written()
    story.when(trigger()).refused("IDENTITY_TAKEN", "q/n.now.x", "command_id")


def test_a_paused_schedule_may_be_triggered():
    story = declared().when(order(c.PauseSchedule)).when(trigger())
    assert fired(story) == ["n.now.x"]


@pytest.mark.parametrize("command_id", ["", "x" * 123])
def test_a_request_needs_an_id_that_makes_a_name(command_id: str):
    declared().when(trigger(command_id)).refused("INVALID", "command_id")


def test_an_overloaded_partition_refuses_a_request():
    policy = msgspec.structs.replace(POLICY, overload="the disk is full")
    declared().when(trigger(), policy=policy).refused("OVERLOADED", "disk")


@pytest.mark.parametrize("overlap", [Overlap.FORBID, Overlap.QUEUE, Overlap.REPLACE])
def test_a_request_does_not_overlap_where_the_schedule_lets_nothing_overlap(overlap: Overlap):
    story = declared(overlap=overlap).when_due(FIRST)
    (job_id,) = fired(story)
    story.when(trigger()).refused("OVERLAP", job_id, overlap.value)
    story.evolve(cancelled(job_id=job_id)).written().when(trigger())
    assert fired(story) == ["n.now.x"]
    story.evolve(dispatched(job_id="n.now.x")).written()
    assert let_pass(story, FIRST + MINUTE) == []  # it is now the job that must end first


def test_a_request_may_overlap_where_the_schedule_says_so():
    story = declared().when_due(FIRST).when(trigger())
    assert fired(story) == ["n.now.x"]


# ---- what is left alone


def test_who_submits_the_job_of_an_instant_asks_for_another_content():
    story = declared().when_due(FIRST)
    (job_id,) = fired(story)
    story.when(submit(job_id=job_id)).refused("IDENTITY_TAKEN")


def test_the_last_job_may_be_run_again_and_is_waited_for():
    story = declared(overlap=Overlap.QUEUE).when_due(FIRST)
    (job_id,) = fired(story)
    story.when_due(FIRST + MINUTE).then(like(e.ScheduleDelayed))
    # It ends, and is run again before the owner comes to the instant that waits.
    story.evolve(cancelled(job_id=job_id)).evolve(rerun(job_id=job_id, at=FIRST + MINUTE)).written()
    assert let_pass(story, FIRST + MINUTE + 1) == []
    story.evolve(cancelled(job_id=job_id, run=2)).written()
    assert let_pass(story, FIRST + MINUTE + 1) == [FIRST + MINUTE]


def test_the_zones_of_another_version_count_from_the_next_declaration_on():
    story = declared(cron="* * * * *").when(apply(cron="* * * * *", jitter_ms=1), policy=other_zones(7_000))
    story.then(like(e.ScheduleApplied, next_at=NOW + 27_000, tzdata="other"))
