"""A cluster with jobs in every state is exported and continues on another Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjm.client.command_client import Client
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.history.replay import verify
from ftjm.history.trimmed import WholeLog
from ftjm.local.kafka import EmbeddedKafka
from ftjm.ops import transfer
from ftjm.ops.snapshots import create
from ftjm.readmodel import one_shot
from ftjm.readmodel.queries import Filter
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, UsageError
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK, Cluster
from integration.waiting import until


def test_a_cluster_goes_on_elsewhere(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    place = str(tmp_path / "export")
    flag = tmp_path / "go"
    wait = ["sh", "-c", f"until [ -e {flag} ]; do sleep 0.1; done"]
    with Cluster(cluster_on(kafka, tmp_path / "old-data"), tmp_path / "old") as old:
        scheduler, worker = old.scheduler("a"), old.worker(slots=8)
        ended = submit(old.settings, "before", QUICK)
        old.until_done(ended)
        create(old.settings, range(4), full=False, actor="test", within_seconds=60)
        running = submit(old.settings, "running", wait)
        until(lambda: states(old.settings, "RUNNING", "DISPATCHED") == set(running), "the long jobs to run")
        ended += submit(old.settings, "quick", QUICK)
        old.until_done(ended)
        assert scheduler.stop() == 0  # first, so that it does not see that the worker is lost
        worker.kill()
        unread = submit(old.settings, "unread", QUICK, decided=False)
        head = transfer.export(old.settings, place, lambda _: None)
        assert all(part.manifest for part in head.parts)
        assert sum(part.commands[1] - part.commands[0] for part in head.parts) >= len(unread)
        with pytest.raises(UsageError, match="without an export"):
            transfer.export(old.settings, place, lambda _: None)
    other = cluster_on(kafka, tmp_path / "x", partitions=3)
    with pytest.raises(FtjmError, match="4 partitions"):
        transfer.import_(other, place, lambda _: None)
    narrow = cluster_on(kafka, tmp_path / "y", lanes=1)
    with pytest.raises(FtjmError, match="2 lanes or more"):
        transfer.import_(narrow, place, lambda _: None)

    flag.touch()
    with Cluster(cluster_on(kafka, tmp_path / "new-data"), tmp_path / "new") as new:
        transfer.import_(new.settings, place, lambda _: None)
        assert states(new.settings, "SUCCEEDED") == set(ended)
        assert states(new.settings, "RUNNING", "DISPATCHED") == set(running)
        with pytest.raises(FtjmError, match="that was never used"):
            transfer.import_(new.settings, place, lambda _: None)
        schedulers = [new.scheduler("a"), new.scheduler("b")]
        new.worker()
        everything = {*ended, *running, *unread}
        until(lambda: states(new.settings, "SUCCEEDED") == everything, "all jobs to have succeeded")
        assert [one.stop() for one in schedulers] == [0, 0]
        assert [one.error_lines() for one in schedulers] == [[], []]
        assert_stores_are_the_logs(new)


# ---- helpers


def submit(settings: Settings, name: str, command: list[str], *, decided: bool = True) -> list[tuple[str, str]]:
    jobs = [SubmitJob(queue=queue, job_id=name, spec=JobSpec(command=command)) for queue in QUEUES]
    with Client(settings) as client:
        tickets = [client.send(job) for job in jobs]
        client.confirm()
        assert not decided or client.decided(tickets, 30)
    return [(job.queue, job.job_id) for job in jobs]


def states(settings: Settings, *names: str) -> set[tuple[str, str]]:
    """The jobs in one of these states."""
    with one_shot.folded_log(settings) as (reader, _):
        listed = reader.jobs(Filter(), 1_000).jobs
        return {(q, j) for q, _, j in (one.key.partition("/") for one in listed if one.job.state.name in names)}


def assert_stores_are_the_logs(cluster: Cluster) -> None:
    from ftjm.adapters.kafka.patience import open_scan

    with open_scan(cluster.settings, "events") as scan:
        for p in range(4):
            position, difference = verify(scan, p, cluster.store("a", p), whole_log=WholeLog(cluster.settings))
            assert position.applied_offset >= 0
            assert difference is None
