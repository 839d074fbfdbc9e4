"""Windows that say `on_close: stop`: attempts that run when their queue may start no more are stopped, uncharged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st

from ftjm.core.decide.processes import LOOKED_MAX, ROWS_OF_A_STOP, next_slice
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import STOP_LEVEL
from ftjm.core.state.model import STATE_VERSION, Ahead, FailureReason, JobState, OnWorkerLoss, StopReason
from ftjm.core.state.outbox import StopMessage
from ftjm.core.state.processes import ProcessKind
from ftjm.core.state.queues import OnConflict, QueueSpec
from ftjm.core.state.windows import OnClose, WindowEffect, WindowSpec
from ftjm.core.windows import may_start_on, stops_on
from tests.core.resource_story import WINDOW, alone, apply, of
from tests.core.story import (
    NOW,
    POLICY,
    Like,
    Story,
    attempt_stopped,
    cancelled,
    checkpointed,
    command,
    dispatched,
    given,
    like,
    report,
    started,
    submit,
    submitted,
)
from tests.core.test_windows import DENY, HOUR_MS, MIDNIGHT, WINDOWS, starts, window

PROCESS = (ProcessKind.WINDOW_STOP, "")
STOPPED = report(c.FailAttempt, reason=FailureReason.STOPPED, signal=15, stdout=b"bye")
ASKED = like(e.JobStopRequested, reason=StopReason.WINDOW, job_id="a")


def stopping(hour: int = 8, hours: int = 1, **fields: Any) -> WindowSpec:
    return window(hour, hours, on_close=OnClose.STOP, **fields)


def told(name: str, spec: WindowSpec, revision: int = 1) -> c.AdoptResource:
    return c.AdoptResource(kind=WINDOW, name=name, revision=revision, spec=of(spec), labels={}, applied_at=1, home=1)


def running(story: Story, job_id: str = "a", worker: str = "w", **fields: Any) -> Story:
    """A job of queue `q` runs on a worker. The worker's session is `s` and its name, but `s1` of the worker `w`."""
    session = "s1" if worker == "w" else f"s-{worker}"
    return story.evolve(
        submitted(job_id=job_id, **fields),
        dispatched(job_id=job_id, session=session, worker=worker),
        started(job_id=job_id, session=session),
    ).written()


def with_windows(story: Story, hour: float = 0, **windows: WindowSpec) -> Story:
    for name, spec in windows.items():
        story.when(apply(name, spec), at=MIDNIGHT + int(hour * HOUR_MS))
    return story


def sliced(story: Story, rows: int = 1_000) -> list[e.Event]:
    """The events of one slice of the process."""
    events = next_slice(story.state, *PROCESS, rows, story.now, None)  # type: ignore[arg-type]
    story._record(events, e.Cause.CONTINUATION, "WINDOW_STOP/", "")
    return events


def worked(story: Story) -> list[e.Event]:
    """The requests to stop of all slices until the process has ended."""
    found: list[e.Event] = []
    while story.state.process(*PROCESS) is not None:
        found += [event for event in sliced(story) if isinstance(event, e.JobStopRequested)]
    return found


def being_stopped(**fields: Any) -> Story:
    """The job `a` runs, and is being stopped since its window closed at 9."""
    story = with_windows(running(alone(), **fields), 8, day=stopping(8))
    story.when_due(MIDNIGHT + 9 * HOUR_MS)
    worked(story)
    return story.job_is(JobState.RUNNING, stopping="WINDOW").sends(StopMessage)


def jobs_stopped(story: Story) -> set[str]:
    return {event.job_id for event in worked(story)}


# -- what is stopped


def test_an_attempt_is_stopped_when_its_window_closes_and_not_before():
    story = with_windows(running(alone()), 8, day=stopping(8))
    assert worked(story) == []
    story.when_due(MIDNIGHT + 9 * HOUR_MS)
    request, advanced = sliced(story)
    assert not ASKED.differs(request)
    assert not like(e.WindowStopsAdvanced, next_session="", next_job="").differs(advanced)
    assert story.state.process(*PROCESS) is None


def test_the_worker_gets_the_grace_of_the_job():
    story = being_stopped(cancel_grace_ms=77)
    (message,) = story.messages
    assert (message.session, message.attempt, message.reason, message.grace_ms) == ("s1", 1, "WINDOW", 77)


def test_a_window_that_says_finish_stops_nothing():
    story = with_windows(running(alone()), 8, day=window(8))
    story.when_due(MIDNIGHT + 9 * HOUR_MS)
    assert story.state.process(*PROCESS) is None


def test_a_window_that_denies_stops_when_it_opens():
    story = with_windows(running(alone()), night=stopping(22, effect=DENY))
    assert worked(story) == []
    story.when_due(MIDNIGHT + 22 * HOUR_MS)
    assert jobs_stopped(story) == {"a"}


def test_a_window_that_is_applied_while_it_is_closed_stops_at_once():
    assert jobs_stopped(with_windows(running(alone()), day=stopping(8))) == {"a"}


def test_a_window_that_says_stop_from_now_on_stops_at_once():
    story = with_windows(running(alone()), day=window(8))
    assert jobs_stopped(story) == set()
    assert jobs_stopped(with_windows(story, day=stopping(8))) == {"a"}


def test_all_windows_that_allow_must_be_closed_and_say_stop():
    story = with_windows(running(alone()), 8, day=stopping(8), longer=stopping(8, 2), evening=window(20))
    story.when_due(MIDNIGHT + 9 * HOUR_MS)
    assert jobs_stopped(story) == set()
    story.when_due(MIDNIGHT + 10 * HOUR_MS)
    assert jobs_stopped(story) == set()  # the window `evening` lets attempts finish
    story.when(c.DeleteResource(kind=WINDOW, name="evening"))
    assert jobs_stopped(story) == {"a"}


def test_where_no_window_says_stop_one_slice_is_enough():
    story = running(with_windows(alone(), 8, day=window(8)))
    story.when(c.DeleteResource(kind=WINDOW, name="day"))
    assert [type(event) for event in sliced(story)] == [e.WindowStopsAdvanced]
    assert story.state.process(*PROCESS) is None


def test_a_window_that_no_longer_allows_a_queue_leaves_it_to_the_others():
    story = with_windows(running(alone()), 8, day=window(8), late=stopping(20))
    assert jobs_stopped(story) == set()
    assert jobs_stopped(with_windows(story, 8, day=window(8, queues=["other"]))) == {"a"}


def test_only_queues_and_workers_that_the_window_is_about():
    story = alone()
    for job_id, worker in (("a", "big-1"), ("b", "small-1")):
        running(story, job_id, worker)
    story.evolve(submitted(job_id="o", at=NOW), dispatched(job_id="o", session="s-big-1", worker="big-1"))
    with_windows(story, big=stopping(8, workers=["big-*"]), other=stopping(8, queues=["r"]))
    assert jobs_stopped(story) == {"a", "o"}


def test_an_attempt_that_is_being_stopped_is_not_asked_again():
    story = running(alone())
    story.when(command(c.CancelJob))
    assert jobs_stopped(with_windows(story, day=stopping(8))) == set()
    story.job_is(stopping="CANCELLED")


def test_a_window_that_opens_meanwhile_stops_no_more():
    story = with_windows(running(alone()), 8, day=stopping(8))
    story.when_due(MIDNIGHT + 9 * HOUR_MS)
    story.when_due(MIDNIGHT + 32 * HOUR_MS)
    assert jobs_stopped(story) == set()
    assert story.job_is(JobState.RUNNING, stopping="").state.process(*PROCESS) is None


def test_a_window_that_is_deleted_meanwhile_stops_no_more():
    story = with_windows(running(alone()), day=stopping(8))
    story.when(c.DeleteResource(kind=WINDOW, name="day"))
    assert jobs_stopped(story) == set()


def test_windows_that_the_home_does_not_name_stop_no_more_and_leave_it_to_the_others():
    story = running(alone())
    for revision, (name, spec) in enumerate({"day": window(8), "late": stopping(20)}.items(), 1):
        story.when(told(name, spec, revision), at=MIDNIGHT + 8 * HOUR_MS)
    assert jobs_stopped(story) == set()
    story.when(c.ReconcileResources(names=["Window/late"], home=1))
    assert jobs_stopped(story) == {"a"}


def test_slices_go_over_all_attempts_and_each_is_bounded():
    story = alone()
    for number in range(7):
        running(story, f"a{number}", f"w{number % 3}")
    with_windows(story, day=stopping(8))
    slices = []
    while story.state.process(*PROCESS) is not None:
        slices.append(sliced(story, rows=3 * ROWS_OF_A_STOP))
    assert [len(events) for events in slices] == [4, 4, 2]
    assert [event.next_job for event in (events[-1] for events in slices)] == ["q/a1", "q/a5", ""]  # type: ignore[attr-defined]
    assert {event.job_id for events in slices for event in events[:-1]} == {f"a{number}" for number in range(7)}


def test_a_slice_looks_at_no_more_than_it_may():
    story = alone().evolve(*(submitted(job_id=f"a{number}") for number in range(LOOKED_MAX + 1)))
    story.evolve(*(dispatched(job_id=f"a{number}", worker="small") for number in range(LOOKED_MAX + 1))).written()
    with_windows(story, day=stopping(8, workers=["big"]))
    (first,) = sliced(story)
    assert (first.next_session, bool(first.next_job)) == ("s1", True)  # type: ignore[attr-defined]
    assert [len(sliced(story)), story.state.process(*PROCESS)] == [1, None]


def test_a_window_that_turns_meanwhile_begins_again_with_the_first_attempt():
    story = running(running(alone(), "b", "w1"), "c", "w2")
    with_windows(story, day=stopping(8, workers=["w2"]))
    with_windows(story, other=stopping(8, workers=["w1"]))
    sliced(story, rows=ROWS_OF_A_STOP)
    story.evolve(submitted(), dispatched(), started()).written()
    with_windows(story, every=stopping(9))
    assert jobs_stopped(story) == {"a", "c"}
    assert {job: story.job(job).stopping for job in "abc"} == dict.fromkeys("abc", "WINDOW")


def test_another_owner_goes_on_where_the_last_one_was():
    story = running(running(alone(), "b", "w1"), "c", "w2")
    with_windows(story, day=stopping(8))
    sliced(story, rows=ROWS_OF_A_STOP)
    assert jobs_stopped(story.taken_over()) == {"c"}


def test_below_its_level_nothing_begins_and_apply_is_refused():
    story = Story().evolve(e.UpgradeFinalized(level=STOP_LEVEL - 1, state_version=STATE_VERSION, at=NOW))
    running(story)
    story.when(apply("day", stopping(8))).refused("NOT_YET_SUPPORTED", f"level {STOP_LEVEL}", "ApplyResource")
    story.when(told("day", stopping(8))).refused("NOT_YET_SUPPORTED", "AdoptResource")  # the home tells it again
    story.when(told("day", window(8))).then(like(e.ResourceAdopted), like(e.WindowTurned))
    adopted = e.ResourceAdopted(
        kind=WINDOW, name="day", revision=2, spec=of(stopping(8)), labels={}, applied_at=1, home=1, at=NOW
    )
    story.evolve(adopted, e.WindowTurned(name="day", open=False, until=0, tzdata="", at=NOW)).written()
    assert story.state.process(*PROCESS) is None


# -- what becomes of the job


def test_a_stopped_attempt_goes_back_uncharged_and_keeps_its_checkpoint():
    story = being_stopped(deadline_at=MIDNIGHT + 99 * HOUR_MS)
    story.evolve(checkpointed()).written()
    story.when(STOPPED).then(like(e.AttemptStopped, attempt=1, session="s1", signal=15, stdout=b"bye", run=1))
    story.job_is(
        JobState.READY, failures=0, losses=0, session="", stopping="", reason="", deadline_at=MIDNIGHT + 99 * HOUR_MS
    )
    assert story.job().checkpoint_at
    assert [starts(story, hour) for hour in (9, 31, 32)] == [False, False, True]


def test_a_stopped_job_has_its_place_of_before():
    story = being_stopped()
    story.evolve(submitted(job_id="b", at=MIDNIGHT)).written().when(STOPPED)
    assert story.job("a").score < story.job("b").score


def test_the_output_of_a_stopped_attempt_is_limited():
    story = being_stopped().when(report(c.FailAttempt, reason=FailureReason.STOPPED, stdout=b"x" * 200_000))
    limit = POLICY.inline_bytes_max
    story.then(like(e.AttemptStopped, stdout=b"x" * limit, stdout_cut=200_000 - limit))


def test_a_worker_that_does_not_hold_the_attempt_ends_it_too():
    being_stopped().when(report(c.FailAttempt, reason=FailureReason.STOPPED, started_at=0, ended_at=0)).then(
        like(e.AttemptStopped, started_at=0, ended_at=0)
    ).job_is(JobState.READY)


def test_a_success_meanwhile_counts():
    being_stopped().when(report(c.CompleteAttempt)).then(like(e.AttemptSucceeded)).job_is(JobState.SUCCEEDED)


@pytest.mark.parametrize(
    ("attempts", "follows", "state"),
    [
        (2, [like(e.AttemptFailed)], JobState.RETRY_WAIT),
        (1, [like(e.AttemptFailed), like(e.JobFailed)], JobState.FAILED),
    ],
)
def test_a_failure_meanwhile_is_charged(attempts: int, follows: list[Like], state: JobState):
    story = being_stopped(max_attempts=attempts).when(report(c.FailAttempt)).then(*follows)
    story.job_is(state, failures=1, stopping="", reason="EXIT_CODE")


@pytest.mark.parametrize(
    ("choice", "state"),
    [
        (OnWorkerLoss.REQUEUE, JobState.READY),
        (OnWorkerLoss.HOLD, JobState.HELD),
        (OnWorkerLoss.FAIL, JobState.FAILED),
    ],
)
def test_a_loss_meanwhile_is_handled_as_ever(choice: OnWorkerLoss, state: JobState):
    story = being_stopped(on_worker_loss=choice).when_silent("s1", 9_000)
    story.job_is(state, losses=1, stopping="")


def test_an_attempt_that_comes_back_unstarted_is_not_charged():
    story = with_windows(alone().evolve(submitted(), dispatched(ahead=True)).written(), day=stopping(8))
    assert jobs_stopped(story) == {"a"}
    story.when(report(c.DeclineAttempt)).then(like(e.AttemptDeclined))
    story.job_is(JobState.READY, failures=0, stopping="", session="", ahead=Ahead.NEVER)


def test_an_attempt_that_was_sent_ahead_and_is_stopped_has_started():
    story = with_windows(alone().evolve(submitted(), dispatched(ahead=True)).written(), day=stopping(8))
    assert jobs_stopped(story) == {"a"}
    story.when(STOPPED).job_is(JobState.READY, ahead=Ahead.NO)


def test_a_stop_that_no_window_has_asked_for_fails_the_attempt():
    running(alone(), max_attempts=2).when(STOPPED).then(like(e.AttemptFailed, reason=FailureReason.STOPPED))


def test_a_cancel_meanwhile_wins():
    story = being_stopped(deadline_at=MIDNIGHT + 99 * HOUR_MS).when(command(c.CancelJob, reason="enough"))
    story.then(like(e.JobStopRequested, reason=StopReason.CANCELLED, text="enough")).sends(StopMessage)
    story.job_is(JobState.RUNNING, stopping="CANCELLED", deadline_at=0)
    story.when(STOPPED).then(like(e.AttemptFailed), like(e.JobCancelled)).job_is(JobState.CANCELLED, stopping="")


def test_a_deadline_meanwhile_wins():
    story = being_stopped(deadline_at=MIDNIGHT + 10 * HOUR_MS).job_is(deadline_at=MIDNIGHT + 10 * HOUR_MS)
    story.when_due(MIDNIGHT + 10 * HOUR_MS).then(like(e.JobStopRequested, reason=StopReason.DEADLINE))
    story.when(STOPPED).then(like(e.AttemptFailed), like(e.JobFailed, reason="DEADLINE")).job_is(JobState.FAILED)


def test_a_deadline_that_passes_behind_the_stop_fails_the_job_that_waits():
    story = being_stopped(deadline_at=MIDNIGHT + 10 * HOUR_MS).when(STOPPED).job_is(JobState.READY)
    story.when_due(MIDNIGHT + 10 * HOUR_MS).then(like(e.JobFailed, reason="DEADLINE")).job_is(JobState.FAILED)


def test_a_late_report_of_the_stopped_attempt_is_stale():
    being_stopped().when(STOPPED).when(report(c.CompleteAttempt)).refused("STALE_ATTEMPT")


# -- beside other rules


def with_key(on_conflict: OnConflict) -> Story:
    story = running(alone(), concurrency_key="k", priority=10)
    story.when(c.ApplyQueue(queue="q", spec=QueueSpec(key_concurrency=1, on_conflict=on_conflict)))
    story.when(apply("day", stopping(8)), at=NOW)
    assert jobs_stopped(story) == {"a"}
    return story


def test_a_stopped_job_gives_its_key_to_one_that_comes_before_it():
    story = with_key(OnConflict.WAIT).when(submit("b", concurrency_key="k", priority=90, retention_ms=1))
    assert story.job("b").state is JobState.PENDING
    story.when(STOPPED)
    assert [story.job(job).state for job in "ab"] == [JobState.PENDING, JobState.READY]


def test_a_stopped_job_keeps_its_key_before_a_worse_one():
    story = with_key(OnConflict.WAIT).when(submit("b", concurrency_key="k", priority=0, retention_ms=1)).when(STOPPED)
    assert [story.job(job).state for job in "ab"] == [JobState.READY, JobState.PENDING]


def test_a_newer_job_of_the_key_replaces_one_that_is_being_stopped():
    story = with_key(OnConflict.REPLACE).when(submit("b", concurrency_key="k", retention_ms=1))
    assert any(isinstance(event, e.JobStopRequested) and event.reason == "CANCELLED" for event in story.decided)  # type: ignore[union-attr]
    story.job_is(stopping="CANCELLED").when(STOPPED)
    assert [story.job(job).state for job in "ab"] == [JobState.CANCELLED, JobState.READY]


def test_the_share_of_a_stopped_job_is_charged_for_what_it_took():
    story = being_stopped(share_identifier="s")
    charged = story.state.share("q", "s")
    assert charged is not None
    assert (charged.live, charged.usage > 2_000) == (1, True)
    at = story.job().dispatched_at
    story.when(report(c.FailAttempt, reason=FailureReason.STOPPED, started_at=NOW, ended_at=NOW + 2), at=at + 50)
    corrected = story.state.share("q", "s")
    assert corrected is not None
    assert (corrected.live, corrected.usage, corrected.mean) == (0, 2_000, charged.mean)


def test_a_job_that_has_ended_cannot_be_stopped():
    story = given(submitted(), cancelled())
    with pytest.raises(AssertionError):
        story.evolve(attempt_stopped())


# -- properties


STOPPING_WINDOWS = WINDOWS.map(list) | st.lists(
    WINDOWS.flatmap(lambda found: st.sampled_from(found) if found else st.nothing()).flatmap(
        lambda one: st.sampled_from(OnClose).map(lambda close: one._replace(spec=_closing(one.spec, close)))
    ),
    max_size=5,
)


def _closing(spec: WindowSpec, on_close: OnClose) -> WindowSpec:
    return WindowSpec(spec.cron, spec.duration_ms, spec.effect, workers=spec.workers, on_close=on_close)


@every(STOPPING_WINDOWS)
def test_where_attempts_are_stopped_none_may_start(windows):
    for worker in ("a", "b", "c"):
        assert not (stops_on(windows, worker) and may_start_on(windows, worker))


@every(STOPPING_WINDOWS)
def test_where_all_windows_say_stop_attempts_run_exactly_where_they_may_start(windows):
    all_stop = [one._replace(spec=_closing(one.spec, OnClose.STOP)) for one in windows]
    for worker in ("a", "b", "c"):
        assert stops_on(all_stop, worker) != may_start_on(all_stop, worker)


SPECS = st.builds(
    window,
    st.sampled_from([0, 12]),
    st.just(12),
    effect=st.sampled_from([WindowEffect.ALLOW, WindowEffect.ALLOW, DENY]),
    workers=st.sampled_from([[], [], ["w1"]]),
    on_close=st.sampled_from(OnClose),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["apply", "delete", "hours", "run", "run", "stop", "slice"]),
        st.sampled_from(["m", "n"]),
        SPECS,
        st.integers(0, 1),
    ),
    max_size=15,
)


@every(st.tuples(SPECS, SPECS), STEPS)
@settings(max_examples=300, deadline=None)
def test_behind_the_process_every_attempt_is_stopped_that_its_windows_stop(specs, steps):
    """Each batch is checked: `consistency.py` has the rule."""
    hour = 6
    story = with_windows(alone(), hour, m=specs[0], n=specs[1])
    worked(story)
    for number, (what, name, spec, worker_no) in enumerate(steps):
        if what == "apply":
            with_windows(story, hour, **{name: spec})
        elif what == "delete":
            story.when(c.DeleteResource(kind=WINDOW, name=name))
        elif what == "hours":
            hour += 12
            story.when_due(MIDNIGHT + hour * HOUR_MS)
        elif what == "run":
            story.evolve(submitted(job_id=f"a{number}", at=story.now)).written()
            if starts(story, hour, worker := f"w{worker_no}"):
                about = {"job_id": f"a{number}", "session": f"s-{worker}", "at": story.now}
                story.evolve(dispatched(worker=worker, **about), started(**about)).written()
        elif what == "stop":
            for key in list(story.state.held_attempts("", "")):
                job = story.state.job(key[1])
                if job is not None and job.stopping:
                    job_id = key[1].partition("/")[2]
                    story.when(report(c.FailAttempt, reason=FailureReason.STOPPED, job_id=job_id, session=key[0]))
                    story.then(like(e.AttemptStopped)).job_is_of(job_id, state=JobState.READY, failures=0, losses=0)
        elif story.state.process(*PROCESS) is not None:
            sliced(story, rows=ROWS_OF_A_STOP)
    worked(story)
