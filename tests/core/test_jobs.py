"""Commands of users about a job, from its submission until it is forgotten."""

from typing import Any

import msgspec
import pytest

from ftjm.core.decide.decision import Policy
from ftjm.core.decide.handlers import decide
from ftjm.core.evolve.jobs import WAITERS_MAX
from ftjm.core.identity import CONTENT_VERSION, content_hash, pack_content, unpack_content
from ftjm.core.limits import COMMAND_ID_MEMORY_MS, CONTINUE_FOR_MAX_MS, TIME_MAX_MS
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import STATE_VERSION, Finalized, JobSpec, JobState, StopReason
from ftjm.core.state.outbox import ForwardMessage, OutcomeMessage, ReplyMessage, StopMessage
from tests.core.story import (
    HOUR_MS,
    NOW,
    POLICY,
    REPLY_TO,
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


def test_an_overloaded_partition_refuses_new_jobs_and_answers_known_ones():
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


def test_a_repeated_submission_is_the_same_job_even_later():
    story = given().when(submit(delay_ms=500), at=NOW)
    story.when(submit(delay_ms=500), at=NOW + 100).then(like(e.SubmissionRepeated, run=1))
    story.job_is(JobState.SCHEDULED, due_at=NOW + 500)


def test_the_same_identity_with_other_content_is_refused():
    given(submitted()).when(submit(priority=51)).refused("IDENTITY_TAKEN", "q/a", "differs")


def test_an_identity_is_free_once_its_job_is_forgotten():
    story = given(submitted(), cancelled()).when_due(NOW + HOUR_MS).then(like(e.JobForgotten))
    story.when(submit(priority=51)).then(like(e.JobSubmitted, run=1))


def test_a_queue_counts_the_jobs_that_are_left_when_one_is_forgotten():
    story = given(submitted(), submitted(job_id="b", retention_ms=2 * HOUR_MS), cancelled(), cancelled(job_id="b"))
    story.when_due(NOW + HOUR_MS).then(like(e.JobForgotten, job_id="a"))
    (queue,) = story.state.queues()
    assert (queue[0], sum(queue[1].counts)) == ("q", 1)
    story.when_due(NOW + 2 * HOUR_MS).then(like(e.JobForgotten, job_id="b"))
    assert not list(story.state.queues())


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
        ("continue_for_ms", CONTINUE_FOR_MAX_MS + 1),
        ("cancel_grace_ms", -1),
        ("retention_ms", -1),
    ],
)
def test_an_invalid_submission_is_refused_and_its_field_named(field, value):
    given().when(submit(**{field: value})).refused("INVALID", field, "expected")


def test_values_at_their_limits_are_accepted():
    limits: dict[str, Any] = {"payload": b"x" * 1_000, "priority": 100, "backoff_factor": 1_000.0}
    given().when(submit(**limits, continue_for_ms=CONTINUE_FOR_MAX_MS)).then(like(e.JobSubmitted))


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-a", "ü", "x" * 129, "a\n"])
def test_an_invalid_name_is_refused(name):
    given().when(command(c.CancelJob, job_id=name)).refused("BAD_NAME")
    given().when(command(c.CancelJob, queue=name)).refused("BAD_NAME")


def test_a_shard_of_a_queue_without_shards_is_refused():
    given().when(command(c.CancelJob, shard_key="q#1")).refused("INVALID", "shard_key")


def test_a_question_about_a_job_never_creates_one():
    question = command(c.AwaitJob, spec=spec(retention_ms=0))
    given().when(question, reply=REPLY_TO).refused("UNKNOWN_JOB", "q/a")
    story = given(submitted(retention_ms=HOUR_MS)).when(submit(retention_ms=HOUR_MS))
    known = msgspec.structs.replace(question, spec=spec())
    story.when(known, reply=REPLY_TO).then(like(e.SubmissionRepeated, awaits=True, run=1)).job_is(waiters=(REPLY_TO,))
    other = msgspec.structs.replace(question, spec=spec(priority=7))
    story.when(other).refused("IDENTITY_TAKEN")
    full = msgspec.structs.replace(POLICY, overload="the disk is full")
    story.when(known, policy=full).then(like(e.SubmissionRepeated))
    ended = given(submitted(retention_ms=1), cancelled()).when_due(NOW + 1).then(like(e.JobForgotten))
    ended.when(msgspec.structs.replace(question, spec=spec(retention_ms=1))).refused("UNKNOWN_JOB")


@pytest.mark.parametrize("kind", [c.CancelJob, c.HoldJob, c.ReleaseJob, c.RerunJob])
def test_a_command_for_an_unknown_job_is_refused(kind):
    given().when(command(kind)).refused("UNKNOWN_JOB", "q/a")


# -- holding


def test_a_ready_job_is_held_and_released():
    story = given(submitted(), submitted(job_id="b")).when(command(c.HoldJob, reason="lunch"))
    story.then(like(e.JobHeld, reason="lunch")).job_is(JobState.HELD, reason="lunch")
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["b"]
    story.when(command(c.ReleaseJob)).job_is(JobState.READY, reason="")
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["a", "b"], "it keeps its place in the queue"


def test_a_job_held_in_backoff_returns_to_its_backoff():
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
    story.then(wanted).job_is(JobState.RUNNING, stopping="CANCELLED").sends(StopMessage)
    assert (story.messages[0].session, story.messages[0].number, story.messages[0].lane) == ("s1", 2, 3)


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


def test_a_deadline_is_cleared_once_the_job_is_being_stopped():
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
    story.when(command(c.RerunJob, command_id="request-1", reason="fixed"), at=NOW + 5)
    story.then(like(e.JobRerun, run=2, command_id=request("request-1"), reason="fixed", deadline_at=0))
    story.job_is(JobState.READY, run=2, attempt=1, failures=0, losses=0, reason="", ended_at=0)
    story.has_timers(NOW + 5 + COMMAND_ID_MEMORY_MS)
    assert story.state.outcome("q/a").error == ""


def test_a_rerun_queues_behind_jobs_of_its_priority():
    story = given(*ENDED, submitted(job_id="b")).when(command(c.RerunJob, command_id="request-1"))
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["b", "a"]


def test_a_rerun_restarts_a_relative_deadline_and_drops_a_passed_one():
    relative = given(submitted(deadline_ms=900, deadline_at=NOW + 900), cancelled())
    relative.when(command(c.RerunJob, command_id="request-1"), at=NOW + 5_000).job_is(deadline_at=NOW + 5_900)
    relative.when_due(NOW + 5_900).then(like(e.JobFailed, run=2, reason="DEADLINE"))
    over = given(submitted(deadline_at=NOW + 9), cancelled())
    over.when(command(c.RerunJob, command_id="request-1"), at=NOW + 9).then(like(e.JobRerun, deadline_at=0))


def request(command_id: str, job_id: str = "a", submitted_at: int = NOW) -> str:
    """The name by which a rerun is remembered."""
    return f"q/{job_id}/{submitted_at}/{command_id}"


def test_a_command_id_is_carried_out_once_within_a_day():
    story = given(*ENDED, rerun(command_id=request("request-1")), cancelled(run=2))
    again = command(c.RerunJob, command_id="request-1")
    story.when(again).refused("REPEATED", "q/a", "request-1")
    # Another request runs the job again: the ended job would be forgotten after an hour.
    story.when(command(c.RerunJob, command_id="request-2"), at=NOW + 1).when(command(c.HoldJob))
    story.when_due(NOW + COMMAND_ID_MEMORY_MS).then(like(e.CommandIdForgotten, command_id=request("request-1")))
    story.when(again).refused("WRONG_STATE", "ended", "HELD")


def test_one_command_id_reruns_each_of_several_jobs():
    """A person names a nightly rerun after its day. "Repeated" is a yes only for the same job."""
    others = ["b", "x" * 127 + "1", "x" * 127 + "2", "a.b"]
    story = given(*ENDED)
    for job_id in others:
        story.evolve(submitted(job_id=job_id), cancelled(job_id=job_id))
    for job_id in ["a", *others]:
        again = command(c.RerunJob, job_id=job_id, command_id="nightly")
        story.when(again).then(like(e.JobRerun, command_id=request("nightly", job_id)))
        story.when(again).refused("REPEATED", f"q/{job_id}")


def test_a_command_id_of_a_job_that_is_forgotten_reruns_the_next_job_of_its_name():
    story = given(submitted(retention_ms=1), cancelled())
    again = command(c.RerunJob, command_id="nightly")
    story.when(again).then(like(e.JobRerun)).when(command(c.CancelJob)).then(like(e.JobCancelled))
    story.when_due(NOW + 1).then(like(e.JobForgotten))
    story.when(submit(), at=NOW + 2).when(command(c.CancelJob)).then(like(e.JobCancelled))
    story.when(again).then(like(e.JobRerun, command_id=request("nightly", submitted_at=NOW + 2)))


def test_a_rerun_needs_a_command_id_and_a_job_that_has_ended():
    story = given(submitted()).when(command(c.RerunJob)).refused("INVALID", "command_id")
    story.when(command(c.RerunJob, command_id="x y")).refused("INVALID", "command_id")
    story.when(command(c.RerunJob, command_id="request-1")).refused("WRONG_STATE", "ended", "READY")


# -- forgetting


def test_an_ended_job_leaves_the_store_after_its_retention():
    story = given(*ENDED).has_timers(NOW + HOUR_MS)
    story.when_due(NOW + HOUR_MS).then(like(e.JobForgotten, run=1)).has_timers()
    assert story.state.job("q/a") is None
    assert {key[:1] for key, _ in story.store.scan(b"\0", b"\xff")} == {b"o", b"w", b"x"}


# -- clients that wait for the outcome


def test_a_submission_gets_a_reply_and_a_waiting_client_gets_the_outcome():
    story = given().when(submit(awaits=True), reply=REPLY_TO).sends(ReplyMessage).job_is(waiters=(REPLY_TO,))
    assert (story.messages[0].state, story.messages[0].code, story.messages[0].run) == (JobState.READY, "", 1)
    story.when(command(c.CancelJob, reason="no more"), reply="1/other/2").job_is(waiters=())
    story.sends(OutcomeMessage, ReplyMessage)
    outcome, reply = story.messages
    assert (outcome.reply_to, outcome.state, outcome.reason) == (REPLY_TO, JobState.CANCELLED, "no more")
    assert (reply.reply_to, reply.state) == ("1/other/2", JobState.CANCELLED)


def test_a_client_that_does_not_wait_gets_only_the_reply():
    given().when(submit(), reply=REPLY_TO).sends(ReplyMessage).job_is(waiters=())


def test_a_client_without_a_reply_address_cannot_wait():
    given().when(submit(awaits=True)).sends().job_is(waiters=()).when(submit(awaits=True)).sends().job_is(waiters=())


def test_a_repeated_submission_may_wait_too_and_each_client_waits_once():
    story = given().when(submit(awaits=True), reply=REPLY_TO).when(submit(), reply="1/x/1").job_is(waiters=(REPLY_TO,))
    story.when(submit(awaits=True), reply="0/second/1").when(submit(awaits=True), reply=REPLY_TO)
    story.job_is(waiters=("0/second/1", REPLY_TO))


def test_only_the_newest_waiting_clients_get_the_outcome():
    story = given(submitted())
    for i in range(WAITERS_MAX + 2):
        story.when(submit(awaits=True), reply=f"0/client/{i}")
    story.job_is(waiters=tuple(f"0/client/{i}" for i in range(2, WAITERS_MAX + 2)))


def test_an_ended_job_gives_its_outcome_to_a_repeated_submission():
    story = given(submitted(), dispatched(), succeeded(result=b"42", exit_code=0))
    story.when(submit(awaits=True), reply=REPLY_TO).sends(OutcomeMessage, ReplyMessage)
    assert (story.messages[0].result, story.messages[0].state) == (b"42", JobState.SUCCEEDED)


def test_a_refusal_sends_a_reply_and_changes_nothing_else():
    story = given(submitted()).evolve(e.CommandRejected(queue="q", job_id="a", code="WHY", text="so", reply=REPLY_TO))
    story.written().sends(ReplyMessage).job_is(JobState.READY)
    assert (story.messages[0].code, story.messages[0].text, story.messages[0].state) == ("WHY", "so", JobState.READY)


def test_a_refusal_about_an_unknown_job_has_no_state():
    story = (
        given().evolve(e.CommandRejected(queue="q", job_id="a", run=3, code="WHY", text="so", reply=REPLY_TO)).written()
    )
    assert (story.messages[0].state, story.messages[0].run) == (0, 3)


# -- impossible events


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
def test_an_impossible_event_stops_the_partition(before, event):
    with pytest.raises(AssertionError):
        given(*before).evolve(event)


# -- between partitions


def test_forwarded_commands_are_numbered():
    story = given(
        e.CommandForwarded(partition=2, body=b"1", reply_to=REPLY_TO), e.CommandForwarded(partition=2, body=b"2")
    )
    assert story.messages == [
        ForwardMessage(2, 1, b"1", REPLY_TO),
        ForwardMessage(2, 2, b"2", ""),
    ]
    assert story.state.peer(2).sent == 2


def test_received_commands_of_another_partition_are_counted():
    story = given(e.ForwardReceived(source=1, number=1), e.ForwardReceived(source=1, number=4))
    assert story.state.peer(1).received == 4


class LaterSpec(JobSpec, frozen=True, array_like=True):
    """`JobSpec` of a later release, with one more field."""

    nice: int = 0


@pytest.mark.parametrize("version", [1, CONTENT_VERSION])
def test_a_job_submitted_again_after_a_field_was_added_is_still_the_same_job(version):
    """Also if the job was submitted when hashes had version 1."""
    before = spec(retention_ms=0)
    content = pack_content(version, content_hash(before, version))
    event = submitted()
    assert isinstance(event, e.JobSubmitted)
    story = given(msgspec.structs.replace(event, content=content))
    same = LaterSpec(**msgspec.structs.asdict(before))
    story.when(c.SubmitJob(queue="q", job_id="a", spec=same)).then(like(e.SubmissionRepeated))
    other = LaterSpec(**msgspec.structs.asdict(before), nice=5)
    story.when(c.SubmitJob(queue="q", job_id="a", spec=other)).refused("IDENTITY_TAKEN")


def test_a_new_job_gets_the_newest_hash_once_no_older_build_can_come_back():
    story = given()
    assert story.when(submit()).job().content_version == 1
    later = c.SubmitJob(queue="q", job_id="b", spec=LaterSpec(command=["true"], nice=5))
    decided: Any = decide(story.state, later, NOW, POLICY)
    (event,) = decided
    assert unpack_content(event.content)[0] == 2, "version 1 cannot express the field"
    story = given()
    story.state.save_finalized(Finalized(1, STATE_VERSION))
    assert story.when(submit()).job().content_version == CONTENT_VERSION
    story.when(submit()).then(like(e.SubmissionRepeated))


def test_the_content_hash_covers_only_fields_that_the_user_gave():
    first = given().when(submit(labels={"x": "1", "y": "2"})).job().content
    second = given().when(submit(labels={"y": "2", "x": "1"}), policy=Policy(0, 1, retention_ms=5)).job().content
    assert first == second
    assert msgspec.structs.replace(spec(), priority=51) != spec()
