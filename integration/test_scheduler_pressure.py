"""Above its watermarks a scheduler refuses new jobs and goes on; if stuck, it gives its partitions to others."""

from __future__ import annotations

from pathlib import Path

from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.runtime.config import Settings
from integration.harness import QUEUES, Cluster, Process, queue_on
from integration.stuck import MARK
from integration.waiting import LIMIT_SECONDS, until

PATIENT = {"watchdog_seconds": 15.0, "session_timeout_ms": 60_000}
"""The sound partitions of a busy machine are neither taken for stuck nor moved."""


def submit(client: Client, job_id: str, *command: str, queue: str = QUEUES[0]) -> str:
    """Submit a job. Return the code of the answer."""
    ticket = client.send(SubmitJob(queue=queue, job_id=job_id, spec=JobSpec(command=list(command) or ["true"])))
    client.decided([ticket], LIMIT_SECONDS)
    assert ticket.reply is not None, "no answer"
    return ticket.reply.code


def test_on_a_full_disk_new_jobs_are_refused_and_running_ones_go_on(cluster: Settings, tmp_path: Path) -> None:
    release = tmp_path / "release"
    full = cluster.model_copy(update={"disk_high_percent": 0.001, "disk_low_percent": 0.0005})
    with Cluster(cluster, tmp_path) as before, Client(cluster) as client:
        before.worker()
        scheduler = before.scheduler("a")
        waits = "while [ ! -e $1 ]; do sleep 0.05; done"
        assert submit(client, "early", "sh", "-c", waits, "sh", str(release)) == ""
        until(lambda: "AttemptStarted" in before.log().event_names((QUEUES[0], "early")), "the job to run")
        assert scheduler.stop() == 0
        with Cluster(full, tmp_path) as after:
            crowded = after.scheduler("a")
            assert submit(client, "late") == "OVERLOADED"
            until(lambda: crowded.log_lines("submissions_refused"), "the scheduler to say so")
            release.touch()
            log = after.until_done([(QUEUES[0], "early")])
            assert log.event_names((QUEUES[0], "early"))[-1] == "AttemptSucceeded"
            assert submit(client, "early", "sh", "-c", waits, "sh", str(release)) == "", "a job that is known"
            assert crowded.stop() == 0
        before.scheduler("b")
        assert submit(client, "late") == ""
        before.until_done([(QUEUES[0], "late")])


def submit_stuck(client: Client, queue: str, bad: Process) -> Ticket:
    """Submit the job at which the scheduler `bad` gets stuck, and wait until its watchdog has noticed."""
    ticket = client.send(SubmitJob(queue=queue, job_id=MARK, spec=JobSpec(command=["true"])))
    until(
        lambda: any("stuck.py" in line["where"] for line in bad.log_lines("partition_stalled")),
        "the watchdog to notice",
    )
    return ticket


def test_a_lone_scheduler_with_a_stuck_partition_stays(cluster: Settings, tmp_path: Path) -> None:
    settings = cluster.model_copy(update=PATIENT)
    with Cluster(settings, tmp_path) as running, Client(cluster) as client:
        bad = running.scheduler("bad", "integration.stuck")
        running.until_owners("bad")
        submit_stuck(client, QUEUES[0], bad)
        assert submit(client, "beside", queue=QUEUES[1]) == "", "the other partitions are decided"
        assert bad.popen.poll() is None


def test_a_stuck_partition_is_given_to_another_scheduler(cluster: Settings, tmp_path: Path) -> None:
    settings = cluster.model_copy(update=PATIENT)
    with Cluster(settings, tmp_path) as running, Client(cluster) as client:
        running.worker()
        bad = running.scheduler("bad", "integration.stuck")
        running.scheduler("good")
        # Both are members before it gets stuck: a later rebalance could give `good` the stuck partition by chance.
        owners = running.until_owners("bad", "good")
        queue = queue_on(next(partition for partition, owner in owners.items() if owner == "bad"))
        ticket = submit_stuck(client, queue, bad)
        until(lambda: bad.popen.poll() is not None, "the stuck scheduler to leave")
        assert bad.popen.returncode == 1
        running.until_owners("good")
        running.until_done([(queue, MARK)])
        client.decided([ticket], LIMIT_SECONDS)
        assert not ticket.refused
