"""A whole cluster is exported with work in every state, and goes on elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjm import transfer
from ftjm.api import once
from ftjm.api.queries import Filter
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core.commands import SubmitJob
from ftjm.core.model import JobSpec
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.errors import FtjmError, UsageError
from ftjm.past import Past
from ftjm.replay import verify
from ftjm.snapshotting import create
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK, Cluster
from integration.waiting import until

pytestmark = pytest.mark.timeout(300)


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
        worker.kill()
        assert scheduler.stop() == 0
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
        with pytest.raises(FtjmError, match="that nobody has used"):
            transfer.import_(new.settings, place, lambda _: None)
        schedulers = [new.scheduler("a"), new.scheduler("b")]
        new.worker()
        everything = {*ended, *running, *unread}
        until(lambda: states(new.settings, "SUCCEEDED") == everything, "all jobs to have succeeded")
        assert [one.stop() for one in schedulers] == [0, 0]
        assert [one.complaints() for one in schedulers] == [[], []]
        assert_stores_are_the_logs(new)


# ---- what is done and looked at


def submit(settings: Settings, name: str, command: list[str], *, decided: bool = True) -> list[tuple[str, str]]:
    jobs = [SubmitJob(queue=queue, job_id=name, spec=JobSpec(command=command)) for queue in QUEUES]
    with Client(settings) as client:
        tickets = [client.send(job) for job in jobs]
        client.confirm()
        assert not decided or client.decided(tickets, 30)
    return [(job.queue, job.job_id) for job in jobs]


def states(settings: Settings, *names: str) -> set[tuple[str, str]]:
    """The jobs that are in one of these states."""
    with once.folded(settings) as (reader, _):
        listed = reader.jobs(Filter(), 1_000).jobs
        return {(q, j) for q, _, j in (one.key.partition("/") for one in listed if one.job.state.name in names)}


def assert_stores_are_the_logs(cluster: Cluster) -> None:
    from ftjm.jobhistory import open_scan

    with open_scan(cluster.settings, "events") as scan:
        for p in range(4):
            position, difference = verify(scan, p, cluster.store("a", p), past=Past(cluster.settings))
            assert position.applied_offset >= 0
            assert difference is None
