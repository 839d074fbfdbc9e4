"""The client and its handles on the cluster in memory, which users have for their own tests."""

from __future__ import annotations

import pytest

import ftjm
import ftjm.testing
from ftjm.core import events as e
from ftjm.core.commands import SubmitJob
from ftjm.sdk.apps import AppError
from tests.sdk import app


def test_a_result(cluster):
    handle = cluster.client.submit(app.resize("a.png", width=200), priority=7, job_id="resize-a-200")
    assert handle.job == "thumbnails/resize-a-200"
    assert handle.result(timeout=30) == {"path": "a.png", "width": 200}
    assert handle.state() == "SUCCEEDED"
    assert cluster.client.job("thumbnails/resize-a-200").result() == {"path": "a.png", "width": 200}


def test_the_same_submission_is_the_same_job(cluster):
    first, again = (cluster.client.submit(app.resize("a"), job_id="a") for _ in range(2))
    assert first.result() == again.result()
    assert sum(isinstance(event, e.AttemptSucceeded) for event in cluster.events()) == 1
    other = cluster.client.submit(app.resize("b"), job_id="a")
    with pytest.raises(ftjm.Refused, match="IDENTITY_TAKEN"):
        other.result()
    with pytest.raises(ftjm.Refused):
        other.accepted()


def test_retries_take_no_time_but_the_clocks(cluster):
    app.CALLS.clear()
    begun = cluster.now_ms
    assert cluster.client.submit(app.succeeds_at(3)).result() == 3
    assert app.CALLS == [("succeeds_at", 1), ("succeeds_at", 2), ("succeeds_at", 3)]
    assert begun < cluster.now_ms <= begun + 20 * 60_000
    with pytest.raises(ftjm.JobFailed) as failed:
        cluster.client.submit(app.succeeds_at(9), max_attempts=2).result()
    assert failed.value.reason == "EXCEPTION"
    assert failed.value.error.rstrip().endswith("ValueError: not before attempt 9")


def test_delays_and_the_clock(cluster):
    handle = cluster.client.submit(app.resize("a"), delay="1h")
    cluster.advance("59m")
    assert handle.state() == "SCHEDULED"
    with pytest.raises(TimeoutError):
        handle.result(timeout=59)
    cluster.advance("1s")
    assert handle.state() == "SUCCEEDED"


def test_time_outs_of_tasks_that_take_time(cluster):
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
    assert {status.text for status in seen} >= {"1 losses", "2 losses"}
    assert (seen[-1].state, seen[-1].attempt, seen[-1].progress) == ("SUCCEEDED", 4, None)


def test_results_that_cannot_be(cluster):
    for what, error in (("set", "found set"), ("nan", "finite")):
        with pytest.raises(ftjm.JobFailed, match=error):
            cluster.client.submit(app.gives(what), max_attempts=1).result()
    assert cluster.client.submit(app.gives("none")).result() is None
    assert cluster.client.submit(app.gives("tuple")).result() == [1, 2]


def test_cancel(cluster):
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
    assert cluster.client.job("q/none").state() == "PENDING"


def test_many_at_once(cluster):
    handles = cluster.client.submit_many([("one", app.resize("1")), app.resize("2")])
    assert [handle.result()["path"] for handle in handles] == ["1", "2"]
    assert handles[0].job_id == "one"
    [quiet] = cluster.client.submit_many([app.resize("3")], awaits=False)
    cluster.run()
    assert quiet._ticket.outcome is None
    assert quiet.result()["path"] == "3"
    assert isinstance(quiet._ticket.command, SubmitJob)


def test_commands_are_played(cluster):
    with pytest.raises(ftjm.JobFailed, match="run_command"):
        cluster.client.submit(ftjm.command(["convert", "a.png"])).result()
    with ftjm.testing.Cluster(run_command=lambda words, payload: {"words": words, "payload": payload}) as played:
        handle = played.client.submit(ftjm.command(["convert", "a.png"], payload=[1]))
        assert handle.result() == {"words": ["convert", "a.png"], "payload": [1]}


def test_unknown_tasks_and_apps(cluster):
    unknown = ftjm.Request[None]("python", ("no.such",), b"")
    with pytest.raises(ftjm.JobFailed, match=r"tests\.sdk\.app\.resize") as failed:
        cluster.client.submit(unknown).result()
    assert failed.value.reason == "START_FAILED"
    with pytest.raises(AppError, match="no module named"):
        ftjm.testing.Cluster(app=["tests.sdk.none"])


def test_waiting_for_what_never_comes_ends(cluster):
    handle = cluster.client.submit(app.resize("a"), hold=True)
    with pytest.raises(TimeoutError, match="goes on"):
        handle.result(timeout=3600)
    with pytest.raises(TimeoutError):
        list(handle.watch(timeout=60))


def test_a_forgotten_job_is_not_run_again_by_asking(cluster):
    """Its outcome's answer was lost, and so is the job by now: the log tells how it ended."""
    handle = cluster.client.submit(app.resize("a"), retention="1s")
    handle.result()
    cluster.advance("1m")
    handle._ticket.reply = handle._ticket.outcome = None
    assert handle.result() == {"path": "a", "width": 100}
    assert sum(isinstance(event, e.AttemptSucceeded) for event in cluster.events()) == 1
