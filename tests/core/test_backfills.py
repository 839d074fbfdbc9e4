"""Backfills: the jobs of instants of a schedule that have passed, a slice in each batch."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st

from ftjm.core.decide import backfills as backfills_module
from ftjm.core.decide.processes import next_slice
from ftjm.core.evolve.handlers import evolve
from ftjm.core.limits import COMMAND_ID_MEMORY_MS
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.schedule_jobs import firing_id
from ftjm.core.state.backfills import Backfill, Reprocess
from ftjm.core.state.model import LIVE, STATE_VERSION, TERMINAL, JobSpec, JobState
from ftjm.core.state.processes import ProcessKind
from ftjm.core.state.schedules import FiredBy, Overlap, ScheduleSpec, SkipReason
from ftjm.core.state.tables import BACKFILLS
from tests.core.schedule_story import FIRST, MINUTE, OtherCalendar, apply, fired, order, row
from tests.core.story import (
    HOUR_MS,
    NOW,
    POLICY,
    Story,
    cancelled,
    dispatched,
    failed,
    forgotten,
    given,
    like,
    rerun,
    submitted,
    succeeded,
)

FINAL = e.UpgradeFinalized(level=SHARING_LEVEL, state_version=STATE_VERSION)
TO = FIRST - MINUTE
"""The last whole minute before `NOW`."""


def declared(**spec: Any) -> Story:
    return given(FINAL).when(apply(**spec))


def backfill(
    instants: int = 3,
    command_id: str = "b1",
    reprocess: Reprocess = Reprocess.NONE,
    max_active: int = 10,
    **fields: Any,
) -> c.Command:
    """A request about the last instants before `NOW`."""
    times = {"from_at": TO - (instants - 1) * MINUTE, "to_at": TO}
    return order(
        c.BackfillSchedule,
        **{**times, "command_id": command_id, "reprocess": reprocess, "max_active": max_active, **fields},
    )


def job_of(number: int) -> str:
    """Id of the job of an instant before `NOW`, from 0, the last one."""
    return firing_id("n", TO - number * MINUTE)


def slice_of(story: Story, rows: int = 1_000, policy: Any = POLICY) -> list[e.Event]:
    """Do the next slice of the only process. Returns its events."""
    ((kind, name),) = story.state.processes()
    assert (kind, name) == (ProcessKind.BACKFILL, "q/n")
    events = next_slice(story.state, kind, name, rows, story.now, policy)
    for event in events:
        event.at, event.cause = story.now, e.Cause.CONTINUATION
        evolve(story.state, event)
    story.written()
    return events


def advance(story: Story) -> list[str]:
    """Do slices until it waits or has ended. Returns the jobs whose runs begin."""
    begun: list[str] = []
    while story.state.processes():
        *_, last = slice_of(story)
        assert isinstance(last, e.BackfillAdvanced), last
        begun += last.jobs
    return begun


def found(story: Story, name: str = "b1") -> Backfill:
    row = story.state.backfill(f"q/n/{name}")
    assert row is not None
    return row


def end(story: Story, job_id: str, *, well: bool = True) -> None:
    job = story.job(job_id)
    about: dict[str, Any] = {"job_id": job_id, "run": job.run, "at": story.now}
    attempt = job.attempt + 1
    ends = [dispatched(**about, attempt=attempt), succeeded(**about, attempt=attempt)] if well else [failed(**about)]
    story.evolve(*ends).written()


# ---- the jobs


def test_each_instant_gets_its_job_as_by_a_firing():
    story = declared(job=JobSpec(command=["true"], environment={"A": "1"}), overlap=Overlap.FORBID)
    story.when(backfill())
    story.then(like(e.BackfillBegun, queue="q", name="n", backfill="b1", from_at=TO - 2 * MINUTE, to_at=TO))
    counted, *none = slice_of(story)
    assert isinstance(counted, e.BackfillAdvanced)
    assert (none, counted.instants, counted.jobs) == ([], 3, [])
    events = slice_of(story)
    assert [type(event) for event in events] == [*[e.JobSubmitted, e.ScheduleFired] * 3, e.BackfillAdvanced]
    job, firing = events[2:4]
    assert isinstance(job, e.JobSubmitted)
    assert isinstance(firing, e.ScheduleFired)
    assert (job.job_id, firing.job_id, firing.instant) == (job_of(1), job_of(1), TO - MINUTE)
    assert (firing.by, firing.next_at, firing.tzdata) == (FiredBy.BACKFILL, FIRST, row(story).tzdata)
    assert job.spec.environment == {
        "A": "1",
        "FTJM_SCHEDULE": "n",
        "FTJM_SCHEDULED_AT": "1970-01-01T00:15:00Z",
        "FTJM_INTERVAL_START": "1970-01-01T00:14:00Z",
        "FTJM_INTERVAL_END": "1970-01-01T00:15:00Z",
    }
    assert isinstance(events[0], e.JobSubmitted)
    assert events[0].spec.environment["FTJM_INTERVAL_START"] == "1970-01-01T00:13:00Z"
    story.job_is_of(job_of(0), schedule="n", state=JobState.READY)
    assert (row(story).last_job, row(story).last_instant, row(story).next_at) == ("", 0, FIRST)
    assert story.state.processes() == [], "it waits for the ends"


def test_it_ends_with_its_last_run_and_tells_how_they_have_ended():
    story = declared().when(backfill())
    jobs = advance(story)
    assert jobs == [job_of(2), job_of(1), job_of(0)]
    end(story, jobs[0])
    story.evolve(failed(job_id=jobs[1])).written()
    assert advance(story) == []
    assert (found(story).ended_at, found(story).active) == (0, [jobs[2]])
    story.evolve(cancelled(job_id=jobs[2])).written()
    (last,) = slice_of(story)
    assert isinstance(last, e.BackfillAdvanced)
    assert (last.submitted, last.succeeded, last.failed) == (3, 1, 2)
    assert (found(story).ended_at, found(story).stopped, row(story).backfill) == (NOW, False, "")
    assert story.state.processes() == []


def test_no_more_runs_than_max_active_are_under_way():
    story = declared().when(backfill(5, max_active=2))
    first = advance(story)
    assert first == [job_of(4), job_of(3)]
    end(story, first[1])
    assert advance(story) == [job_of(2)]
    end(story, first[0])
    end(story, job_of(2))
    assert advance(story) == [job_of(1), job_of(0)]


def test_an_instant_that_has_a_job_is_left_alone_and_fires_no_second_time():
    story = declared().when_due(FIRST)
    story.when(backfill(1, from_at=FIRST - MINUTE, to_at=FIRST))
    assert advance(story) == [firing_id("n", FIRST - MINUTE)]
    assert (found(story).submitted, found(story).kept) == (1, 1)
    # And the other way round: the backfill comes first, while the owner is late.
    late = FIRST + 2 * MINUTE
    story = declared().when(backfill(1, from_at=FIRST, to_at=FIRST), at=late)
    assert advance(story) == [firing_id("n", FIRST)]
    story.when_due(late).then(like(e.ScheduleSkipped, instant=FIRST, reason=SkipReason.EXISTS))


def test_an_instant_that_waits_is_skipped_once_a_backfill_has_made_its_job():
    story = declared(overlap=Overlap.QUEUE).when_due(FIRST)
    (job_id,) = fired(story)
    story.when_due(FIRST + MINUTE)
    assert row(story).waiting_instant == FIRST + MINUTE
    story.when(backfill(from_at=FIRST, to_at=FIRST + MINUTE))
    assert advance(story) == [firing_id("n", FIRST + MINUTE)]
    end(story, job_id)
    story.when_due(FIRST + MINUTE).then(like(e.ScheduleSkipped, instant=FIRST + MINUTE, reason=SkipReason.EXISTS))


@pytest.mark.parametrize(
    ("reprocess", "expected"),
    [
        (Reprocess.NONE, []),
        (Reprocess.FAILED, ["failed", "cancelled"]),
        (Reprocess.COMPLETED, ["succeeded", "failed", "cancelled"]),
    ],
)
def test_jobs_that_have_ended_run_again_as_it_is_asked_for(reprocess: Reprocess, expected: list[str]):
    story = declared().when(backfill(5, "b0"))
    advance(story)
    names = {name: job_of(number) for number, name in enumerate(("ready", "cancelled", "failed", "succeeded"))}
    end(story, names["succeeded"])
    story.evolve(failed(job_id=names["failed"]), cancelled(job_id=names["cancelled"])).written()
    story.evolve(cancelled(job_id=job_of(4)), forgotten(job_id=job_of(4))).written()
    story.when(order(c.StopBackfill, backfill="b0"))
    assert found(story, "b0").stopped
    story.evolve(submitted(job_id=job_of(5))).written()
    story.when(backfill(6, reprocess=reprocess))
    assert advance(story) == [job_of(4), *(names[name] for name in expected)], "a job of another origin stays"
    assert (found(story).submitted, found(story).rerun, found(story).kept) == (1, len(expected), 5 - len(expected))
    for name in expected:
        assert (story.job(names[name]).run, story.job(names[name]).state) == (2, JobState.READY)


def test_what_a_person_has_run_again_under_the_same_id_is_left_alone():
    story = declared().when(backfill(1, "b0"))
    (job_id,) = advance(story)
    end(story, job_id)
    advance(story)
    story.when(c.RerunJob(queue="q", job_id=job_id, command_id="b1"))
    story.evolve(dispatched(job_id=job_id, attempt=2, run=2), succeeded(job_id=job_id, attempt=2, run=2)).written()
    story.when(backfill(1, reprocess=Reprocess.COMPLETED))
    assert advance(story) == []
    assert (found(story).kept, found(story).ended_at) == (1, NOW)


def test_a_run_that_a_person_begins_is_not_the_backfills():
    story = declared().when(backfill(2, max_active=1))
    (job_id,) = advance(story)
    end(story, job_id)
    story.evolve(rerun(job_id=job_id)).written()
    assert advance(story) == [job_of(0)]
    story.evolve(cancelled(job_id=job_id, run=2)).written()
    assert (found(story).active, story.state.processes()) == ([job_of(0)], [])


def test_jobs_that_wait_for_nothing_but_the_schedule_have_no_jitter():
    story = declared(jitter_ms=HOUR_MS).when(backfill(1))
    (job_id,) = advance(story)
    story.job_is_of(job_id, state=JobState.READY)


# ---- slices


def test_a_slice_is_bounded_in_what_it_looks_at_and_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfills_module, "LOOKED_MAX", 4)
    story = declared().when(backfill(10))
    counted = [slice_of(story)[-1] for _ in range(3)]
    assert [one.instants for one in counted if isinstance(one, e.BackfillAdvanced)] == [4, 8, 10]

    def begun(rows: int = 1_000) -> int:
        last = slice_of(story, rows)[-1]
        assert isinstance(last, e.BackfillAdvanced)
        return len(last.jobs)

    assert begun() == 4
    assert begun(2 * backfills_module.ROWS_OF_A_RUN) == 2
    monkeypatch.setattr(backfills_module, "BEGUN_MAX", 1)
    assert begun() == 1
    monkeypatch.undo()
    monkeypatch.setattr(backfills_module, "BYTES_MAX", 1)
    assert begun() == 1
    monkeypatch.undo()
    assert (begun(), len(found(story).active)) == (2, 10)


def test_a_change_of_the_declaration_holds_for_what_comes_behind_it():
    story = declared().when(backfill(3, max_active=1))
    (job_id,) = advance(story)
    story.when(apply(job=JobSpec(command=["other"])))
    end(story, job_id)
    (following,) = advance(story)
    assert story.state.spec(f"q/{following}").command == ["other"]


def test_a_backfill_goes_on_while_its_schedule_is_paused_and_while_the_owner_is_overloaded():
    story = declared().when(order(c.PauseSchedule)).when(backfill(1))
    slice_of(story)
    events = slice_of(story, policy=msgspec.structs.replace(POLICY, overload="much waits"))
    assert isinstance(events[0], e.JobSubmitted)
    assert isinstance(events[1], e.ScheduleFired)
    assert events[1].next_at == 0


def test_one_about_too_many_instants_is_stopped_before_it_makes_a_job(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfills_module, "BACKFILL_INSTANTS_MAX", 5)
    story = declared().when(backfill(6))
    (event,) = slice_of(story)
    assert isinstance(event, e.BackfillStopped)
    assert "at most 5 instants" in event.reason
    assert (found(story).stopped, found(story).reason, found(story).ended_at) == (True, event.reason, NOW)
    assert (story.state.processes(), row(story).backfill) == ([], "")


def test_an_owner_that_does_not_know_the_zone_stops_the_backfill():
    class Lacking(OtherCalendar):
        def fault(self, spec: ScheduleSpec, key: str) -> str:
            return "time_zone: expected one of the IANA database, but found Mars/Base"

    lacking = msgspec.structs.replace(POLICY, calendar=Lacking())
    story = declared().when(backfill())
    (event,) = slice_of(story, policy=lacking)
    assert isinstance(event, e.BackfillStopped)
    assert "Mars/Base" in event.reason
    story.when(backfill(command_id="b2"), policy=lacking).refused("INVALID", "Mars/Base")


def test_one_that_is_stopped_begins_no_further_run():
    story = declared().when(backfill(3, max_active=1))
    (job_id,) = advance(story)
    story.when(order(c.StopBackfill, backfill="b1")).then(like(e.BackfillStopped, name="n", backfill="b1"))
    end(story, job_id)
    assert (story.state.processes(), row(story).backfill) == ([], "")
    story.when(order(c.StopBackfill, backfill="b1")).refused("UNKNOWN_BACKFILL", "q/n")
    story.when(order(c.StopBackfill, backfill="b1", name="none")).refused("UNKNOWN_BACKFILL")
    assert (found(story).submitted, found(story).stopped) == (1, True)
    story.when(backfill(3, "b2")).then(like(e.BackfillBegun))
    story.when(order(c.StopBackfill, backfill="b2")).then(like(e.BackfillStopped))
    assert story.state.processes() == []


def test_a_schedule_that_is_deleted_stops_its_backfill():
    story = declared().when(backfill(3, max_active=1))
    (job_id,) = advance(story)
    story.when(order(c.DeleteSchedule)).then(
        like(e.ScheduleDeleted, name="n"),
        like(e.BackfillStopped, name="n", backfill="b1", reason="its schedule was deleted"),
    )
    end(story, job_id)
    assert found(story).stopped
    story.when(apply()).when(backfill(3, "b2")).then(like(e.BackfillBegun))


# ---- the request


def test_a_repeated_request_is_refused_until_a_day_after_the_end():
    story = declared().when(backfill(1))
    story.when(backfill(1)).refused("REPEATED", "b1")
    story.when(backfill(2)).refused("IDENTITY_TAKEN", "b1")
    story.when(backfill(1, "b2")).refused("UNDER_WAY", "b1")
    (job_id,) = advance(story)
    end(story, job_id)
    advance(story)
    story.when(backfill(1)).refused("REPEATED")
    assert list(story.state.rows.scan(BACKFILLS.prefix, BACKFILLS.end))
    story.when(order(c.PauseSchedule)).when_due(NOW + COMMAND_ID_MEMORY_MS)
    assert not list(story.state.rows.scan(BACKFILLS.prefix, BACKFILLS.end))
    story.when(backfill(1)).then(like(e.BackfillBegun))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (backfill(command_id=""), ["command_id"]),
        (backfill(from_at=0), ["from_at"]),
        (backfill(max_active=0), ["max_active", "1 to 100"]),
        (backfill(max_active=101), ["max_active"]),
        (backfill(from_at=TO, to_at=TO - 1), ["to: expected 1970-01-01T00:16:00Z"]),
        (backfill(to_at=NOW + 1), ["to: expected a time that has passed"]),
        (backfill(from_at=TO + 1, to_at=TO + 2), ["expected an instant of q/n from"]),
        (order(c.StopBackfill, backfill="no name"), ["backfill"]),
    ],
)
def test_a_wrong_request_is_refused(wrong: c.Command, words: list[str]):
    declared().when(wrong).refused("INVALID", *words)


def test_a_request_needs_a_schedule_a_cluster_that_knows_it_and_room():
    given(FINAL).when(backfill()).refused("UNKNOWN_SCHEDULE")
    given(e.UpgradeFinalized(level=SHARING_LEVEL - 1, state_version=STATE_VERSION)).when(apply()).when(
        backfill()
    ).refused("NOT_YET_SUPPORTED")
    declared().when(backfill(), policy=msgspec.structs.replace(POLICY, overload="much waits")).refused("OVERLOADED")


# ---- any history


STEP = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, MINUTE, 7 * MINUTE])),
    st.tuples(st.just("backfill"), st.integers(0, 8)),
    st.tuples(st.just("slice"), st.integers(1, 3)),
    st.tuples(st.just("due"), st.integers(1, 9)),
    st.tuples(st.just("end"), st.integers(0, 40)),
    st.tuples(st.just("rerun"), st.integers(0, 40)),
    st.tuples(st.just("forget"), st.integers(0, 40)),
    st.tuples(st.just("stop"), st.just(0)),
    st.tuples(st.just("take over"), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@every(
    steps=st.lists(STEP, max_size=40),
    reprocess=st.sampled_from(Reprocess),
    max_active=st.integers(1, 3),
    overlap=st.sampled_from(Overlap),
)
def test_no_instant_has_two_jobs_and_no_more_runs_than_max_active_are_under_way(
    steps: list[tuple[str, int]], reprocess: Reprocess, max_active: int, overlap: Overlap
):
    story = declared(overlap=overlap, starting_deadline_ms=HOUR_MS)
    begun: dict[str, set[tuple[str, int]]] = {}
    """The runs that each backfill has begun."""
    there: set[str] = set()
    requests = 0

    def note(events: list[e.Event]) -> None:
        for event in events:
            if isinstance(event, e.JobSubmitted):
                assert event.job_id not in there, "an instant has two jobs"
                there.add(event.job_id)
            elif isinstance(event, e.BackfillAdvanced):
                runs = {(job_id, story.job(job_id).run) for job_id in event.jobs}
                begun.setdefault(event.backfill, set()).update(runs)

    def under_way(runs: set[tuple[str, int]]) -> int:
        jobs = [(story.state.job(f"q/{job_id}"), run) for job_id, run in runs]
        return sum(job is not None and job.run == run and job.state not in TERMINAL for job, run in jobs)

    for step, value in [*steps, ("slice", 9)]:
        ids = sorted(there)
        job_id = ids[value % len(ids)] if ids else ""
        if step == "wait":
            story.now += value
        elif step == "backfill":
            requests += 1
            to_at = story.now - value * MINUTE
            story.when(
                backfill(
                    command_id=f"b{requests}", reprocess=reprocess, max_active=max_active,
                    from_at=to_at - 5 * MINUTE, to_at=to_at,
                )
            )  # fmt: skip
        elif step == "due":
            for _ in range(value):
                story.when_due(story.now)
                assert isinstance(story.decided, list)
                note(story.decided)
        elif step == "slice":
            for _ in range(value):
                if story.state.processes():
                    note(slice_of(story))
        elif step == "end" and job_id and story.job(job_id).state not in TERMINAL | LIVE:
            end(story, job_id, well=value % 2 == 0)
        elif step == "rerun" and job_id and story.job(job_id).state in TERMINAL:
            story.when(c.RerunJob(queue="q", job_id=job_id, command_id=f"r{value}"))
        elif step == "forget" and job_id and story.job(job_id).state in TERMINAL:
            story.evolve(forgotten(job_id=job_id, at=story.now)).written()
            there.discard(job_id)
        elif step == "stop":
            story.when(order(c.StopBackfill, backfill=f"b{requests}"))
        elif step == "take over":
            story = story.taken_over()
        assert all(under_way(runs) <= max_active for runs in begun.values())
