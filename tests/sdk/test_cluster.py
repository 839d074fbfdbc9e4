"""The client and its handles on the cluster in memory that users run their own tests on."""

from __future__ import annotations

import pytest

import ftjm
import ftjm.testing
from ftjm.core.records import events as e
from ftjm.core.records.commands import ApplySchedule, SubmitJob
from ftjm.core.records.messages import CommandReply
from ftjm.core.state.executors import PYTHON
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.sdk.apps import AppError
from tests.sdk import app


def test_a_task_returns_its_result(cluster):
    handle = cluster.client.submit(app.resize("a.png", width=200), priority=7, job_id="resize-a-200")
    assert handle.job == "thumbnails/resize-a-200"
    assert handle.result(timeout=30) == {"path": "a.png", "width": 200}
    assert handle.state() == "SUCCEEDED"
    assert cluster.client.job("thumbnails/resize-a-200").result() == {"path": "a.png", "width": 200}


def test_a_repeated_submission_is_the_same_job(cluster):
    first, again = (cluster.client.submit(app.resize("a"), job_id="a") for _ in range(2))
    assert first.result() == again.result()
    assert sum(isinstance(event, e.AttemptSucceeded) for event in cluster.events()) == 1
    other = cluster.client.submit(app.resize("b"), job_id="a")
    with pytest.raises(ftjm.Refused, match="IDENTITY_TAKEN"):
        other.result()
    with pytest.raises(ftjm.Refused):
        other.accepted()


def test_retries_advance_only_the_clock_of_the_cluster(cluster):
    app.CALLS.clear()
    begun = cluster.now_ms
    assert cluster.client.submit(app.succeeds_at(3)).result() == 3
    assert app.CALLS == [("succeeds_at", 1), ("succeeds_at", 2), ("succeeds_at", 3)]
    assert begun < cluster.now_ms <= begun + 20 * 60_000
    with pytest.raises(ftjm.JobFailed) as failed:
        cluster.client.submit(app.succeeds_at(9), max_attempts=2).result()
    assert failed.value.reason == "EXCEPTION"
    assert failed.value.error.rstrip().endswith("ValueError: not before attempt 9")


def test_a_delay_ends_when_the_clock_advances(cluster):
    handle = cluster.client.submit(app.resize("a"), delay="1h")
    cluster.advance("59m")
    assert handle.state() == "SCHEDULED"
    with pytest.raises(TimeoutError):
        handle.result(timeout=59)
    cluster.advance("1s")
    assert handle.state() == "SUCCEEDED"


def test_a_task_that_takes_too_long_times_out(cluster):
    @ftjm.task(name="slow", timeout="1m", max_attempts=1)
    def slow(duration: str) -> str:
        cluster.advance(duration)
        return "done"

    assert cluster.client.submit(slow("1m")).result() == "done"
    with pytest.raises(ftjm.JobFailed) as failed:
        cluster.client.submit(slow("61s")).result()
    assert failed.value.reason == "TIMEOUT"


def test_checkpoints_survive_lost_workers(cluster):
    handle = cluster.client.submit(app.survives(3))
    seen = list(handle.watch())
    assert handle.result() == [0, 1, 2]
    assert {status.progress_text for status in seen} >= {"1 losses", "2 losses"}
    assert (seen[-1].state, seen[-1].attempt, seen[-1].progress) == ("SUCCEEDED", 4, None)


def test_values_that_cannot_be_results_fail_the_task(cluster):
    for what, error in (("set", "found set"), ("nan", "finite")):
        with pytest.raises(ftjm.JobFailed, match=error):
            cluster.client.submit(app.gives(what), max_attempts=1).result()
    assert cluster.client.submit(app.gives("none")).result() is None
    assert cluster.client.submit(app.gives("tuple")).result() == [1, 2]


def test_jobs_are_cancelled(cluster):
    handle = cluster.client.submit(app.resize("a"), hold=True)
    assert handle.state() == "HELD"
    assert handle.cancel("not needed")
    with pytest.raises(ftjm.JobCancelled, match="not needed"):
        handle.result()
    assert not handle.cancel()
    with pytest.raises(ftjm.Refused, match="UNKNOWN_JOB"):
        cluster.client.job("q/none").cancel()
    with pytest.raises(LookupError, match="q/none"):
        cluster.client.job("q/none").status()
    assert cluster.client.job("q/none").state() == "UNKNOWN"


def test_many_jobs_are_submitted_at_once(cluster):
    handles = cluster.client.submit_many([("one", app.resize("1")), app.resize("2")])
    assert [handle.result()["path"] for handle in handles] == ["1", "2"]
    assert handles[0].job_id == "one"
    [quiet] = cluster.client.submit_many([app.resize("3")], awaits=False)
    cluster.run()
    assert quiet._ticket.outcome is None
    assert quiet.result()["path"] == "3"
    assert isinstance(quiet._ticket.command, SubmitJob)


def test_commands_get_scripted_outcomes(cluster):
    with pytest.raises(ftjm.JobFailed, match="run_command"):
        cluster.client.submit(ftjm.command(["convert", "a.png"])).result()
    with ftjm.testing.Cluster(run_command=lambda words, payload: {"words": words, "payload": payload}) as played:
        handle = played.client.submit(ftjm.command(["convert", "a.png"], payload=[1]))
        assert handle.result() == {"words": ["convert", "a.png"], "payload": [1]}


def test_an_executor_that_testing_does_not_know_is_refused_in_words(cluster, monkeypatch):
    monkeypatch.delitem(ftjm.testing.CALLS, PYTHON)
    with pytest.raises(
        ftjm.JobFailed, match=r"ftjm\.testing \(command\), but found 'python'; run the job with"
    ) as failed:
        cluster.client.submit(app.resize("1")).result()
    assert failed.value.reason == "START_FAILED"


def test_a_task_is_shown_as_it_was_written(cluster):
    handle = cluster.client.submit(app.resize("1", width=200))
    handle.result()
    status = handle.status()
    assert (status.executor, status.task, status.command, status.payload) == (PYTHON, app.resize.name, [], None)
    assert (status.args, status.kwargs) == (["1"], {"width": 200})


def test_unknown_tasks_and_apps_are_errors(cluster):
    unknown = ftjm.Request[None]("python", ("no.such",), b"")
    with pytest.raises(ftjm.JobFailed, match=r"tests\.sdk\.app\.resize") as failed:
        cluster.client.submit(unknown).result()
    assert failed.value.reason == "START_FAILED"
    with pytest.raises(AppError, match="no module named"):
        ftjm.testing.Cluster(app=["tests.sdk.none"])


def test_waiting_for_a_job_that_never_ends_times_out(cluster):
    handle = cluster.client.submit(app.resize("a"), hold=True)
    with pytest.raises(TimeoutError, match="goes on"):
        handle.result(timeout=3600)
    with pytest.raises(TimeoutError):
        list(handle.watch(timeout=60))


def runs(cluster) -> int:
    return sum(isinstance(event, e.JobSubmitted) for event in cluster.events())


def test_a_forgotten_job_is_not_run_again_by_result(cluster):
    """The client did not receive the outcome, and the job is forgotten by now: the log has its end."""
    handle = cluster.client.submit(app.resize("a"), retention="1s")
    handle.result()
    cluster.advance("1m")
    handle._ticket.reply = handle._ticket.outcome = None
    assert handle.result() == {"path": "a", "width": 100}
    handle._ticket.reply = handle._ticket.outcome = None
    assert handle.accepted() is handle
    assert runs(cluster) == 1


@pytest.mark.parametrize("later", ["0s", "1h", "8d", "400d"])
def test_a_result_that_was_not_awaited_is_asked_for_and_runs_nothing_however_late(cluster, later):
    """The cluster's retention is not known to the client, and is no matter."""
    (handle,) = cluster.client.submit_many([("invoice-7", app.resize("a"))], awaits=False)
    cluster.run()
    cluster.advance(later)
    assert handle.result() == {"path": "a", "width": 100}
    assert handle.result() == {"path": "a", "width": 100}
    assert runs(cluster) == 1


def test_a_result_that_was_not_awaited_is_waited_for(cluster):
    (handle,) = cluster.client.submit_many([app.resize("a")], awaits=False)
    assert handle.result() == {"path": "a", "width": 100}


def test_a_forgotten_job_whose_name_has_another_job_now_is_refused(cluster):
    """The result of the other one would be taken for its own."""
    (handle,) = cluster.client.submit_many([("a", app.resize("a"))], awaits=False)
    cluster.run()
    cluster.advance("8d")
    cluster.client.submit(app.resize("b"), job_id="a").result()
    with pytest.raises(ftjm.Refused, match="IDENTITY_TAKEN"):
        handle.result()


def test_a_job_that_neither_the_partition_nor_the_log_knows_is_refused(cluster, monkeypatch):
    (handle,) = cluster.client.submit_many([("a", app.resize("a"))], awaits=False)
    cluster.run()
    cluster.advance("8d")
    monkeypatch.setattr(cluster.client._transport, "events", lambda *_: iter([[]]))
    with pytest.raises(ftjm.Refused, match="UNKNOWN_JOB"):
        handle.result()


def test_an_owner_that_does_not_know_questions_is_asked_again_later(cluster, monkeypatch):
    """It is of an older build: until it is replaced, the log says whether the job has ended."""
    (handle,) = cluster.client.submit_many([("a", app.resize("a", width=3))], awaits=False)
    asked: list[int] = []

    def ask(ticket):
        asked.append(cluster.now_ms)
        ticket.awaits = True
        ticket.reply = CommandReply(
            session="", correlation="1", accepted=False, code="UNKNOWN_FINGERPRINT", text="", queue="", job_id="",
            run=0, state="",
        )  # fmt: skip

    monkeypatch.setattr(cluster.client._transport, "ask", ask)
    assert handle.result() == {"path": "a", "width": 3}
    held = cluster.client.submit_many([app.resize("a")], awaits=False)[0]
    before = len(asked)
    cluster._queues.clear()
    with pytest.raises(TimeoutError):
        held.result(timeout=3_600)
    assert len(asked) - before < 15


def test_the_jobs_of_a_schedule_run_when_time_advances(cluster):
    command = ["python", "-m", "report"]
    spec = ScheduleSpec(job=JobSpec(command=command), every_ms=3_600_000)
    cluster.send(ApplySchedule(queue="etl", name="hourly", spec=spec))
    cluster.advance("3h")
    ended = [event for event in cluster.events() if isinstance(event, e.AttemptSucceeded | e.AttemptFailed)]
    assert len(ended) == 3
