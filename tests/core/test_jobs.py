"""What people do with a job, from its submission to the day it is forgotten."""

import msgspec
import pytest

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.decide import Policy
from ftjm.core.evolve import COMMAND_ID_MEMORY_MS, WAITERS_MAX
from ftjm.core.model import JobState, MessageKind, StopReason
from ftjm.core.submission import TIME_MAX_MS
from tests.core.story import (
    HOUR_MS,
    NOW,
    POLICY,
    TOLD,
    attempt_failed,
    attempt_lost,
    cancelled,
    command,
    dispatched,
    failed,
    given,
    held,
    like,
    queued,
    rerun,
    spec,
    started,
    stop_requested,
    submit,
    submitted,
    succeeded,
)

# -- submissions


def test_a_job_is_ready_at_once():
    story = given().when(submit(), at=NOW)
    story.then(like(e.JobSubmitted, queue="q", job_id="a", run=1, due_at=0, deadline_at=0))
    story.job_is(JobState.READY, submitted_at=NOW, ready_at=NOW, attempt=0, retention_ms=POLICY.retention_ms)


def test_where_there_is_no_room_new_jobs_are_refused_and_known_ones_are_answered():
    full = msgspec.structs.replace(POLICY, overload="the disk is 96 % full")
    story = given(submitted()).when(submit(job_id="b"), policy=full).refused("OVERLOADED", "96 % full", "15 s")
    story.when(submit(), policy=full).then(like(e.SubmissionRepeated))
    story.when(command(c.CancelJob), policy=full).then(like(e.JobCancelled))


def test_a_job_may_keep_its_own_retention():
    given().when(submit(retention_ms=7)).job_is(retention_ms=7)


def test_a_delay_counts_from_the_submission_and_wins_over_a_start_time():
    story = given().when(submit(delay_ms=500, start_at=NOW + 9_000), at=NOW)
    story.then(like(e.JobSubmitted, due_at=NOW + 500)).job_is(JobState.SCHEDULED).has_timers(NOW + 500)
    story.when_due(NOW + 500).then(like(e.JobQueued)).job_is(JobState.READY, due_at=0).has_timers()


def test_a_start_time_that_has_passed_is_now():
    given().when(submit(start_at=NOW), at=NOW).then(like(e.JobSubmitted, due_at=0)).job_is(JobState.READY)


def test_a_held_job_waits_for_its_release_and_then_for_its_time():
    story = given().when(submit(held=True, delay_ms=500), at=NOW).job_is(JobState.HELD).has_timers()
    story.when(command(c.ReleaseJob)).then(like(e.JobReleased)).job_is(JobState.SCHEDULED).has_timers(NOW + 500)


def test_the_same_submission_again_is_the_same_job_also_later():
    story = given().when(submit(delay_ms=500), at=NOW)
    story.when(submit(delay_ms=500), at=NOW + 100).then(like(e.SubmissionRepeated, run=1))
    story.job_is(JobState.SCHEDULED, due_at=NOW + 500)


def test_the_same_identity_with_other_content_is_refused():
    given(submitted()).when(submit(priority=51)).refused("IDENTITY_TAKEN", "q/a", "differs")


def test_an_identity_is_free_once_its_job_is_forgotten():
    story = given(submitted(), cancelled()).when_due(NOW + HOUR_MS).then(like(e.JobForgotten))
    story.when(submit(priority=51)).then(like(e.JobSubmitted, run=1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("executor", "container"),
        ("command", []),
        ("command", [""]),
        ("priority", -1),
        ("priority", 101),
        ("max_attempts", 0),
        ("backoff_factor", 0.5),
        ("backoff_factor", 1e300),
        ("backoff_factor", float("nan")),
        ("backoff_factor", float("inf")),
        ("worker_losses_max", -1),
        ("payload", b"x" * 1_001),
        ("command", ["x" * 1_001]),
        ("environment", {"A": "x" * 1_001}),
        ("environment", {"A=B": ""}),
        ("environment", {"": ""}),
        ("environment", {"A\0": ""}),
        ("labels", {"not a name": ""}),
        ("delay_ms", -1),
        ("start_at", TIME_MAX_MS + 1),
        ("timeout_ms", -1),
        ("deadline_ms", -1),
        ("deadline_at", -1),
        ("backoff_ms", -1),
        ("backoff_max_ms", -1),
        ("continue_for_ms", -1),
        ("cancel_grace_ms", -1),
        ("retention_ms", -1),
    ],
)
def test_a_submission_that_makes_no_sense_is_refused_by_field(field, value):
    given().when(submit(**{field: value})).refused("INVALID", field, "expected")


def test_what_is_at_the_limit_is_accepted():
    given().when(submit(payload=b"x" * 1_000, priority=100, backoff_factor=1_000.0)).then(like(e.JobSubmitted))


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "ü", "x" * 129, "a\n"])
def test_what_is_no_name_is_refused(name):
    given().when(command(c.CancelJob, job_id=name)).refused("BAD_NAME")
    given().when(command(c.CancelJob, queue=name)).refused("BAD_NAME")


def test_a_shard_of_a_queue_without_shards_is_refused():
    given().when(command(c.CancelJob, shard_key="q#1")).refused("INVALID", "shard_key")


@pytest.mark.parametrize("kind", [c.CancelJob, c.HoldJob, c.ReleaseJob, c.RerunJob])
def test_what_is_wanted_of_an_unknown_job_is_refused(kind):
    given().when(command(kind)).refused("UNKNOWN_JOB", "q/a")


# -- holding


def test_a_ready_job_is_held_and_released():
    story = given(submitted(), submitted(job_id="b")).when(command(c.HoldJob, reason="lunch"))
    story.then(like(e.JobHeld, reason="lunch")).job_is(JobState.HELD, reason="lunch")
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["b"]
    story.when(command(c.ReleaseJob)).job_is(JobState.READY, reason="")
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["a", "b"], "it keeps its place"


def test_a_job_in_backoff_is_held_and_goes_back_into_it():
    story = given(submitted(), dispatched(), attempt_failed(retry_at=NOW + 300)).has_timers(NOW + 300)
    story.when(command(c.HoldJob)).job_is(JobState.HELD).has_timers()
    story.when(command(c.ReleaseJob)).job_is(JobState.RETRY_WAIT).has_timers(NOW + 300)
    story.when(command(c.HoldJob)).when(command(c.ReleaseJob), at=NOW + 301).job_is(JobState.READY)


def test_only_a_job_that_waits_is_held_and_only_a_held_one_released():
    story = given(submitted(), dispatched()).when(command(c.HoldJob)).refused("WRONG_STATE", "waiting", "DISPATCHED")
    story.when(command(c.ReleaseJob)).refused("WRONG_STATE", "HELD", "DISPATCHED")


# -- cancelling


@pytest.mark.parametrize(
    "before",
    [
        [submitted()],
        [submitted(due_at=NOW + 5)],
        [submitted(), held()],
        [submitted(), dispatched(), attempt_failed(retry_at=NOW + 5)],
    ],
    ids=["ready", "scheduled", "held", "in backoff"],
)
def test_a_job_that_does_not_run_is_cancelled_at_once(before):
    story = given(*before).when(command(c.CancelJob, reason="no more")).then(like(e.JobCancelled, reason="no more"))
    story.job_is(JobState.CANCELLED, reason="no more", ended_at=NOW).has_timers(NOW + HOUR_MS)


def test_a_job_that_runs_is_asked_to_stop():
    story = given(submitted(cancel_grace_ms=77), dispatched(), started()).when(command(c.CancelJob, reason="no more"))
    wanted = like(e.JobStopRequested, attempt=1, reason=StopReason.CANCELLED, text="no more", grace_ms=77)
    story.then(wanted).job_is(JobState.RUNNING, stopping="CANCELLED").tells(MessageKind.STOP)
    assert (story.said[0].destination, story.said[0].number, story.said[0].lane) == ("s1", 2, 3)


def test_a_job_that_has_ended_is_not_cancelled():
    given(submitted(), cancelled()).when(command(c.CancelJob)).refused("WRONG_STATE", "not ended", "CANCELLED")


# -- deadlines


def test_a_job_that_waits_past_its_deadline_fails():
    story = given().when(submit(deadline_ms=900), at=NOW).has_timers(NOW + 900)
    story.when_due(NOW + 900).then(like(e.JobFailed, reason="DEADLINE")).job_is(JobState.FAILED, reason="DEADLINE")


def test_a_held_job_fails_at_its_deadline_too():
    given(submitted(deadline_at=NOW + 9), held()).when_due(NOW + 9).then(like(e.JobFailed)).job_is(JobState.FAILED)


def test_a_job_that_runs_past_its_deadline_is_asked_to_stop_once():
    story = given(submitted(deadline_at=NOW + 9, cancel_grace_ms=77), dispatched()).when_due(NOW + 9)
    story.then(like(e.JobStopRequested, reason=StopReason.DEADLINE, grace_ms=77)).has_timers()
    story.job_is(JobState.DISPATCHED, stopping="DEADLINE", deadline_at=0).when_due(NOW + 99).then_nothing()


def test_a_deadline_has_no_more_to_say_once_the_job_is_being_stopped():
    story = given(submitted(deadline_at=NOW + 9), dispatched(), started()).when(command(c.CancelJob)).has_timers()
    story.job_is(JobState.RUNNING, stopping="CANCELLED", deadline_at=0)


def test_a_job_that_ends_in_time_has_no_deadline_any_more():
    story = given(submitted(deadline_at=NOW + 9), dispatched(), started(), succeeded()).has_timers(NOW + HOUR_MS)
    story.job_is(JobState.SUCCEEDED, deadline_at=NOW + 9)


def test_a_start_time_and_a_deadline_at_one_moment():
    story = given(submitted(due_at=NOW + 9, deadline_at=NOW + 9)).when_due(NOW + 9)
    story.then(like(e.JobQueued), like(e.JobFailed)).job_is(JobState.FAILED)


# -- running again


ENDED = [submitted(), dispatched(), started(), attempt_failed(exit_code=3, error="sad"), failed()]


def test_an_ended_job_begins_a_new_run_with_attempts_that_go_on_counting():
    story = given(*ENDED).job_is(JobState.FAILED, failures=1)
    assert story.state.outcome("q/a").error == "sad"
    story.when(command(c.RerunJob, command_id="wish-1", reason="fixed"), at=NOW + 5)
    story.then(like(e.JobRerun, run=2, command_id="wish-1", reason="fixed", deadline_at=0))
    story.job_is(JobState.READY, run=2, attempt=1, failures=0, losses=0, reason="", ended_at=0)
    story.has_timers(NOW + 5 + COMMAND_ID_MEMORY_MS)
    assert story.state.outcome("q/a").error == ""


def test_a_rerun_joins_the_end_of_its_priority():
    story = given(*ENDED, submitted(job_id="b")).when(command(c.RerunJob, command_id="wish-1"))
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["b", "a"]


def test_a_rerun_counts_its_deadline_anew_and_passes_over_one_that_is_over():
    relative = given(submitted(deadline_ms=900, deadline_at=NOW + 900), cancelled())
    relative.when(command(c.RerunJob, command_id="wish-1"), at=NOW + 5_000).job_is(deadline_at=NOW + 5_900)
    relative.when_due(NOW + 5_900).then(like(e.JobFailed, run=2, reason="DEADLINE"))
    over = given(submitted(deadline_at=NOW + 9), cancelled())
    over.when(command(c.RerunJob, command_id="wish-1"), at=NOW + 9).then(like(e.JobRerun, deadline_at=0))


def test_a_wish_is_carried_out_once_within_a_day():
    story = given(*ENDED, rerun(), cancelled(run=2))
    again = command(c.RerunJob, command_id="wish-1")
    story.when(again).refused("REPEATED", "wish-1")
    # The ended job would be forgotten after an hour: it is run again by another wish, so that it is still there.
    story.when(command(c.RerunJob, command_id="wish-2"), at=NOW + 1).when(command(c.HoldJob))
    story.when_due(NOW + COMMAND_ID_MEMORY_MS).then(like(e.CommandIdForgotten, command_id="wish-1"))
    story.when(again).refused("WRONG_STATE", "ended", "HELD")


def test_a_rerun_needs_a_name_for_the_wish_and_a_job_that_has_ended():
    story = given(submitted()).when(command(c.RerunJob)).refused("INVALID", "command_id")
    story.when(command(c.RerunJob, command_id="x y")).refused("INVALID", "command_id")
    story.when(command(c.RerunJob, command_id="wish-1")).refused("WRONG_STATE", "ended", "READY")


# -- forgetting


def test_an_ended_job_leaves_the_store_after_its_retention():
    story = given(*ENDED).has_timers(NOW + HOUR_MS)
    story.when_due(NOW + HOUR_MS).then(like(e.JobForgotten, run=1)).has_timers()
    assert story.state.job("q/a") is None
    assert {key[:1] for key, _ in story.store.scan(b"\0", b"\xff")} == {b"o", b"q", b"w", b"x"}


# -- who waits for the outcome


def test_who_submits_is_answered_and_told_the_outcome_if_it_waits():
    story = given().when(submit(awaits=True), reply=TOLD).tells(MessageKind.REPLY).job_is(waiters=[TOLD])
    assert (story.said[0].state, story.said[0].code, story.said[0].run) == (JobState.READY, "", 1)
    story.when(command(c.CancelJob, reason="no more"), reply="1/other/2").job_is(waiters=[])
    story.tells(MessageKind.OUTCOME, MessageKind.REPLY)
    outcome, reply = story.said
    assert (outcome.destination, outcome.state, outcome.code) == (TOLD, JobState.CANCELLED, "no more")
    assert (reply.destination, reply.state) == ("1/other/2", JobState.CANCELLED)


def test_who_does_not_wait_is_answered_only():
    given().when(submit(), reply=TOLD).tells(MessageKind.REPLY).job_is(waiters=[])


def test_waiting_without_an_address_is_not_waiting():
    given().when(submit(awaits=True)).tells().job_is(waiters=[]).when(submit(awaits=True)).tells().job_is(waiters=[])


def test_a_repeated_submission_may_wait_too_and_nobody_waits_twice():
    story = given().when(submit(awaits=True), reply=TOLD).when(submit(), reply="1/x/1").job_is(waiters=[TOLD])
    story.when(submit(awaits=True), reply="0/second/1").when(submit(awaits=True), reply=TOLD)
    story.job_is(waiters=["0/second/1", TOLD])


def test_of_many_that_wait_the_newest_are_told():
    story = given(submitted())
    for i in range(WAITERS_MAX + 2):
        story.when(submit(awaits=True), reply=f"0/client/{i}")
    story.job_is(waiters=[f"0/client/{i}" for i in range(2, WAITERS_MAX + 2)])


def test_a_job_that_has_ended_tells_its_outcome_to_who_asks_again():
    story = given(submitted(), dispatched(), succeeded(result=b"42", exit_code=0))
    story.when(submit(awaits=True), reply=TOLD).tells(MessageKind.OUTCOME, MessageKind.REPLY)
    assert (story.said[0].body, story.said[0].state) == (b"42", JobState.SUCCEEDED)


def test_a_refusal_is_an_answer_and_changes_nothing_else():
    story = given(submitted()).evolve(e.CommandRejected(queue="q", job_id="a", code="WHY", text="so", reply=TOLD))
    story.written().tells(MessageKind.REPLY).job_is(JobState.READY)
    assert (story.said[0].code, story.said[0].text, story.said[0].state) == ("WHY", "so", JobState.READY)


def test_a_refusal_about_a_job_that_does_not_exist_tells_no_state():
    story = given().evolve(e.CommandRejected(queue="q", job_id="a", run=3, code="WHY", text="so", reply=TOLD)).written()
    assert (story.said[0].state, story.said[0].run) == (0, 3)


# -- what cannot have happened


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], queued()),
        ([submitted()], queued()),
        ([submitted(), dispatched()], held()),
        ([submitted(), dispatched()], cancelled()),
        ([submitted(), dispatched()], dispatched(attempt=3)),
        ([submitted()], stop_requested()),
        ([submitted(), dispatched()], started(attempt=2)),
        ([submitted(), dispatched()], started(session="s2")),
        ([submitted(), dispatched(), succeeded()], succeeded()),
        ([submitted(), dispatched(), attempt_lost(retry_at=NOW)], succeeded()),
        ([submitted()], rerun()),
        ([submitted(), cancelled()], rerun(run=3)),
        ([], e.WorkerLost(session="s1")),
        ([], e.ForwardReceived(source=1, number=0)),
    ],
)
def test_a_history_that_cannot_be_stops_the_partition(before, event):
    with pytest.raises(AssertionError):
        given(*before).evolve(event)


# -- between partitions


def test_what_goes_to_another_partition_is_numbered():
    story = given(e.CommandForwarded(partition=2, body=b"1", reply_to=TOLD), e.CommandForwarded(partition=2, body=b"2"))
    assert [(m.kind, m.destination, m.number, m.body, m.reply) for m in story.said] == [
        (MessageKind.FORWARD, "2", 1, b"1", TOLD),
        (MessageKind.FORWARD, "2", 2, b"2", ""),
    ]
    assert story.state.peer(2).sent == 2


def test_what_comes_from_another_partition_is_counted():
    story = given(e.ForwardReceived(source=1, number=1), e.ForwardReceived(source=1, number=4))
    assert story.state.peer(1).received == 4


def test_the_content_is_what_the_user_gave():
    first = given().when(submit(labels={"x": "1", "y": "2"})).job().content
    second = given().when(submit(labels={"y": "2", "x": "1"}), policy=Policy(0, 1, retention_ms=5)).job().content
    assert first == second
    assert msgspec.structs.replace(spec(), priority=51) != spec()
