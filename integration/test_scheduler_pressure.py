"""Above its watermarks a scheduler refuses new jobs and goes on; stuck, it leaves its partitions to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core.commands import SubmitJob
from ftjm.core.model import JobSpec
from integration.harness import QUEUES, Cluster
from integration.stuck import MARK
from integration.waiting import until

ANSWER_SECONDS = 30.0


def submit(client: Client, job_id: str, *command: str) -> str:
    """Submit a job, and the code of the answer."""
    ticket = client.send(SubmitJob(queue=QUEUES[0], job_id=job_id, spec=JobSpec(command=list(command) or ["true"])))
    client.decided([ticket], ANSWER_SECONDS)
    assert ticket.reply is not None, "no answer"
    return ticket.reply.code


def test_a_full_disk_refuses_new_jobs_while_what_runs_goes_on(cluster: Settings, tmp_path: Path) -> None:
    release = tmp_path / "release"
    full = cluster.model_copy(update={"disk_high_percent": 0.001, "disk_low_percent": 0.0005})
    with Cluster(cluster, tmp_path) as before, Client(cluster) as client:
        before.worker()
        scheduler = before.scheduler("a")
        waits = "while [ ! -e $1 ]; do sleep 0.05; done"
        assert submit(client, "early", "sh", "-c", waits, "sh", str(release)) == ""
        until(lambda: "AttemptStarted" in before.log().story((QUEUES[0], "early")), "the job to run")
        assert scheduler.stop() == 0
        with Cluster(full, tmp_path) as after:
            crowded = after.scheduler("a")
            assert submit(client, "late") == "OVERLOADED"
            until(lambda: crowded.said("submissions_refused"), "the scheduler to say so")
            release.touch()
            log = after.until_done([(QUEUES[0], "early")])
            assert log.story((QUEUES[0], "early"))[-1] == "AttemptSucceeded"
            assert submit(client, "early", "sh", "-c", waits, "sh", str(release)) == "", "a job that is known"
            assert crowded.stop() == 0
        before.scheduler("b")
        assert submit(client, "late") == ""
        before.until_done([(QUEUES[0], "late")])


@pytest.mark.parametrize("others", [True, False])
def test_a_stuck_partition_is_left_to_others_if_there_are_any(cluster: Settings, tmp_path: Path, others: bool) -> None:
    settings = cluster.model_copy(update={"watchdog_seconds": 2.0})
    with Cluster(settings, tmp_path) as running, Client(cluster) as client:
        running.worker()
        bad = running.scheduler("bad", "integration.stuck")
        running.until_owners("bad")
        ticket = client.send(SubmitJob(queue=QUEUES[0], job_id=MARK, spec=JobSpec(command=["true"])))
        until(lambda: bad.said("partition_stalled"), "the watchdog to notice")
        [said] = bad.said("partition_stalled")[:1]
        assert "stuck.py" in said["where"]
        assert bad.popen.poll() is None, "alone, it stays"
        if others:
            running.scheduler("good")
            until(lambda: bad.popen.poll() is not None, "the stuck one to leave")
            assert bad.popen.returncode == 1
            running.until_owners("good")
            running.until_done([(QUEUES[0], MARK)])
            client.decided([ticket], ANSWER_SECONDS)
            assert not ticket.refused
