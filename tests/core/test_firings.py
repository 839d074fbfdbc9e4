"""The instants of schedules: which fire, wait or are skipped, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.core.calendar import COUNTED_MAX, interval_start, last_before, next_instants
from ftjm.core.decide.firings import decide_instant
from ftjm.core.limits import INSTANT_MAX_MS
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.schedule_jobs import firing_id, jitter
from ftjm.core.state.model import JobSpec, JobState, StopReason
from ftjm.core.state.schedules import CatchUp, FiredBy, Overlap, ScheduleSpec, SkipReason
from ftjm.core.utc import compact_time, iso_time
from tests.core.schedule_story import (
    FINAL,
    FIRST,
    MINUTE,
    OtherCalendar,
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
    HOUR_MS,
    NOW,
    POLICY,
    Story,
    cancelled,
    dispatched,
    forgotten,
    given,
    held,
    like,
    rerun,
    started,
    stop_requested,
    submit,
    submitted,
    succeeded,
)

DEADLINE = 5 * MINUTE
"""The default of `starting_deadline_ms`."""


def instant(number: int) -> int:
    """The instants after the declaration, from 0."""
    return FIRST + number * MINUTE


# ---- firing


def test_an_instant_makes_a_job_and_names_the_next():
    story = declared().when_due(FIRST)
    job_id = "n.19700101T001700Z"
    story.then(
        like(e.JobSubmitted, queue="q", job_id=job_id, run=1, due_at=0, cause=e.Cause.TIMER, cause_ref=str(FIRST)),
        like(
            e.ScheduleFired,
            queue="q",
            job_id=job_id,
            run=1,
            name="n",
            instant=FIRST,
            by=FiredBy.DUE,
            next_at=instant(1),
            tzdata=LocalCalendar().version,
        ),
    )
    story.has_timers(instant(1))
    assert story.job(job_id).state is JobState.READY
    assert story.job(job_id).schedule == "n"
    assert (row(story).last_job, row(story).last_instant, row(story).decided_to) == (job_id, FIRST, FIRST)


def test_a_job_finds_its_instant_and_its_data_interval_in_its_environment():
    job = JobSpec(command=["true"], environment={"A": "b"}, priority=70)
    story = declared(job=job).when_due(FIRST)
    (job_id,) = fired(story)
    found = story.state.spec(f"q/{job_id}")
    assert found.environment == {
        "A": "b",
        "FTJM_SCHEDULE": "n",
        "FTJM_SCHEDULED_AT": "1970-01-01T00:17:00Z",
        "FTJM_INTERVAL_START": "1970-01-01T00:16:00Z",
        "FTJM_INTERVAL_END": "1970-01-01T00:17:00Z",
    }
    assert (found.priority, found.retention_ms) == (70, POLICY.retention_ms)


def test_a_job_has_a_deadline_from_its_firing_on_and_may_be_held():
    story = declared(job=JobSpec(command=["true"], deadline_ms=7_000, held=True)).when_due(FIRST + 5)
    (job_id,) = fired(story)
    assert story.job(job_id).deadline_at == FIRST + 5 + 7_000
    assert story.job(job_id).state is JobState.HELD


def test_nothing_fires_before_its_time_or_after_the_end():
    story = declared(start_at=NOW + 3 * MINUTE, end_at=NOW + 5 * MINUTE)
    assert let_pass(story, NOW + 3 * MINUTE - 1) == []
    assert let_pass(story, NOW + 3 * MINUTE) == [NOW + 3 * MINUTE]  # an interval counts from its start
    assert let_pass(story, NOW + 9 * MINUTE) == [NOW + 4 * MINUTE, NOW + 5 * MINUTE]
    story.evolve(*[]).has_timers()
    assert row(story).next_at == 0


def test_a_cron_expression_keeps_to_start_and_end_too():
    story = declared(cron="* * * * *", start_at=instant(2), end_at=instant(3))
    assert let_pass(story, instant(6)) == [instant(2), instant(3)]


def test_jitter_delays_the_job_and_neither_its_id_nor_the_next_instant():
    story = declared(jitter_ms=30_000).when_due(FIRST)
    (job_id,) = fired(story)
    delay = jitter(schedule(jitter_ms=30_000), "q/n", FIRST)
    assert job_id == firing_id("n", FIRST)
    assert 0 < delay <= 30_000
    assert story.job(job_id).due_at == FIRST + delay
    assert story.job(job_id).state is JobState.SCHEDULED
    assert row(story).next_at == instant(1)
    draws = {jitter(schedule(jitter_ms=30_000), f"q/{name}", instant(n)) for name in "abc" for n in range(9)}
    assert len(draws) > 20


def test_a_late_owner_does_not_add_jitter_to_its_delay():
    story = declared(jitter_ms=30_000).when_due(FIRST + 40_000)
    (job_id,) = fired(story)
    assert story.job(job_id).state is JobState.READY


def test_two_schedules_of_a_queue_are_two():
    story = declared().when(apply("m")).when_due(FIRST)
    assert fired(story) == ["m.19700101T001700Z", "n.19700101T001700Z"]


def test_an_instant_whose_job_exists_is_skipped():
    story = declared().evolve(submitted(job_id=firing_id("n", FIRST))).written().when_due(FIRST)
    story.then(
        like(e.ScheduleSkipped, instant=FIRST, until=FIRST, count=1, reason=SkipReason.EXISTS, next_at=instant(1))
    )
    assert let_pass(story, instant(1)) == [instant(1)]


def test_a_schedule_that_is_made_anew_repeats_no_instant():
    story = declared().when_due(FIRST).when(order(c.DeleteSchedule)).when(apply())
    assert let_pass(story, FIRST) == []
    assert row(story).next_at == instant(1)


def test_an_overloaded_partition_fires_all_the_same():
    story = declared().when_due(FIRST, msgspec.structs.replace(POLICY, overload="the disk is full"))
    assert len(fired(story)) == 1


def test_a_firing_of_what_is_not_due_is_a_fault():
    story = declared()
    with pytest.raises(AssertionError, match="came before"):
        decide_instant(story.state, "q/n", FIRST - 1, POLICY)


# ---- missed instants


def late(number: int) -> int:
    """A time at which so many instants are missed, and the next five are in time."""
    return instant(number - 1) + DEADLINE + 1


def test_instants_within_the_starting_deadline_all_fire():
    assert let_pass(declared(), FIRST + DEADLINE) == [instant(n) for n in range(6)]
    assert let_pass(declared(starting_deadline_ms=1_000), FIRST + 1_000) == [FIRST]


def test_missed_instants_are_skipped_at_once():
    story = declared().when_due(late(4))
    story.then(
        like(
            e.ScheduleSkipped,
            instant=FIRST,
            until=instant(3),
            count=4,
            reason=SkipReason.MISSED,
            next_at=instant(4),
        )
    )
    assert let_pass(story, late(4)) == [instant(n) for n in range(4, 9)]
    assert story.state.spec(f"q/{firing_id('n', instant(4))}").environment["FTJM_INTERVAL_START"] == iso_time(
        instant(3)
    )


def test_the_last_missed_instant_is_caught_up():
    story = declared(catch_up=CatchUp.LATEST).when_due(late(4))
    story.then(like(e.ScheduleSkipped, instant=FIRST, until=instant(2), count=3, next_at=instant(3)))
    assert let_pass(story, late(4)) == [instant(n) for n in range(3, 9)]


def test_one_missed_instant_is_the_last():
    assert let_pass(declared(catch_up=CatchUp.LATEST), late(1)) == [instant(n) for n in range(6)]
    story = declared(catch_up=CatchUp.LATEST, end_at=FIRST)
    assert let_pass(story, NOW + 10 * HOUR_MS) == [FIRST]


def test_all_missed_instants_are_caught_up_one_a_timer():
    story = declared(catch_up=CatchUp.ALL)
    for number in range(3):
        story.when_due(late(20))
        assert fired(story) == [firing_id("n", instant(number))]
    assert let_pass(story, late(20)) == [instant(n) for n in range(3, 25)]


def test_a_long_outage_takes_one_skip():
    days = 300
    at = FIRST + days * 24 * HOUR_MS
    until = at - DEADLINE - MINUTE
    declared().when_due(at).then(like(e.ScheduleSkipped, until=until, count=days * 24 * 60 - 5))
    declared(cron="* * * * *").when_due(at).then(like(e.ScheduleSkipped, until=until, count=COUNTED_MAX))


@pytest.mark.parametrize("catch_up", [CatchUp.NONE, CatchUp.LATEST])
def test_what_is_missed_ends_with_the_end(catch_up: CatchUp):
    story = declared(end_at=instant(3), catch_up=catch_up).when_due(late(90))
    last = 3 if catch_up is CatchUp.NONE else 2
    story.then(like(e.ScheduleSkipped, until=instant(last), count=last + 1))
    assert let_pass(story, late(90)) == ([] if catch_up is CatchUp.NONE else [instant(3)])
    story = declared(cron="* * * * *", end_at=instant(3)).when_due(late(90))
    story.then(like(e.ScheduleSkipped, until=instant(3), count=4, next_at=0))


def test_catching_up_comes_behind_timers_that_were_due_before():
    story = declared(catch_up=CatchUp.ALL).when_due(late(20))
    story.has_timers(late(20))


# ---- overlap


def running(**spec: Any) -> tuple[Story, str]:
    """A schedule whose first job runs."""
    story = declared(**spec).when_due(FIRST)
    (job_id,) = fired(story)
    return story.evolve(dispatched(job_id=job_id), started(job_id=job_id)).written(), job_id


def ends(story: Story, job_id: str) -> Story:
    return story.evolve(succeeded(job_id=job_id, at=story.now)).written()


def test_allowed_to_overlap_it_fires():
    story, _ = running()
    assert let_pass(story, instant(2)) == [instant(1), instant(2)]


def test_forbidden_to_overlap_it_is_skipped():
    story, job_id = running(overlap=Overlap.FORBID)
    story.when_due(instant(1)).then(
        like(e.ScheduleSkipped, instant=instant(1), count=1, reason=SkipReason.OVERLAP, next_at=instant(2))
    )
    assert let_pass(ends(story, job_id), instant(2)) == [instant(2)]


def test_a_job_that_waits_has_not_ended_and_one_that_was_forgotten_has():
    story = declared(overlap=Overlap.FORBID).when_due(FIRST)
    (job_id,) = fired(story)
    story.evolve(held(job_id=job_id)).written()
    assert let_pass(story, instant(1)) == []
    story.evolve(cancelled(job_id=job_id)).written()
    assert len(let_pass(story, NOW + 2 * HOUR_MS)) == 1  # and its retention is over, too


def test_queued_one_instant_waits_for_the_end():
    story, job_id = running(overlap=Overlap.QUEUE)
    story.when_due(instant(1)).then(like(e.ScheduleDelayed, instant=instant(1), next_at=instant(2)))
    story.when_due(instant(2)).then(like(e.ScheduleSkipped, instant=instant(2), reason=SkipReason.OVERLAP))
    story.has_timers(instant(3))
    story.now += 5
    ends(story, job_id)
    assert row(story).timer_at == instant(2) + 5
    story.when_due(instant(2) + 6).then(
        like(e.JobSubmitted, job_id=firing_id("n", instant(1))),
        like(e.ScheduleFired, instant=instant(1), by=FiredBy.WAITED, next_at=instant(3)),
    )
    environment = story.state.spec(f"q/{firing_id('n', instant(1))}").environment
    assert environment["FTJM_INTERVAL_START"] == iso_time(FIRST)
    assert (row(story).waiting_instant, row(story).next_at, row(story).timer_at) == (0, instant(3), instant(3))


def test_what_waits_is_not_missed_however_long_it_waits():
    story, job_id = running(overlap=Overlap.QUEUE, end_at=instant(1))
    assert let_pass(story, instant(1)) == []
    story.now = instant(500)
    assert let_pass(ends(story, job_id), instant(500)) == [instant(1)]


def test_what_waits_is_skipped_if_its_job_exists_by_then():
    story, job_id = running(overlap=Overlap.QUEUE)
    assert let_pass(story, instant(1)) == []
    ends(story, job_id).evolve(submitted(job_id=firing_id("n", instant(1)))).written()
    story.when_due(instant(1) + 1)
    story.then(like(e.ScheduleSkipped, instant=instant(1), reason=SkipReason.EXISTS, next_at=instant(2)))
    assert row(story).waiting_instant == 0


def test_the_end_of_an_earlier_job_lets_nothing_fire():
    story, first = running()
    story.when_due(instant(1)).when(apply(overlap=Overlap.QUEUE))
    assert let_pass(story, instant(2)) == []
    assert let_pass(ends(story, first), instant(2)) == []


def test_replaced_the_old_job_ends_before_the_new_one_starts():
    story, job_id = running(overlap=Overlap.REPLACE)
    story.when_due(instant(1)).then(
        like(e.ScheduleDelayed, instant=instant(1)),
        like(
            e.JobStopRequested,
            job_id=job_id,
            reason=StopReason.CANCELLED,
            text="replaced by n.19700101T001800Z",
        ),
    )
    story.has_timers(instant(2))
    story.evolve(cancelled_attempt(job_id)).evolve(cancelled(job_id=job_id)).written()
    assert let_pass(story, instant(1) + 1) == [instant(1)]


def test_a_job_that_windows_stop_is_replaced_all_the_same():
    story, job_id = running(overlap=Overlap.REPLACE)
    story.evolve(stop_requested(job_id=job_id, reason=StopReason.WINDOW)).written().when_due(instant(1)).then(
        like(e.ScheduleDelayed), like(e.JobStopRequested, job_id=job_id, reason=StopReason.CANCELLED)
    )
    story.when_due(instant(2)).then(like(e.ScheduleSkipped), like(e.ScheduleDelayed))


def cancelled_attempt(job_id: str) -> e.Event:
    return e.AttemptLost(queue="q", job_id=job_id, run=1, at=NOW, attempt=1, session="s1", reason="LAPSED")


def test_the_newest_instant_replaces_and_the_job_is_stopped_once():
    story, job_id = running(overlap=Overlap.REPLACE)
    story.when_due(instant(1))
    story.when_due(instant(2)).then(
        like(e.ScheduleSkipped, instant=instant(1), until=instant(1), reason=SkipReason.REPLACED, next_at=instant(2)),
        like(e.ScheduleDelayed, instant=instant(2), next_at=instant(3)),
    )
    assert let_pass(ends(story, job_id), instant(2) + 1) == [instant(2)]


def test_a_job_that_waits_is_replaced_at_once():
    story = declared(overlap=Overlap.REPLACE).when_due(FIRST)
    story.when_due(instant(1)).then(like(e.ScheduleDelayed), like(e.JobCancelled, job_id=firing_id("n", FIRST)))
    assert let_pass(story, instant(1)) == [instant(1)]


def test_a_job_of_no_schedule_ends_without_a_look_at_any():
    story = declared(overlap=Overlap.QUEUE).evolve(submitted(), cancelled(), rerun()).written()
    assert row(story).timer_at == FIRST


# ---- time zones


def test_an_owner_with_other_time_zones_reckons_before_it_fires():
    story = declared(cron="* * * * *")
    policy = other_zones(7_000)
    story.when_due(FIRST, policy)
    story.then(like(e.ScheduleReckoned, name="n", next_at=FIRST + 7_000, interval_start=FIRST - 53_000, tzdata="other"))
    assert let_pass(story, FIRST + 6_999, policy) == []
    assert let_pass(story, FIRST + 7_000, policy) == [FIRST + 7_000]
    assert row(story).tzdata == "other"
    # And back again, by an owner with the first ones: no instant twice, and none of the past.
    assert let_pass(story, instant(1) + 7_000) == [instant(1)]


def test_a_recurrence_may_have_no_more_instants_in_other_time_zones():
    story = declared(cron="* * * * *", end_at=FIRST).when_due(FIRST, other_zones(7_000))
    story.then(like(e.ScheduleReckoned, next_at=0, interval_start=0))
    story.has_timers()


def test_where_nothing_came_before_the_data_interval_is_empty():
    class First(LocalCalendar):
        def previous(self, *_: Any) -> int | None:
            return None

    assert interval_start(First(), schedule(), "q/n", FIRST) == FIRST
    assert last_before(First(), schedule(), "q/n", FIRST, instant(9)) == FIRST


# ---- texts


@every(st.integers(0, INSTANT_MAX_MS))
def test_times_are_written_as_the_standard_library_writes_them(at: int):
    then = datetime.fromtimestamp(at // 1_000, UTC)
    assert iso_time(at) == f"{then:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")
    assert compact_time(at) == iso_time(at).replace("-", "").replace(":", "")


# ---- any history


STEP = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 20_000, MINUTE, 7 * MINUTE, HOUR_MS])),
    st.tuples(st.just("apply"), st.sampled_from([0, 5_000])),
    st.tuples(st.just("pause"), st.just(0)),
    st.tuples(st.just("resume"), st.just(0)),
    st.tuples(st.just("trigger"), st.integers(0, 3)),
    st.tuples(st.just("work"), st.integers(1, 200)),
    st.tuples(st.just("take over"), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@every(
    steps=st.lists(STEP, max_size=25),
    catch_up=st.sampled_from(CatchUp),
    recurrence=st.sampled_from([{"every_ms": 3 * MINUTE}, {"cron": "*/4 * * * *"}, {"cron": "7,8 * * * *"}]),
)
def test_each_instant_fires_at_most_once_and_caught_up_exactly_once(
    steps: list[tuple[str, int]], catch_up: CatchUp, recurrence: dict[str, Any]
):
    """However late the owner comes. What falls into a pause, or was to be caught up when it began, does not fire."""
    story = declared(catch_up=catch_up, **recurrence)
    now, instants, lost_until, lost = NOW, [], 0, []
    for step, value in [*steps, ("resume", 0), ("wait", HOUR_MS), ("work", 10_000)]:
        if step == "wait":
            now += value
        elif step == "apply":
            story.when(apply(catch_up=catch_up, jitter_ms=value, **recurrence), at=now)
        elif step == "pause":
            lost_until = (row(story).paused_at and lost_until) or row(story).decided_to
            story.when(order(c.PauseSchedule), at=now)
        elif step == "resume":
            if row(story).paused_at:
                lost.append((lost_until, now))
            lost_until = 0
            story.when(order(c.ResumeSchedule), at=now)
        elif step == "trigger":
            story.when(order(c.TriggerSchedule, command_id=f"t{value}"), at=now)
        elif step == "take over":
            story = story.taken_over()
        else:
            story.now = now
            for _ in range(value):
                if not list(story.state.due(now)):
                    break
                story.when_due(now)
                assert isinstance(story.decided, list)
                done = [event for event in story.decided if isinstance(event, e.ScheduleFired)]
                instants += [event.instant for event in done]
                assert all(event.instant <= now for event in done)
    assert instants == sorted(set(instants))
    calendar, wanted, at = LocalCalendar(), [], NOW
    while (at := calendar.next(schedule(**recurrence), "q/n", at) or now + 1) <= now:
        if not any(begin < at <= end for begin, end in lost):
            wanted.append(at)
    assert set(instants) <= set(wanted)
    if catch_up is CatchUp.ALL:
        assert instants == wanted


# ---- what others do meanwhile, and what an owner does not know


def test_a_job_that_somebody_submits_under_the_id_of_the_last_firing_is_not_waited_for():
    story = declared(overlap=Overlap.QUEUE).when_due(FIRST)
    (job_id,) = fired(story)
    story.evolve(dispatched(job_id=job_id), succeeded(job_id=job_id), forgotten(job_id=job_id)).written()
    story.when(submit(job_id=job_id)).when_due(FIRST + MINUTE)
    assert fired(story) == [firing_id("n", FIRST + MINUTE)]


def test_an_instant_that_waits_fires_where_jobs_may_overlap_from_now_on():
    story = declared(overlap=Overlap.QUEUE).when_due(FIRST).when_due(FIRST + MINUTE)
    assert row(story).waiting_instant == FIRST + MINUTE
    story.when(apply(overlap=Overlap.ALLOW), at=FIRST + MINUTE + 1).when_due(FIRST + MINUTE + 1)
    assert fired(story) == [firing_id("n", FIRST + MINUTE)]


def test_a_deadline_within_the_jitter_is_refused():
    story = given(FINAL).when(apply(jitter_ms=50_000, job=JobSpec(command=["true"], deadline_ms=50_000)))
    story.refused("INVALID", "job.deadline", "jitter")


def test_an_owner_that_does_not_know_the_zone_pauses_the_schedule_and_goes_on():
    class Lacking(OtherCalendar):
        def fault(self, spec: ScheduleSpec, key: str) -> str:
            return "time_zone: expected one of the IANA database, but found Mars/Base"

    story = declared().when_due(FIRST, msgspec.structs.replace(POLICY, calendar=Lacking()))
    story.then(like(e.SchedulePaused, name="n"))
    assert "Mars/Base" in row(story).pause_reason
    story.has_timers()


def test_the_next_instants_are_those_until_the_end():
    spec = schedule(end_at=FIRST + 2 * MINUTE)
    following = [FIRST, FIRST + MINUTE, FIRST + 2 * MINUTE]
    assert next_instants(LocalCalendar(), spec, "q/n", NOW, 2) == following[:2]
    assert next_instants(LocalCalendar(), spec, "q/n", NOW, 9) == following
